package kms

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"envfs/kms/blob"
)

// Config is what a KMS calls itself. It is fixed when the KMS is made: ARNs in policies and in files of others hold it.
type Config struct {
	Account string `json:"account"` // 12 digits
	Region  string `json:"region"`
}

// DefaultConfig is one that AWS's tools take.
var DefaultConfig = Config{Account: "000000000000", Region: "us-east-1"}

var (
	accountForm = regexp.MustCompile(`^[0-9]{12}$`)
	regionForm  = regexp.MustCompile(`^[a-z]{2,}(-[a-z0-9]+)*$`)
	aliasForm   = regexp.MustCompile(`^alias/[a-zA-Z0-9/_-]{1,250}$`)
	userForm    = regexp.MustCompile(`^[a-zA-Z0-9+=,.@_-]{1,64}$`)
)

func (c Config) check() error {
	if !accountForm.MatchString(c.Account) {
		return fmt.Errorf("account %q: not 12 digits", c.Account)
	}
	if !regionForm.MatchString(c.Region) || len(c.Region) > 32 {
		return fmt.Errorf("region %q: not like us-east-1", c.Region)
	}
	return nil
}

func (c Config) arn(what string) string {
	return "arn:aws:kms:" + c.Region + ":" + c.Account + ":" + what
}

func (c Config) keyARN(id blob.ID) string     { return c.arn("key/" + keyID(id)) }
func (c Config) userARN(name string) string   { return "arn:aws:iam::" + c.Account + ":user/" + name }
func (c Config) aliasARN(alias string) string { return c.arn(alias) }

// newID returns a random UUID (RFC 9562, version 4).
func newID() (id blob.ID) {
	rand.Read(id[:])
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

// NewRequestID returns a random UUID as text.
func NewRequestID() string { return keyID(newID()) }

// keyID returns a key's id as text: a UUID.
func keyID(id blob.ID) string {
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// parseKeyID returns the id that a text is, in the one spelling.
func parseKeyID(s string) (id blob.ID, ok bool) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != len(id) {
		return id, false
	}
	copy(id[:], b)
	return id, keyID(id) == s
}
