package pkcs11

import (
	"context"
	"errors"
	"fmt"

	"envfs/keystore"
	"envfs/keystore/pkcs11/wire"
)

// A PINSource returns the PIN of a token. The caller wipes it.
type PINSource func(ctx context.Context, token string) ([]byte, error)

// Module is a PKCS#11 module, as this machine names it, in a helper process of its own, which the first use starts. It
// logs in to each token once: a PIN that was refused is not tried again, because tokens lock after a few wrong ones. It
// is safe for concurrent use, and makes one call at a time.
type Module struct {
	path string
	pin  PINSource
	turn chan struct{} // holds a token while nobody is at work

	helper *helper          // nil: not started, or ended
	denied map[string]error // by token: why no login is tried any more
}

// Load returns the module in the shared library at path. Nothing is loaded yet.
func Load(path string, pin PINSource) *Module {
	m := &Module{path: path, pin: pin, turn: make(chan struct{}, 1), denied: map[string]error{}}
	m.turn <- struct{}{}
	return m
}

// Close ends the helper process. The module may be used again.
func (m *Module) Close() {
	<-m.turn
	m.stop()
	m.turn <- struct{}{}
}

// Generate makes the key that uri names, in its token: 256 random bits that sign and never leave it. It returns
// [keystore.ErrRefused] if there is a key of that name.
func (m *Module) Generate(ctx context.Context, uri string) error {
	k, err := Parse(uri)
	if err != nil {
		return err
	}
	if _, err := m.do(ctx, wire.Request{Op: wire.Generate, Key: k}); err != nil {
		return fmt.Errorf("%s: %w", Format(k), err)
	}
	return nil
}

// maxLogins bounds the logins for one request: a token that is taken away and put back wants another.
const maxLogins = 2

var errHelper = errors.New("the helper's reply is none")

// do makes a request, after a login if the token wants one.
func (m *Module) do(ctx context.Context, q wire.Request) (wire.Reply, error) {
	select {
	case <-m.turn:
		defer func() { m.turn <- struct{}{} }()
	case <-ctx.Done():
		return wire.Reply{}, context.Cause(ctx)
	}
	for logins := 0; ; logins++ {
		r, err := m.exchange(ctx, q)
		switch {
		case err != nil:
			return wire.Reply{}, err
		case r.Code != wire.NeedPIN:
			return r, verdict(r)
		case logins == maxLogins:
			return wire.Reply{}, fmt.Errorf("token %s: %w: it forgets each login at once", r.Token.Label, keystore.ErrAway)
		}
		if err := m.login(ctx, q.Key, r.Token); err != nil {
			return wire.Reply{}, err
		}
	}
}

// login logs in to a token, unless that has failed before.
func (m *Module) login(ctx context.Context, k wire.Key, t wire.Token) error {
	name := t.Manufacturer + "\x00" + t.Model + "\x00" + t.Serial + "\x00" + t.Label
	if err := m.denied[name]; err != nil {
		return fmt.Errorf("not tried again: %w", err)
	}
	q := wire.Request{Op: wire.Login, Key: k}
	if !t.PINPad {
		pin, err := m.pin(ctx, t.Label)
		if err != nil {
			err = fmt.Errorf("PIN of token %s: %w", t.Label, err)
			if ctx.Err() == nil {
				m.denied[name] = err // who had no PIN for one slot has none for the next
			}
			return err
		}
		defer clear(pin)
		q.PIN = pin
	}
	// Whatever happens to this try, the token may have counted it.
	m.denied[name] = fmt.Errorf("token %s: %w: a login was broken off", t.Label, keystore.ErrRefused)
	r, err := m.exchange(ctx, q)
	if err != nil {
		return err
	}
	if r.Code == wire.OK {
		delete(m.denied, name)
		return nil
	}
	err = verdict(r)
	if r.Code == wire.WrongPIN {
		m.denied[name] = err
	} else {
		delete(m.denied, name) // the token was not asked
	}
	return err
}

// verdict returns the error that a reply stands for.
func verdict(r wire.Reply) error {
	switch r.Code {
	case wire.OK:
		return nil
	case wire.Refused, wire.WrongPIN:
		return fmt.Errorf("%w: %s", keystore.ErrRefused, r.Text)
	case wire.Away:
		return fmt.Errorf("%w: %s", keystore.ErrAway, r.Text)
	}
	return fmt.Errorf("%w: code %q", errHelper, r.Code)
}
