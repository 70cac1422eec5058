package fs

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"envfs/blockcrypt"
)

// spoil changes a bit of each object of a kind.
func (r *rig) spoil(pattern string) {
	r.t.Helper()
	names, err := filepath.Glob(filepath.Join(r.path, pattern))
	must(r.t, err)
	if len(names) == 0 {
		r.t.Fatalf("there is no %s", pattern)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		must(r.t, err)
		data[len(data)-1] ^= 1
		must(r.t, os.WriteFile(name, data, 0o600))
	}
}

// A damaged object is one line in the log however often it is asked for, without names unless they are wanted.
func TestOneLineForDamage(t *testing.T) {
	const secret = "verysecretname"
	for _, c := range []struct {
		name, pattern string
		size          int
		shown         bool
	}{
		{"header", "files/??/*.h*", 100, false},
		{"extent", "files/??/*.x*", 100_000, false},
		{"extent, names shown", "files/??/*.x*", 100_000, true},
		{"index", "dirs/??/*.d*", 10, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := t.Context()
			r := newRig(t)
			r.mkdir(secret)
			r.write(secret+"/"+secret, pattern(c.size, 1))
			r.close()
			r.spoil(c.pattern)
			var log bytes.Buffer
			clock := &fixedClock{now: time.Now()}
			r.opts.Log, r.opts.ShowNames, r.opts.Clock, r.opts.ReadOnly = slog.New(slog.NewTextHandler(&log, nil)), c.shown, clock, true
			r.open()
			r.fs.clock = clock
			readOnce := func() {
				for range 3 {
					ino, _, err := r.fs.Resolve(ctx, secret+"/"+secret)
					if err != nil {
						if !errors.Is(err, ErrDamaged) {
							t.Fatalf("look up: %v", err)
						}
						continue
					}
					h, err := r.fs.Open(ctx, ino)
					must(t, err)
					for off := range 3 {
						if _, err := h.ReadAt(ctx, make([]byte, c.size), int64(off)); off == 0 && !errors.Is(err, ErrDamaged) {
							t.Fatalf("read: %v", err)
						}
					}
					h.Close()
					r.fs.Forget(ino, 1)
				}
			}
			readOnce()
			lines := func() int { return strings.Count(log.String(), "level=ERROR") }
			if lines() != 1 || strings.Contains(log.String(), secret) != c.shown {
				t.Errorf("the log:\n%s", &log)
			}
			if st := r.fs.Status(); st.Errors < 3 || st.LastError == "" {
				t.Errorf("status %+v", st)
			}
			clock.now = clock.now.Add(2 * sayAgain)
			readOnce()
			if lines() != 2 {
				t.Errorf("after hours the log:\n%s", &log)
			}
		})
	}
}

type fixedClock struct{ now time.Time }

func (c *fixedClock) Now() time.Time { return c.now }

// A damaged shard takes with it the names in it, and check goes on with all others.
func TestCheckBesideADamagedShard(t *testing.T) {
	ctx := t.Context()
	for _, which := range []int{0, 1, -1} {
		r := newRig(t)
		const names = 3000
		r.mkdir("d")
		for i := range names {
			r.write(fmt.Sprint("d/", i), nil)
		}
		r.write("d/damaged", pattern(100_000, 1))
		must(t, r.fs.Fold(ctx))
		var ix *blockcrypt.Index
		ino, _, err := r.fs.Resolve(ctx, "d")
		must(t, err)
		must(t, r.fs.view(ctx, func() (err error) {
			ix, err = r.fs.baseIndex(ino.self)
			return err
		}))
		h := ino.self.hash("damaged")
		shard := ix.Shards[(which+len(ix.Shards))%len(ix.Shards)]
		gone := 0
		if inside := shardOf(ix.Shards, h) == (which+len(ix.Shards))%len(ix.Shards); inside {
			gone = 1
		}
		name := blockcrypt.Name{Kind: blockcrypt.KindShard, ID: ino.ID(), Seq: shard.Ref.Ver.Birth, R: shard.Ref.Ver.R, Extra: shard.Ref.Extra}
		r.fs.Forget(ino, 1)
		r.spoil(name.String())
		r.spoil("files/??/*.x*")
		var found []Finding
		res, err := r.fs.Check(ctx, CheckOptions{}, func(fd Finding) { found = append(found, fd) })
		must(t, err)
		want := names + 1 - int(shard.Names)
		if int(res.Files) != want || len(found) != 2-gone {
			t.Errorf("shard %d of %d: %d files checked, want %d; found %+v", which, len(ix.Shards), res.Files, want, found)
		}
		r.opts.ReadOnly = true // what is damaged cannot be folded
		r.abandon()
		r.open()
	}
}

// Damaged files can be removed, and folds go on.
func TestRemoveDamaged(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	r.write("header", pattern(100_000, 1))
	r.write("extent", pattern(100_000, 2))
	r.mkdir("d")
	r.write("d/x", nil)
	must(t, r.fs.Unlink(ctx, mustDir(r, "d"), "x"))
	r.close()
	r.open()
	r.write("good", pattern(100_000, 3))
	r.close()
	r.spoil("files/??/*.h*")
	r.spoil("files/??/*.x*")
	r.open()
	for _, name := range []string{"header", "extent", "good"} {
		must(t, r.fs.Unlink(ctx, r.fs.Root(), name))
	}
	must(t, r.fs.Fold(ctx))
	r.write("after", pattern(100, 4))
	r.close()
	r.open()
	if got := r.names("/"); len(got) != 2 {
		t.Errorf("names %q", got)
	}
	res, err := r.fs.Check(ctx, CheckOptions{}, func(fd Finding) { t.Errorf("check: %+v", fd) })
	must(t, err)
	if res.Files != 1 {
		t.Errorf("%+v", res)
	}
}

func mustDir(r *rig, path string) *Inode {
	ino, _, err := r.fs.Resolve(r.t.Context(), path)
	must(r.t, err)
	return ino
}
