package keystore

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"

	"envfs/blockcrypt"
)

// idText is an id spelled in base32.
type idText blockcrypt.ID

func (t idText) MarshalText() ([]byte, error) { return []byte(blockcrypt.ID(t).String()), nil }

func (t *idText) UnmarshalText(b []byte) error {
	id, err := blockcrypt.ParseID(string(b))
	*t = idText(id)
	return err
}

// hexText is 32 bytes spelled in lower-case hexadecimal.
type hexText [32]byte

func (t hexText) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, t[:]), nil }

func (t *hexText) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(len(t)) {
		return errors.New("not 64 hexadecimal digits")
	}
	_, err := hex.Decode(t[:], b)
	return err
}

// The last line of a key file is "mac <hex> sha256 <hex>": the MAC is over all before the line, the plain hash over all
// before the word " sha256 ".
const (
	macWord     = "mac "
	hashWord    = " sha256 "
	trailerSize = len(macWord) + 2*sha256.Size + len(hashWord) + 2*sha256.Size + 1
)

type trailerState int

const (
	trailerMissing trailerState = iota // no such line at the end
	trailerWrong                       // the hash in it does not fit
	trailerFits
)

// cutTrailer splits a key file into body and MAC.
func cutTrailer(data []byte) (body []byte, mac [sha256.Size]byte, state trailerState) {
	if len(data) < trailerSize {
		return nil, mac, trailerMissing
	}
	body, line := data[:len(data)-trailerSize], string(data[len(data)-trailerSize:])
	sum := sha256.Sum256(data[:len(data)-len(hashWord)-2*sha256.Size-1])
	if _, err := hex.Decode(mac[:], []byte(line[len(macWord):][:2*sha256.Size])); err != nil {
		return nil, mac, unlessTrailer(line)
	}
	if line != trailerLine(mac, sum) {
		return nil, mac, unlessTrailer(line)
	}
	return body, mac, trailerFits
}

// unlessTrailer tells whether a line that is not the right trailer was one.
func unlessTrailer(line string) trailerState {
	if strings.HasPrefix(line, macWord) || strings.Contains(line, hashWord) {
		return trailerWrong
	}
	return trailerMissing
}

func trailerLine(mac, sum [sha256.Size]byte) string {
	return macWord + hex.EncodeToString(mac[:]) + hashWord + hex.EncodeToString(sum[:]) + "\n"
}

// appendTrailer completes a body to a key file.
func appendTrailer(body []byte, mac [sha256.Size]byte) []byte {
	data := append(bytes.Clone(body), macWord...)
	data = hex.AppendEncode(data, mac[:])
	line := trailerLine(mac, sha256.Sum256(data))
	return append(data, line[len(macWord)+2*sha256.Size:]...)
}

// recognise tells whether data begins as a key file, of any version and even if it is damaged further on.
func recognise(data []byte) (version uint64, ours bool) {
	dec := json.NewDecoder(bytes.NewReader(data))
	for _, want := range []any{json.Delim('{'), "format", formatName, "version"} {
		if tok, err := dec.Token(); err != nil || tok != want {
			return 0, false
		}
	}
	if err := dec.Decode(&version); err != nil {
		return 0, false
	}
	return version, true
}
