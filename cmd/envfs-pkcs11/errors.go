//go:build cgo

package main

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"envfs/keystore/pkcs11/wire"
)

// Errors of the helper itself, sorted.
type (
	errRefused string
	errPIN     string
)

func (e errRefused) Error() string { return string(e) }
func (e errPIN) Error() string     { return string(e) }

// errAbsent says that the token is not there.
var errAbsent = errors.New("no such token is present")

// codeOf sorts an error.
func codeOf(err error) wire.Code {
	if _, ok := errors.AsType[errRefused](err); ok {
		return wire.Refused
	}
	if _, ok := errors.AsType[errPIN](err); ok {
		return wire.WrongPIN
	}
	if code, ok := errors.AsType[pkcs11.Error](err); ok {
		switch uint(code) {
		case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_LOCKED,
			pkcs11.CKR_USER_PIN_NOT_INITIALIZED, pkcs11.CKR_FUNCTION_CANCELED:
			return wire.WrongPIN
		case pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, pkcs11.CKR_KEY_TYPE_INCONSISTENT, pkcs11.CKR_KEY_SIZE_RANGE, pkcs11.CKR_MECHANISM_INVALID,
			pkcs11.CKR_MECHANISM_PARAM_INVALID, pkcs11.CKR_TOKEN_WRITE_PROTECTED, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID,
			pkcs11.CKR_TEMPLATE_INCONSISTENT, pkcs11.CKR_FUNCTION_NOT_SUPPORTED:
			return wire.Refused
		}
	}
	return wire.Away
}

// loginError returns the error of a login. Tokens have many words for a wrong PIN, so all that does not say that the
// PIN never reached the token counts as a try.
func loginError(token string, err error) error {
	code, ok := errors.AsType[pkcs11.Error](err)
	if ok {
		switch uint(code) {
		case pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_TOKEN_NOT_PRESENT,
			pkcs11.CKR_SLOT_ID_INVALID, pkcs11.CKR_ARGUMENTS_BAD, pkcs11.CKR_HOST_MEMORY, pkcs11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN:
			return fmt.Errorf("log in to token %s: %w", token, err)
		}
	}
	return errPIN(fmt.Sprintf("log in to token %s: %v", token, err))
}

// stale tells whether an error may come from a session or handle that counts no more.
func stale(code pkcs11.Error) bool {
	switch uint(code) {
	case pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_DEVICE_REMOVED,
		pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_TOKEN_NOT_RECOGNIZED, pkcs11.CKR_USER_NOT_LOGGED_IN,
		pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_OBJECT_HANDLE_INVALID, pkcs11.CKR_SLOT_ID_INVALID, pkcs11.CKR_OPERATION_ACTIVE,
		pkcs11.CKR_GENERAL_ERROR:
		return true
	}
	return false
}
