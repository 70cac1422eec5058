package sigv4

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	testKey    = "AKIDEXAMPLE"
	testSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

var testTime = time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)

func verifier(service string) *Verifier {
	return &Verifier{Region: "us-east-1", Service: service, Skew: 5 * time.Minute, Secret: func(k string) ([]byte, bool) {
		return []byte(testSecret), k == testKey
	}}
}

// TestVectors verifies requests of AWS's published test suite for Signature Version 4.
func TestVectors(t *testing.T) {
	for method, signature := range map[string]string{
		"GET":  "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31", // get-vanilla
		"POST": "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b", // post-vanilla
	} {
		r := httptest.NewRequest(method, "https://example.amazonaws.com/", nil)
		r.Header.Set("X-Amz-Date", "20150830T123600Z")
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature="+signature)
		if key, err := verifier("service").Verify(r, nil, testTime); err != nil || key != testKey {
			t.Errorf("%s: %q, %v", method, key, err)
		}
	}
}

// signed returns a request that AWS's own signer signed.
func signed(t *testing.T, body string, headers ...string) *http.Request {
	t.Helper()
	r := httptest.NewRequest("POST", "https://kms.example/", strings.NewReader(body))
	r.Header.Set("X-Amz-Target", "TrentService.Decrypt")
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	hash := sha256.Sum256([]byte(body))
	err := v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}, r, hex.EncodeToString(hash[:]), "kms", "us-east-1", testTime)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVerify(t *testing.T) {
	const body = `{"CiphertextBlob":"AAAA"}`
	for _, c := range []struct {
		name    string
		headers []string
		change  func(r *http.Request)
		body    string
		late    time.Duration
		code    string
	}{
		{name: "as signed"},
		{name: "spaces in a header", headers: []string{"X-Amz-More", "a   b  c", "X-Amz-More", "d"}},
		{name: "the hash in a header", headers: []string{"X-Amz-Content-Sha256", digestOf(body)}},
		{name: "4 minutes late", late: 4 * time.Minute},
		{name: "4 minutes early", late: -4 * time.Minute},
		{name: "replayed after 6 minutes", late: 6 * time.Minute, code: "InvalidSignatureException"},
		{name: "6 minutes early", late: -6 * time.Minute, code: "InvalidSignatureException"},
		{name: "another body", body: strings.Replace(body, "AAAA", "AAAB", 1), code: "InvalidSignatureException"},
		{name: "a wrong hash in a header", headers: []string{"X-Amz-Content-Sha256", digestOf("x")}, code: "InvalidSignatureException"},
		{name: "no hash in a header", headers: []string{"X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"}, code: "InvalidSignatureException"},
		{name: "another target", change: func(r *http.Request) { r.Header.Set("X-Amz-Target", "TrentService.DisableKey") }, code: "InvalidSignatureException"},
		{name: "a second target", change: func(r *http.Request) { r.Header.Add("X-Amz-Target", "TrentService.DisableKey") }, code: "InvalidSignatureException"},
		{name: "another host", change: func(r *http.Request) { r.Host = "kms.other" }, code: "InvalidSignatureException"},
		{name: "another date", change: func(r *http.Request) { r.Header.Set("X-Amz-Date", "20150830T123601Z") }, code: "InvalidSignatureException"},
		{name: "two dates", change: func(r *http.Request) { r.Header.Add("X-Amz-Date", "20150830T123601Z") }, code: "IncompleteSignatureException"},
		{name: "no date", change: func(r *http.Request) { r.Header.Del("X-Amz-Date") }, code: "IncompleteSignatureException"},
		{name: "a bad date", change: func(r *http.Request) { r.Header.Set("X-Amz-Date", "today") }, code: "IncompleteSignatureException"},
		{name: "a header that is not signed", change: func(r *http.Request) { r.Header.Set("X-Amz-More", "1") }, code: "InvalidSignatureException"},
		{name: "a token", headers: []string{"X-Amz-Security-Token", "t"}, code: "UnrecognizedClientException"},
		{name: "a query", change: func(r *http.Request) { r.URL.RawQuery = "a=b" }, code: "InvalidSignatureException"},
		{name: "a path", change: func(r *http.Request) { r.URL.Path = "/x" }, code: "InvalidSignatureException"},
		{name: "not signed", change: func(r *http.Request) { r.Header.Del("Authorization") }, code: "MissingAuthenticationTokenException"},
		{name: "signed twice", change: func(r *http.Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }, code: "IncompleteSignatureException"},
		{name: "another user", change: replace("AKIDEXAMPLE", "AKIDOTHER"), code: "UnrecognizedClientException"},
		{name: "another region", change: replace("us-east-1", "us-east-2"), code: "InvalidSignatureException"},
		{name: "another service", change: replace("/kms/", "/s3/"), code: "InvalidSignatureException"},
		{name: "another day", change: replace("20150830/", "20150831/"), code: "InvalidSignatureException"},
		{name: "host not signed", change: replace("host;", ""), code: "InvalidSignatureException"},
		{name: "a signature cut", change: func(r *http.Request) {
			a := r.Header.Get("Authorization")
			r.Header.Set("Authorization", a[:len(a)-2])
		}, code: "IncompleteSignatureException"},
	} {
		r := signed(t, body, c.headers...)
		if c.change != nil {
			c.change(r)
		}
		sent := body
		if c.body != "" {
			sent = c.body
		}
		_, err := verifier("kms").Verify(r, []byte(sent), testTime.Add(c.late))
		code := ""
		if e, ok := errors.AsType[*Error](err); ok {
			code = e.Code
		}
		if code != c.code || (err == nil) != (c.code == "") {
			t.Errorf("%s: %v, want %q", c.name, err, c.code)
		}
	}
}

func replace(old, new string) func(r *http.Request) {
	return func(r *http.Request) {
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, new, 1))
	}
}

func digestOf(s string) string {
	hash := sha256.Sum256([]byte(s))
	return hex.EncodeToString(hash[:])
}

func FuzzParseAuthorization(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31")
	f.Add("AWS4-HMAC-SHA256 Credential=////,SignedHeaders=;,Signature=00")
	f.Fuzz(func(t *testing.T, value string) {
		a, err := ParseAuthorization(value)
		if err != nil {
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Fatalf("an error of another type: %v", err)
			}
			return
		}
		again, err := ParseAuthorization("AWS4-HMAC-SHA256 Credential=" + a.AccessKey + "/" + a.scope() + ", SignedHeaders=" + strings.Join(a.SignedHeaders, ";") + ", Signature=" + hex.EncodeToString(a.Signature[:]))
		if err != nil || again.scope() != a.scope() || again.AccessKey != a.AccessKey || !bytes.Equal(again.Signature[:], a.Signature[:]) {
			t.Fatalf("%q does not come back: %v", value, err)
		}
	})
}
