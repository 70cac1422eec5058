package loginkeyring

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"envfs/blockcrypt"
	"envfs/keystore"
	"envfs/keystore/providertest"
)

// desktop is a session bus with a GNOME Keyring, of a user of its own, without a screen.
type desktop struct {
	t   *testing.T
	bus string
	env []string
}

const passphrase = "of the login"

func start(t *testing.T) *desktop {
	t.Helper()
	home := t.TempDir()
	d := &desktop{t: t, bus: startBus(t, home, `<allow eavesdrop="true"/>`)}
	d.env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home+"/data", "XDG_RUNTIME_DIR="+home, "DBUS_SESSION_BUS_ADDRESS="+d.bus, "DISPLAY=", "WAYLAND_DISPLAY=")
	d.await(func(*dbus.Conn) bool { return true })
	keyring := exec.Command("gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets")
	keyring.Env, keyring.Stdin = d.env, strings.NewReader(passphrase)
	run(t, keyring)
	d.await(func(c *dbus.Conn) bool {
		var owned bool
		err := c.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, busName).Store(&owned)
		return err == nil && owned
	})
	return d
}

// startBus starts a bus that would start no services, with a policy, and returns its address.
func startBus(t *testing.T, dir, policy string) string {
	t.Helper()
	address := "unix:path=" + filepath.Join(dir, "bus")
	config := filepath.Join(dir, "bus.conf")
	text := `<busconfig><listen>` + address + `</listen><policy context="default"><allow send_destination="*"/><allow own="*"/>` + policy + `</policy></busconfig>`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, exec.Command("dbus-daemon", "--nofork", "--config-file="+config))
	return address
}

// run starts a program that ends with the test.
func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: install what is missing (scripts/deps.sh)", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// await returns when the bus is there and fits.
func (d *desktop) await(fits func(*dbus.Conn) bool) {
	d.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		c, err := dbus.Connect(d.bus)
		if err == nil {
			ok := fits(c)
			c.Close()
			if ok {
				return
			}
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("the bus is not ready: %v", err)
		}
	}
}

// lock locks the login keyring, as a desktop does when its user locks it.
func (d *desktop) lock() {
	d.t.Helper()
	c, err := dbus.Connect(d.bus)
	if err != nil {
		d.t.Fatal(err)
	}
	defer c.Close()
	var locked []dbus.ObjectPath
	var prompt dbus.ObjectPath
	err = c.Object(busName, servicePath).Call(serviceName+".Lock", 0, []dbus.ObjectPath{loginPath}).Store(&locked, &prompt)
	if err != nil || len(locked) != 1 {
		d.t.Fatalf("lock: %v, %v", locked, err)
	}
}

// unlock unlocks it, as GNOME's own prompt does.
func (d *desktop) unlock() {
	d.t.Helper()
	c, err := dbus.Connect(d.bus)
	if err != nil {
		d.t.Fatal(err)
	}
	defer c.Close()
	k, err := open(d.t.Context(), c)
	if err != nil {
		d.t.Fatal(err)
	}
	err = k.object.Call("org.gnome.keyring.InternalUnsupportedGuiltRiddenInterface.UnlockWithMasterPassword", 0, dbus.ObjectPath(loginPath),
		secretValue{k.session, []byte{}, []byte(passphrase), "text/plain"}).Err
	if err != nil {
		d.t.Fatalf("unlock: %v", err)
	}
}

func TestProvider(t *testing.T) {
	mine, theirs := start(t), start(t)
	dir := t.TempDir()
	mute := startBus(t, dir, "") // whose policy lets no reply through
	providertest.Run(t, providertest.Service{
		Open:      func(*testing.T) keystore.Wrapper { return New(mine.bus) },
		Other:     func(*testing.T) keystore.Wrapper { return New(theirs.bus) },
		Forbidden: func(*testing.T) keystore.Wrapper { return New(theirs.bus) },
		Disable:   func(*testing.T) { mine.lock() },
		Enable:    func(*testing.T) { mine.unlock() },
		Away:      func(*testing.T) keystore.Wrapper { return New("unix:path=" + filepath.Join(dir, "nothing")) },
		Slow:      func(*testing.T) keystore.Wrapper { return New(mute) },
	})
}

// There may be no bus, or nobody on it who serves secrets.
func TestNobody(t *testing.T) {
	s := keystore.SlotInfo{Kind: Kind, Provider: keystore.ProviderData{Key: keyName, Wrapped: make([]byte, referenceSize)}}
	if _, err := New("").Secret(t.Context(), s); !errors.Is(err, keystore.ErrAway) || !strings.Contains(err.Error(), "no session bus") {
		t.Errorf("without a bus: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	d := start(t)
	if err := New(d.bus).Check(ctx); err != nil {
		t.Error(err)
	}
	empty := startBus(t, t.TempDir(), `<allow eavesdrop="true"/>`)
	(&desktop{t: t, bus: empty}).await(func(*dbus.Conn) bool { return true })
	for _, bus := range []string{"", d.bus + "-not", empty} {
		if err := New(bus).Check(ctx); !errors.Is(err, keystore.ErrAway) {
			t.Errorf("check %q: %v", bus, err)
		}
	}
	env := map[string]string{"XDG_RUNTIME_DIR": t.TempDir()}
	getenv := func(name string) string { return env[name] }
	if got := Bus(getenv); got != "" {
		t.Errorf("bus: %s", got)
	}
	env["XDG_RUNTIME_DIR"] = filepath.Dir(strings.TrimPrefix(d.bus, "unix:path="))
	if got := Bus(getenv); New(got).Check(ctx) != nil {
		t.Errorf("bus in XDG_RUNTIME_DIR: %s", got)
	}
	env["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=/x"
	if got := Bus(getenv); got != "unix:path=/x" {
		t.Errorf("bus: %s", got)
	}
}

// What lies in the keyring is told by no path and no name, and a changed entry does not open.
func TestEntry(t *testing.T) {
	d := start(t)
	p := New(d.bus)
	s := keystore.SlotInfo{Vault: blockcrypt.ID{1}, Kind: Kind, Label: "private"}
	w, data, err := p.Wrap(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	s.Provider = data
	c, err := dbus.Connect(d.bus)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	k, err := open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	unlocked, _, err := k.find(t.Context(), account(data.Wrapped))
	if err != nil || len(unlocked) != 1 {
		t.Fatalf("%v, %v", unlocked, err)
	}
	item := c.Object(busName, unlocked[0])
	if label, err := item.GetProperty(itemName + ".Label"); err != nil || label.Value() != "envfs vault "+s.Vault.String() {
		t.Errorf("label %v, %v", label, err)
	}
	for _, value := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("0"), 128), bytes.Repeat([]byte("x"), 128)} {
		if err := item.Call(itemName+".SetSecret", 0, secretValue{k.session, []byte{}, value, "text/plain"}).Err; err != nil {
			t.Fatal(err)
		}
		if got, err := p.Secret(t.Context(), s); !errors.Is(err, keystore.ErrRefused) || bytes.Equal(got, w) {
			t.Errorf("changed to %d bytes: %v", len(value), err)
		}
	}
}
