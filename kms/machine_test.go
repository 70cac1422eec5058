package kms

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"envfs/kms/audit"
	"envfs/kms/seal"
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
