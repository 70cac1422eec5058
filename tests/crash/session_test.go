package crash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"envfs/blockcrypt"
	"envfs/fs"
	"envfs/remote"
	"envfs/remote/dir"
	"envfs/remote/dir/memfs"
)

// session is a vault at work, together with the history of what was done to it.
type session struct {
	ctx    context.Context
	opener *opener
	stage  *stage
	clock  *clock
	rnd    io.Reader  // of the vault
	rng    *rand.Rand // of the workload
	limits fs.Limits

	fs      *fs.FS
	store   remote.Store
	tree    *tree
	nextID  int
	handles []*handle
	hist    history
	nested  bool                 // inside a fold
	failed  bool                 // a fold has
	roots   map[string]time.Time // copies of roots, and when they were seen first
	moved   int64                // by rewriting
	aside   func() error         // what goes on while the vault folds; may be nil

	// Of a session that is one of several on a vault, each in a directory of its own.
	base     string     // that directory
	timeless bool       // times are not looked at, as the sessions share a clock
	histMu   sync.Mutex // guards hist, to which syncs by others are added
	onError  func(err error) (happened bool, _ error)
	refused  func(err error) bool // not nil: what is refused so is tried again until it is done

	shared *machine // not nil: the vault lies in a bucket
}

// handle is an open file.
type handle struct {
	f   *fs.File
	ino *fs.Inode
	id  int

	mu     sync.RWMutex // held by who closes it, shared by others beside the session that use it
	closed bool
}

// newSession opens the vault on m, which holds t, and begins a history.
func newSession(ctx context.Context, o *opener, m *memfs.FS, t *tree, c *clock, limits fs.Limits, seeds ...uint64) (*session, error) {
	s := &session{ctx: ctx, opener: o, stage: &stage{FS: m}, clock: c, limits: limits, tree: t, rnd: seeded(seeds...)}
	s.rng = rand.New(source(append(seeds, 1)...))
	for id := range t.inodes {
		s.nextID = max(s.nextID, id+1)
	}
	s.hist.add(step{what: "what was there", kind: stepOp, tree: t})
	return s, s.open()
}

func (s *session) open() (err error) {
	if s.shared != nil {
		return s.shared.open(fs.Options{})
	}
	if s.store, err = dir.Open("vault", dir.Options{FS: s.stage}); err != nil {
		return err
	}
	s.fs, err = s.opener.openOn(s.ctx, s.store, fs.Options{Clock: s.clock, Rand: s.rnd, Limits: s.limits})
	return err
}

// at is the length of the log, and of the bucket's tape.
func (s *session) at() int {
	n := s.stage.Log().Len()
	if s.shared != nil && s.shared.far.tape != nil {
		n += s.shared.far.tape.len()
	}
	return n
}

// now moves the clock on, and returns the time that the next operation will see.
func (s *session) now() int64 {
	if s.timeless {
		return 0
	}
	return s.clock.advance(time.Millisecond).UnixNano()
}

// do does one step: on the vault, then on the model. edit may be nil.
func (s *session) do(what string, kind stepKind, file int, run func() error, edit func(t *tree)) error {
	s.histMu.Lock()
	begin, covers := s.at(), len(s.hist.steps)
	s.histMu.Unlock()
	err := s.persist(kind, run)
	end := s.at()
	if err != nil {
		happened := false
		if s.onError != nil {
			happened, err = s.onError(err)
		}
		err = fmt.Errorf("step %d: %s: %w", covers, what, err)
		if !happened {
			return err
		}
		end = math.MaxInt // it may have happened
	}
	if edit != nil {
		s.tree = s.tree.clone()
		edit(s.tree)
		s.tree.seal()
	}
	s.histMu.Lock()
	defer s.histMu.Unlock()
	s.hist.add(step{what: what, kind: kind, begin: begin, end: end, file: file, covers: covers, tree: s.tree})
	return err
}

// persist does a step, again and again if it is refused. What was written goes first then: whoever was told that it is
// refused has operations go on without it.
func (s *session) persist(kind stepKind, run func() error) (err error) {
	if s.refused == nil {
		return run()
	}
	steps := []func() error{run}
	if kind == stepOp {
		for _, h := range s.handles {
			steps = append([]func() error{func() error { return h.f.Flush(s.ctx) }}, steps...)
		}
	}
	for _, do := range steps {
		for err = do(); s.refused(err); err = do() {
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// with calls fn with what lies at path.
func (s *session) with(path string, fn func(ino *fs.Inode) error) error {
	ino, _, err := s.fs.Resolve(s.ctx, s.base+path)
	if err != nil {
		return err
	}
	defer s.fs.Forget(ino, 1)
	return fn(ino)
}

// in calls fn with the directory that holds path.
func (s *session) in(path string, fn func(dir *fs.Inode, name string) error) error {
	return s.with(parentOf(path), func(dir *fs.Inode) error { return fn(dir, baseOf(path)) })
}

func (s *session) forget(ino *fs.Inode, _ fs.Stat, err error) error {
	if err == nil {
		s.fs.Forget(ino, 1)
	}
	return err
}

func (s *session) create(path string) (h *handle, err error) {
	now, id := s.now(), s.nextID
	s.nextID++
	err = s.do("create "+path, stepOp, 0, func() error {
		return s.in(path, func(dir *fs.Inode, name string) error {
			ino, f, _, err := s.fs.Create(s.ctx, dir, name, 0o644, fs.Cred{})
			h = &handle{f: f, ino: ino, id: id}
			return err
		})
	}, func(t *tree) { t.add(path, id, &inode{typ: blockcrypt.TypeRegular, mode: 0o644, mtime: now}) })
	if err == nil {
		s.handles = append(s.handles, h)
	}
	return h, err
}

func (s *session) openFile(path string) (*handle, error) {
	ino, _, err := s.fs.Resolve(s.ctx, s.base+path)
	if err != nil {
		return nil, err
	}
	f, err := s.fs.Open(s.ctx, ino)
	if err != nil {
		return nil, err
	}
	h := &handle{f: f, ino: ino, id: s.tree.names[path]}
	s.handles = append(s.handles, h)
	return h, nil
}

func (s *session) write(h *handle, off int64, data []byte) error {
	now := s.now()
	return s.do(fmt.Sprintf("write %d bytes at %d of file %d", len(data), off, h.id), stepWrite, h.id, func() error {
		n, err := h.f.WriteAt(s.ctx, data, off, false)
		if err == nil && n < len(data) {
			err = io.ErrShortWrite
		}
		return err
	}, func(t *tree) {
		t.change(h.id, func(n *inode) { n.data, n.mtime = n.data.write(off, data), now })
	})
}

func (s *session) flush(h *handle) error {
	return s.do(fmt.Sprintf("flush file %d", h.id), stepFlush, h.id, func() error { return h.f.Flush(s.ctx) }, nil)
}

func (s *session) fsync(h *handle) error {
	return s.do(fmt.Sprintf("fsync file %d", h.id), stepSync, h.id, func() error { return h.f.Sync(s.ctx) }, nil)
}

// close is close(2) and the release that follows.
func (s *session) close(h *handle) error {
	err := s.flush(h)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.f.Close()
	s.fs.Forget(h.ino, 1)
	s.handles = slices.DeleteFunc(s.handles, func(other *handle) bool { return other == h })
	return err
}

// put writes a whole new file, or overwrites one.
func (s *session) put(path string, data []byte, sync bool) error {
	var h *handle
	var err error
	if s.tree.has(path) {
		if err = s.truncate(path, 0); err == nil {
			h, err = s.openFile(path)
		}
	} else {
		h, err = s.create(path)
	}
	if err != nil {
		return err
	}
	if len(data) > 0 {
		err = s.write(h, 0, data)
	}
	if err == nil && sync {
		err = s.fsync(h)
	}
	return errors.Join(err, s.close(h))
}

func (s *session) mkdir(path string) error {
	now, id := s.now(), s.nextID
	s.nextID++
	return s.do("mkdir "+path, stepOp, 0, func() error {
		return s.in(path, func(dir *fs.Inode, name string) error {
			return s.forget(s.fs.Mkdir(s.ctx, dir, name, 0o755, fs.Cred{}))
		})
	}, func(t *tree) { t.add(path, id, &inode{typ: blockcrypt.TypeDirectory, mode: 0o755, mtime: now}) })
}

func (s *session) symlink(path, target string) error {
	now, id := s.now(), s.nextID
	s.nextID++
	return s.do("symlink "+path, stepOp, 0, func() error {
		return s.in(path, func(dir *fs.Inode, name string) error {
			return s.forget(s.fs.Symlink(s.ctx, dir, name, target, fs.Cred{}))
		})
	}, func(t *tree) {
		t.add(path, id, &inode{typ: blockcrypt.TypeSymlink, mode: 0o777, mtime: now, target: target})
	})
}

func (s *session) link(from, to string) error {
	now := s.now()
	return s.do("link "+from+" to "+to, stepOp, 0, func() error {
		return s.with(from, func(ino *fs.Inode) error {
			return s.in(to, func(dir *fs.Inode, name string) error {
				return s.forget(s.fs.Link(s.ctx, ino, dir, name))
			})
		})
	}, func(t *tree) {
		t.names[to] = t.names[from]
		t.touch(parentOf(to), now)
	})
}

func (s *session) unlink(path string) error {
	now := s.now()
	return s.do("unlink "+path, stepOp, 0, func() error {
		return s.in(path, func(dir *fs.Inode, name string) error { return s.fs.Unlink(s.ctx, dir, name) })
	}, func(t *tree) { t.remove(path, now) })
}

func (s *session) rmdir(path string) error {
	now := s.now()
	return s.do("rmdir "+path, stepOp, 0, func() error {
		return s.in(path, func(dir *fs.Inode, name string) error { return s.fs.Rmdir(s.ctx, dir, name) })
	}, func(t *tree) { t.remove(path, now) })
}

func (s *session) rename(from, to string) error {
	now := s.now()
	return s.do("rename "+from+" to "+to, stepOp, 0, func() error {
		return s.in(from, func(dir *fs.Inode, name string) error {
			return s.in(to, func(newDir *fs.Inode, newName string) error {
				return s.fs.Rename(s.ctx, dir, name, newDir, newName, 0)
			})
		})
	}, func(t *tree) { t.rename(from, to, now) })
}

// set changes attributes.
func (s *session) set(what, path string, attr fs.SetAttr, edit func(n *inode, now int64)) error {
	now := s.now()
	return s.do(what+" "+path, stepOp, 0, func() error {
		return s.with(path, func(ino *fs.Inode) error {
			_, err := s.fs.SetAttr(s.ctx, ino, attr)
			return err
		})
	}, func(t *tree) { t.change(t.names[path], func(n *inode) { edit(n, now) }) })
}

func (s *session) truncate(path string, size int64) error {
	to := uint64(size)
	return s.set(fmt.Sprintf("truncate to %d", size), path, fs.SetAttr{Size: &to}, func(n *inode, now int64) {
		n.data, n.mtime = n.data.truncate(size), now
	})
}

func (s *session) chmod(path string, mode uint32) error {
	return s.set(fmt.Sprintf("chmod %o", mode), path, fs.SetAttr{Mode: &mode}, func(n *inode, _ int64) { n.mode = mode })
}

func (s *session) utimens(path string, nsec int64) error {
	at := blockcrypt.Time{Sec: nsec / 1e9, Nsec: uint32(nsec % 1e9)}
	return s.set(fmt.Sprintf("set time %d", nsec), path, fs.SetAttr{Mtime: &at}, func(n *inode, _ int64) {
		if !s.timeless {
			n.mtime = nsec
		}
	})
}

func (s *session) setXattr(path, name, value string) error {
	s.now()
	return s.do(fmt.Sprintf("set attribute %s (%d bytes) of %s", name, len(value), path), stepOp, 0, func() error {
		return s.with(path, func(ino *fs.Inode) error { return s.fs.SetXattr(s.ctx, ino, name, []byte(value), 0) })
	}, func(t *tree) {
		t.change(t.names[path], func(n *inode) {
			xs := maps.Clone(n.xattrs)
			if xs == nil {
				xs = make(map[string]string)
			}
			xs[name] = value
			n.xattrs = xs
		})
	})
}

func (s *session) removeXattr(path, name string) error {
	s.now()
	return s.do(fmt.Sprintf("remove attribute %s of %s", name, path), stepOp, 0, func() error {
		return s.with(path, func(ino *fs.Inode) error { return s.fs.RemoveXattr(s.ctx, ino, name) })
	}, func(t *tree) {
		t.change(t.names[path], func(n *inode) {
			n.xattrs = maps.Clone(n.xattrs)
			delete(n.xattrs, name)
		})
	})
}

func (s *session) syncAll() error {
	return s.do("sync", stepAll, 0, func() error { return s.fs.Sync(s.ctx) }, nil)
}

// fold folds. While it writes its objects aside is called now and then, at moments that the session's seed chooses.
func (s *session) fold() error {
	return s.do("fold", stepAll, 0, func() error {
		return s.disturbed(disturbs, func() error { return s.fs.Fold(s.ctx) })
	}, nil)
}

// disturbed runs what folds. Aside is called now and then when an object is made for which at is true.
func (s *session) disturbed(at func(name string) bool, run func() error) error {
	var inner error
	beside := func(name string) {
		if s.aside != nil && at(name) && inner == nil && s.rng.IntN(4) == 0 {
			inner = s.aside()
		}
	}
	if s.shared != nil {
		s.shared.setBeside(beside)
		err := run()
		s.shared.setBeside(nil)
		return errors.Join(inner, err)
	}
	s.stage.onCreate = func(name string) error {
		if !s.nested && at(name) {
			s.nested = true
			beside(name)
			s.nested = false
		}
		return nil
	}
	defer func() { s.stage.onCreate = nil }()
	err := run()
	return errors.Join(inner, err)
}

// isFolds reports whether a fold makes the object while operations go on.
func isFolds(name string) bool {
	for _, prefix := range []string{"files/", "dirs/", "folds/"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// disturbs reports whether operations may go on at the moment when name is made. An extent may be one of a flush, which
// holds locks.
func disturbs(name string) bool { return isFolds(name) && !strings.Contains(baseOf(name), ".x") }

// breakFold folds, but the n-th object of the fold cannot be made. It may go through if it makes fewer.
func (s *session) breakFold(n int) error {
	return s.do(fmt.Sprintf("fold that fails at object %d", n), stepNote, 0, func() error {
		var inner error
		s.stage.onCreate = func(name string) error {
			if s.nested || !isFolds(name) {
				return nil
			}
			if n--; n > 0 {
				return nil
			}
			if n == 0 && s.aside != nil && disturbs(name) {
				s.nested = true
				inner = s.aside()
				s.nested = false
			}
			return syscall.ENOSPC
		}
		defer func() { s.stage.onCreate = nil }()
		s.failed = true
		err := s.fs.Fold(s.ctx)
		if n <= 0 && err == nil {
			err = errors.New("a fold has gone through although an object could not be made")
		} else if n <= 0 {
			err = nil
		}
		return errors.Join(inner, err)
	}, nil)
}

func (s *session) closeHandles() error {
	for len(s.handles) > 0 {
		if err := s.close(s.handles[0]); err != nil {
			return err
		}
	}
	return nil
}

// remount ends cleanly and opens again.
func (s *session) remount() error {
	if err := s.closeHandles(); err != nil {
		return err
	}
	return s.do("unmount and mount", stepAll, 0, func() error {
		if err := s.fs.Close(s.ctx); err != nil {
			return err
		}
		return s.open()
	}, nil)
}

// kill ends as kill -9 does, and opens again: what was only written is there or not.
func (s *session) kill() error {
	before := s.at()
	s.handles = nil
	var now *tree
	// All that is there now is history from here on, and durable: recovery stands on it.
	err := s.do("kill -9 and mount", stepOp, 0, func() error {
		if err := s.store.Close(); err != nil {
			return err
		}
		if err := s.open(); err != nil {
			return err
		}
		got, err := s.dump()
		if err != nil {
			return err
		}
		_, now, err = s.hist.match(got, before, false)
		return err
	}, func(t *tree) { *t = *now })
	if err != nil {
		return err
	}
	return s.do("mounted", stepAll, 0, func() error { return nil }, nil)
}

// verify compares the vault as it is now with the model.
func (s *session) verify() error {
	got, err := s.dump()
	if err != nil {
		return err
	}
	if !s.tree.equal(got, nil) {
		return fmt.Errorf("the live tree differs:\n\t%s", strings.Join(s.tree.diff(got, nil), "\n\t"))
	}
	return nil
}
