package tamper

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"envfs/fs"
	"envfs/keystore"
)

// testBits flips bits of every kind of object: all of the clear prefixes, samples of the rest. Whoever needs the object
// gets an error, and never something else than what was there; a neighbour is read as ever.
func testBits(t *testing.T, r *reader) {
	t.Logf("seed %d", seed)
	rnd := newRand(4)
	for _, x := range []struct {
		name string
		on   *state
		object,
		path string // "": opening is refused
		spare bool // it may also read true: nothing of the path lies there
	}{
		{name: "root", on: r.second, object: "root"},
		{name: "key file", on: r.second, object: r.second.rootObj.KeyFile.Name},
		{name: "index", on: r.second, object: r.second.of("Zq-deep/Zq-2").index, path: "/Zq-deep/Zq-2/Zq-beside"},
		{name: "shard", on: r.second, object: shard(r.second), path: "/" + inShard(r.second)[1]},
		{name: "header", on: r.second, object: r.second.of("Zq-tiny").header, path: "/Zq-tiny"},
		{name: "extent", on: r.second, object: r.second.of("Zq-extents").extents[2], path: "/Zq-extents", spare: true},
		{name: "map page", on: r.second, object: r.second.of("Zq-paged").maps[1], path: "/Zq-paged"},
	} {
		t.Run(slug(x.name), func(t *testing.T) {
			x.on.restore(t, r.Store)
			i := &intruder{t: t, dir: r.Store, fixture: r.fixture, now: x.on}
			whole := i.read(x.object)
			for _, bit := range sampleBits(rnd, len(whole)) {
				changed := flip(bit)(append([]byte(nil), whole...))
				if err := os.WriteFile(i.path(x.object), changed, 0o600); err != nil {
					t.Fatal(err)
				}
				switch err := r.readFile(t, x.path, x.on); {
				case err == nil && !x.spare:
					t.Errorf("bit %d of %s: not noticed", bit, x.object)
				case errors.Is(err, errWrong):
					t.Errorf("bit %d of %s: %v", bit, x.object, err)
				case err != nil && !refusal(err):
					t.Errorf("bit %d of %s: %v", bit, x.object, err)
				}
			}
			i.write(x.object, whole)
			if err := r.readFile(t, x.path, x.on); err != nil {
				t.Errorf("as it was: %v", err)
			}
		})
	}
}

// refusal reports whether err says that something is damaged or altered.
func refusal(err error) bool {
	for _, e := range []error{fs.ErrDamaged, fs.ErrVersion, keystore.ErrAltered, keystore.ErrInvalid, keystore.ErrDecayed} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// sampleBits returns every third bit of the first 64 bytes, some of the rest, and the last.
func sampleBits(rnd *rand.Rand, size int) (bits []int) {
	for bit := 0; bit < min(64, size)*8; bit += 3 {
		bits = append(bits, bit)
	}
	for range 40 {
		bits = append(bits, rnd.IntN(size*8))
	}
	return append(bits, size*8-1)
}

// readFile opens the vault, reads one file and compares it, and that Zq-twin-b reads as ever.
func (r *reader) readFile(t *testing.T, path string, s *state) error {
	f, err := r.open(t, fs.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer f.Close(t.Context())
	if path == "" {
		return nil
	}
	if err := compareFile(t.Context(), f, "/Zq-twin-b", s.tree); err != nil {
		t.Errorf("another file: %v", err)
	}
	return compareFile(t.Context(), f, path, s.tree)
}

func compareFile(ctx context.Context, f *fs.FS, path string, tr tree) error {
	ino, st, err := f.Resolve(ctx, path)
	if err != nil {
		return err
	}
	defer f.Forget(ino, 1)
	h, err := f.Open(ctx, ino)
	if err != nil {
		return err
	}
	defer h.Close()
	want := tr[path[1:]].data
	data := make([]byte, min(st.Size, 128<<10))
	n, err := h.ReadAt(ctx, data, 0)
	if err != nil {
		return err
	}
	if int64(st.Size) != int64(len(want)) || n != len(data) || string(data) != string(want[:n]) {
		return errWrong
	}
	return nil
}
