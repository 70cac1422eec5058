package kms

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A KMS is resealed from a key file to a token and back, and killed meanwhile, again and again: whatever the moment, it
// is sealed by one of the two, whole.
func TestKilledWhileResealing(t *testing.T) {
	k := newKMS(t)
	home := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", home, "envfs/cmd/envfs-pkcs11").CombinedOutput(); err != nil {
		t.Fatalf("build envfs-pkcs11: %v\n%s", err, out)
	}
	t.Setenv("PATH", home+":"+os.Getenv("PATH"))
	conf, tokens, pin := filepath.Join(home, "softhsm2.conf"), filepath.Join(home, "tokens"), filepath.Join(home, "pin")
	for _, err := range []error{
		os.Mkdir(tokens, 0o700), os.WriteFile(conf, []byte("directories.tokendir = "+tokens+"\n"), 0o600), os.WriteFile(pin, []byte("123456\n"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	t.Setenv("ENVFS_PKCS11_MODULE", "/usr/lib/softhsm/libsofthsm2.so")
	if out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "office", "--so-pin", "87654321", "--pin", "123456").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const uri = "pkcs11:token=office;object=kms"
	k.run("key", "generate", "--pkcs11", uri, "--pin-file", pin)
	k.run("kms", "key", "create", k.dir, "--alias", "app", "--keyfile", k.key)

	byFile, byToken := []string{"--keyfile", k.key}, []string{"--key", uri, "--pin-file", pin}
	opens := func(by []string) bool {
		out, err := exec.Command(binary, append([]string{"kms", "key", "list", k.dir}, by...)...).Output()
		return err == nil && strings.Contains(string(out), "alias/app")
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	onToken, killed, moved := false, 0, 0
	for range 40 {
		args := append([]string{"kms", "reseal", k.dir, "--new-key", uri}, "--keyfile", k.key, "--pin-file", pin)
		if onToken {
			args = append([]string{"kms", "reseal", k.dir, "--new-keyfile", k.key}, byToken...)
		}
		cmd := exec.Command(binary, args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		late := time.AfterFunc(time.Duration(rnd.IntN(120))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		if cmd.Wait() != nil {
			killed++
		}
		late.Stop()
		file, token := opens(byFile), opens(byToken)
		if file == token {
			t.Fatalf("opened by the key file: %v, by the token: %v", file, token)
		}
		if token != onToken {
			moved++
		}
		if told := strings.Count(k.run("kms", "audit", "show", k.dir, "--action", "Reseal", "--json"), "\n"); told != moved {
			t.Fatalf("the log tells of %d times, it was resealed %d times", told, moved)
		}
		onToken = token
	}
	t.Logf("killed %d times, resealed %d times", killed, moved)
	k.run("kms", "audit", "verify", k.dir)
}
