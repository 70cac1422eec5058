package pkcs11

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"envfs/keystore"
	"envfs/keystore/pkcs11/wire"
)

const (
	// Kind is the kind of slots whose W this package makes.
	Kind = "pkcs11"
	// Scheme begins the URIs of these keys (RFC 7512).
	Scheme = "pkcs11:"
	// Form is how a key is named.
	Form = "pkcs11:token=NAME;object=NAME with --pkcs11-module PATH"
)

// Parse returns what a URI (RFC 7512) names. It has to name a token and a key in it. Attributes that say where a module
// or a PIN lies are refused wherever they stand: a URI may come from a vault, and what is loaded and typed here only
// this machine says.
func Parse(uri string) (wire.Key, error) {
	k, err := parse(uri)
	if err != nil {
		return wire.Key{}, fmt.Errorf("key %q: %w", withoutPIN(uri), err)
	}
	return k, nil
}

// withoutPIN returns what may be shown of a URI: errors go to logs.
func withoutPIN(uri string) string {
	if at := strings.Index(strings.ToLower(uri), "pin-"); at >= 0 {
		return uri[:at] + "pin-..."
	}
	return uri
}

func parse(uri string) (k wire.Key, err error) {
	rest, ok := strings.CutPrefix(uri, Scheme)
	switch {
	case !ok:
		return k, fmt.Errorf("it does not begin with %s", Scheme)
	case len(uri) > keystore.MaxProviderKey:
		return k, fmt.Errorf("it is longer than %d bytes", keystore.MaxProviderKey)
	}
	path, query, hasQuery := strings.Cut(rest, "?")
	for pair := range strings.SplitSeq(path, ";") {
		if err := put(&k, pair); err != nil {
			return wire.Key{}, err
		}
	}
	if hasQuery {
		for pair := range strings.SplitSeq(query, "&") {
			name, _, _ := strings.Cut(pair, "=")
			if err := refused(name); err != nil {
				return wire.Key{}, err
			}
			return wire.Key{}, fmt.Errorf("attribute %q does not name a key: a vault keeps only what stands before the question mark", name)
		}
	}
	switch {
	case k.Token == "" && k.Serial == "":
		return wire.Key{}, errors.New("it names no token: give token=NAME or serial=NUMBER")
	case k.Object == "" && k.ID == nil:
		return wire.Key{}, errors.New("it names no key in the token: give object=NAME or id=%HH%HH")
	}
	return k, nil
}

// put puts one attribute into k.
func put(k *wire.Key, pair string) error {
	name, text, ok := strings.Cut(pair, "=")
	if err := refused(name); err != nil {
		return err
	}
	if !ok || text == "" {
		return fmt.Errorf("attribute %q has no value", name)
	}
	value, err := url.PathUnescape(text)
	if err != nil {
		return fmt.Errorf("attribute %s: %w", name, err)
	}
	set := func(field *string) error {
		if *field != "" {
			return fmt.Errorf("attribute %s is given twice", name)
		}
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) {
			return fmt.Errorf("attribute %s: not a line of text", name)
		}
		*field = value
		return nil
	}
	switch name {
	case "token":
		return set(&k.Token)
	case "serial":
		return set(&k.Serial)
	case "manufacturer":
		return set(&k.Manufacturer)
	case "model":
		return set(&k.Model)
	case "object":
		return set(&k.Object)
	case "id":
		if k.ID != nil {
			return errors.New("attribute id is given twice")
		}
		k.ID = []byte(value)
		return nil
	case "type":
		if value != "secret-key" {
			return fmt.Errorf("type=%s: the key must be a secret-key", value)
		}
		return nil
	}
	return fmt.Errorf("attribute %q is not one of token, serial, manufacturer, model, object, id, type", name)
}

// refused explains why an attribute is not followed.
func refused(name string) error {
	switch name {
	case "module-path", "module-name":
		return fmt.Errorf("attribute %s is refused: which module is loaded only this machine says, by --pkcs11-module or ENVFS_PKCS11_MODULE", name)
	case "pin-source", "pin-value":
		return fmt.Errorf("attribute %s is refused: the PIN comes only from --pin-file, --pin-cmd or a prompt", name)
	}
	return nil
}

// Format returns the one spelling of k as a URI.
func Format(k wire.Key) string {
	var b strings.Builder
	b.WriteString(Scheme)
	add := func(name, value string) {
		if value == "" {
			return
		}
		if b.Len() > len(Scheme) {
			b.WriteByte(';')
		}
		b.WriteString(name + "=" + escape(value))
	}
	add("token", k.Token)
	add("manufacturer", k.Manufacturer)
	add("model", k.Model)
	add("serial", k.Serial)
	add("object", k.Object)
	if k.ID != nil {
		b.WriteString(";id=")
		for _, c := range k.ID {
			b.WriteString("%" + strings.ToUpper(hex.EncodeToString([]byte{c})))
		}
	}
	return b.String()
}

// escape writes what RFC 3986 does not call unreserved as %HH.
func escape(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}

// merge returns a name with what a and b say together, and false if they contradict each other.
func merge(a, b wire.Key) (both wire.Key, ok bool) {
	ok = true
	one := func(a, b string) string {
		ok = ok && (a == "" || b == "" || a == b)
		return cmp.Or(a, b)
	}
	both = wire.Key{
		Token: one(a.Token, b.Token), Serial: one(a.Serial, b.Serial), Manufacturer: one(a.Manufacturer, b.Manufacturer),
		Model: one(a.Model, b.Model), Object: one(a.Object, b.Object),
	}
	if id := one(string(a.ID), string(b.ID)); id != "" {
		both.ID = []byte(id)
	}
	return both, ok
}
