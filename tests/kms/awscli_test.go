package kms

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// cli runs Debian's aws and returns what it prints, or what it says if it fails.
func (k *kms) cli(a access, args ...string) (out string, ok bool) {
	k.t.Helper()
	cmd := exec.Command("/usr/bin/aws", append([]string{"kms", "--endpoint-url", k.url, "--output", "json"}, args...)...)
	cmd.Env = k.env(a)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, is := err.(*exec.ExitError); err != nil && !is {
		k.t.Fatal(err)
	}
	if err != nil {
		return stderr.String(), false
	}
	return stdout.String(), true
}

// cliJSON runs aws, which must succeed, and returns a member of what it prints.
func (k *kms) cliJSON(member string, args ...string) string {
	k.t.Helper()
	out, ok := k.cli(k.access, args...)
	if !ok {
		k.t.Fatalf("aws kms %s: %s", strings.Join(args, " "), out)
	}
	if member == "" {
		return ""
	}
	var v any
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		k.t.Fatal(err)
	}
	for name := range strings.SplitSeq(member, ".") {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	s, ok := v.(string)
	if !ok {
		k.t.Fatalf("aws kms %s: no %s in %s", args[0], member, out)
	}
	return s
}

func TestAWSCLI(t *testing.T) {
	k := newKMS(t)
	k.start()
	key := k.cliJSON("KeyMetadata.KeyId", "create-key", "--description", "made by aws")
	k.cliJSON("", "create-alias", "--alias-name", "alias/cli", "--target-key-id", key)
	context := []string{"--encryption-context", "app=demo,stage=test"}
	blob := k.cliJSON("CiphertextBlob", append([]string{"encrypt", "--key-id", "alias/cli", "--plaintext", "aGVsbG8="}, context...)...)
	if got := k.cliJSON("Plaintext", append([]string{"decrypt", "--ciphertext-blob", blob}, context...)...); got != "aGVsbG8=" {
		t.Errorf("decrypt: %s", got)
	}
	if out, ok := k.cli(k.access, "decrypt", "--ciphertext-blob", blob); ok || !strings.Contains(out, "(InvalidCiphertextException) when calling the Decrypt operation") {
		t.Errorf("decrypt without its context: %s", out)
	}
	plain := k.cliJSON("Plaintext", "generate-data-key", "--key-id", key, "--key-spec", "AES_256")
	if b, err := base64.StdEncoding.DecodeString(plain); err != nil || len(b) != 32 {
		t.Errorf("generate-data-key: %s", plain)
	}
	moved := k.cliJSON("CiphertextBlob", "re-encrypt", "--ciphertext-blob", blob, "--source-encryption-context", "app=demo,stage=test", "--destination-key-id", key)
	if got := k.cliJSON("Plaintext", "decrypt", "--ciphertext-blob", moved); got != "aGVsbG8=" {
		t.Errorf("re-encrypt: %s", got)
	}
	k.cliJSON("", "enable-key-rotation", "--key-id", key)
	k.cliJSON("KeyMetadata.Arn", "describe-key", "--key-id", "alias/cli")
	policy := k.cliJSON("Policy", "get-key-policy", "--key-id", key, "--policy-name", "default")
	k.cliJSON("", "put-key-policy", "--key-id", key, "--policy-name", "default", "--policy", policy)
	for _, list := range [][]string{{"list-keys"}, {"list-aliases"}, {"list-key-policies", "--key-id", key}, {"get-key-rotation-status", "--key-id", key}} {
		if out, ok := k.cli(k.access, list...); !ok {
			t.Errorf("%s: %s", list[0], out)
		}
	}
	k.cliJSON("", "disable-key", "--key-id", key)
	if out, ok := k.cli(k.access, "decrypt", "--ciphertext-blob", moved); ok || !strings.Contains(out, "(DisabledException)") {
		t.Errorf("decrypt under a disabled key: %s", out)
	}
	k.cliJSON("", "enable-key", "--key-id", key)
	k.cliJSON("KeyId", "schedule-key-deletion", "--key-id", key, "--pending-window-in-days", "7")
	k.cliJSON("KeyId", "cancel-key-deletion", "--key-id", key)
	alice := accessIn(k.run("kms", "user", "add", k.dir, "alice"))
	if out, ok := k.cli(alice, "describe-key", "--key-id", key); ok || !strings.Contains(out, "(AccessDeniedException)") {
		t.Errorf("describe-key by alice: %s", out)
	}
	if out, ok := k.cli(access{k.access.id, "wrong"}, "list-keys"); ok || !strings.Contains(out, "(InvalidSignatureException)") {
		t.Errorf("list-keys with a wrong secret: %s", out)
	}
	// Without the authority's certificate no client talks to it.
	cmd := exec.Command("/usr/bin/aws", "kms", "--endpoint-url", k.url, "list-keys")
	cmd.Env = append(k.env(k.access), "AWS_CA_BUNDLE="+filepath.Join("/etc/ssl/certs", "ca-certificates.crt"))
	if out, err := cmd.CombinedOutput(); err == nil || !bytes.Contains(out, []byte("CERTIFICATE_VERIFY_FAILED")) {
		t.Errorf("list-keys without the certificate: %s", out)
	}
}
