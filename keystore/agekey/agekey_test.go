package agekey

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"

	"envfs/blockcrypt"
	"envfs/keystore"
	"envfs/keystore/providertest"
)

// pair is a recipient and its identity.
type pair struct {
	recipient string
	identity  age.Identity
}

func x25519(t *testing.T) pair {
	t.Helper()
	i, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return pair{i.Recipient().String(), i}
}

func hybrid(t *testing.T) pair {
	t.Helper()
	i, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return pair{i.Recipient().String(), i}
}

func provider(t *testing.T, recipient string, identities ...age.Identity) *Provider {
	t.Helper()
	p, err := New(recipient, identities)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestProvider(t *testing.T) {
	for name, generate := range map[string]func(*testing.T) pair{"X25519": x25519, "hybrid": hybrid} {
		t.Run(name, func(t *testing.T) {
			mine, theirs := generate(t), generate(t)
			providertest.Run(t, providertest.Service{
				Open:      func(t *testing.T) keystore.Wrapper { return provider(t, mine.recipient, mine.identity) },
				Other:     func(t *testing.T) keystore.Wrapper { return provider(t, theirs.recipient, theirs.identity) },
				Forbidden: func(t *testing.T) keystore.Wrapper { return provider(t, mine.recipient, theirs.identity) },
			})
		})
	}
}

// Whoever makes a slot needs no identity, and one of several identities opens it.
func TestForSomebodyElse(t *testing.T) {
	mine, theirs := x25519(t), hybrid(t)
	s := keystore.SlotInfo{Vault: blockcrypt.ID{1}, Kind: Kind}
	maker := provider(t, theirs.recipient)
	w, data, err := maker.Wrap(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	s.Provider = data
	if _, err := maker.Secret(t.Context(), s); err == nil || !strings.Contains(err.Error(), "--identity FILE") {
		t.Errorf("without an identity: %v", err)
	}
	if d, err := maker.Describe(t.Context(), s); err != nil || d.State == "enabled" {
		t.Errorf("describe without an identity: %+v, %v", d, err)
	}
	if got, err := provider(t, "", mine.identity, theirs.identity).Secret(t.Context(), s); err != nil || !bytes.Equal(got, w) {
		t.Errorf("with two identities: %v", err)
	}
	s.Domain = blockcrypt.ID{2}
	if _, err := provider(t, "", theirs.identity).Secret(t.Context(), s); !errors.Is(err, keystore.ErrRefused) {
		t.Errorf("for another domain: %v", err)
	}
}

// What age's own program decrypts is what a slot keeps, by identities that its own program made.
func TestAgeProgram(t *testing.T) {
	file := filepath.Join(t.TempDir(), "identity")
	if out, err := exec.Command("age-keygen", "-o", file).CombinedOutput(); err != nil {
		t.Fatalf("age-keygen: %v: %s", err, out)
	}
	recipient, err := exec.Command("age-keygen", "-y", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	p := provider(t, strings.TrimSpace(string(recipient)))
	s := keystore.SlotInfo{Vault: blockcrypt.ID{1}, Kind: Kind}
	w, data, err := p.Wrap(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("age", "-d", "-i", file)
	cmd.Stdin = bytes.NewReader(data.Wrapped)
	bound, err := cmd.Output()
	if err != nil || !bytes.Equal(bound[:len(w)], w) {
		t.Errorf("age: %v", err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	identities, err := ParseIdentities(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Provider = data
	if got, err := provider(t, "", identities...).Secret(t.Context(), s); err != nil || !bytes.Equal(got, w) {
		t.Errorf("by the file of age-keygen: %v", err)
	}
}

// None of these is a recipient, and nothing is run for any of them.
func TestHostileRecipients(t *testing.T) {
	dir := t.TempDir()
	ran := filepath.Join(dir, "ran")
	if err := os.WriteFile(filepath.Join(dir, "age-plugin-evil"), []byte("#!/bin/sh\ntouch "+ran+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	long := hybrid(t).recipient
	for _, recipient := range []string{"age1evil1qqqqqqqqqqqqqqqqqqqqqqqqqqqqq", "age1tag1qqqq", "age1", "age1pq1", "age1pq1qqqq", long[:len(long)-1],
		long + "q", strings.ToUpper(long), "age1../../x", "age1 age1", "age1\n"} {
		if _, err := New(recipient, nil); err == nil {
			t.Errorf("%.40q is a recipient", recipient)
		}
	}
	for _, text := range []string{"AGE-PLUGIN-EVIL-1QQQQ\n", "-----BEGIN OPENSSH PRIVATE KEY-----\n", "", "# nothing\n", "AGE-SECRET-KEY-1QQQQ", "\xff"} {
		if _, err := ParseIdentities([]byte(text), nil); err == nil || strings.Contains(err.Error(), "QQQQ") {
			t.Errorf("%q: %v", text, err)
		}
	}
	// The stanza of a plugin in what a slot keeps is no reason to run anything either.
	s := keystore.SlotInfo{Kind: Kind, Provider: keystore.ProviderData{Key: "age1evil1qqqq",
		Wrapped: []byte("age-encryption.org/v1\n-> evil x\nAAAA\n--- AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n")}}
	if _, err := provider(t, "", x25519(t).identity).Secret(t.Context(), s); err == nil {
		t.Error("it opens")
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("a plugin was run")
	}
}

func TestEncryptedIdentity(t *testing.T) {
	mine := hybrid(t)
	for name, armored := range map[string]bool{"binary": false, "armored": true} {
		for _, work := range []int{10, maxWork + 1} {
			text := locked(t, mine.identity.(*age.HybridIdentity).String()+"\n", work, armored)
			asked := func(pass string) func() ([]byte, error) { return func() ([]byte, error) { return []byte(pass), nil } }
			got, err := ParseIdentities(text, asked("correct horse"))
			switch {
			case work > maxWork:
				if err == nil {
					t.Errorf("%s: a passphrase that costs 2 GiB is tried", name)
				}
				continue
			case err != nil || len(got) != 1 || recipientOf(got[0]) != keyOf(mine.recipient):
				t.Errorf("%s: %v", name, err)
			}
			if _, err := ParseIdentities(text, asked("wrong")); err == nil {
				t.Errorf("%s: a wrong passphrase opens it", name)
			}
			nobody := errors.New("nobody is there")
			if _, err := ParseIdentities(text, func() ([]byte, error) { return nil, nobody }); !errors.Is(err, nobody) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// locked encrypts a text by a passphrase. Costs above maxWork are only written down, not paid.
func locked(t *testing.T, text string, work int, armored bool) []byte {
	t.Helper()
	r, err := age.NewScryptRecipient("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	r.SetWorkFactor(min(work, 10))
	var out bytes.Buffer
	w, err := age.Encrypt(&out, r)
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	locked := out.Bytes()
	if work > maxWork {
		locked = bytes.Replace(locked, []byte(" 10\n"), []byte(" 21\n"), 1)
	}
	if !armored {
		return locked
	}
	var lines bytes.Buffer
	to := armor.NewWriter(&lines)
	if _, err := to.Write(locked); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return lines.Bytes()
}
