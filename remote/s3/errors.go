package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"

	"envfs/remote"
)

// ConfigError is an error that trying again does not mend, but the user can.
type ConfigError struct {
	What string // what is wrong
	Hint string // what to do
	Err  error  // how it showed; may be nil

	// Passing: whoever sets up the server, its users or the network can mend it while the vault is in use.
	Passing bool
}

func (e *ConfigError) Error() string {
	if e.Err == nil {
		return e.What
	}
	return e.What + ": " + e.Err.Error()
}

func (e *ConfigError) Unwrap() error { return e.Err }

// Advice says what to do.
func (e *ConfigError) Advice() string { return e.Hint }

// ErrDenied is wrapped by errors about what the server does not let this user do.
var ErrDenied = errors.New("the server refuses access")

// errStale is wrapped by errors about credentials that may have been good once: others may have come in their place.
var errStale = errors.New("the credentials are not good, or not any more")

// errPrecondition is the server's answer that the condition of a PUT does not hold.
var errPrecondition = errors.New("the condition does not hold")

// errShort is returned when a body ends before its announced length.
var errShort = errors.New("the reply was cut off")

// errProtocol is wrapped by errors about a server that does not do what S3 servers do.
var errProtocol = errors.New("the server does not speak S3 as it should")

// class sorts errors by what is to be done.
type class uint8

const (
	final class = iota // another attempt fails too
	again              // another attempt may succeed; of a write it is unknown whether it was done
	asked              // no failure, but the answer: absent, precondition, refused by the callback
)

// judge sorts an attempt's error, and adds the sentinel of package remote, or advice.
func judge(err error) (class, error) {
	if err == nil {
		return asked, nil
	}
	if errors.Is(err, errPrecondition) || errors.Is(err, remote.ErrNotExist) || errors.Is(err, remote.ErrExist) || errors.Is(err, remote.ErrChanged) {
		return asked, err
	}
	if big := new(tooLarge); errors.As(err, &big) {
		return asked, err
	}
	if c := new(ConfigError); errors.As(err, &c) || errors.Is(err, errProtocol) {
		return final, err
	}
	if r := new(minio.ErrorResponse); errors.As(err, r) {
		return judgeReply(*r)
	}
	if e := judgeTLS(err); e != nil {
		return final, e
	}
	if errors.Is(err, context.Canceled) {
		return final, err
	}
	// What is left is the network's: no connection, one that broke, a body that was cut, no reply in time.
	return again, err
}

// codes says what the server's error codes mean for whoever set it up.
var codes = map[string]ConfigError{
	"NoSuchBucket":                 {What: "there is no such bucket", Hint: "check the bucket's name, or make it first", Passing: true},
	"InvalidBucketName":            {What: "this cannot be a bucket's name", Hint: "check the address: s3://BUCKET/PREFIX?endpoint=https://HOST:PORT"},
	"InvalidAccessKeyId":           {What: "the server does not know the access key", Hint: "check the credentials (AWS_ACCESS_KEY_ID or the profile), and that the endpoint is the right one", Passing: true},
	"SignatureDoesNotMatch":        {What: "the secret key is wrong", Hint: "check the credentials (AWS_SECRET_ACCESS_KEY or the profile)", Passing: true},
	"InvalidToken":                 {What: "the session token is wrong", Hint: "check AWS_SESSION_TOKEN, or sign in anew", Passing: true},
	"InvalidTokenId":               {What: "the session token is wrong", Hint: "check AWS_SESSION_TOKEN, or sign in anew", Passing: true},
	"RequestTimeTooSkewed":         {What: "this machine's clock is wrong, or the server's", Hint: "set the clock (for example: timedatectl set-ntp true)", Passing: true},
	"AccessDenied":                 {What: "the server refuses access", Hint: "check the policy of this user; the bucket's name; and the credentials", Passing: true},
	"AllAccessDisabled":            {What: "the server refuses access", Hint: "check the bucket with its owner", Passing: true},
	"AccountProblem":               {What: "the server refuses access", Hint: "check the account with the provider", Passing: true},
	"PermanentRedirect":            {What: "the bucket is in another region", Hint: "give it: ?region=NAME"},
	"AuthorizationHeaderMalformed": {What: "the bucket is in another region", Hint: "give it: ?region=NAME"},
	"NotImplemented":               {What: "the server cannot do this", Hint: "it lacks a part of S3 that envfs needs"},
	"SSECustomerKeyRequired":       {What: "the objects are encrypted with a customer's key (SSE-C)", Hint: "give it: ?sse=c&sse-key-file=FILE"},
}

func judgeReply(r minio.ErrorResponse) (class, error) {
	err := fmt.Errorf("%s (%d %s)", strings.TrimSuffix(r.Error(), "."), r.StatusCode, r.Code)
	switch {
	case r.StatusCode == http.StatusPreconditionFailed, r.Code == minio.PreconditionFailed:
		return asked, errPrecondition
	case r.Code == minio.NoSuchKey, r.StatusCode == http.StatusNotFound && r.Code != minio.NoSuchBucket && r.Code != "NoSuchUpload":
		return asked, remote.ErrNotExist
	case r.StatusCode == http.StatusInsufficientStorage, r.Code == "XMinioStorageFull", r.Code == "QuotaExceeded", r.Code == "XMinioAdminBucketQuotaExceeded":
		return final, fmt.Errorf("%w: %w", remote.ErrNoSpace, err)
	case r.Code == "ConditionalRequestConflict", r.StatusCode == http.StatusConflict,
		r.StatusCode == http.StatusRequestTimeout, r.StatusCode == http.StatusTooManyRequests, r.StatusCode >= 500 && r.StatusCode != http.StatusNotImplemented,
		r.Code == "RequestTimeout", r.Code == "SlowDown", r.Code == "InternalError", r.Code == "ExpiredToken", r.Code == "IncompleteBody",
		r.Code == "BadDigest", r.Code == "XAmzContentChecksumMismatch":
		if r.Code == "ExpiredToken" {
			err = &marked{err, errStale}
		}
		return again, err
	}
	switch r.Code {
	case "InvalidAccessKeyId", "InvalidToken", "InvalidTokenId", "SignatureDoesNotMatch":
		err = &marked{err, errStale}
	case "AccessDenied", "AllAccessDisabled":
		err = &marked{err, ErrDenied}
	}
	if c, ok := codes[r.Code]; ok {
		c.Err = err
		return final, &c
	}
	switch {
	case r.StatusCode == http.StatusForbidden:
		c := codes["AccessDenied"]
		c.Err = &marked{err, ErrDenied}
		return final, &c
	case r.StatusCode == http.StatusBadRequest && strings.Contains(r.Message, "Server Side Encryption"):
		c := codes["SSECustomerKeyRequired"]
		c.Err = err
		return final, &c
	}
	return final, err
}

// marked is an error that is another one, too, and does not say so.
type marked struct {
	error
	mark error
}

func (m *marked) Unwrap() []error { return []error{m.error, m.mark} }

// judgeTLS returns what an error means if the two ends could not agree on a protected connection, else nil.
func judgeTLS(err error) error {
	wrong := &ConfigError{Err: err, Passing: true}
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		alert     tls.AlertError
	)
	switch {
	case errors.As(err, &authority):
		wrong.What, wrong.Hint = "the server's certificate is signed by nobody whom this machine trusts", "if it is your own: ?ca=FILE with the certificate (PEM) of who signed it"
	case errors.As(err, &host):
		wrong.What, wrong.Hint = "the server's certificate is for another name", "use the name that is in the certificate as the endpoint"
	case errors.As(err, &invalid):
		wrong.What, wrong.Hint = "the server's certificate is not valid", "check its dates and this machine's clock"
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		wrong.What, wrong.Hint = "the server does not speak https", "check the port, or use ?endpoint=http://... where the network is trusted"
	case errors.As(err, &alert):
		wrong.What, wrong.Hint = "the server ended the TLS handshake", "check what it demands: protocol versions, client certificates"
	default:
		return nil
	}
	return wrong
}

// passes reports whether an error is one that may pass without anything being changed here.
func passes(err error) bool {
	c, ok := errors.AsType[*ConfigError](err)
	return ok && c.Passing
}

// fail names the operation and the object in err.
func fail(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", op, name, err)
}
