package s3

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Scheme begins the addresses of buckets.
const Scheme = "s3://"

const awsEndpoint = "s3.amazonaws.com"

// maxPrefix bounds a vault's prefix, so that every key has at most 1,024 bytes.
const maxPrefix = 512

// Address says where a vault lies, and how to reach it:
//
//	s3://BUCKET[/PREFIX]?endpoint=https://HOST[:PORT]&region=...&path-style=true&ca=FILE&profile=NAME&sse=...
type Address struct {
	Bucket string
	Prefix string // "" or components between slashes, without a slash at its ends

	Endpoint  string // host[:port], in lower case
	Plain     bool   // http instead of https
	Region    string // "": the server is asked
	PathStyle string // "true": the bucket is in the path; "false": in the host's name; "": as is usual for the endpoint
	CA        string // file of certificates (PEM) that are trusted instead of the system's
	Profile   string // in the files of the AWS command line; "": AWS_PROFILE or default
	SSE       SSE
}

// ParseAddress reads an address.
func ParseAddress(s string) (Address, error) {
	a, err := parseAddress(s)
	if err != nil {
		return Address{}, fmt.Errorf("parse address %s: %w", withoutSecrets(s), err)
	}
	return a, nil
}

// withoutSecrets is an address without what its query holds, in case somebody has put a secret there.
func withoutSecrets(s string) string {
	s, _, _ = strings.Cut(s, "?")
	if i := strings.LastIndexByte(s, '@'); i >= 0 && strings.HasPrefix(s, Scheme) {
		s = Scheme + s[i+1:]
	}
	return s
}

func parseAddress(s string) (a Address, err error) {
	u, err := url.Parse(s)
	if err != nil {
		return a, errors.New("not a URL")
	}
	switch {
	case u.Scheme != "s3":
		return a, errors.New("does not begin with " + Scheme)
	case u.User != nil:
		return a, errors.New("credentials do not belong into an address; put them into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	case u.Host == "" || u.Port() != "":
		return a, errors.New("no bucket's name after " + Scheme + "; the server is given as ?endpoint=https://HOST:PORT")
	case u.Fragment != "":
		return a, errors.New("'#' must be written as %23")
	}
	a.Bucket = u.Host
	if a.Prefix, err = parsePrefix(u.Path); err != nil {
		return a, err
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return a, errors.New("the part after '?' is not NAME=VALUE&NAME=VALUE")
	}
	a.Endpoint = awsEndpoint
	for name, values := range query {
		if len(values) != 1 {
			return a, fmt.Errorf("%s is given twice", name)
		}
		if err := a.set(name, values[0]); err != nil {
			return a, err
		}
	}
	if err := a.SSE.check(a.Plain); err != nil {
		return a, err
	}
	return a, nil
}

func parsePrefix(p string) (string, error) {
	p = strings.Trim(p, "/")
	if p == "" {
		return "", nil
	}
	if path.Clean(p) != p || p == ".." || strings.HasPrefix(p, "../") || strings.ContainsAny(p, "\x00\\") {
		return "", fmt.Errorf("%q cannot be the beginning of objects' keys", p)
	}
	if len(p) > maxPrefix {
		return "", fmt.Errorf("the prefix has %d bytes; at most %d are possible", len(p), maxPrefix)
	}
	return p, nil
}

var parameters = []string{"ca", "endpoint", "path-style", "profile", "region", "sse", "sse-context", "sse-key", "sse-key-file"}

func (a *Address) set(name, value string) (err error) {
	switch name {
	case "endpoint":
		a.Endpoint, a.Plain, err = parseEndpoint(value)
	case "region":
		a.Region = value
	case "path-style":
		b, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("path-style is true or false, not %q", value)
		}
		a.PathStyle = strconv.FormatBool(b)
	case "ca":
		a.CA = value
	case "profile":
		a.Profile = value
	case "sse":
		a.SSE.Mode = value
	case "sse-key":
		a.SSE.KeyID = value
	case "sse-context":
		a.SSE.Context = value
	case "sse-key-file":
		a.SSE.KeyFile = value
	default:
		return fmt.Errorf("%q is not known; possible are %s", name, strings.Join(parameters, ", "))
	}
	return err
}

func parseEndpoint(value string) (endpoint string, plain bool, err error) {
	scheme, host, found := strings.Cut(value, "://")
	if !found {
		scheme, host = "https", value
	}
	if scheme != "https" && scheme != "http" {
		return "", false, fmt.Errorf("endpoint %q begins neither with https:// nor with http://", value)
	}
	plain = scheme == "http"
	u, err := url.Parse(scheme + "://" + strings.TrimSuffix(host, "/"))
	if err != nil || u.Host == "" || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", false, fmt.Errorf("endpoint %q is not https://HOST[:PORT]", value)
	}
	host = strings.ToLower(u.Host)
	usual := map[bool]string{false: ":443", true: ":80"}[plain]
	return strings.TrimSuffix(host, usual), plain, nil
}

// String is the address as it is the same for everybody who means this vault: bucket, prefix and endpoint.
func (a Address) String() string {
	u := url.URL{Scheme: "s3", Host: a.Bucket}
	if a.Prefix != "" {
		u.Path = "/" + a.Prefix
	}
	if a.Endpoint != awsEndpoint || a.Plain {
		u.RawQuery = "endpoint=" + a.scheme() + "://" + a.Endpoint
	}
	return u.String()
}

// Full is the address with all that was given.
func (a Address) Full() string {
	u := url.URL{Scheme: "s3", Host: a.Bucket}
	if a.Prefix != "" {
		u.Path = "/" + a.Prefix
	}
	query := make(url.Values)
	for name, value := range map[string]string{
		"region": a.Region, "path-style": a.PathStyle, "ca": a.CA, "profile": a.Profile,
		"sse": a.SSE.Mode, "sse-key": a.SSE.KeyID, "sse-context": a.SSE.Context, "sse-key-file": a.SSE.KeyFile,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if a.Endpoint != awsEndpoint || a.Plain {
		query.Set("endpoint", a.scheme()+"://"+a.Endpoint)
	}
	u.RawQuery = query.Encode()
	return u.String()
}

func (a Address) scheme() string {
	if a.Plain {
		return "http"
	}
	return "https"
}

// isAWS reports whether the endpoint is Amazon's.
func (a Address) isAWS() bool {
	host, _, _ := strings.Cut(a.Endpoint, ":")
	return slices.ContainsFunc([]string{".amazonaws.com", ".amazonaws.com.cn"}, func(suffix string) bool { return strings.HasSuffix(host, suffix) })
}
