package masterkey

import (
	"context"
	"errors"
	"fmt"

	"envfs/keystore"
	"envfs/keystore/loginkeyring"
	"envfs/keystore/tpm"
)

// Auto stands for a master key that this machine keeps for its user, so that there is nothing to remember: in its TPM,
// or else in the login keyring. It never is a file, which who wants it has to name.
const Auto = "auto"

// ErrNowhere says that this machine has neither a TPM nor a login keyring.
var ErrNowhere = errors.New("this machine has nothing")

func openAuto(ctx context.Context, m Machine) (keystore.Wrapper, error) {
	chip := tpm.New(m.tpmDevice(), 0)
	noTPM := chip.Check(ctx)
	if noTPM == nil {
		return chip, nil
	}
	ring := loginkeyring.New(loginkeyring.Bus(m.Getenv))
	noRing := ring.Check(ctx)
	if noRing == nil {
		return ring, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("key %s: %w to keep it: %w; %w", Auto, ErrNowhere, noTPM, noRing)
}
