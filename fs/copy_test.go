package fs

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"envfs/blockcrypt"
	"envfs/remote"
	remotedir "envfs/remote/dir"
)

// copyTo copies the vault of a rig to a directory.
func (r *rig) copyTo(path string, wrap func(remote.Store) remote.Store) (CopyResult, error) {
	r.t.Helper()
	var src remote.Store
	src, err := remotedir.Open(r.path, remotedir.Options{ReadOnly: true})
	must(r.t, err)
	defer src.Close()
	if wrap != nil {
		src = wrap(src)
	}
	dst, err := remotedir.Create(path, remotedir.Options{})
	must(r.t, err)
	defer dst.Close()
	return Copy(context.Background(), dst, src, nil)
}

// opened opens a copy as another machine does, and returns what is in its top directory.
func (r *rig) opened(path string) map[string]string {
	r.t.Helper()
	c := &rig{t: r.t, path: path, key: r.key, opts: r.opts}
	c.opts.Host = "there"
	c.opts.Takeover = true
	c.open()
	defer c.close()
	tree := make(map[string]string)
	for _, name := range c.names("/") {
		tree[name] = string(c.read(name))
	}
	_, err := c.fs.Check(r.t.Context(), CheckOptions{}, func(fd Finding) { r.t.Errorf("check of the copy: %+v", fd) })
	must(r.t, err)
	return tree
}

// A copy is made, brought up to date, and refused once it was written to.
func TestCopy(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	to := filepath.Join(t.TempDir(), "copy")
	tree := make(map[string]string)
	write := func(name string, n int) {
		data := pattern(n, byte(n))
		r.write(name, data)
		tree[name] = string(data)
	}
	write("small", 100)
	write("large", 300_000)
	must(t, r.fs.Fold(ctx))
	write("journal", 50_000)
	first, err := r.copyTo(to, nil)
	must(t, err)
	again, err := r.copyTo(to, nil)
	must(t, err)
	if again.Objects != 0 || again.Skipped != first.Objects {
		t.Errorf("first %+v, again %+v", first, again)
	}
	write("journal", 60_000) // segments and extents grow
	write("more", 70_000)
	must(t, r.fs.Sync(ctx))
	_, err = r.copyTo(to, nil)
	must(t, err)
	must(t, r.fs.Fold(ctx))
	write("last", 10)
	_, err = r.copyTo(to, nil)
	must(t, err)
	at := filepath.Join(t.TempDir(), "elsewhere")
	if _, err := r.copyTo(at, nil); err != nil {
		t.Fatal(err)
	}
	sameTree(t, "copy", r.opened(at), tree)
	if _, err := r.copyTo(at, nil); !errors.Is(err, ErrAhead) {
		t.Errorf("copy over one that was written to: %v", err)
	}
	sameTree(t, "the copy that was brought up to date", r.opened(to), tree)
	other := newRig(t)
	if _, err := other.copyTo(to, nil); !errors.Is(err, ErrAhead) {
		t.Errorf("copy over another vault: %v", err)
	}
}

// Cut off at any object, a copy is no vault or the one before; completed, it is whole.
func TestCopyCutOff(t *testing.T) {
	r := newRig(t)
	r.write("a", pattern(100_000, 1))
	must(t, r.fs.Fold(t.Context()))
	r.write("b", pattern(100_000, 2))
	must(t, r.fs.Sync(t.Context()))
	for n := 1; ; n++ {
		to := filepath.Join(t.TempDir(), fmt.Sprint(n))
		left := n
		_, err := r.copyTo(to, func(s remote.Store) remote.Store { return &failing{Store: s, left: &left} })
		if err == nil {
			break
		}
		dst, openErr := remotedir.Open(to, remotedir.Options{ReadOnly: true})
		must(t, openErr)
		if _, err := dst.Size(t.Context(), blockcrypt.RootName); !errors.Is(err, remote.ErrNotExist) && !strings.Contains(fmt.Sprint(err), "envfs.json") && left > -1 {
			t.Errorf("cut off at %d: there is a root: %v", n, err)
		}
		must(t, dst.Close())
		_, err = r.copyTo(to, nil)
		must(t, err)
		if got := r.opened(to); len(got) != 2 || got["a"] != string(pattern(100_000, 1)) || got["b"] != string(pattern(100_000, 2)) {
			t.Errorf("cut off at %d: %d files, or others", n, len(got))
		}
	}
}

// failing fails to read from some read on.
type failing struct {
	remote.Store
	mu   sync.Mutex
	left *int
}

func (f *failing) ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error) {
	f.mu.Lock()
	*f.left--
	gone := *f.left < 0
	f.mu.Unlock()
	if gone {
		return 0, errors.New("gone")
	}
	return f.Store.ReadAt(ctx, name, p, off)
}

// A copy that is made while the vault is written and folded is a moment of it: the files that were made one after another
// are there up to one of them, and all that were there before.
func TestCopyOfWhatIsWritten(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	var mu sync.Mutex
	made := 0
	write := func() {
		r.write(fmt.Sprintf("%06d", made), pattern(100+made*37%40_000, byte(made)))
		mu.Lock()
		made++
		mu.Unlock()
	}
	for range 50 {
		write()
	}
	for round := range 5 {
		stop := make(chan struct{})
		var wg sync.WaitGroup
		began := make(chan struct{})
		begin := sync.OnceFunc(func() { close(began) })
		wg.Go(func() {
			defer begin() // also if it fails
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				write()
				if n%20 == 19 {
					if err := r.fs.Fold(ctx); err != nil {
						t.Error(err)
						return
					}
				}
				if n == 5 {
					begin()
				}
			}
		})
		<-began
		mu.Lock()
		before := made
		mu.Unlock()
		to := filepath.Join(t.TempDir(), "copy")
		res, err := r.copyTo(to, nil)
		close(stop)
		wg.Wait()
		must(t, err)
		got := r.opened(to)
		for i := range max(before, len(got)-1) { // the last one may have been made and not yet written
			if got[fmt.Sprintf("%06d", i)] != string(pattern(100+i*37%40_000, byte(i))) {
				t.Errorf("round %d: file %d of %d is missing or another", round, i, len(got))
			}
		}
		if len(got) < before {
			t.Errorf("round %d: %d files, there were %d when copying began", round, len(got), before)
		}
		t.Logf("%d files, %d when copying began, %d now; %+v", len(got), before, made, res)
	}
}
