package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/secret"
	"envfs/keystore"
)

// slotTest is what `key test --json` prints of one slot.
type slotTest struct {
	slotInfo
	Result string `json:"result"` // "opens", "did not open", "refused", "away", "not tried", "failed"
	Why    string `json:"why,omitempty"`
}

func (a *app) keyTestCommand() *cobra.Command {
	var (
		src    secret.Source
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "test STORE",
		Short: "Find out which slots open the vault",
		Long: `Try every slot for which a key is given, or whose provider this machine is configured for, and tell of each whether it opens the
vault. Nothing is changed. A key file or passphrase is tried on every slot of its kind. The exit code is 0 if a slot opens, 3 if one does but a
provider was asked for another and did not open it, 12 if none opens, and 1 if none could be tried.`,
		Example: `  envfs key test ~/vault --passfile ~/.vaultpass
  envfs key test ~/vault --key awskms://alias/photos`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.testKeys(c.Context(), args[0], &src, asJSON); err != nil {
				return fmt.Errorf("key test: %w", err)
			}
			return nil
		},
	}
	src.Flags(c.Flags(), "")
	src.OpeningFlags(c.Flags())
	a.placeFlags(c.Flags())
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object for each slot")
	return c
}

func (a *app) testKeys(ctx context.Context, arg string, src *secret.Source, asJSON bool) error {
	path, err := vaultPath(arg)
	if err != nil {
		return err
	}
	kf, _, err := peek(ctx, path, "")
	if err != nil {
		return err
	}
	providers, wipe, err := a.allProviders(ctx, src, kf)
	defer wipe()
	if err != nil {
		return err
	}
	var tried, opened, failed, away int
	infos := slotsOf(kf)
	for i, s := range kf.Slots() {
		err := kf.Test(ctx, s.ID, providers)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		t := slotTest{slotInfo: infos[i], Result: resultOf(err)}
		switch t.Result {
		case resultNotTried:
			tried--
		case resultOpens:
			opened++
		case resultWrong:
			if s.Provider.Key != "" {
				failed++
			}
		case resultAway:
			tried--
			away++
			failed++
			t.Why = err.Error()
		default:
			failed++
			t.Why = err.Error()
		}
		tried++
		if err := a.showTest(t, asJSON); err != nil {
			return err
		}
	}
	switch {
	case tried == 0 && away > 0:
		return fmt.Errorf("%w: %s could not be asked about", keystore.ErrAway, plural(int64(away), "slot", "slots"))
	case tried == 0:
		return hint(keystore.ErrNoSlot, "%s", howTo(kindsOf(kf)))
	case opened == 0:
		return fmt.Errorf("%w by %s that were tried", errNotOpened, plural(int64(tried), "slot", "slots"))
	case failed > 0:
		return fmt.Errorf("%w: %s did not open", errPartly, plural(int64(failed), "slot", "slots"))
	}
	return nil
}

// The results of testing a slot.
const (
	resultOpens    = "opens"
	resultWrong    = "did not open"
	resultAway     = "away"
	resultNotTried = "not tried"
)

func resultOf(err error) string {
	switch {
	case err == nil:
		return resultOpens
	case errors.Is(err, keystore.ErrAltered):
		return "altered"
	case errors.Is(err, keystore.ErrRefused):
		return "refused"
	case errors.Is(err, keystore.ErrWrongKey):
		return resultWrong
	case errors.Is(err, keystore.ErrAway):
		return resultAway
	case err == keystore.ErrNoSlot: // with nothing else to it
		return resultNotTried
	}
	return "failed"
}

func (a *app) showTest(t slotTest, asJSON bool) error {
	if asJSON {
		return a.object(t)
	}
	line := fmt.Sprintf("%-12s  %s  %-10s  %s", t.Result, t.ID, t.Kind, printable(t.Label))
	if t.Why != "" {
		line += "\n              " + harmless(t.Why)
	}
	_, err := fmt.Fprintln(a.out, line)
	return err
}

// allProviders returns a provider for each key that the user names and for each kind of slots that this machine is
// configured for; if there is none it asks for the passphrase. They work until wipe is called.
func (a *app) allProviders(ctx context.Context, src *secret.Source, kf *keystore.File) (all []keystore.Provider, wipe func(), err error) {
	b, err := a.given(ctx, src)
	wipe = func() { b.Wipe() }
	if err != nil {
		return nil, wipe, err
	}
	all, errs, err := a.providers(ctx, src, kf)
	if err != nil {
		return nil, wipe, err
	}
	for _, err := range errs {
		a.say("%v", err)
	}
	if src.Recovery {
		code, err := a.term.Line(ctx, "Recovery code: ")
		if err != nil {
			return nil, wipe, fmt.Errorf("recovery code: %w", err)
		}
		b.Recovery = []byte(code)
	}
	if b.Empty() && a.term.Present() && hasKind(kf, keystore.KindPassphrase) {
		if b.Passphrase, err = a.term.Passphrase(ctx, "Passphrase: "); err != nil {
			return nil, wipe, err
		}
	}
	derive, err := deriver()
	if err != nil {
		return nil, wipe, err
	}
	local, err := b.Providers(derive)
	return append(all, local...), wipe, err
}

func hasKind(kf *keystore.File, kind string) bool {
	for _, s := range kf.Slots() {
		if s.Kind == kind {
			return true
		}
	}
	return false
}
