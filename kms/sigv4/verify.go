// Package sigv4 verifies requests that are signed with AWS Signature Version 4
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html) in the Authorization header,
// as clients of AWS KMS sign them: POST of "/" without a query. Presigned requests, unsigned payloads, session tokens and
// signature version 4a are refused.
package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Error is a refusal, as AWS names it.
type Error struct {
	Code    string // for instance InvalidSignatureException
	Message string
}

// Error returns code and message.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

func incomplete(message string) *Error { return &Error{"IncompleteSignatureException", message} }
func invalid(message string) *Error    { return &Error{"InvalidSignatureException", message} }

// timeLayout is that of X-Amz-Date.
const timeLayout = "20060102T150405Z"

// Verifier says which requests are accepted. It is safe for concurrent use.
type Verifier struct {
	Region  string
	Service string
	Skew    time.Duration // how far the clocks may be apart
	// Secret returns the secret of an access key, and false if there is none.
	Secret func(accessKey string) ([]byte, bool)
}

// Verify returns the access key with which r was signed, whose body was read already. now is the time of this machine.
// Its errors are of type [*Error]; with them it returns the access key that the request claims, if it has a well-formed
// one.
//
// The host, and all headers whose names begin with x-amz-, must be signed: nothing that the server goes by can be
// changed or added on the way.
func (v *Verifier) Verify(r *http.Request, body []byte, now time.Time) (accessKey string, err error) {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return "", &Error{"MissingAuthenticationTokenException", "Missing Authentication Token"}
	}
	if len(values) > 1 {
		return "", incomplete("There are several Authorization headers.")
	}
	a, err := ParseAuthorization(values[0])
	if err != nil {
		return "", err
	}
	return a.AccessKey, v.verify(a, r, body, now)
}

func (v *Verifier) verify(a *Authorization, r *http.Request, body []byte, now time.Time) error {
	if r.URL.Path != "/" || r.URL.RawQuery != "" || r.URL.RawPath != "" {
		return invalid("Only requests of / without a query are accepted.")
	}
	if err := v.checkTime(a, r, now); err != nil {
		return err
	}
	if a.Region != v.Region || a.Service != v.Service {
		return invalid(fmt.Sprintf("Credential should be scoped to the region %q and the service %q, not %q and %q.", v.Region, v.Service, a.Region, a.Service))
	}
	if !slices.Contains(a.SignedHeaders, "host") {
		return invalid("'Host' must be a 'SignedHeader' in the AWS Authorization.")
	}
	for name := range r.Header {
		name = strings.ToLower(name)
		if strings.HasPrefix(name, "x-amz-") && !slices.Contains(a.SignedHeaders, name) {
			return invalid("The header " + name + " is not signed.")
		}
	}
	if r.Header.Get("X-Amz-Security-Token") != "" {
		return unrecognized()
	}
	hash := sha256.Sum256(body)
	digest := hex.EncodeToString(hash[:])
	if claimed := r.Header.Values("X-Amz-Content-Sha256"); len(claimed) > 1 || len(claimed) == 1 && claimed[0] != digest {
		return invalid("The provided 'x-amz-content-sha256' header does not match what was computed.")
	}
	secret, ok := v.Secret(a.AccessKey)
	if !ok {
		return unrecognized()
	}
	want := sign(secret, a, r, digest)
	if !hmac.Equal(want[:], a.Signature[:]) {
		return invalid("The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.")
	}
	return nil
}

func unrecognized() *Error {
	return &Error{"UnrecognizedClientException", "The security token included in the request is invalid."}
}

func (v *Verifier) checkTime(a *Authorization, r *http.Request, now time.Time) error {
	stamps := r.Header.Values("X-Amz-Date")
	if len(stamps) != 1 {
		return incomplete("Authorization header requires one 'X-Amz-Date' header.")
	}
	at, err := time.Parse(timeLayout, stamps[0])
	if err != nil {
		return incomplete("Date must be in ISO-8601 'basic format'.")
	}
	if a.Date != stamps[0][:8] {
		return invalid("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP.")
	}
	if early := at.Sub(now); early > v.Skew {
		return invalid(fmt.Sprintf("Signature not yet current: %s is still later than %s.", stamps[0], now.Add(v.Skew).UTC().Format(timeLayout)))
	} else if -early > v.Skew {
		return invalid(fmt.Sprintf("Signature expired: %s is now earlier than %s.", stamps[0], now.Add(-v.Skew).UTC().Format(timeLayout)))
	}
	return nil
}

// sign returns the signature that a request should have.
func sign(secret []byte, a *Authorization, r *http.Request, digest string) [32]byte {
	canonical := sha256.Sum256(canonicalRequest(a, r, digest))
	toSign := algorithm + "\n" + r.Header.Get("X-Amz-Date") + "\n" + a.scope() + "\n" + hex.EncodeToString(canonical[:])
	key := append([]byte("AWS4"), secret...)
	defer clear(key)
	for _, part := range []string{a.Date, a.Region, a.Service, "aws4_request"} {
		key = mac(key, part)
	}
	return [32]byte(mac(key, toSign))
}

func mac(key []byte, s string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(s))
	return h.Sum(nil)
}

// canonicalRequest is the form of the request that is hashed and signed.
func canonicalRequest(a *Authorization, r *http.Request, digest string) []byte {
	b := make([]byte, 0, 512)
	b = append(b, r.Method...)
	b = append(b, "\n/\n\n"...)
	for _, name := range a.SignedHeaders {
		b = append(b, name...)
		b = append(b, ':')
		for i, value := range headerValues(r, name) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, strings.Join(strings.Fields(value), " ")...)
		}
		b = append(b, '\n')
	}
	b = append(b, '\n')
	b = append(b, strings.Join(a.SignedHeaders, ";")...)
	b = append(b, '\n')
	return append(b, digest...)
}

// headerValues returns the values of a header, also of those that net/http takes out of the map.
func headerValues(r *http.Request, name string) []string {
	switch name {
	case "host":
		return []string{r.Host}
	case "content-length":
		return []string{fmt.Sprint(r.ContentLength)}
	case "transfer-encoding":
		return r.TransferEncoding
	}
	return r.Header.Values(name)
}
