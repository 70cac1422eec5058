package secret

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// GenerateKeyFile writes a new random key to a new file that only its owner can read, as one line of hexadecimal.
func GenerateKeyFile(name string) error {
	var key [32]byte
	defer clear(key[:])
	if _, err := rand.Read(key[:]); err != nil {
		return fmt.Errorf("generate key: %w", err)
	}
	if err := WriteNew(name, hex.EncodeToString(key[:])+"\n"); err != nil {
		return fmt.Errorf("write key file: %w", err)
	}
	return nil
}
