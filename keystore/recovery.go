package keystore

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"envfs/blockcrypt"
)

// A recovery code is 256 random bits as the 24 words of BIP-39 (English list): the bits, then the first 8 bits of their
// SHA-256, in groups of 11 bits, each the number of a word. BIP-39's own key stretching is not used.
const (
	recoveryWords  = 24
	wordsPerGroup  = 4
	bitsPerWord    = 11
	wordListSize   = 1 << bitsPerWord
	uniquePrefix   = 4 // words differ within their first four letters
	maxRecoveryLen = 1024
)

// The English word list of BIP-39: 2048 words, sorted, one a line.
//
//go:embed words.txt
var wordText string

// words returns the list; it is made anew, since recovery codes are rare.
func words() []string { return strings.Fields(wordText) }

// NewRecoveryCode returns 256 bits of rnd as 24 words: six groups, separated by spaces, of four words joined by hyphens.
func NewRecoveryCode(rnd io.Reader) (code string, err error) {
	var secret [blockcrypt.KeySize]byte
	defer clear(secret[:])
	if _, err := io.ReadFull(rnd, secret[:]); err != nil {
		return "", fmt.Errorf("new recovery code: %w", err)
	}
	return encodeRecovery(secret), nil
}

func encodeRecovery(secret [blockcrypt.KeySize]byte) string {
	list := words()
	sum := sha256.Sum256(secret[:])
	bits := append(secret[:], sum[0])
	defer clear(bits)
	var b strings.Builder
	for i := range recoveryWords {
		switch {
		case i == 0:
		case i%wordsPerGroup == 0:
			b.WriteByte(' ')
		default:
			b.WriteByte('-')
		}
		n := 0
		for k := i * bitsPerWord; k < (i+1)*bitsPerWord; k++ {
			n = n<<1 | int(bits[k/8]>>(7-k%8)&1)
		}
		b.WriteString(list[n])
	}
	return b.String()
}

var errRecoverySum = errors.New("recovery code: the words do not belong together: one is mistaken or out of place")

// Recovery returns the provider of recovery slots: W = HKDF(the code's 256 bits, "recovery"). Case does not count, any
// spaces, hyphens and punctuation part words, and the first four letters of a word are enough. Errors tell which word
// is unknown by its place, not by its letters. code must stay as it is while the provider is in use; wiping it is the
// caller's work.
func Recovery(code []byte) (Provider, error) {
	return parsed(KindRecovery, func() ([]byte, error) { return recoverySecret(code) })
}

// recoverySecret returns the W of a code, which the caller wipes.
func recoverySecret(code []byte) ([]byte, error) {
	secret := make([]byte, blockcrypt.KeySize+1)
	defer clear(secret)
	if err := decodeRecovery(secret, code); err != nil {
		return nil, err
	}
	return blockcrypt.Derive(secret[:blockcrypt.KeySize], nil, blockcrypt.KeySize, "recovery"), nil
}

// decodeRecovery puts the bits of a code into secret: 256, and 8 of their checksum.
func decodeRecovery(secret, code []byte) error {
	if len(code) > maxRecoveryLen {
		return errors.New("recovery code: too long")
	}
	lower := bytes.ToLower(code)
	defer clear(lower)
	given := bytes.FieldsFunc(lower, func(r rune) bool { return !unicode.IsLetter(r) })
	list := words()
	for i, word := range given {
		n, ok := lookUp(list, word)
		if !ok {
			return fmt.Errorf("recovery code: word %d is not in the list", i+1)
		}
		if i >= recoveryWords {
			continue // goes on for the sake of the message below
		}
		for k := range bitsPerWord {
			at := i*bitsPerWord + k
			secret[at/8] |= byte(n>>(bitsPerWord-1-k)&1) << (7 - at%8)
		}
	}
	if len(given) != recoveryWords {
		return fmt.Errorf("recovery code: %d words, want %d", len(given), recoveryWords)
	}
	if sum := sha256.Sum256(secret[:blockcrypt.KeySize]); sum[0] != secret[blockcrypt.KeySize] {
		return errRecoverySum
	}
	return nil
}

// lookUp returns the number of a word, or of the only word that begins with it. It makes no copy of the word.
func lookUp(list []string, word []byte) (int, bool) {
	n, ok := slices.BinarySearchFunc(list, word, func(s string, word []byte) int { return bytes.Compare([]byte(s), word) })
	if ok {
		return n, true
	}
	if len(word) >= uniquePrefix && n < len(list) && bytes.HasPrefix([]byte(list[n]), word) {
		return n, true
	}
	return 0, false
}
