package s3_test

import (
	"strings"
	"testing"

	"envfs/remote/s3"
)

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]s3.Address{
		"s3://team":                       {Bucket: "team", Endpoint: "s3.amazonaws.com"},
		"s3://team/":                      {Bucket: "team", Endpoint: "s3.amazonaws.com"},
		"s3://team/a/vault/?region=eu-x":  {Bucket: "team", Prefix: "a/vault", Endpoint: "s3.amazonaws.com", Region: "eu-x"},
		"s3://t/v?endpoint=h:9000":        {Bucket: "t", Prefix: "v", Endpoint: "h:9000"},
		"s3://t/v?endpoint=https://H:443": {Bucket: "t", Prefix: "v", Endpoint: "h"},
		"s3://t/v?endpoint=http://h:80/":  {Bucket: "t", Prefix: "v", Endpoint: "h", Plain: true},
		"s3://t/v?endpoint=https://[::1]:9000&path-style=1&ca=/c.pem&profile=p": {
			Bucket: "t", Prefix: "v", Endpoint: "[::1]:9000", PathStyle: "true", CA: "/c.pem", Profile: "p"},
		"s3://t/v?sse=kms&sse-key=k&sse-context=a=b,c=d": {
			Bucket: "t", Prefix: "v", Endpoint: "s3.amazonaws.com", SSE: s3.SSE{Mode: "kms", KeyID: "k", Context: "a=b,c=d"}},
		"s3://t/a%20b": {Bucket: "t", Prefix: "a b", Endpoint: "s3.amazonaws.com"},
	} {
		got, err := s3.ParseAddress(in)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
		if again, err := s3.ParseAddress(got.Full()); err != nil || again != want {
			t.Errorf("%s: %s is read as %+v, %v", in, got.Full(), again, err)
		}
	}
}

func TestParseAddressRefuses(t *testing.T) {
	for in, why := range map[string]string{
		"":                                      "does not begin with s3://",
		"/home":                                 "does not begin with s3://",
		"https://host/team":                     "does not begin with s3://",
		"s3://":                                 "no bucket",
		"s3:///vault":                           "no bucket",
		"s3://host:9000/team":                   "?endpoint=",
		"s3://key:sekret@team/v":                "credentials do not belong",
		"s3://team/../v":                        "cannot be the beginning",
		"s3://team/a//v":                        "cannot be the beginning",
		"s3://team/./v":                         "cannot be the beginning",
		"s3://team/" + strings.Repeat("x", 513): "at most 512",
		"s3://team/v#x":                         "%23",
		"s3://team/v?endpont=h":                 "endpoint",
		"s3://team/v?region=a&region=b":         "twice",
		"s3://team/v?endpoint=ftp://h":          "https://",
		"s3://team/v?endpoint=h/path":           "https://HOST",
		"s3://team/v?endpoint=https://u:p@h":    "https://HOST",
		"s3://team/v?endpoint=":                 "https://HOST",
		"s3://team/v?path-style=maybe":          "true or false",
		"s3://team/v?sse=x":                     "s3, kms or c",
		"s3://team/v?sse=c":                     "sse-key-file",
		"s3://team/v?sse=c&sse-key-file=f&endpoint=http://h": "https",
		"s3://team/v?sse=s3&sse-key=k":                       "sse=kms",
		"s3://team/v?sse=kms&sse-context=a":                  "NAME=VALUE",
	} {
		_, err := s3.ParseAddress(in)
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q in it", in, err, why)
		} else if strings.Contains(err.Error(), "sekret") {
			t.Errorf("%s: the error tells the secret: %v", in, err)
		}
	}
}

// One vault has one address, however it is written.
func TestAddressString(t *testing.T) {
	for in, want := range map[string]string{
		"s3://team/vault/?region=x&profile=y":           "s3://team/vault",
		"s3://team?endpoint=HOST:443":                   "s3://team?endpoint=https://host",
		"s3://team/a?ca=f&endpoint=http://127.0.0.1:90": "s3://team/a?endpoint=http://127.0.0.1:90",
	} {
		a, err := s3.ParseAddress(in)
		if err != nil || a.String() != want {
			t.Errorf("%s: %s, %v, want %s", in, a, err, want)
		}
		if again, err := s3.ParseAddress(a.String()); err != nil || again.String() != want {
			t.Errorf("%s: read again: %s, %v", in, again, err)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add("s3://team/vault?endpoint=https://h:9000&region=x&sse=kms&sse-context=a=b")
	f.Fuzz(func(t *testing.T, in string) {
		a, err := s3.ParseAddress(in)
		if err != nil {
			return
		}
		again, err := s3.ParseAddress(a.String())
		if err != nil || again.String() != a.String() {
			t.Errorf("%q is %q, which is read as %q, %v", in, a, again, err)
		}
	})
}
