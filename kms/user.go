package kms

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"time"
)

// user is somebody with access keys. It is never changed, but replaced by another.
type user struct {
	Name    string      `json:"name"`
	Admin   bool        `json:"admin"`
	Created time.Time   `json:"created"`
	Removed bool        `json:"removed,omitempty"` // the name is not given again, as policies may still hold it
	Access  []accessKey `json:"access"`            // oldest first
}

// accessKey is what a user signs with.
type accessKey struct {
	ID      string    `json:"id"`
	Secret  []byte    `json:"secret"`
	Created time.Time `json:"created"`
}

// maxAccessKeys is how many access keys a user has at most, as in AWS: while one replaces the other.
const maxAccessKeys = 2

// newAccessKey returns one in the form of AWS's.
func newAccessKey(now time.Time) accessKey {
	var id [10]byte
	var secret [30]byte
	rand.Read(id[:])
	rand.Read(secret[:])
	return accessKey{
		ID:      "AKIA" + base32.StdEncoding.EncodeToString(id[:]),
		Secret:  []byte(base64.StdEncoding.EncodeToString(secret[:])),
		Created: now,
	}
}

// Caller is who makes a call.
type Caller struct {
	ARN       string
	Admin     bool   // what key policies allow the account, it may
	Local     bool   // who administers the KMS on its machine: policies do not bind it, and it does not use keys
	AccessKey string // as it was claimed, even if ARN is not known
}
