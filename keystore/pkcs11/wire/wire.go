// Package wire is what envfs and its helper envfs-pkcs11 say to each other, through a pair of pipes: frames of a
// length, four bytes in big-endian order, and that much JSON. The helper answers each request with one reply.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// maxFrame bounds a frame, in bytes.
const maxFrame = 64 << 10

// Op is what a request wants.
type Op string

// The requests.
const (
	Login    Op = "login"    // log in to the token with PIN
	MAC      Op = "mac"      // HMAC-SHA-256 of Message with the key
	Describe Op = "describe" // find the key
	Generate Op = "generate" // make the key, 256 random bits that never leave the token
)

// Key names a token and a key in it, as an RFC 7512 URI does. What is empty fits everything.
type Key struct {
	Token        string `json:"token,omitempty"`
	Serial       string `json:"serial,omitempty"`
	Manufacturer string `json:"manufacturer,omitempty"`
	Model        string `json:"model,omitempty"`
	Object       string `json:"object,omitempty"`
	ID           []byte `json:"id,omitempty"`
}

// Request is what envfs asks.
type Request struct {
	Op      Op     `json:"op"`
	Key     Key    `json:"key"`
	PIN     []byte `json:"pin,omitempty"`     // for Login
	Message []byte `json:"message,omitempty"` // for MAC
	New     bool   `json:"new,omitempty"`     // for MAC: the key is to be one that never leaves the token
}

// Code says what became of a request.
type Code string

// The outcomes.
const (
	OK       Code = "ok"
	NeedPIN  Code = "need-pin" // Token wants a login first
	WrongPIN Code = "wrong-pin"
	Refused  Code = "refused"
	Away     Code = "away"
)

// Token describes a token.
type Token struct {
	Label        string `json:"label"`
	Serial       string `json:"serial"`
	Manufacturer string `json:"manufacturer"`
	Model        string `json:"model"`
	PINPad       bool   `json:"pin_pad,omitempty"` // the PIN is typed at the device itself
}

// Reply is what the helper answers.
type Reply struct {
	Code  Code   `json:"code"`
	Text  string `json:"text,omitempty"` // for people, where Code is not OK
	Token Token  `json:"token"`
	MAC   []byte `json:"mac,omitempty"`
}

// Write writes a request or a reply.
func Write(w io.Writer, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode frame: %w", err)
	}
	defer clear(body) // there may be a PIN in it
	if len(body) > maxFrame {
		return fmt.Errorf("frame of %d bytes: too long", len(body))
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	frame = append(frame, body...)
	defer clear(frame)
	_, err = w.Write(frame)
	return err
}

// Read reads one into v. It returns io.EOF if there is none to come.
func Read(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return fmt.Errorf("frame of %d bytes: too long", n)
	}
	body := make([]byte, n)
	defer clear(body)
	if _, err := io.ReadFull(r, body); err != nil {
		return fmt.Errorf("read frame: %w", err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("decode frame: %w", err)
	}
	return nil
}
