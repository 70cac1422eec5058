package masterkey

import (
	"strings"
	"testing"
)

func TestOnlyHolder(t *testing.T) {
	for slots, want := range map[string]Holder{
		"":                   BySeveral,
		"awskms":             ByService,
		"awskms awskms":      ByService,
		"hashivault awskms":  BySeveral,
		"pkcs11 pkcs11":      ByToken,
		"awskms recovery":    BySeveral,
		"tpm":                ByMachine,
		"tpm keyring":        ByMachine,
		"statefile":          ByMachine,
		"tpm awskms":         BySeveral,
		"tpm tpm age":        BySeveral,
		"age":                BySeveral,
		"passphrase":         BySeveral,
		"awskms of-a-newer":  BySeveral,
		"keyfile passphrase": BySeveral,
	} {
		if got := OnlyHolder(strings.Fields(slots)); got != want {
			t.Errorf("%s: %v, want %v", slots, got, want)
		}
	}
}

// Every kind says who holds its keys.
func TestEveryKindIsHeld(t *testing.T) {
	for _, k := range kinds {
		if k.held == BySeveral {
			t.Errorf("%s: nobody holds its keys", k.name)
		}
	}
}
