package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"envfs/blockcrypt"
	"envfs/remote"
)

// RescueTarget is where Rescue puts what it brings back. Paths are relative, with slashes; directories come before what
// lies in them.
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
	Unreadable  []string // files and directories of which something is missing or damaged, by path
}

// Rescue brings back the work of a term that was overtaken: every file that was made, changed or given a name in it
// behind the batch up to which others know the term, whole, under all its names, and the directories above. What lies
// in a directory that was moved is in the vault still, where it was. lost is the vault as that machine had it, opened
// by OpenLost; now is the vault as it is.
//
// It may be called again: what is there already stays. Unless it returns nil and Unreadable is empty, something did not
// come back, and what was not published is to be kept. ErrIncomplete and ErrDamaged say that this is a part of the
// journal; with them the rest is brought back if Rescued is not nil.
func Rescue(ctx context.Context, lost, now *FS, to RescueTarget) (*Rescued, error) {
	r := &rescue{lost: lost, to: to, touched: make(map[blockcrypt.ID]bool), gone: make(map[blockcrypt.ID]bool), met: make(map[blockcrypt.ID]bool),
		removed: make(map[spot]bool), made: make(map[blockcrypt.ID]*linked), dirs: make(map[string]bool), result: new(Rescued)}
	after := now.knownUpTo(lost.root)
	found, err := r.findTouched(ctx, after)
	if err != nil {
		return nil, err
	}
	if lost.replayed.End != found.End {
		return nil, fmt.Errorf("look for what was not published: %w: the journal goes up to batch %d, of which %d can be shown",
			ErrIncomplete, found.End.Number, lost.replayed.End.Number)
	}
	missing, err := lost.missingBehind(ctx, after, found)
	if err != nil {
		return nil, err
	}
	if err := r.bringAll(ctx); err != nil {
		return nil, err
	}
	r.result.Removed = r.stillRemoved()
	if left := r.unmet(); missing == nil && len(left) > 0 {
		missing = fmt.Errorf("%w: %d files that were changed are in no directory that can be read, %s among them", ErrIncomplete, len(left), left[0])
	}
	return r.result, missing
}

// bringAll brings back all that was touched. The entry of a file with several names lies in none of the directories that
// show it, so that a change of its content speaks of none of them: such files, and their other names, are looked for
// everywhere.
func (r *rescue) bringAll(ctx context.Context) error {
	if len(r.touched) == 0 {
		return nil
	}
	if err := r.walk(ctx, r.lost.Root(), ""); err != nil {
		return err
	}
	left := make(map[blockcrypt.ID]bool)
	for _, id := range r.unmet() {
		left[id] = true
	}
	for id, l := range r.made {
		if len(l.names) < l.count {
			left[id] = true
		}
	}
	if len(left) == 0 {
		return nil
	}
	r.touched, r.everywhere, r.above = left, true, nil
	return r.walk(ctx, r.lost.Root(), "")
}

// unmet returns the files that were touched, and that the walk has not come to.
func (r *rescue) unmet() (left []blockcrypt.ID) {
	for id := range r.touched {
		if !r.gone[id] && !r.met[id] {
			left = append(left, id)
		}
	}
	return left
}

type rescue struct {
	lost    *FS
	to      RescueTarget
	touched map[blockcrypt.ID]bool    // files, directories
	gone    map[blockcrypt.ID]bool    // of touched: what has no name any more, and directories
	met     map[blockcrypt.ID]bool    // of touched: what the walk has come to
	removed map[spot]bool             // names
	made    map[blockcrypt.ID]*linked // files with several names
	dirs    map[string]bool           // that were made
	above   []aboveDir                // not made yet
	result  *Rescued

	everywhere bool // the walk goes through directories, too, in which nothing was done
}

// linked is a file with several names that was brought back.
type linked struct {
	count int             // how many it has
	first string          // by which it was made
	names map[string]bool // that it has got back
}

// walk brings back what was touched below a directory. Whatever is done in a directory makes the layer speak of all those
// above it, so below one of which it does not speak nothing was.
func (r *rescue) walk(ctx context.Context, dir *Inode, at string) error {
	names, err := r.names(ctx, dir, at)
	if err != nil {
		return err
	}
	for _, name := range names {
		below := path.Join(at, name)
		ino, st, err := r.lost.Lookup(ctx, dir, name)
		if errors.Is(err, ErrNotExist) && !errors.Is(err, remote.ErrNotExist) {
			continue
		}
		if err != nil {
			if err := r.failed(below, err); err != nil {
				return err
			}
			continue
		}
		err = r.bring(ctx, ino, below, st)
		r.lost.Forget(ino, 1)
		if err != nil {
			return err
		}
	}
	return nil
}

// names returns the names in a directory, sorted: if it cannot be read whole those that can, and those that the journal
// speaks of.
func (r *rescue) names(ctx context.Context, dir *Inode, at string) (names []string, err error) {
	err = r.lost.ReadDir(ctx, dir, 0, func(e DirEntry) bool {
		if e.Name != "." && e.Name != ".." {
			names = append(names, e.Name)
		}
		return true
	})
	if err != nil {
		if err := r.failed(at, err); err != nil {
			return nil, err
		}
		r.lost.mu.Lock()
		if dd := r.lost.active.dirs[dir.id]; dd != nil {
			dd.names.Ascend(func(item dirent) bool {
				if item.entry != nil {
					names = append(names, item.name)
				}
				return true
			})
		}
		r.lost.mu.Unlock()
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// bring brings back one file or directory, if it was touched, with the directories above.
func (r *rescue) bring(ctx context.Context, ino *Inode, at string, st Stat) error {
	if st.Type == blockcrypt.TypeDirectory {
		return r.bringDir(ctx, ino, at, st)
	}
	if !r.touched[ino.id] {
		return nil
	}
	r.met[ino.id] = true
	l := r.made[ino.id]
	if l != nil && l.names[at] {
		return nil
	}
	if err := r.makeAbove(ctx); err != nil {
		return err
	}
	if l != nil {
		l.names[at] = true
		return r.to.Link(ctx, l.first, at)
	}
	if err := r.file(ctx, ino, at, st); err != nil {
		return r.failed(at, err)
	}
	r.result.Files++
	if st.Type == blockcrypt.TypeRegular {
		r.result.Bytes += int64(st.Size)
	}
	if st.Nlink > 1 {
		r.made[ino.id] = &linked{int(st.Nlink), at, map[string]bool{at: true}}
	}
	return nil
}

func (r *rescue) bringDir(ctx context.Context, ino *Inode, at string, st Stat) error {
	r.lost.mu.Lock()
	spoken := r.lost.active.dirs[ino.id] != nil
	r.lost.mu.Unlock()
	if !spoken && !r.touched[ino.id] && !r.everywhere {
		return nil
	}
	if !r.dirs[at] {
		r.above = append(r.above, aboveDir{ino, at, st})
	}
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
	if !spoken && !r.everywhere {
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
		r.dirs[d.at] = true
		r.result.Dirs++
	}
	r.above = r.above[:0]
	return nil
}

// failed notes that a file or directory cannot be read whole, and returns what else is the matter: a store that is away has
// damaged nothing.
func (r *rescue) failed(at string, err error) error {
	if err == nil || !unreadable(err) {
		return err
	}
	if at = path.Join("/", at); !slices.Contains(r.result.Unreadable, at) {
		r.result.Unreadable = append(r.result.Unreadable, at)
	}
	return nil
}

// unreadable reports whether an error says that something is damaged or missing, and not only that it cannot be read now.
func unreadable(err error) bool {
	return errors.Is(err, ErrDamaged) || errors.Is(err, remote.ErrNotExist)
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
	return r.to.File(ctx, at, st, xattrs, &readerAt{ctx, h})
}
