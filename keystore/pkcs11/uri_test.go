package pkcs11

import (
	"fmt"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for uri, want := range map[string]string{
		"pkcs11:token=office;object=envfs":                  "pkcs11:token=office;object=envfs",
		"pkcs11:object=envfs;token=office;type=secret-key":  "pkcs11:token=office;object=envfs",
		"pkcs11:serial=0a1b;id=%01%fE":                      "pkcs11:serial=0a1b;id=%01%FE",
		"pkcs11:token=The%20Software%3b;object=caf%C3%A9":   "pkcs11:token=The%20Software%3B;object=caf%C3%A9",
		"pkcs11:model=M;manufacturer=Me;token=a+b;object=o": "pkcs11:token=a%2Bb;manufacturer=Me;model=M;object=o",
	} {
		k, err := Parse(uri)
		if err != nil {
			t.Errorf("%s: %v", uri, err)
			continue
		}
		again, err := Parse(Format(k))
		if Format(k) != want || err != nil || Format(again) != want {
			t.Errorf("%s: %s, %s, %v", uri, Format(k), Format(again), err)
		}
	}
	for uri, text := range map[string]string{
		"pkcs11:":                                            "has no value",
		"pkcs11:token=office":                                "names no key",
		"pkcs11:object=envfs":                                "names no token",
		"pkcs11:token=a;token=b;object=c":                    "twice",
		"pkcs11:token=a;object=c;id=%0g":                     "id",
		"pkcs11:token=a;object=c;id=":                        "no value",
		"pkcs11:token=a;object=c;type=private":               "secret-key",
		"pkcs11:token=a;object=c;slot-id=1":                  "not one of",
		"pkcs11:token=a;object=c;":                           "has no value",
		"pkcs11:token=a%00;object=c":                         "line of text",
		"pkcs11:token=a%FF;object=c":                         "line of text",
		"pkcs11:token=a;object=c?x=y":                        "question mark",
		"pkcs11:token=a;object=c?module-path=/x.so":          "--pkcs11-module",
		"pkcs11:module-path=/x.so;token=a;object=c":          "--pkcs11-module",
		"pkcs11:token=a;object=c?x-vendor=1&pin-value=12":    "question mark",
		"pkcs11:token=a;object=c?pin-value=12":               "--pin-file",
		"pkcs11:pin-source=file:/x;token=a;object=c":         "--pin-file",
		"pkcs12:token=a;object=c":                            "begin with",
		"pkcs11:token=a;object=" + strings.Repeat("x", 9999): "longer than",
	} {
		if k, err := Parse(uri); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %+v, %v", uri, k, err)
		}
	}
}

// A PIN in a URI is refused, and not told to the log that the error goes to.
func TestParseTellsNoPIN(t *testing.T) {
	for _, uri := range []string{
		"pkcs11:token=a;object=c?pin-value=secret", "pkcs11:pin-value=secret;token=a;object=c", "pkcs11:token=a;object=c;pin-value=secret",
		"pkcs11:token=a;object=c?module-path=/x&pin-value=secret", "pkcs11:token=%zz;pin-value=secret", "pkcs11:token=a;object=c?PIN-VALUE=secret",
		"pkcs11:token=a;object=c?pin-source=|secret", "pkcs11:token=a;object=c&pin-value=secret",
	} {
		if _, err := Parse(uri); strings.Contains(fmt.Sprint(err), "secret") && err != nil {
			t.Errorf("%v", err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("pkcs11:token=The%20Software%3b;object=caf%C3%A9;id=%01?pin-value=1")
	f.Fuzz(func(t *testing.T, uri string) {
		k, err := Parse(uri)
		if err != nil {
			return
		}
		if again, err := Parse(Format(k)); err != nil || Format(again) != Format(k) {
			t.Errorf("%q: %q: %v", uri, Format(k), err)
		}
	})
}
