package copies

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"envfs/blockcrypt"
	"envfs/fs"
	"envfs/remote"
)

// TestMissingHere removes objects from where the vault was written: that is damage and no older moment.
func TestMissingHere(t *testing.T) {
	b := newBench(t)
	path, h := b.origin()
	for name := range objects(t, path) {
		n, err := blockcrypt.ParseName(name)
		if err != nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			aside := path + ".aside"
			must(t, os.Rename(filepath.Join(path, name), aside))
			defer func() { must(t, os.Rename(aside, filepath.Join(path, name))) }()
			m, err := b.open(path, fs.Options{ReadOnly: true}, h)
			switch n.Kind {
			case blockcrypt.KindRoot:
				if !errors.Is(err, fs.ErrRootLost) {
					t.Errorf("without root: %v", err)
				}
			case blockcrypt.KindKeyFile:
				if !errors.Is(err, fs.ErrDamaged) {
					t.Errorf("without its key file: %v", err)
				}
			case blockcrypt.KindFold:
				if err != nil && !errors.Is(err, fs.ErrDamaged) {
					t.Errorf("without a fold record: %v", err)
				}
			default:
				if err != nil {
					t.Errorf("without %s: %v", name, err)
				}
			}
			if err != nil {
				return
			}
			defer m.kill()
			if s := m.f.Status().Older; s != "" {
				t.Errorf("opened at an older moment: %s", s)
			}
			got, err := read(m.f)
			switch n.Kind {
			case blockcrypt.KindKeyCopy, blockcrypt.KindOldRoot, blockcrypt.KindFold:
				if err != nil || got.differ(h.now) != "[]" {
					t.Errorf("%v, %s", err, got.differ(h.now))
				}
			default:
				if d := got.digest(); err == nil && d != h.sum {
					t.Errorf("another tree: %s", got.differ(h.now))
				}
				if err != nil && !errors.Is(err, fs.ErrDamaged) && !errors.Is(err, remote.ErrNotExist) {
					t.Error(err)
				}
			}
		})
	}
}

// TestMissingSegment removes a durable part of the journal from where the vault was written.
func TestMissingSegment(t *testing.T) {
	b := newBench(t)
	path, h := b.origin()
	m := b.mustOpen(path, machine("alpha"), h)
	m.work("third")
	m.fold()
	m.work("fourth")
	must(t, m.f.Sync(ctx))
	m.kill()
	copied := b.duplicate(path)
	for _, p := range []string{path, copied} {
		segments, err := filepath.Glob(filepath.Join(p, "journal", "*"))
		must(t, err)
		slices.SortFunc(segments, func(a, b string) int { return strings.Compare(seqOf(a), seqOf(b)) })
		must(t, os.Remove(segments[len(segments)-1]))
		want := fs.ErrDamaged
		if p == copied {
			want = fs.ErrIncomplete
		}
		b.refused(p, machine("alpha"), want)
		m := b.mustOpen(p, fs.Options{ReadOnly: true}, h)
		m.isMoment("for reading")
		m.kill()
	}
}

func seqOf(path string) string {
	n, err := blockcrypt.ParseName("journal/" + filepath.Base(path))
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%20d %20d", n.Term, n.Seq)
}
