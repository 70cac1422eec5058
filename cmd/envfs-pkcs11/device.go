//go:build cgo

package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"

	"envfs/keystore/pkcs11/wire"
)

// device is a loaded module and what is open in it. It must not be used concurrently.
type device struct {
	module   *pkcs11.Ctx
	sessions map[uint]session // by slot
}

// session is the one session with a token. A login counts for all sessions of a process with the token.
type session struct {
	handle pkcs11.SessionHandle
	serial string
}

// load loads and initialises the module in the shared library at path.
func load(path string) (*device, error) {
	d := &device{module: pkcs11.New(path), sessions: map[uint]session{}}
	if d.module == nil {
		return nil, fmt.Errorf("%s: cannot be loaded as a PKCS#11 module", path)
	}
	if err := d.initialize(); err != nil {
		return nil, fmt.Errorf("%s: initialise: %w", path, err)
	}
	return d, nil
}

func (d *device) initialize() error {
	clear(d.sessions)
	err := d.module.Initialize()
	if errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
		return nil
	}
	return err
}

// close logs out and lets the module end.
func (d *device) close() { _ = d.module.Finalize() }

// answer does what a request wants. A session or a handle that has become stale, because the token was taken away, or
// the module was reset, is replaced once.
func (d *device) answer(q wire.Request) wire.Reply {
	r, err := d.try(q)
	code, ok := errors.AsType[pkcs11.Error](err)
	switch {
	case ok && q.Op != wire.Login && stale(code):
		d.forget()
		r, err = d.try(q)
	case errors.Is(err, errAbsent) && d.again():
		r, err = d.try(q)
	}
	if err != nil {
		clear(r.MAC)
		return wire.Reply{Code: codeOf(err), Text: err.Error(), Token: r.Token}
	}
	return r
}

func (d *device) try(q wire.Request) (r wire.Reply, err error) {
	slot, info, err := d.find(q.Key)
	if err != nil {
		return r, err
	}
	r.Code, r.Token = wire.OK, describe(info)
	s, err := d.session(slot, info)
	if err != nil {
		return r, err
	}
	if q.Op == wire.Login {
		return r, d.login(s, info, q.PIN)
	}
	if in, err := d.loggedIn(s, info); err != nil {
		return r, err
	} else if !in {
		r.Code = wire.NeedPIN
		return r, nil
	}
	switch q.Op {
	case wire.MAC:
		r.MAC, err = d.mac(s, q)
	case wire.Describe:
		_, err = d.key(s, q.Key)
	case wire.Generate:
		err = d.generate(slot, s, q.Key)
	default:
		err = fmt.Errorf("no request is called %q", q.Op)
	}
	return r, err
}

// find returns the slot whose token k names. Tokens come and go, so it looks each time.
func (d *device) find(k wire.Key) (slot uint, info pkcs11.TokenInfo, err error) {
	slots, err := d.module.GetSlotList(true)
	if err != nil {
		return 0, info, fmt.Errorf("list tokens: %w", err)
	}
	var there []string
	found := 0
	for _, s := range slots {
		t, err := d.module.GetTokenInfo(s)
		if err != nil || t.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
			continue
		}
		there = append(there, t.Label)
		if fits(k.Token, t.Label) && fits(k.Serial, t.SerialNumber) && fits(k.Manufacturer, t.ManufacturerID) && fits(k.Model, t.Model) {
			slot, info = s, t
			found++
		}
	}
	switch {
	case found == 0 && len(there) == 0:
		return 0, info, errAbsent
	case found == 0:
		return 0, info, fmt.Errorf("%w: there is %q", errAbsent, there)
	case found > 1:
		return 0, info, errRefused(fmt.Sprintf("%d tokens are called so: name one by serial=NUMBER, too", found))
	}
	return slot, info, nil
}

func fits(want, is string) bool { return want == "" || want == is }

// describe returns what is public of a token.
func describe(t pkcs11.TokenInfo) wire.Token {
	return wire.Token{
		Label: t.Label, Serial: t.SerialNumber, Manufacturer: t.ManufacturerID, Model: t.Model,
		PINPad: t.Flags&pkcs11.CKF_PROTECTED_AUTHENTICATION_PATH != 0,
	}
}

// session returns the session with the token in a slot, which it opens if there is none, or none with this token.
func (d *device) session(slot uint, t pkcs11.TokenInfo) (pkcs11.SessionHandle, error) {
	if s, ok := d.sessions[slot]; ok {
		if _, err := d.module.GetSessionInfo(s.handle); err == nil && s.serial == t.SerialNumber {
			return s.handle, nil
		}
		_ = d.module.CloseSession(s.handle)
		delete(d.sessions, slot)
	}
	h, err := d.module.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return 0, fmt.Errorf("open session: %w", err)
	}
	d.sessions[slot] = session{h, t.SerialNumber}
	return h, nil
}

// forget closes all sessions. If the module was reset it is initialised again.
func (d *device) forget() {
	for _, s := range d.sessions {
		_ = d.module.CloseSession(s.handle)
	}
	clear(d.sessions)
	if _, err := d.module.GetInfo(); errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)) {
		_ = d.initialize() // if it fails, so does the next call
	}
}

// again initialises the module anew, unless there is a session that this would end, and tells whether it has: some
// modules find a token that has come only so.
func (d *device) again() bool {
	for slot, s := range d.sessions {
		if t, err := d.module.GetTokenInfo(slot); err == nil && t.SerialNumber == s.serial {
			return false
		}
	}
	_ = d.module.Finalize()
	return d.initialize() == nil
}

// loggedIn tells whether nothing is left to do before keys are used.
func (d *device) loggedIn(s pkcs11.SessionHandle, t pkcs11.TokenInfo) (bool, error) {
	if t.Flags&pkcs11.CKF_LOGIN_REQUIRED == 0 {
		return true, nil
	}
	info, err := d.module.GetSessionInfo(s)
	if err != nil {
		return false, fmt.Errorf("session: %w", err)
	}
	return slices.Contains([]uint{pkcs11.CKS_RO_USER_FUNCTIONS, pkcs11.CKS_RW_USER_FUNCTIONS}, info.State), nil
}

// login tries a PIN, unless that would be the last try before the token locks, or it is locked.
func (d *device) login(s pkcs11.SessionHandle, t pkcs11.TokenInfo, pin []byte) error {
	if err := tries(t.Flags); err != nil {
		return err
	}
	err := d.module.Login(s, pkcs11.CKU_USER, string(pin))
	if errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)) {
		return nil
	}
	if err != nil {
		return loginError(t.Label, err)
	}
	return nil
}

// tries returns an error if the flags of a token say that a wrong PIN would lock it, or that it is locked.
func tries(flags uint) error {
	switch {
	case flags&pkcs11.CKF_USER_PIN_LOCKED != 0:
		return errPIN("the token's PIN is locked")
	case flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0:
		return errPIN("one more wrong PIN locks the token: log in with its own tool first")
	}
	return nil
}
