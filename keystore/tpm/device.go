package tpm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"envfs/keystore"
)

// grace is how long a TPM at a socket may still take to answer when its caller has given up.
const grace = 5 * time.Second

// dial opens the TPM at a device or at a Unix socket. What waits at a socket ends soon after ctx; the kernel bounds what a
// device takes.
func dial(ctx context.Context, device string) (transport.TPMCloser, error) {
	st, err := os.Stat(device)
	if err != nil {
		return nil, awayError{err}
	}
	switch {
	case st.Mode()&os.ModeSocket != 0:
		conn, err := new(net.Dialer).DialContext(ctx, "unix", device)
		if err != nil {
			return nil, awayError{err}
		}
		stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now().Add(grace)) })
		return transport.FromReadWriteCloser(&socket{conn, stop}), nil
	case st.Mode()&os.ModeCharDevice != 0:
		f, err := os.OpenFile(device, os.O_RDWR, 0)
		if errors.Is(err, os.ErrPermission) {
			err = fmt.Errorf("%w: on many systems the group tss may use it", err)
		}
		if err != nil {
			return nil, awayError{err}
		}
		return transport.FromReadWriteCloser(f), nil
	}
	return nil, fmt.Errorf("%s is neither a device nor a socket", device)
}

// socket is a connection to a TPM that is a program.
type socket struct {
	net.Conn
	stop func() bool
}

func (s *socket) Close() error {
	s.stop()
	return s.Conn.Close()
}

// awayError is why the TPM could not be asked.
type awayError struct{ error }

func (e awayError) Unwrap() []error { return []error{keystore.ErrAway, e.error} }

func (e awayError) Error() string { return fmt.Sprintf("%v: %v", keystore.ErrAway, e.error) }

// failed sorts an error.
func (p *Provider) failed(err error) error {
	_, netError := errors.AsType[net.Error](err)
	code, isCode := errors.AsType[tpm2.TPMRC](err)
	fmt1, isFmt1 := errors.AsType[tpm2.TPMFmt1Error](err)
	switch {
	case errors.Is(err, keystore.ErrRefused), errors.Is(err, keystore.ErrAway), errors.Is(err, context.Canceled):
	case errors.Is(err, errOtherTPM), errors.Is(err, tpm2.TPMRCAuthUnavailable):
		err = fmt.Errorf("%w: %w", keystore.ErrRefused, err)
	case errors.Is(err, tpm2.TPMRCPolicyFail):
		err = fmt.Errorf("%w: the PCRs have other values than when the slot was made: %w", keystore.ErrRefused, err)
	case isCode && code.IsWarning():
		err = fmt.Errorf("%w: %w", keystore.ErrAway, code)
	case isFmt1:
		err = fmt.Errorf("%w: %w", keystore.ErrRefused, fmt1)
	case netError, errors.Is(err, context.DeadlineExceeded), errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded):
		err = awayError{err}
	}
	return fmt.Errorf("tpm: %s: %w", p.device, err)
}
