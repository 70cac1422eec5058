package fs

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"envfs/blockcrypt"
	"envfs/keystore"
	"envfs/remote"
)

// interrupted has something happen when it is listed for the first time with a prefix, or, if that is none, between the first
// and the second look at root: when the keys are opened.
type interrupted struct {
	remote.Store
	prefix string
	happen func()
	looks  int
}

func (i *interrupted) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	if name == blockcrypt.RootName && i.prefix == "" {
		if i.looks++; i.looks == 2 {
			happen := i.happen
			i.happen = nil
			happen()
		}
	}
	return i.Store.Get(ctx, name, limit)
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
		"slot": func(a *machine) {
			p, err := keystore.KeyFile(bytes.Repeat([]byte{8}, 32))
			must(t, err)
			must(t, a.fs.ChangeKeys(ctx, func(v *keystore.Vault) (*keystore.Vault, error) {
				return v.AddSlot(ctx, crand.Reader, time.Now(), keystore.NewSlot{Label: "theirs", Provider: p})
			}))
		},
		"fold": func(a *machine) { a.write("late", pattern(100_000, 9)); must(t, a.fs.Fold(ctx)) },
		"publish": func(a *machine) {
			a.write("late", pattern(100_000, 9))
			must(t, a.fs.Publish(ctx))
		},
	}
	for what, act := range acts {
		for _, prefix := range []string{"", "root", "folds/", "journal/"} {
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
					case err == nil && !readOnly && what == "slot":
						t.Error("the keys in hand are older than those that root names")
						fallthrough
					case err == nil:
						b.close()
					case !errors.Is(err, ErrOtherWriter) || !strings.Contains(err.Error(), "try again"):
						t.Errorf("opened beside another: %v", err)
					}
					b.mustOpen(Options{ReadOnly: readOnly})
					if len(b.tree()) < 1 {
						t.Error("nothing is there")
					}
					if slots := len(b.fs.keyring().File().Slots()); what == "slot" && slots != 2 {
						t.Errorf("%d slots", slots)
					}
					b.close()
				})
			}
		}
	}
}
