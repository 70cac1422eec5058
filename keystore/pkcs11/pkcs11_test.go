package pkcs11

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"envfs/blockcrypt"
	"envfs/keystore"
	"envfs/keystore/providertest"
)

const (
	first  = "pkcs11:token=office;object=envfs"
	second = "pkcs11:token=office;object=other"
)

// generate makes keys in the token, by what `envfs key generate` does.
func generate(t *testing.T, uris ...string) {
	t.Helper()
	m := Load(softHSM, (&typed{pin: goodPIN}).source)
	defer m.Close()
	for _, uri := range uris {
		if err := m.Generate(t.Context(), uri); err != nil {
			t.Fatal(err)
		}
	}
}

// TestProvider runs the suite against SoftHSM.
func TestProvider(t *testing.T) {
	dir := tokens(t, "office")
	generate(t, first, second)
	providertest.Run(t, providertest.Service{
		Open:      func(t *testing.T) keystore.Wrapper { return open(t, softHSM, first, goodPIN) },
		Other:     func(t *testing.T) keystore.Wrapper { return open(t, softHSM, second, goodPIN) },
		Forbidden: func(t *testing.T) keystore.Wrapper { return open(t, softHSM, first, "654321") },
		Away: func(t *testing.T) keystore.Wrapper {
			if err := os.Rename(dir, dir+".away"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := os.Rename(dir+".away", dir); err != nil {
					t.Fatal(err)
				}
			})
			return open(t, softHSM, first, goodPIN)
		},
		Slow: func(t *testing.T) keystore.Wrapper {
			p := open(t, softHSM, first, goodPIN)
			if _, err := p.Describe(t.Context(), slot(first)); err != nil {
				t.Fatal(err)
			}
			pid := p.module.helper.cmd.Process.Pid
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			var status syscall.WaitStatus // each of its threads has stopped when this returns
			if _, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
				t.Fatalf("stop helper: %v, %v", status, err)
			}
			return p
		},
	})
}

// slot returns a slot that was made with the key that uri names.
func slot(uri string) keystore.SlotInfo {
	return keystore.SlotInfo{Vault: blockcrypt.ID{1}, Kind: Kind, Provider: keystore.ProviderData{Key: uri, Wrapped: append([]byte{version}, make([]byte, saltSize)...)}}
}

// A wrong PIN reaches the token once, however many slots and goroutines want the token.
func TestWrongPINOnce(t *testing.T) {
	tokens(t, "office")
	generate(t, first, second)
	path, calls := spied(t)
	pin := &typed{pin: "000000"}
	m := Load(path, pin.source)
	t.Cleanup(m.Close)
	var all sync.WaitGroup
	for i := range 20 {
		p, err := m.Provider([]string{first, second, "", ""}[i%4])
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			if _, err := p.Secret(t.Context(), slot([]string{first, second}[i%2])); !errors.Is(err, keystore.ErrRefused) || !strings.Contains(err.Error(), "PIN") {
				t.Errorf("secret: %v", err)
			}
		})
	}
	all.Wait()
	m.Close() // another helper process knows of it, too
	p, _ := m.Provider("")
	if _, err := p.Secret(t.Context(), slot(first)); !errors.Is(err, keystore.ErrRefused) {
		t.Errorf("secret: %v", err)
	}
	if n := calls("C_Login"); n != 1 || pin.asked != 1 {
		t.Errorf("%d logins, asked %d times", n, pin.asked)
	}
}

// A good PIN is asked for once for all slots of a token.
func TestOneLogin(t *testing.T) {
	tokens(t, "office", "home")
	away := "pkcs11:token=home;object=envfs"
	generate(t, first, away)
	path, calls := spied(t)
	pin := &typed{pin: goodPIN}
	m := Load(path, pin.source)
	t.Cleanup(m.Close)
	p, _ := m.Provider("")
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			if _, err := p.Secret(t.Context(), slot([]string{first, away}[i%2])); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := calls("C_Login"); n != 2 || pin.asked != 2 {
		t.Errorf("%d logins for two tokens, asked %d times", n, pin.asked)
	}
}

// The PIN for the key that the user names is not tried on another token. What the name adds counts.
func TestOtherTokenIsLeftAlone(t *testing.T) {
	tokens(t, "office", "home")
	home := "pkcs11:token=home;object=envfs"
	generate(t, first, home)
	path, calls := spied(t)
	p := open(t, path, first, goodPIN)
	if _, err := p.Secret(t.Context(), slot(first)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Secret(t.Context(), slot(home)); err == nil || !strings.Contains(err.Error(), "another key") {
		t.Errorf("secret: %v", err)
	}
	if _, err := open(t, path, first+";serial=0000", goodPIN).Secret(t.Context(), slot(first)); !errors.Is(err, keystore.ErrAway) {
		t.Errorf("secret, with another serial number: %v", err)
	}
	if n := calls("C_Login"); n != 1 {
		t.Errorf("%d logins", n)
	}
}

// What is away and comes back, the token or the helper, is used again.
func TestComesBack(t *testing.T) {
	dir := tokens(t, "office")
	generate(t, first)
	p := open(t, softHSM, first, goodPIN)
	want, err := p.Secret(t.Context(), slot(first))
	if err != nil {
		t.Fatal(err)
	}
	opens := func() {
		t.Helper()
		if w, err := p.Secret(t.Context(), slot(first)); err != nil || !bytes.Equal(w, want) {
			t.Errorf("secret: the same is %v, %v", bytes.Equal(w, want), err)
		}
	}
	found, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	aside := filepath.Join(t.TempDir(), "token")
	if err := os.Rename(found[0], aside); err != nil {
		t.Fatal(err)
	}
	if w, err := p.Secret(t.Context(), slot(first)); err == nil && !bytes.Equal(w, want) {
		t.Error("a token that is away gives another secret")
	} else if err != nil && !errors.Is(err, keystore.ErrAway) && !errors.Is(err, keystore.ErrRefused) {
		t.Errorf("secret: %v", err)
	}
	if err := os.Rename(aside, found[0]); err != nil {
		t.Fatal(err)
	}
	opens()
	if err := p.module.helper.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Secret(t.Context(), slot(first)); !errors.Is(err, keystore.ErrAway) {
		t.Errorf("secret, the helper killed: %v", err)
	}
	opens()
}

// Keys that would not do are refused, with what to do.
func TestUnfitKeys(t *testing.T) {
	tokens(t, "office", "twin", "twin")
	generate(t, first)
	pkcs11tool := func(args ...string) {
		tool(t, "pkcs11-tool", append([]string{"--module", softHSM, "--token-label", "office", "--login", "--pin", goodPIN}, args...)...)
	}
	pkcs11tool("--keygen", "--key-type", "GENERIC:32", "--label", "loose", "--usage-sign", "--extractable")
	pkcs11tool("--keygen", "--key-type", "AES:32", "--label", "aes", "--usage-sign")
	pkcs11tool("--keygen", "--key-type", "GENERIC:32", "--label", "double", "--usage-sign", "--id", "01")
	pkcs11tool("--keygen", "--key-type", "GENERIC:32", "--label", "double", "--usage-sign", "--id", "02")
	for uri, text := range map[string]string{
		"pkcs11:token=office;object=loose":  "can leave its token",
		"pkcs11:token=office;object=aes":    "HMAC-SHA-256",
		"pkcs11:token=office;object=double": "several keys",
		"pkcs11:token=office;object=absent": "no such secret key",
		"pkcs11:token=twin;object=envfs":    "2 tokens are called so",
	} {
		_, _, err := open(t, softHSM, uri, goodPIN).Wrap(t.Context(), slot(uri))
		if !errors.Is(err, keystore.ErrRefused) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", uri, err)
		}
	}
	if _, _, err := open(t, softHSM, "pkcs11:token=office;object=double;id=%01", goodPIN).Wrap(t.Context(), slot(first)); err != nil {
		t.Errorf("by its id: %v", err)
	}
	if err := open(t, softHSM, first, goodPIN).module.Generate(t.Context(), first); !errors.Is(err, keystore.ErrRefused) || !strings.Contains(err.Error(), "already") {
		t.Errorf("generate a key that is there: %v", err)
	}
}

// A module that is none, or is not there, is away; a helper that cannot be found is told.
func TestModules(t *testing.T) {
	tokens(t)
	for path, text := range map[string]string{
		"/no/such/module.so":  "cannot be loaded",
		"/etc/passwd":         "cannot be loaded",
		softHSM:               "no such token is present",
		"/usr/bin/softhsm2-x": "cannot be loaded",
	} {
		if _, err := open(t, path, first, goodPIN).Secret(t.Context(), slot(first)); !errors.Is(err, keystore.ErrAway) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", path, err)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := open(t, softHSM, first, goodPIN).Secret(t.Context(), slot(first)); err == nil || !strings.Contains(err.Error(), "install it") {
		t.Errorf("without a helper: %v", err)
	}
}

// Nothing is loaded because a key file says so.
func TestNothingIsFollowed(t *testing.T) {
	m := Load(softHSM, (&typed{pin: goodPIN}).source)
	t.Cleanup(m.Close)
	p, _ := m.Provider("")
	for _, uri := range []string{
		"pkcs11:token=office;object=envfs?module-path=/tmp/evil.so", "pkcs11:token=office;object=envfs;module-path=/tmp/evil.so",
		"pkcs11:token=office;object=envfs?pin-source=|/bin/evil", "pkcs11:token=office;object=envfs?pin-value=1234",
		"pkcs11:token=office;object=envfs?module-name=evil", "https://evil.example", "",
	} {
		for _, ask := range []func() error{
			func() error { _, err := p.Secret(t.Context(), slot(uri)); return err },
			func() error { _, err := p.Describe(t.Context(), slot(uri)); return err },
		} {
			if err := ask(); err == nil || m.helper != nil {
				t.Errorf("%q: %v; a helper runs is %v", uri, err, m.helper != nil)
			}
		}
	}
}
