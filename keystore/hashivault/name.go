package hashivault

import (
	"errors"
	"fmt"
	"strings"

	"envfs/keystore"
)

const (
	// Kind is the kind of slots whose W this package makes.
	Kind = "hashivault"
	// Scheme begins the URIs of these keys.
	Scheme = "hashivault://"
	// Form is how a key is named.
	Form = "hashivault://MOUNT/NAME"

	maxName = 256
)

// name is the name of a key: the path that Transit is mounted at, and the key's own.
type name struct {
	mount, key string
}

func (n name) String() string { return n.mount + "/" + n.key }

// path returns the path of an operation with the key, below /v1.
func (n name) path(operation string) string { return n.mount + "/" + operation + "/" + n.key }

// parseURI returns the name in a URI.
func parseURI(uri string) (name, error) {
	text, ok := strings.CutPrefix(uri, Scheme)
	if !ok {
		return name{}, fmt.Errorf("%q does not begin with %s", uri, Scheme)
	}
	return parseName(text)
}

// parseName accepts MOUNT/NAME, where MOUNT may have several parts. Each part has only letters, digits and "._-", so
// that it is spelled in a URL as it is and leads nowhere else.
func parseName(text string) (name, error) {
	at := strings.LastIndexByte(text, '/')
	if at < 0 || len(text) > maxName {
		return name{}, fmt.Errorf("key %q is not %s, of at most %d bytes", text, Form, maxName)
	}
	for part := range strings.SplitSeq(text, "/") {
		if part == "" || part == "." || part == ".." || strings.ContainsFunc(part, odd) {
			return name{}, fmt.Errorf("key %q: part %q is not made of letters, digits and ._-", text, part)
		}
	}
	return name{text[:at], text[at+1:]}, nil
}

// odd tells whether a character must not be in a name.
func odd(c rune) bool {
	return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._-", c)
}

var errWrapped = errors.New("not a ciphertext of Transit: vault:vN:BASE64")

// checkWrapped accepts vault:vN:BASE64.
func checkWrapped(s string) error {
	rest, ok := strings.CutPrefix(s, "vault:v")
	version, text, more := strings.Cut(rest, ":")
	digits := strings.Trim(version, "0123456789") == "" && version != "" && version[0] != '0' && len(version) < 10
	if !ok || !more || !digits || len(s) > keystore.MaxWrapped || strings.ContainsAny(text, "\r\n") {
		return errWrapped
	}
	if _, err := strict.DecodeString(text); err != nil || text == "" {
		return errWrapped
	}
	return nil
}
