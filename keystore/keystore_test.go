package keystore

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"envfs/blockcrypt"
)

// kdfVerb is the argument that makes the test's executable the child of ChildProcess.
const kdfVerb = "derive-key-child"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == kdfVerb {
		if err := ServeKDF(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var (
	testTime = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	lowKDF   = KDFParams{MemoryKiB: 64 << 10, Passes: 3, Parallelism: 4}
)

// quick is a Deriver that is no Argon2, and counts.
type quick struct{ calls atomic.Int32 }

func (q *quick) Argon2id(_ context.Context, pass, salt []byte, memKiB, passes uint32, par uint8) ([32]byte, error) {
	q.calls.Add(1)
	return sha256.Sum256(fmt.Appendf(nil, "%q %q %d %d %d", pass, salt, memKiB, passes, par)), nil
}

func pass(s string) NewSlot {
	return NewSlot{Label: s, Provider: Passphrase([]byte(s), new(quick)), KDF: lowKDF}
}

func keyFile(t testing.TB, fill byte) NewSlot {
	t.Helper()
	p, err := KeyFile(bytes.Repeat([]byte{fill}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return NewSlot{Kind: KindKeyFile, Provider: p}
}

// held closes v with the test, unless there is an error, which ends it.
func held(t testing.TB) func(v *Vault, err error) *Vault {
	return func(v *Vault, err error) *Vault {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(v.Close)
		return v
	}
}

func create1(t testing.TB, slots ...NewSlot) *Vault {
	t.Helper()
	return held(t)(Create(rand.Reader, testTime, DefaultParams(SuiteAESGCM), slots))
}

// unlock opens stored bytes with one slot's provider.
func unlock(data []byte, s NewSlot) (*Vault, error) {
	f, err := Parse(data)
	if err != nil {
		return nil, err
	}
	return f.Unlock(context.Background(), []Provider{s.Provider})
}

func kek(t testing.TB, v *Vault, epoch uint32) []byte {
	t.Helper()
	k, err := v.KEK(epoch)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// same fails unless both vaults have the same keys.
func same(t *testing.T, got, want *Vault) {
	t.Helper()
	if fmt.Sprint(got.Epochs()) != fmt.Sprint(want.Epochs()) {
		t.Fatalf("epochs %v, want %v", got.Epochs(), want.Epochs())
	}
	for _, e := range want.Epochs() {
		if !bytes.Equal(kek(t, got, e), kek(t, want, e)) {
			t.Fatalf("another KEK of epoch %d", e)
		}
	}
	if !bytes.Equal(got.rootKey, want.rootKey) {
		t.Fatal("another root key")
	}
}

// opens fails unless s opens the stored bytes of v, and returns the vault opened so.
func opens(t *testing.T, v *Vault, s NewSlot) *Vault {
	t.Helper()
	got := held(t)(unlock(v.Bytes(), s))
	same(t, got, v)
	return got
}

func wantErr(t *testing.T, v *Vault, err, want error) {
	t.Helper()
	if v != nil {
		v.Close()
	}
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

func TestCreateAndUnlock(t *testing.T) {
	code, err := NewRecoveryCode(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := Recovery([]byte(code))
	if err != nil {
		t.Fatal(err)
	}
	recovery := NewSlot{Provider: rec, Label: "in the safe"}
	slots := []NewSlot{pass("one"), keyFile(t, 7), recovery}
	v := create1(t, slots...)
	for i, s := range slots {
		got := opens(t, v, s)
		if got.OpenedBy().ID != v.File().Slots()[i].ID {
			t.Errorf("slot %d: opened by %v", i, got.OpenedBy())
		}
		if got.NeedsRenewal() {
			t.Errorf("slot %d needs renewal", i)
		}
	}
	f := v.File()
	if f.Generation() != 1 || f.Params() != DefaultParams(SuiteAESGCM) || f.VaultID().IsZero() || !f.Created().Equal(testTime) || v.Newest() != 1 {
		t.Errorf("unexpected file: %s", v.Bytes())
	}
	if got := f.Slots()[2]; got.Kind != KindRecovery || got.Label != "in the safe" {
		t.Errorf("slot %+v", got)
	}
	got, err := unlock(v.Bytes(), pass("two"))
	wantErr(t, got, err, ErrWrongKey)
	f, err = Parse(create1(t, pass("one")).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	got, err = f.Unlock(context.Background(), []Provider{keyFile(t, 7).Provider})
	wantErr(t, got, err, ErrNoSlot)
	name := v.Name(blockcrypt.R{1})
	if back, err := blockcrypt.ParseName(name.String()); err != nil || back != name {
		t.Errorf("name %v: %v", name, err)
	}
}
