package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"envfs/blockcrypt"
	"envfs/fs/journal"
	"envfs/remote"
)

// setAside moves segments of our line that do not belong to the chain to damaged/, and removes those that are folded.
// Those of terms that nobody here knows stay as they are: another machine may need them, and a sync tool would carry
// their removal to it.
//
// What was set aside stays so after a power loss: once root says that a term has ended, a segment from behind its end is
// taken for what somebody has written since.
func (f *FS) setAside(ctx context.Context, res *journal.Result, sv *survey) error {
	old := res.Folded
	for _, name := range res.Empty {
		if n, err := blockcrypt.ParseName(name); err == nil && f.knownTerm(n.Term, n.R.Tag()) {
			old = append(old, name)
		}
	}
	if err := f.store.Delete(ctx, old...); err != nil {
		return fmt.Errorf("remove folded journal segments: %w", err)
	}
	var moved []string
	for i := range res.Foreign {
		x := &res.Foreign[i]
		if !sv.knows(x.Term, x.Tag) || f.givenUp(x) {
			continue
		}
		if err := f.moveToDamaged(ctx, x.Name); err != nil {
			return err
		}
		moved = append(moved, x.Name)
	}
	if len(moved) == 0 {
		return nil
	}
	if err := f.local.Settle(ctx, moved); err != nil {
		return fmt.Errorf("set journal segments aside: %w", err)
	}
	return nil
}

// keepTail keeps what follows the accepted end of a segment that is about to go: a batch that a crash has torn, or
// what somebody wrote who had been cut off.
func (f *FS) keepTail(ctx context.Context, s blockcrypt.SegmentRef) error {
	size, err := f.store.Size(ctx, s.Name)
	if err != nil || uint64(size) <= s.Length {
		if errors.Is(err, remote.ErrNotExist) {
			err = nil
		}
		return err
	}
	return f.copyAside(ctx, s.Name, int64(s.Length), size)
}

func (f *FS) moveToDamaged(ctx context.Context, name string) error {
	size, err := f.store.Size(ctx, name)
	if err != nil {
		return fmt.Errorf("set %s aside: %w", name, err)
	}
	if err := f.copyAside(ctx, name, 0, size); err != nil {
		return err
	}
	if err := f.store.Sync(ctx); err != nil {
		return fmt.Errorf("set %s aside: %w", name, err)
	}
	if err := f.store.Delete(ctx, name); err != nil {
		return fmt.Errorf("set %s aside: %w", name, err)
	}
	return nil
}

// copyAside keeps a part of a journal segment below damaged/, if there is anything but zeros in it. What no writer can have
// made so long is not kept.
func (f *FS) copyAside(ctx context.Context, name string, from, to int64) (err error) {
	to = min(to, journal.MaxLength)
	empty := true
	err = f.pieces(ctx, name, from, to, func(p []byte) error {
		if len(bytes.Trim(p, "\x00")) > 0 {
			empty = false
			return io.EOF // seen enough
		}
		return nil
	})
	if err != nil || empty {
		return err
	}
	kept, err := f.local.Create(ctx, "damaged/"+flatName(name)+"-"+f.term.Tag.String())
	if errors.Is(err, remote.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("set %s aside: %w", name, err)
	}
	defer func() { err = errors.Join(err, kept.Close()) }()
	if err := f.pieces(ctx, name, from, to, kept.Append); err != nil {
		return err
	}
	if err := kept.Sync(); err != nil {
		return fmt.Errorf("set %s aside: %w", name, err)
	}
	return nil
}

// pieces calls fn with a part of an object, piece by piece, until it returns an error; io.EOF means that this is enough.
func (f *FS) pieces(ctx context.Context, name string, from, to int64, fn func([]byte) error) error {
	buf := make([]byte, min(max(0, to-from), 1<<20))
	for from < to {
		n, err := f.store.ReadAt(ctx, name, buf[:min(int64(len(buf)), to-from)], from)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("set %s aside: %w", name, err)
		}
		if n == 0 {
			return nil
		}
		if err := fn(buf[:n]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("set %s aside: %w", name, err)
		}
		from += int64(n)
	}
	return nil
}

func flatName(name string) string {
	b := []byte(name)
	for i, c := range b {
		if c == '/' {
			b[i] = '-'
		}
	}
	return string(b)
}
