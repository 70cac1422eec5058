package kms

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"envfs/kms/audit"
	"envfs/kms/store"
)

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
