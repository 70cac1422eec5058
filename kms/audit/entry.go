// Package audit keeps a log to which lines are only added, each bound to all before it by a chain of hashes.
//
// A line is 64 hexadecimal digits, a space, an [Entry] in JSON, a newline. The digits are SHA-256(hash of the line
// before, 32 bytes || the JSON's bytes); before the first line it is 32 zero bytes. Lines are numbered from 1. They lie
// in files, the segments, each of which is named by the number of its first line.
//
// Whoever holds a [Checkpoint] can tell that nothing up to it was changed, added, removed or put in another order. What
// comes behind it can be replaced by who can write the files: checkpoints belong on another machine.
package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Entry is what a line tells: one call, or one thing that the service did by itself.
type Entry struct {
	Seq       uint64            `json:"seq"` // set by [Log.Append]
	Time      time.Time         `json:"time"`
	User      string            `json:"user,omitempty"`       // ARN; none if the caller is not known
	AccessKey string            `json:"access_key,omitempty"` // as the caller claims
	Action    string            `json:"action"`
	Key       string            `json:"key,omitempty"`     // ARN, or as the caller named it
	Subject   string            `json:"subject,omitempty"` // what else the action is about: an alias, a user, the key encrypted to
	Context   map[string]string `json:"context,omitempty"` // the encryption context
	ToContext map[string]string `json:"to_context,omitempty"`
	Source    string            `json:"source,omitempty"` // address of the caller
	ID        string            `json:"id"`               // of the request
	Result    string            `json:"result"`           // "ok", or AWS's code of the error
	Count     int               `json:"count,omitempty"`  // how many like this one were not logged one by one
	Late      bool              `json:"late,omitempty"`   // written at the next start: a crash came between the change and this line
}

const (
	hashDigits = 2 * sha256.Size
	// maxLine bounds a line in bytes: what a request may hold, in JSON, several times over.
	maxLine = 256 << 10
)

type hash = [sha256.Size]byte

// Checkpoint is the state of a log after a line. Its text is the number, the hash, and for people the time.
type Checkpoint struct {
	Seq  uint64
	Hash hash
	Time time.Time // when it was taken
}

// String returns the checkpoint as one line of text.
func (c Checkpoint) String() string {
	return fmt.Sprintf("%d %x %s", c.Seq, c.Hash, c.Time.UTC().Format(time.RFC3339))
}

// ParseCheckpoint parses what [Checkpoint.String] returns. The time may be missing.
func ParseCheckpoint(text string) (c Checkpoint, err error) {
	f := strings.Fields(text)
	if len(f) != 2 && len(f) != 3 {
		return c, errors.New("parse checkpoint: not a number, a hash and a time")
	}
	if c.Seq, err = strconv.ParseUint(f[0], 10, 64); err != nil {
		return c, fmt.Errorf("parse checkpoint: %w", err)
	}
	if c.Hash, err = parseHash([]byte(f[1])); err != nil {
		return c, fmt.Errorf("parse checkpoint: %w", err)
	}
	if len(f) == 3 {
		if c.Time, err = time.Parse(time.RFC3339, f[2]); err != nil {
			return c, fmt.Errorf("parse checkpoint: %w", err)
		}
	}
	return c, nil
}

func parseHash(digits []byte) (h hash, err error) {
	if len(digits) != hashDigits || bytes.ContainsAny(digits, "ABCDEF") {
		return h, errors.New("not a hash")
	}
	if _, err := hex.Decode(h[:], digits); err != nil {
		return h, errors.New("not a hash")
	}
	return h, nil
}

// chain returns the hash of a line whose predecessor has the hash prev.
func chain(prev hash, body []byte) (h hash) {
	d := sha256.New()
	d.Write(prev[:])
	d.Write(body)
	d.Sum(h[:0])
	return h
}

// appendLine appends the line of e to dst and returns its hash.
func appendLine(dst []byte, prev hash, e *Entry) ([]byte, hash, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return dst, prev, err
	}
	if hashDigits+len(body)+2 > maxLine {
		return dst, prev, fmt.Errorf("a line of %d bytes", len(body))
	}
	h := chain(prev, body)
	dst = hex.AppendEncode(dst, h[:])
	dst = append(dst, ' ')
	dst = append(dst, body...)
	return append(dst, '\n'), h, nil
}

// line is a line as it was read.
type line struct {
	hash  hash
	body  []byte
	entry Entry
}

// parseLine parses a line without its newline. The hash is not checked.
func parseLine(text []byte) (l line, err error) {
	digits, body, ok := bytes.Cut(text, []byte(" "))
	if !ok {
		return l, errors.New("not a hash and an entry")
	}
	if l.hash, err = parseHash(digits); err != nil {
		return l, err
	}
	l.body = body
	if err := json.Unmarshal(body, &l.entry); err != nil {
		return l, fmt.Errorf("not an entry: %w", err)
	}
	return l, nil
}
