package kms

import (
	"fmt"
	"net/http"
)

// Error is what a caller is told: AWS's code and a message.
type Error struct {
	Code    string
	Message string
	cause   error // for the operator's log only
}

// Error returns code and message.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Unwrap returns what led to an internal error, which callers are not told.
func (e *Error) Unwrap() error { return e.cause }

// Status returns the status of HTTP with which AWS sends the error.
func (e *Error) Status() int {
	switch e.Code {
	case codeInternal:
		return http.StatusInternalServerError
	case "DryRunOperationException":
		return http.StatusPreconditionFailed
	}
	return http.StatusBadRequest
}

const (
	codeInternal = "KMSInternalException"
	codeDenied   = "AccessDeniedException"
	codeNotFound = "NotFoundException"
	codeInvalid  = "ValidationException"
	codeState    = "KMSInvalidStateException"
	codeLimit    = "LimitExceededException"
	codePolicy   = "MalformedPolicyDocumentException"
	codeOther    = "UnsupportedOperationException"
	codeCipher   = "InvalidCiphertextException"
)

// NewError returns an error with AWS's code.
func NewError(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

func internal(err error) *Error {
	return &Error{Code: codeInternal, Message: "The service could not do this. Its log says why.", cause: err}
}

// asError returns err as it is told.
func asError(err error) *Error {
	if e, ok := err.(*Error); ok {
		return e
	}
	return internal(err)
}
