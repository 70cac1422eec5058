package kms

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// sops runs the real one (scripts/servers.sh sops builds it).
func (k *kms) sops(a access, args ...string) (string, error) {
	k.t.Helper()
	path, err := filepath.Abs("../../bin/sops")
	if err != nil {
		k.t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = k.env(a)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestSOPS(t *testing.T) {
	k := newKMS(t)
	k.start()
	arn := strings.TrimSpace(k.run("kms", "key", "create", k.dir, "--alias", "sops"))
	file := filepath.Join(t.TempDir(), "secrets.yaml")
	if err := os.WriteFile(file, []byte("password: correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := k.sops(k.access, "encrypt", "--kms", arn, "--encryption-context", "app:demo", "--in-place", file); err != nil {
		t.Fatalf("sops encrypt: %v: %s", err, out)
	}
	text, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(text), "correct horse") || !strings.Contains(string(text), arn) {
		t.Fatalf("encrypted: %v: %s", err, text)
	}
	decrypted := func(a access) (string, error) { return k.sops(a, "decrypt", file) }
	if out, err := decrypted(k.access); err != nil || out != "password: correct horse\n" {
		t.Fatalf("sops decrypt: %v: %s", err, out)
	}
	// A user whom the policy lets decrypt in this context only.
	alice := accessIn(k.run("kms", "user", "add", k.dir, "alice"))
	if out, err := decrypted(alice); err == nil || !strings.Contains(out, "AccessDeniedException") {
		t.Fatalf("sops decrypt by alice: %v: %s", err, out)
	}
	policy := filepath.Join(t.TempDir(), "policy.json")
	put := func(app string) {
		t.Helper()
		err := os.WriteFile(policy, []byte(`{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"kms:*","Resource":"*"},
			{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/alice"},"Action":"kms:Decrypt","Resource":"*",
			 "Condition":{"StringEquals":{"kms:EncryptionContext:app":"`+app+`"}}}]}`), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		k.run("kms", "key", "policy", k.dir, "alias/sops", "--put", policy)
	}
	put("other")
	if out, err := decrypted(alice); err == nil || !strings.Contains(out, "AccessDeniedException") {
		t.Fatalf("sops decrypt by alice in another context: %v: %s", err, out)
	}
	put("demo")
	if out, err := decrypted(alice); err != nil || out != "password: correct horse\n" {
		t.Fatalf("sops decrypt by alice: %v: %s", err, out)
	}
	if out, err := k.sops(alice, "rotate", "--in-place", file); err == nil {
		t.Fatalf("alice may decrypt, and has encrypted: %s", out)
	}
	k.run("kms", "key", "disable", k.dir, "alias/sops")
	if out, err := decrypted(k.access); err == nil || !strings.Contains(out, "DisabledException") {
		t.Fatalf("sops decrypt under a disabled key: %v: %s", err, out)
	}
}
