//go:build cgo

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"envfs/keystore/pkcs11/wire"
)

// softHSM returns a device with a token, whose user is logged in, and a key in it.
func softHSM(t *testing.T) (*device, wire.Key) {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+dir+"\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	if out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "office", "--so-pin", "87654321", "--pin", "123456").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d, err := load("/usr/lib/softhsm/libsofthsm2.so")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	k := wire.Key{Token: "office", Object: "envfs"}
	logIn(t, d, k)
	if r := d.answer(wire.Request{Op: wire.Generate, Key: k}); r.Code != wire.OK {
		t.Fatalf("generate: %+v", r)
	}
	return d, k
}

func logIn(t *testing.T, d *device, k wire.Key) {
	t.Helper()
	if r := d.answer(wire.Request{Op: wire.Login, Key: k, PIN: []byte("123456")}); r.Code != wire.OK {
		t.Fatalf("login: %+v", r)
	}
}

// Whatever is pulled away under the helper, it asks for the PIN again and goes on.
func TestStale(t *testing.T) {
	d, k := softHSM(t)
	q := wire.Request{Op: wire.MAC, Key: k, Message: []byte("message"), New: true}
	want := d.answer(q)
	if want.Code != wire.OK || len(want.MAC) != 32 {
		t.Fatalf("mac: %+v", want)
	}
	for name, pull := range map[string]func() error{
		"finalised":   func() error { return d.module.Finalize() },
		"sessions":    func() error { return d.module.CloseAllSessions(d.slot(t)) },
		"logged out":  func() error { return d.module.Logout(d.sessions[d.slot(t)].handle) },
		"initialised": func() error { _ = d.module.Finalize(); return d.module.Initialize() },
	} {
		if err := pull(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if r := d.answer(q); r.Code != wire.NeedPIN || r.Token.Label != "office" {
			t.Errorf("%s: %+v", name, r)
		}
		logIn(t, d, k)
		if r := d.answer(q); !bytes.Equal(r.MAC, want.MAC) {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// slot returns the one slot with a session.
func (d *device) slot(t *testing.T) uint {
	t.Helper()
	for slot := range d.sessions {
		return slot
	}
	t.Fatal("no session")
	return 0
}

// A key that must not sign does not, until it may.
func TestSignRight(t *testing.T) {
	d, k := softHSM(t)
	set := func(may bool) {
		t.Helper()
		rw, err := d.module.OpenSession(d.slot(t), pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		if err != nil {
			t.Fatal(err)
		}
		found, err := d.search(rw, k)
		if err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
		if err := d.module.SetAttributeValue(rw, found[0], []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_SIGN, may)}); err != nil {
			t.Fatal(err)
		}
		if err := d.module.CloseSession(rw); err != nil {
			t.Fatal(err)
		}
	}
	for _, op := range []wire.Op{wire.MAC, wire.Describe} {
		set(false)
		if r := d.answer(wire.Request{Op: op, Key: k, Message: []byte("m")}); r.Code != wire.Refused {
			t.Errorf("%s: %+v", op, r)
		}
		set(true)
		if r := d.answer(wire.Request{Op: op, Key: k, Message: []byte("m")}); r.Code != wire.OK {
			t.Errorf("%s: %+v", op, r)
		}
	}
}

// Whatever a token says to a PIN, it may have counted it: only if the PIN cannot have reached it another try is free.
func TestLoginErrors(t *testing.T) {
	for code, want := range map[uint]wire.Code{
		pkcs11.CKR_PIN_INCORRECT: wire.WrongPIN, pkcs11.CKR_GENERAL_ERROR: wire.WrongPIN, pkcs11.CKR_FUNCTION_FAILED: wire.WrongPIN,
		pkcs11.CKR_DEVICE_ERROR: wire.WrongPIN, pkcs11.CKR_DATA_INVALID: wire.WrongPIN, pkcs11.CKR_VENDOR_DEFINED + 7: wire.WrongPIN,
		pkcs11.CKR_SESSION_HANDLE_INVALID: wire.Away, pkcs11.CKR_TOKEN_NOT_PRESENT: wire.Away, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED: wire.Away,
	} {
		err := loginError("office", pkcs11.Error(code))
		if got := codeOf(err); got != want || !strings.Contains(err.Error(), "office") {
			t.Errorf("%v: %s", err, got)
		}
	}
}

func TestTries(t *testing.T) {
	for flags, allowed := range map[uint]bool{
		0: true, pkcs11.CKF_USER_PIN_COUNT_LOW: true,
		pkcs11.CKF_USER_PIN_FINAL_TRY: false, pkcs11.CKF_USER_PIN_LOCKED: false,
	} {
		err := tries(flags)
		if (err == nil) != allowed || err != nil && codeOf(err) != wire.WrongPIN {
			t.Errorf("flags %#x: %v", flags, err)
		}
	}
}
