package agekey

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
)

const (
	// MaxIdentityFile bounds an identity file, in bytes.
	MaxIdentityFile = 64 << 10

	ageMagic = "age-encryption.org/"
	// maxWork bounds what the passphrase of an identity file may cost: scrypt with N = 2^maxWork takes 1 GiB. age writes 18.
	maxWork = 20
)

// ParseIdentities returns the identities in an identity file: one in each line; empty lines and lines that begin with #
// say nothing. If the file is encrypted by a passphrase, as by age -p, ask is called for that; what it returns is wiped.
func ParseIdentities(text []byte, ask func() ([]byte, error)) ([]age.Identity, error) {
	armored := bytes.HasPrefix(text, []byte(armor.Header))
	if !armored && !bytes.HasPrefix(text, []byte(ageMagic)) {
		return parseIdentities(text)
	}
	plain, err := decrypt(text, armored, ask)
	defer clear(plain)
	if err != nil {
		return nil, fmt.Errorf("the file is encrypted: %w", err)
	}
	return parseIdentities(plain)
}

func parseIdentities(text []byte) ([]age.Identity, error) {
	for line := range strings.Lines(string(text)) {
		switch {
		case strings.HasPrefix(line, "AGE-PLUGIN-"):
			return nil, errors.New("it has a plugin's identity, and envfs runs no plugins")
		case strings.Contains(line, "PRIVATE KEY-----"):
			return nil, errors.New("it is an SSH key, not an age identity: age-keygen makes one")
		}
	}
	return age.ParseIdentities(bytes.NewReader(text))
}

func decrypt(text []byte, armored bool, ask func() ([]byte, error)) ([]byte, error) {
	pass, err := ask()
	defer clear(pass)
	if err != nil {
		return nil, err
	}
	identity, err := age.NewScryptIdentity(string(pass))
	if err != nil {
		return nil, err
	}
	identity.SetMaxWorkFactor(maxWork)
	var from io.Reader = bytes.NewReader(text)
	if armored {
		from = armor.NewReader(from)
	}
	if from, err = age.Decrypt(from, identity); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(from, MaxIdentityFile))
}
