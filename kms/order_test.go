package kms

import (
	"fmt"
	"sync"
	"testing"
)

// TestLate: a change whose line a crash has kept from the log gets it at the next start, once.
func TestLate(t *testing.T) {
	m := newMachine(t)
	key := m.key()
	c := &Call{Action: "DisableKey", Caller: testCaller, ID: NewRequestID(), at: m.now}
	if _, err := m.disableKey(c, &keyInput{key}); err != nil { // and not [Service.Do], which logs
		t.Fatal(err)
	}
	for range 2 {
		m.reopen()
		m.refused("DisabledException", "Encrypt", `{"KeyId":"`+key+`","Plaintext":"AAAA"}`)
	}
	m.must("EnableKey", `{"KeyId":"`+key+`"}`)
	m.reopen()
	var late []string
	for _, e := range m.entries() {
		if e.Late {
			late = append(late, e.Action+" "+e.ID)
		}
	}
	if len(late) != 1 || late[0] != "DisableKey "+c.ID {
		t.Errorf("late lines: %q", late)
	}
	left := 0
	m.store.Each(tableNotes, func(string, []byte) error { left++; return nil })
	if left > 1 {
		t.Errorf("%d notes are left", left)
	}
}

// TestLateReseal: so it is with a change of what the KMS is sealed by, also if it can be opened by that only.
func TestLateReseal(t *testing.T) {
	m := newMachine(t)
	if err := m.audit.Close(); err != nil { // as if killed before it writes
		t.Fatal(err)
	}
	c := &Call{ID: NewRequestID(), Caller: testCaller}
	if err := m.Reseal(t.Context(), c, keyFile(t)); err == nil {
		t.Error("resealed without a line in the log")
	}
	m.reopen()
	m.reopen()
	var found []string
	for _, e := range m.entries() {
		if e.Action == "Reseal" {
			found = append(found, fmt.Sprint(e.ID, e.Late, e.Subject))
		}
	}
	if want := fmt.Sprint(c.ID, true, "keyfile"); len(found) != 1 || found[0] != want {
		t.Errorf("lines %q, want %q", found, want)
	}
}

// TestLogFails: what cannot be logged is not answered.
func TestLogFails(t *testing.T) {
	m := newMachine(t)
	key := m.key()
	blob := m.encrypt(key)
	if err := m.audit.Close(); err != nil {
		t.Fatal(err)
	}
	m.refused(codeInternal, "Decrypt", `{"CiphertextBlob":"`+blob+`"}`)
	m.refused(codeInternal, "ListKeys", `{}`)
}

// TestConcurrent changes and uses keys from many sides.
func TestConcurrent(t *testing.T) {
	m := newMachine(t)
	key := m.key()
	blob := m.encrypt(key)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				m.must("Decrypt", `{"CiphertextBlob":"`+blob+`"}`)
				m.encrypt(key)
			}
		})
		wg.Go(func() {
			for range 5 {
				m.must("RotateKeyOnDemand", `{"KeyId":"`+key+`"}`)
				m.key()
			}
		})
	}
	wg.Wait()
	m.reopen()
	m.must("Decrypt", `{"CiphertextBlob":"`+blob+`"}`)
	if out := m.must("ListKeys", `{}`)["Keys"].([]any); len(out) != 21 {
		t.Errorf("%d keys", len(out))
	}
}

// TestDisabledMeansDisabled: between the line of a change that forbids something and that of one that allows it again,
// no line tells that it was done.
func TestDisabledMeansDisabled(t *testing.T) {
	m := newMachine(t)
	key := m.key()
	blob := m.encrypt(key)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					m.try("Decrypt", `{"CiphertextBlob":"`+blob+`"}`)
				}
			}
		})
	}
	for range 20 {
		m.must("DisableKey", `{"KeyId":"`+key+`"}`)
		m.refused("DisabledException", "Decrypt", `{"CiphertextBlob":"`+blob+`"}`)
		m.must("EnableKey", `{"KeyId":"`+key+`"}`)
	}
	close(stop)
	wg.Wait()
	disabled, decrypted := false, 0
	for _, e := range m.entries() {
		switch e.Action {
		case "DisableKey":
			disabled = true
		case "EnableKey":
			disabled = false
		case "Decrypt":
			if e.Result == okResult {
				decrypted++
			}
			if disabled && e.Result == okResult {
				t.Fatalf("line %d tells of a Decrypt under a disabled key", e.Seq)
			}
		}
	}
	t.Logf("%d calls of Decrypt were answered", decrypted)
}

// TestRemovedMeanwhile: a user who is removed when the signature has been verified is refused.
func TestRemovedMeanwhile(t *testing.T) {
	m := newMachine(t)
	var id string
	for id = range m.access {
	}
	caller, ok := m.Caller(id)
	if !ok {
		t.Fatal("no caller")
	}
	admin := &Call{Action: "RekeyUser", Caller: Caller{ARN: "local:0", Local: true}, ID: NewRequestID()}
	if _, err := m.Do(admin, []byte(`{"Name":"admin"}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Do(&Call{Action: "ListKeys", Caller: caller, ID: NewRequestID()}, []byte(`{}`)); err == nil || err.Code != "UnrecognizedClientException" {
		t.Errorf("ListKeys: %v", err)
	}
}
