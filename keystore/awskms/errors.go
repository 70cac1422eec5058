package awskms

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"envfs/keystore"
)

var errReply = errors.New("the reply is not one of KMS")

// failed sorts an error of a call.
func (p *Provider) failed(ctx context.Context, key string, err error) error {
	api, isAPI := errors.AsType[smithy.APIError](err)
	deserialization, isReply := errors.AsType[*smithy.DeserializationError](err)
	switch {
	case isAPI && away(api):
		return fmt.Errorf("awskms: key %s: %w: %s: %s", key, keystore.ErrAway, api.ErrorCode(), api.ErrorMessage())
	case isAPI:
		return fmt.Errorf("awskms: key %s: %w: %s: %s", key, keystore.ErrRefused, api.ErrorCode(), api.ErrorMessage())
	case errors.Is(context.Cause(ctx), context.Canceled):
		return fmt.Errorf("awskms: key %s: %w", key, context.Canceled)
	case isReply:
		return fmt.Errorf("awskms: key %s: %w: %w", key, errReply, deserialization)
	}
	if unsent, ok := errors.AsType[*smithyhttp.RequestSendError](err); ok { // the rest tells how often it was tried
		err = unsent.Err
	}
	return fmt.Errorf("awskms: key %s: %w: %w", key, keystore.ErrAway, err)
}

// away tells whether an error of KMS says that a later try may succeed.
func away(err smithy.APIError) bool {
	switch err.ErrorCode() {
	case "KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException", "ThrottlingException",
		"LimitExceededException", "RequestLimitExceeded", "ServiceUnavailable", "InternalFailure", "SlowDown":
		return true
	}
	return err.ErrorFault() == smithy.FaultServer
}

// maxReply bounds a reply of KMS, in bytes. The longest is a policy of 32 KiB.
const maxReply = 256 << 10

// bounded is a client whose replies have at most maxReply bytes.
type bounded struct{ aws.HTTPClient }

// Do implements aws.HTTPClient.
func (b bounded) Do(r *http.Request) (*http.Response, error) {
	resp, err := b.HTTPClient.Do(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxReply), resp.Body}
	}
	return resp, err
}
