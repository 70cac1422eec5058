package fs

import (
	"bytes"
	"testing"
	"time"

	"crypto/rand"

	"envfs/blockcrypt"
	"envfs/keystore"
)

func (r *rig) newEpoch() {
	r.t.Helper()
	must(r.t, r.fs.ChangeKeys(r.t.Context(), func(k *keystore.Vault) (*keystore.Vault, error) {
		return k.Rotate(rand.Reader, time.Now())
	}))
}

// dataKeys returns the numbers of a file's data keys as its header has them.
func (r *rig) dataKeys(path string) (numbers []uint32) {
	r.t.Helper()
	ino, _, err := r.fs.Resolve(r.t.Context(), path)
	must(r.t, err)
	defer r.fs.Forget(ino, 1)
	must(r.t, r.fs.view(r.t.Context(), func() error {
		e, err := r.fs.entry(ino)
		if err != nil {
			return err
		}
		keys, err := r.fs.keysOf(e, r.fs.layers())
		numbers = numbers[:0]
		for _, k := range keys {
			numbers = append(numbers, k.Number)
		}
		return err
	}))
	return numbers
}

// After a change of the key epoch a file gets a new data key with its next write; the old one goes when nothing is sealed
// under it any more, not before.
func TestOldDataKeyGoes(t *testing.T) {
	ctx := t.Context()
	r, _ := newRewriteRig(t)
	want := pattern(400_000, 1)
	r.writeAt("file", want, 0)
	r.writeAt("small", want[:9000], 0)
	must(t, r.fs.Fold(ctx))
	r.newEpoch()
	part := pattern(100*blockcrypt.BlockSize/2, 2)
	r.writeAt("file", part, 0)
	copy(want, part)
	r.writeAt("small", want[:100], 0)
	must(t, r.fs.Fold(ctx))
	if got := r.dataKeys("file"); len(got) != 2 {
		t.Errorf("half of the file is sealed under the old key, and it has keys %v", got)
	}
	if got := r.dataKeys("small"); len(got) != 1 || got[0] != 2 {
		t.Errorf("a small file is sealed anew as a whole, and has keys %v", got)
	}
	if got := r.read("file"); !bytes.Equal(got, want) {
		t.Error("the file is not what was written")
	}
	want = pattern(400_000, 3)
	r.writeAt("file", want, 0)
	must(t, r.fs.Fold(ctx))
	if got := r.dataKeys("file"); len(got) != 1 || got[0] != 2 {
		t.Errorf("all of the file is written anew, and it has keys %v", got)
	}
	r.abandon()
	r.open()
	for name, data := range map[string][]byte{"file": want, "small": r.read("small")} {
		if got := r.read(name); !bytes.Equal(got, data) {
			t.Errorf("%s is not what was written", name)
		}
	}
}
