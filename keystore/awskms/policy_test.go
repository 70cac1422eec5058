package awskms

import (
	"errors"
	"os"
	"strings"
	"testing"

	"envfs/blockcrypt"
	"envfs/keystore"
	"envfs/kms/kmstest"
)

// The policy that docs/KEYS.md prints lets its user open one vault, and nothing else.
func TestPolicyOfDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/KEYS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```json\n")
	policy, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("docs/KEYS.md prints no policy")
	}
	k := kmstest.Start(t)
	key := k.Key()
	mine := keystore.SlotInfo{Vault: blockcrypt.ID{1}, Kind: Kind}
	theirs := keystore.SlotInfo{Vault: blockcrypt.ID{2}, Kind: Kind}
	admin := open(t, k.Env(k.Admin), key)
	for _, s := range []*keystore.SlotInfo{&mine, &theirs} {
		if _, s.Provider, err = admin.Wrap(t.Context(), *s); err != nil {
			t.Fatal(err)
		}
	}
	reader := k.User("reader")
	k.Do("PutKeyPolicy", map[string]string{"KeyId": key, "PolicyName": "default", "Policy": strings.ReplaceAll(policy, "VAULT", mine.Vault.String())}, nil)
	p := open(t, k.Env(reader), key)
	if _, err := p.Secret(t.Context(), mine); err != nil {
		t.Errorf("open: %v", err)
	}
	if _, err := p.Rewrap(t.Context(), mine); err != nil {
		t.Errorf("rewrap: %v", err)
	}
	if _, err := p.Describe(t.Context(), mine); err != nil {
		t.Errorf("describe: %v", err)
	}
	for what, s := range map[string]keystore.SlotInfo{"another vault": theirs, "another vault's secret in the name of this one": {Vault: mine.Vault, Provider: theirs.Provider}} {
		if _, err := p.Secret(t.Context(), s); !errors.Is(err, keystore.ErrRefused) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, _, err := p.Wrap(t.Context(), mine); !errors.Is(err, keystore.ErrRefused) {
		t.Errorf("make a slot: %v", err)
	}
}
