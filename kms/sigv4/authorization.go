package sigv4

import (
	"encoding/hex"
	"slices"
	"strings"
)

const (
	algorithm = "AWS4-HMAC-SHA256"
	// Bounds of what a client may send in the header.
	maxHeader        = 4096
	maxSignedHeaders = 64
)

// Authorization is the content of the Authorization header of a signed request.
type Authorization struct {
	AccessKey     string
	Date          string // of the scope: YYYYMMDD
	Region        string
	Service       string
	SignedHeaders []string // in lower case, ordered
	Signature     [32]byte
}

// scope is the scope of the credential without the access key.
func (a *Authorization) scope() string {
	return a.Date + "/" + a.Region + "/" + a.Service + "/aws4_request"
}

// ParseAuthorization parses the value of an Authorization header. Its errors are of type [*Error].
func ParseAuthorization(value string) (*Authorization, error) {
	if len(value) > maxHeader {
		return nil, incomplete("Authorization header is too long.")
	}
	rest, ok := strings.CutPrefix(value, algorithm+" ")
	if !ok {
		return nil, incomplete("Authorization header requires the algorithm " + algorithm + ".")
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, v, ok := strings.Cut(strings.Trim(part, " "), "=")
		if _, twice := fields[name]; !ok || twice {
			return nil, incomplete("Authorization header is not a list of name=value.")
		}
		fields[name] = v
	}
	for _, name := range []string{"Credential", "SignedHeaders", "Signature"} {
		if fields[name] == "" {
			return nil, incomplete("Authorization header requires '" + name + "' parameter.")
		}
	}
	if len(fields) != 3 {
		return nil, incomplete("Authorization header has unknown parameters.")
	}
	a := &Authorization{SignedHeaders: strings.Split(fields["SignedHeaders"], ";")}
	signature, err := hex.DecodeString(fields["Signature"])
	if err != nil || copy(a.Signature[:], signature) != len(a.Signature) || len(signature) != len(a.Signature) {
		return nil, incomplete("Signature is not 64 hexadecimal digits.")
	}
	scope := strings.Split(fields["Credential"], "/")
	if len(scope) != 5 || scope[4] != "aws4_request" || slices.Contains(scope, "") {
		return nil, incomplete("Credential must have the form ACCESS-KEY/YYYYMMDD/REGION/SERVICE/aws4_request.")
	}
	a.AccessKey, a.Date, a.Region, a.Service = scope[0], scope[1], scope[2], scope[3]
	if !wellFormed(a.SignedHeaders) {
		return nil, incomplete("SignedHeaders must be header names in lower case, ordered, each once.")
	}
	return a, nil
}

func wellFormed(names []string) bool {
	if len(names) > maxSignedHeaders {
		return false
	}
	for i, name := range names {
		if name == "" || name != strings.ToLower(name) || strings.ContainsAny(name, " \t\r\n:") || i > 0 && names[i-1] >= name {
			return false
		}
	}
	return true
}
