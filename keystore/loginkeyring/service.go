package loginkeyring

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"

	"envfs/keystore"
)

// The names of the Secret Service API, version 0.2.
const (
	busName        = "org.freedesktop.secrets"
	servicePath    = "/org/freedesktop/secrets"
	loginPath      = "/org/freedesktop/secrets/collection/login"
	serviceName    = "org.freedesktop.Secret.Service"
	collectionName = "org.freedesktop.Secret.Collection"
	itemName       = "org.freedesktop.Secret.Item"
	promptName     = "org.freedesktop.Secret.Prompt"

	nothing = dbus.ObjectPath("/") // where there is no object
)

// secretValue is the Secret of the API.
type secretValue struct {
	Session     dbus.ObjectPath
	Parameters  []byte
	Value       []byte
	ContentType string
}

// service is a session with who serves secrets. Secrets travel plain, through the bus's socket, which is the user's own.
type service struct {
	conn    *dbus.Conn
	object  dbus.BusObject
	session dbus.ObjectPath
}

func open(ctx context.Context, conn *dbus.Conn) (*service, error) {
	s := &service{conn: conn, object: conn.Object(busName, servicePath)}
	var output dbus.Variant
	err := s.object.CallWithContext(ctx, serviceName+".OpenSession", 0, "plain", dbus.MakeVariant("")).Store(&output, &s.session)
	return s, err
}

// attributes are what names an entry, as other programs with the same habits have them.
func attributes(account string) map[string]string {
	return map[string]string{"service": "envfs", "username": account}
}

// find returns the entries of an account, of which there is one at most, in the keyrings that are unlocked and locked.
func (s *service) find(ctx context.Context, account string) (unlocked, locked []dbus.ObjectPath, err error) {
	err = s.object.CallWithContext(ctx, serviceName+".SearchItems", 0, attributes(account)).Store(&unlocked, &locked)
	return unlocked, locked, err
}

// load returns the secret of an account.
func (s *service) load(ctx context.Context, account string) ([]byte, error) {
	unlocked, locked, err := s.find(ctx, account)
	if err != nil {
		return nil, err
	}
	if len(unlocked) == 0 {
		if len(locked) == 0 {
			return nil, fmt.Errorf("%w: this user's keyring has no such entry", keystore.ErrRefused)
		}
		if err := s.unlock(ctx, locked[0]); err != nil {
			return nil, err
		}
		unlocked = locked
	}
	var v secretValue
	err = s.conn.Object(busName, unlocked[0]).CallWithContext(ctx, itemName+".GetSecret", 0, s.session).Store(&v)
	defer clear(v.Value)
	if err != nil {
		return nil, err
	}
	if len(v.Value) != hex.EncodedLen(keystore.BoundSize) {
		return nil, fmt.Errorf("%w: the entry %s was changed", keystore.ErrRefused, account)
	}
	secret := make([]byte, keystore.BoundSize)
	if _, err := hex.Decode(secret, v.Value); err != nil {
		clear(secret)
		return nil, fmt.Errorf("%w: the entry %s was changed", keystore.ErrRefused, account) // hex's error quotes a byte of it
	}
	return secret, nil
}

// store makes an entry in the user's default keyring. Its secret is text, as some keyrings show it to people.
func (s *service) store(ctx context.Context, account, label string, secret []byte) error {
	var to dbus.ObjectPath
	if err := s.object.CallWithContext(ctx, serviceName+".ReadAlias", 0, "default").Store(&to); err != nil {
		return err
	}
	if to == nothing {
		to = loginPath
	}
	if err := s.unlock(ctx, to); err != nil {
		return err
	}
	text := hex.AppendEncode(nil, secret)
	defer clear(text)
	properties := map[string]dbus.Variant{
		itemName + ".Label":      dbus.MakeVariant(label),
		itemName + ".Attributes": dbus.MakeVariant(attributes(account)),
	}
	var item, prompt dbus.ObjectPath
	err := s.conn.Object(busName, to).CallWithContext(ctx, collectionName+".CreateItem", 0, properties,
		secretValue{s.session, []byte{}, text, "text/plain; charset=utf8"}, false).Store(&item, &prompt)
	if err != nil {
		return err
	}
	return s.ask(ctx, prompt)
}

// remove removes the entry of an account, if there is one.
func (s *service) remove(ctx context.Context, account string) error {
	unlocked, locked, err := s.find(ctx, account)
	if err != nil {
		return err
	}
	for _, item := range append(unlocked, locked...) {
		var prompt dbus.ObjectPath
		if err := s.conn.Object(busName, item).CallWithContext(ctx, itemName+".Delete", 0).Store(&prompt); err != nil {
			return err
		}
		if err := s.ask(ctx, prompt); err != nil {
			return err
		}
	}
	return nil
}

// unlock unlocks a keyring or an entry; the desktop asks its user if need be.
func (s *service) unlock(ctx context.Context, object dbus.ObjectPath) error {
	var unlocked []dbus.ObjectPath
	var prompt dbus.ObjectPath
	err := s.object.CallWithContext(ctx, serviceName+".Unlock", 0, []dbus.ObjectPath{object}).Store(&unlocked, &prompt)
	if err != nil {
		return err
	}
	return s.ask(ctx, prompt)
}

// ask has the desktop ask its user, and returns when they have answered.
func (s *service) ask(ctx context.Context, prompt dbus.ObjectPath) error {
	if prompt == nothing {
		return nil
	}
	match := []dbus.MatchOption{dbus.WithMatchObjectPath(prompt), dbus.WithMatchInterface(promptName), dbus.WithMatchMember("Completed")}
	if err := s.conn.AddMatchSignalContext(ctx, match...); err != nil {
		return err
	}
	signals := make(chan *dbus.Signal, 16)
	s.conn.Signal(signals)
	defer s.conn.RemoveSignal(signals)
	if err := s.conn.Object(busName, prompt).CallWithContext(ctx, promptName+".Prompt", 0, "").Err; err != nil {
		return err
	}
	for {
		select {
		case signal, ok := <-signals:
			if !ok {
				return fmt.Errorf("%w: the bus is gone", keystore.ErrAway)
			}
			if signal.Path != prompt || signal.Name != promptName+".Completed" {
				continue
			}
			var dismissed bool
			var result dbus.Variant
			if err := dbus.Store(signal.Body, &dismissed, &result); err != nil {
				return err
			}
			if dismissed {
				return fmt.Errorf("%w: the keyring is locked, and nobody has unlocked it", keystore.ErrRefused)
			}
			return nil
		case <-ctx.Done():
			return errors.Join(keystore.ErrAway, ctx.Err())
		}
	}
}
