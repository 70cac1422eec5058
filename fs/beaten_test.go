package fs

import (
	"context"
	crand "crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"envfs/keystore"
	"envfs/remote"
)

// interrupted has something happen when it is listed for the first time with a prefix.
type interrupted struct {
	remote.Store
	prefix string
	happen func()
}

func (i *interrupted) List(ctx context.Context, prefix string, fn func(remote.Info) error) error {
	if happen := i.happen; happen != nil && prefix == i.prefix {
		i.happen = nil
		happen()
	}
	return i.Store.List(ctx, prefix, fn)
}

// Who opens a vault while another machine works on it, and sees a part of that, is told to try again, or gets in: nothing of
// it is taken for damage, a fork or an incomplete copy.
func TestOpenBesideAnother(t *testing.T) {
	ctx := context.Background()
	acts := map[string]func(a *machine){
		"keys": func(a *machine) {
			must(t, a.fs.ChangeKeys(ctx, func(v *keystore.Vault) (*keystore.Vault, error) { return v.Rotate(crand.Reader, time.Now()) }))
		},
		"fold": func(a *machine) { a.write("late", pattern(100_000, 9)); must(t, a.fs.Fold(ctx)) },
		"publish": func(a *machine) {
			a.write("late", pattern(100_000, 9))
			must(t, a.fs.Publish(ctx))
		},
	}
	for what, act := range acts {
		for _, prefix := range []string{"root", "folds/", "journal/"} {
			for _, readOnly := range []bool{false, true} {
				name := what + " " + strings.TrimSuffix(prefix, "/")
				if readOnly {
					name += " read-only"
				}
				t.Run(name, func(t *testing.T) {
					make := newShared(t)
					a, b := make("a"), make("b")
					a.mustOpen(Options{})
					a.write("early", pattern(100_000, 1))
					a.close()
					i := &interrupted{prefix: prefix, happen: func() {
						a.mustOpen(Options{})
						act(a)
						a.close()
					}}
					b.wrap = func(s remote.Store) remote.Store { i.Store = s; return i }
					err := b.open(Options{ReadOnly: readOnly})
					if i.happen != nil {
						t.Fatal("nothing happened")
					}
					switch {
					case err == nil:
						b.close()
					case !errors.Is(err, ErrOtherWriter) || !strings.Contains(err.Error(), "try again"):
						t.Errorf("opened beside another: %v", err)
					}
					b.mustOpen(Options{ReadOnly: readOnly})
					if len(b.tree()) < 1 {
						t.Error("nothing is there")
					}
					b.close()
				})
			}
		}
	}
}
