package kms

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"envfs/kms/audit"
	"envfs/kms/seal"
	"envfs/kms/store"
)

// machine is a KMS in a directory, with a clock of its own.
type machine struct {
	t   *testing.T
	dir string
	now time.Time
	*Service
}

var testEpoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

var testCaller = Caller{ARN: "arn:aws:iam::000000000000:user/admin", Admin: true}

func keyFile(t *testing.T) *seal.KeyFile {
	t.Helper()
	k, err := seal.NewKeyFile(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir(), now: testEpoch}
	if _, err := Init(t.Context(), m.dir, DefaultConfig, keyFile(t), m.now); err != nil {
		t.Fatal(err)
	}
	m.open()
	t.Cleanup(func() { m.Close() })
	return m
}

func (m *machine) open() {
	m.t.Helper()
	var err error
	if m.Service, err = Open(m.t.Context(), m.dir, keyFile(m.t), Options{Now: func() time.Time { return m.now }}); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) reopen() {
	m.t.Helper()
	if err := m.Close(); err != nil {
		m.t.Fatal(err)
	}
	m.open()
}

// try calls an action, with its input in JSON, as the administrator.
func (m *machine) try(action, in string) (map[string]any, *Error) {
	m.t.Helper()
	reply, err := m.Do(&Call{Action: action, Caller: testCaller, ID: NewRequestID()}, []byte(in))
	if err != nil {
		return nil, err
	}
	var out map[string]any
	if err := json.Unmarshal(reply, &out); err != nil {
		m.t.Fatal(err)
	}
	return out, nil
}

func (m *machine) must(action, in string) map[string]any {
	m.t.Helper()
	out, err := m.try(action, in)
	if err != nil {
		m.t.Fatalf("%s: %v", action, err)
	}
	return out
}

func (m *machine) refused(code, action, in string) {
	m.t.Helper()
	if _, err := m.try(action, in); err == nil || err.Code != code {
		m.t.Errorf("%s: %v, want %s", action, err, code)
	}
}

func (m *machine) key() string {
	m.t.Helper()
	return m.must("CreateKey", `{}`)["KeyMetadata"].(map[string]any)["KeyId"].(string)
}

func (m *machine) encrypt(key string) (blob string) {
	m.t.Helper()
	return m.must("Encrypt", `{"KeyId":"`+key+`","Plaintext":"c2VjcmV0"}`)["CiphertextBlob"].(string)
}

func (m *machine) entries() (all []audit.Entry) {
	m.t.Helper()
	names, err := filepath.Glob(filepath.Join(AuditDir(m.dir), "*.log"))
	if err != nil {
		m.t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			m.t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			_, body, _ := bytes.Cut(line, []byte(" "))
			var e audit.Entry
			if err := json.Unmarshal(body, &e); err != nil {
				m.t.Fatal(err)
			}
			all = append(all, e)
		}
	}
	return all
}

func TestDeletion(t *testing.T) {
	m := newMachine(t)
	key, other := m.key(), m.key()
	blob := m.encrypt(key)
	m.must("CreateAlias", `{"AliasName":"alias/a","TargetKeyId":"`+key+`"}`)
	m.must("ScheduleKeyDeletion", `{"KeyId":"`+key+`","PendingWindowInDays":7}`)
	m.now = m.now.Add(7*day - time.Second)
	if err := m.Sweep(); err != nil {
		t.Fatal(err)
	}
	m.refused(codeState, "Decrypt", `{"CiphertextBlob":"`+blob+`"}`)
	m.reopen()
	m.now = m.now.Add(time.Second)
	if err := errors.Join(m.Sweep(), m.Sweep()); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		m.refused(codeNotFound, "Decrypt", `{"CiphertextBlob":"`+blob+`"}`)
		m.refused(codeNotFound, "DescribeKey", `{"KeyId":"`+key+`"}`)
		m.refused(codeNotFound, "DescribeKey", `{"KeyId":"alias/a"}`)
		m.must("DescribeKey", `{"KeyId":"`+other+`"}`)
	}
	check()
	m.reopen()
	check()
	n := 0
	for _, e := range m.entries() {
		if e.Action == "DeleteKey" && e.User == serviceName && e.Key == m.config.arn("key/"+key) {
			n++
		}
	}
	if n != 1 {
		t.Errorf("the log tells %d times of the deletion", n)
	}
}

func TestRotationByItself(t *testing.T) {
	m := newMachine(t)
	key := m.key()
	blob := m.encrypt(key)
	m.must("EnableKeyRotation", `{"KeyId":"`+key+`","RotationPeriodInDays":90}`)
	for range 3 {
		m.now = m.now.Add(91 * day)
		if err := errors.Join(m.Sweep(), m.Sweep()); err != nil {
			t.Fatal(err)
		}
	}
	m.reopen()
	out := m.must("ListKeyRotations", `{"KeyId":"`+key+`"}`)["Rotations"].([]any)
	if len(out) != 3 || out[0].(map[string]any)["RotationType"] != rotatedByItself {
		t.Errorf("rotations: %v", out)
	}
	m.must("Decrypt", `{"CiphertextBlob":"`+blob+`"}`)
	m.must("Decrypt", `{"CiphertextBlob":"`+m.encrypt(key)+`"}`)
}

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

func TestMalformed(t *testing.T) {
	m := newMachine(t)
	key := m.key()
	for _, in := range []string{``, `[]`, `"x"`, `{`, `{} {}`, `{"KeyId":1}`, `{"KeyId":"` + key + `","Unknown":1}`, `{"Plaintext":"not base64!"}`, `{"EncryptionContext":{"a":1}}`, "\xff"} {
		m.refused("SerializationException", "Encrypt", in)
	}
	m.refused("UnknownOperationException", "Frobnicate", `{}`)
	m.refused(codeDenied, "CreateUser", `{"Name":"x"}`)
	m.refused(codeInvalid, "Encrypt", `{"Plaintext":"AAAA"}`)
	m.refused(codeOther, "CreateKey", `{"Tags":[{"TagKey":"a","TagValue":"b"}]}`)
	m.refused(codeOther, "Encrypt", `{"KeyId":"`+key+`","Plaintext":"AAAA","GrantTokens":["x"]}`)
}

// TestLongWords: however much a caller sends, the call is in the log.
func TestLongWords(t *testing.T) {
	m := newMachine(t)
	key := m.key()
	long := strings.Repeat("<", 200<<10)
	m.refused(codeInvalid, "Encrypt", `{"KeyId":"`+key+`","Plaintext":"AAAA","EncryptionContext":{"a":"`+long+`"}}`)
	m.refused(codeInvalid, "DescribeKey", `{"KeyId":"`+long+`"}`)
	m.refused(codeInvalid, "CreateAlias", `{"AliasName":"`+long+`","TargetKeyId":"`+key+`"}`)
	m.refused("UnknownOperationException", long, `{}`)
	m.refused(codeNotFound, "Encrypt", `{"KeyId":"`+strings.Repeat(`\u0001`, 300)+`","Plaintext":"AAAA","EncryptionContext":{"a":"`+long[:8000]+`"}}`)
	all := m.entries()
	if len(all) != 6 || all[1].Context["(left out)"] == "" {
		t.Errorf("%d lines", len(all))
	}
}

func TestBackup(t *testing.T) {
	m := newMachine(t)
	key := m.key()
	blob := m.encrypt(key)
	var wg sync.WaitGroup
	wg.Go(func() { // while it is used
		for range 20 {
			m.encrypt(key)
			m.key()
		}
	})
	var archive bytes.Buffer
	if err := m.WriteBackup(&archive); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	restored := &machine{t: t, dir: t.TempDir(), now: m.now}
	unpack(t, &archive, restored.dir)
	restored.open()
	defer restored.Close()
	if out := restored.must("Decrypt", `{"CiphertextBlob":"`+blob+`"}`); out["Plaintext"] != "c2VjcmV0" {
		t.Errorf("Decrypt: %v", out)
	}
	if r, err := audit.Verify(AuditDir(restored.dir)); err != nil || len(r.Findings) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func unpack(t *testing.T, r io.Reader, dir string) {
	t.Helper()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			err = os.Mkdir(path, 0o700)
		} else {
			var data []byte
			if data, err = io.ReadAll(tr); err == nil {
				err = os.WriteFile(path, data, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	m := newMachine(t)
	if _, err := Open(t.Context(), m.dir, keyFile(t), Options{}); !errors.Is(err, store.ErrInUse) {
		t.Errorf("open twice: %v", err)
	}
	if _, err := Open(t.Context(), t.TempDir(), keyFile(t), Options{}); !errors.Is(err, store.ErrNone) {
		t.Errorf("open nothing: %v", err)
	}
	if _, err := Init(t.Context(), m.dir, DefaultConfig, keyFile(t), m.now); !errors.Is(err, os.ErrExist) {
		t.Errorf("init twice: %v", err)
	}
	for _, c := range []Config{{"1", "us-east-1"}, {"000000000000", "US East"}, {"000000000000", ""}} {
		if _, err := Init(t.Context(), t.TempDir(), c, keyFile(t), m.now); err == nil {
			t.Errorf("init with %+v succeeds", c)
		}
	}
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

// TestDisabledMeansDisabled: between the line of a change that forbids something and that of one that allows it again, no line tells that it
// was done.
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
