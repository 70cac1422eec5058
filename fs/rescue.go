package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"envfs/blockcrypt"
	"envfs/fs/journal"
)

// RescueTarget is where Rescue puts what it brings back. Paths are relative, with slashes; directories come before what lies
// in them.
type RescueTarget interface {
	Dir(ctx context.Context, path string, st Stat, xattrs map[string][]byte) error

	// File makes a regular file with the content of r, which has st.Size bytes.
	File(ctx context.Context, path string, st Stat, xattrs map[string][]byte, r io.ReaderAt) error

	Symlink(ctx context.Context, path string, st Stat, target string) error

	// Link gives a file that was made another name.
	Link(ctx context.Context, old, path string) error
}

// Rescued tells what Rescue has found.
type Rescued struct {
	Files, Dirs int
	Bytes       int64
	Removed     int      // names that were removed and not published: the vault has them still
	Unreadable  []string // files of which something is missing or damaged, by path
}

// Rescue brings back the work of a term that was overtaken: every file that was made, changed or given a name in it behind
// the batch up to which others know the term, whole, and the directories above. What lies in a directory that was moved is
// in the vault still, where it was. lost is the vault as that machine had it, opened
// read-only; now is the vault as it is.
func Rescue(ctx context.Context, lost, now *FS, to RescueTarget) (*Rescued, error) {
	r := &rescue{lost: lost, to: to, touched: make(map[blockcrypt.ID]bool), removed: make(map[spot]bool), result: new(Rescued)}
	if err := r.findTouched(ctx, now.knownUpTo(lost.root)); err != nil {
		return nil, err
	}
	if len(r.touched) == 0 && len(r.removed) == 0 {
		return r.result, nil
	}
	if err := r.walk(ctx, lost.Root(), ""); err != nil {
		return nil, err
	}
	r.result.Removed = r.stillRemoved(ctx)
	return r.result, nil
}

// OpenLost opens, to read it, the vault as a machine had it that was overtaken, for Rescue: o.Store shows the root that it
// knew last, and the journal with what it has not published.
func OpenLost(ctx context.Context, o Options) (*FS, error) {
	o.RootName, o.StateDir = blockcrypt.RootName, ""
	return Open(ctx, o)
}

// knownUpTo returns the last batch of the term that wrote a root which counts in the vault as f has it.
func (f *FS) knownUpTo(root *blockcrypt.Root) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := (&foundRoot{root: root}).writer()
	if t := findTerm(f.root, w); t != nil && t.Closed {
		return t.LastBatch
	}
	return root.Cut
}

type rescue struct {
	lost    *FS
	to      RescueTarget
	touched map[blockcrypt.ID]bool // files, directories
	removed map[spot]bool          // names
	made    map[blockcrypt.ID]string
	above   []aboveDir // not made yet
	result  *Rescued
}

// findTouched notes what batches behind one speak of.
func (r *rescue) findTouched(ctx context.Context, after uint64) error {
	f := r.lost
	root := f.root
	replay := journal.Replay{Store: f.store, Vault: f.vault, Keys: f.keyring(), From: journal.Pos{Number: root.Cut, Hash: root.CutHash},
		First: root.First, Last: root.Last, MinEpoch: root.Epoch, Ours: f.knownTerm,
		Ended: func(term uint64, tag blockcrypt.Tag) (uint64, bool) { return endOf(root, term, tag) }}
	_, err := replay.Run(ctx, func(at journal.Appended, b *journal.Batch) error {
		if at.Pos.Number <= after {
			return nil
		}
		for i := range b.Deltas {
			switch d := &b.Deltas[i]; d.Kind {
			case journal.SetEntry:
				r.touched[d.Entry.ID] = true
			case journal.DelEntry:
				f.mu.Lock()
				if in := f.dirs[d.ID]; in != nil && in != f.links && in != f.nameless {
					r.removed[spot{d.ID, in.hash(d.Name)}] = true
				}
				f.mu.Unlock()
			case journal.SetRuns, journal.SetExtent, journal.SetKeys:
				r.touched[d.ID] = true
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for what was not published: %w", err)
	}
	return nil
}

// stillRemoved counts the names that were removed and not made again.
func (r *rescue) stillRemoved(ctx context.Context) (n int) {
	f := r.lost
	for s := range r.removed {
		_ = f.view(ctx, func() error {
			for _, l := range f.layers() {
				dd := l.dirs[s.in]
				if dd == nil {
					continue
				}
				dd.names.AscendGreaterOrEqual(dirent{h: s.h}, func(item dirent) bool {
					if item.h == s.h && item.entry == nil {
						n++
					}
					return false
				})
			}
			return nil
		})
	}
	return n
}

// walk brings back what was touched below a directory. Whatever is done in a directory makes the layer speak of all those
// above it, so below one of which it does not speak nothing was.
func (r *rescue) walk(ctx context.Context, dir *Inode, at string) error {
	type child struct {
		name string
		ino  *Inode
		st   Stat
	}
	var children []child
	err := r.lost.ReadDirPlus(ctx, dir, 0, func(e DirEntry, ino *Inode, st Stat) bool {
		switch {
		case e.Name == "." || e.Name == "..":
		case ino == nil: // the entry of one of several names is damaged
			r.result.Unreadable = append(r.result.Unreadable, path.Join("/", at, e.Name))
		default:
			children = append(children, child{e.Name, ino, st})
		}
		return true
	})
	if err != nil {
		if len(children) == 0 && harms(err) {
			r.result.Unreadable = append(r.result.Unreadable, path.Join("/", at))
			return nil
		}
		return err
	}
	slices.SortFunc(children, func(a, b child) int { return strings.Compare(a.name, b.name) })
	for _, c := range children {
		if err == nil {
			err = r.bring(ctx, c.ino, path.Join(at, c.name), c.st)
		}
		r.lost.Forget(c.ino, 1)
	}
	return err
}

// bring brings back one file or directory, if it was touched, with the directories above.
func (r *rescue) bring(ctx context.Context, ino *Inode, at string, st Stat) error {
	if st.Type == blockcrypt.TypeDirectory {
		return r.bringDir(ctx, ino, at, st)
	}
	if !r.touched[ino.id] {
		return nil
	}
	if err := r.makeAbove(ctx); err != nil {
		return err
	}
	if old, ok := r.made[ino.id]; ok {
		return r.to.Link(ctx, old, at)
	}
	if err := r.file(ctx, ino, at, st); err != nil {
		return r.failed(at, err)
	}
	r.result.Files++
	if st.Nlink > 1 {
		if r.made == nil {
			r.made = make(map[blockcrypt.ID]string)
		}
		r.made[ino.id] = at
	}
	return nil
}

func (r *rescue) bringDir(ctx context.Context, ino *Inode, at string, st Stat) error {
	r.lost.mu.Lock()
	spoken := r.lost.active.dirs[ino.id] != nil
	r.lost.mu.Unlock()
	if !spoken && !r.touched[ino.id] {
		return nil
	}
	r.above = append(r.above, aboveDir{ino, at, st})
	defer func() {
		if n := len(r.above) - 1; n >= 0 && r.above[n].at == at {
			r.above = r.above[:n] // nothing in it was brought back
		}
	}()
	if r.touched[ino.id] {
		if err := r.makeAbove(ctx); err != nil {
			return err
		}
	}
	if !spoken {
		return nil
	}
	return r.walk(ctx, ino, at)
}

// aboveDir is a directory on the way to what may be brought back.
type aboveDir struct {
	ino *Inode
	at  string
	st  Stat
}

// makeAbove makes the directories on the way that are not made yet.
func (r *rescue) makeAbove(ctx context.Context) error {
	for _, d := range r.above {
		xattrs, err := r.xattrs(ctx, d.ino)
		if err == nil {
			err = r.to.Dir(ctx, d.at, d.st, xattrs)
		}
		if err = r.failed(d.at, err); err != nil {
			return err
		}
		r.result.Dirs++
	}
	r.above = r.above[:0]
	return nil
}

// failed notes that a file cannot be read whole, and returns what else is the matter.
func (r *rescue) failed(at string, err error) error {
	if err == nil || !harms(err) {
		return err
	}
	r.result.Unreadable = append(r.result.Unreadable, path.Join("/", at))
	return nil
}

func (r *rescue) file(ctx context.Context, ino *Inode, at string, st Stat) error {
	if st.Type == blockcrypt.TypeSymlink {
		target, err := r.lost.Readlink(ctx, ino)
		if err != nil {
			return err
		}
		return r.to.Symlink(ctx, at, st, target)
	}
	xattrs, err := r.xattrs(ctx, ino)
	if err != nil {
		return err
	}
	h, err := r.lost.Open(ctx, ino)
	if err != nil {
		return err
	}
	defer h.Close()
	r.result.Bytes += int64(st.Size)
	return r.to.File(ctx, at, st, xattrs, &readerAt{ctx, h})
}

func (r *rescue) xattrs(ctx context.Context, ino *Inode) (map[string][]byte, error) {
	names, err := r.lost.ListXattr(ctx, ino)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	xs := make(map[string][]byte)
	for _, name := range names {
		if xs[name], err = r.lost.GetXattr(ctx, ino, name); err != nil && !errors.Is(err, ErrNoXattr) {
			return nil, err
		}
	}
	return xs, nil
}

// readerAt reads a file as io.ReaderAt says.
type readerAt struct {
	ctx context.Context
	h   *File
}

func (r *readerAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.h.ReadAt(r.ctx, p, off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}
