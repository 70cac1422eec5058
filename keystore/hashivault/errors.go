package hashivault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"envfs/keystore"
)

var errReply = errors.New("the reply is not one of Vault")

// refusal is an error that Vault returned. It wraps keystore.ErrRefused or keystore.ErrAway.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string {
	return fmt.Sprintf("%v: %d: %s", r.Unwrap(), r.status, r.text)
}

// Unwrap sorts the error: what Vault says of its own state (sealed, standby, overloaded, broken) may be over soon.
func (r *refusal) Unwrap() error {
	switch {
	case r.status >= 500, r.status == http.StatusTooManyRequests, r.status == http.StatusPreconditionFailed, r.status == 472, r.status == 473:
		return keystore.ErrAway
	}
	return keystore.ErrRefused
}

// maxText bounds what is quoted of an error of Vault, in bytes.
const maxText = 1 << 10

// failed returns the error of a reply that is none of success.
func failed(status int, body []byte) error {
	var r struct {
		Errors []string `json:"errors"`
	}
	_ = json.Unmarshal(body, &r) // what is no JSON has no text
	text := strings.Join(strings.Fields(strings.Join(r.Errors, "; ")), " ")
	if len(text) > maxText {
		text = text[:maxText]
	}
	if text == "" {
		text = http.StatusText(status)
	}
	return &refusal{status, strings.ToValidUTF8(text, "?")}
}

// unreached sorts the error of a request that got no reply.
func unreached(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return context.Canceled
	}
	return fmt.Errorf("%w: %w", keystore.ErrAway, err)
}
