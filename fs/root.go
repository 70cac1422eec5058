package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"envfs/blockcrypt"
	"envfs/remote"
)

// rootObject returns the reference to the copy of a root in roots/.
func rootObject(p *blockcrypt.RootPrefix, data []byte) blockcrypt.ObjRef {
	return blockcrypt.ObjRef{Name: p.Name().String(), Hash: blockcrypt.Sum(data)}
}

// rootNow returns the root that f knows, which is never changed once it is there.
func (f *FS) rootNow() *blockcrypt.Root {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.root
}

// replaceRoot makes edit's changes to the root and puts it in the place of the one on the store: the commit of folds,
// terms and key changes. rootMu is held. A root that is not the one we know stops writing: somebody else wrote it. After
// ErrNoSpace the old root is there, and edit may have been called.
func (f *FS) replaceRoot(ctx context.Context, edit func(*blockcrypt.Root)) error {
	return f.replaceRootAs(ctx, false, edit)
}

// replaceRootAs is replaceRoot; a bare root does no more than publish, and gets no copy.
func (f *FS) replaceRootAs(ctx context.Context, bare bool, edit func(*blockcrypt.Root)) error {
	for {
		if err := f.settleFlight(ctx); err != nil {
			return err
		}
		kept, err := f.keptRoot(ctx)
		if err != nil {
			return err
		}
		if err := f.putRoot(ctx, kept, bare, edit); !errors.Is(err, errLanded) {
			return err
		}
	}
}

// flight is a bare root of which it is not known whether it has become the root: the reply was lost. It may become it yet.
// All that are in flight are to follow the same root, so that at most one of them does.
type flight struct {
	root *blockcrypt.Root
	data []byte
}

// errLanded means that root is what an earlier replacement has made it, of which that was not known.
var errLanded = errors.New("an earlier replacement has been done")

// settleFlight looks whether the root in flight has become the root. rootMu is held.
func (f *FS) settleFlight(ctx context.Context) error {
	if len(f.flights) == 0 {
		return nil
	}
	data, err := f.store.Get(ctx, blockcrypt.RootName, blockcrypt.MaxRoot)
	if err != nil {
		return fmt.Errorf("read root: %w", err)
	}
	i := slices.IndexFunc(f.flights, func(in flight) bool { return bytes.Equal(data, in.data) })
	if i < 0 {
		return nil
	}
	f.rootData, f.bare = data, true
	f.keepHere(data)
	f.mu.Lock()
	f.root = f.flights[i].root
	f.mu.Unlock()
	f.flights = nil // of the others none can follow
	return nil
}

// keptRoot returns the newest root of which there is a copy in roots/, and makes that of the present one if it is to have
// one.
func (f *FS) keptRoot(ctx context.Context) (blockcrypt.ObjRef, error) {
	if f.bare {
		return f.root.Predecessor, nil
	}
	return f.keepRoot(ctx, f.rootData)
}

// beginEpoch notes that a key epoch begins with a fold, if it has not begun. Of many epochs the oldest are forgotten.
func beginEpoch(starts []blockcrypt.EpochStart, epoch uint32, fold uint64, now blockcrypt.Time) []blockcrypt.EpochStart {
	if n := len(starts); n > 0 && starts[n-1].Epoch == epoch {
		return starts
	}
	starts = append(slices.Clone(starts), blockcrypt.EpochStart{Epoch: epoch, Fold: fold, Began: now})
	return starts[max(0, len(starts)-blockcrypt.MaxRootEpochs):]
}

// putRoot replaces the root. predecessor is the newest root of which there is a copy; a bare one will have none.
func (f *FS) putRoot(ctx context.Context, predecessor blockcrypt.ObjRef, bare bool, edit func(*blockcrypt.Root)) (err error) {
	f.mu.Lock()
	next := *f.root
	nextFold := f.nextFold
	f.mu.Unlock()
	next.Terms = slices.Clone(next.Terms)
	next.Predecessor = predecessor
	next.Seq++
	if next.R, err = blockcrypt.NewR(f.rand, f.term.Tag); err != nil {
		return fmt.Errorf("draw a root's version: %w", err)
	}
	next.Time = f.vaultTime(next.Time)
	edit(&next)
	keys := f.keyring()
	next.Epoch = keys.Newest()
	next.Epochs = beginEpoch(next.Epochs, next.Epoch, nextFold, next.Time)
	t := currentTerm(&next, f.term)
	t.LastRootSeq, t.LastRootR, t.LastFold = next.Seq, next.R, max(t.LastFold, next.LastFold)
	kek, err := keys.KEK(next.Epoch)
	if err != nil {
		return fmt.Errorf("seal root: %w", err)
	}
	var data []byte
	err = f.store.Replace(ctx, blockcrypt.RootName, f.rootData, func(identity []byte) ([]byte, error) {
		next.Identity = identity
		var err error
		data, err = f.vault.SealRoot(f.rand, kek, &next)
		return data, err
	})
	switch {
	case errors.Is(err, remote.ErrChanged):
		if len(f.flights) > 0 {
			if err := f.settleFlight(ctx); err != nil {
				return err
			}
			if len(f.flights) == 0 {
				return errLanded
			}
		}
		err = f.overtaken(ctx, err)
		f.stop(err)
	case err != nil && bare && !isFull(err) && data != nil:
		f.flights = append(f.flights, flight{&next, data})
	}
	if err != nil {
		return fmt.Errorf("replace root: %w", err)
	}
	f.rootData, f.bare, f.flights = data, bare, nil
	f.keepHere(data)
	f.mu.Lock()
	f.root = &next
	f.mu.Unlock()
	if bare {
		f.movePin(&next, data)
		return nil
	}
	if _, err := f.keepRoot(ctx, data); isFull(err) {
		f.logger.Warn("there is no space for the copy of root; whoever replaces it next makes one", "cause", err)
	} else if err != nil {
		return fmt.Errorf("root is replaced, but not copied: %w", err) // no want of space, which would mean that it is not replaced
	}
	f.movePin(&next, data)
	return nil
}

// keepBoth makes the copy of the root that is gone on from, and that of the root on the store if it is another. Not if
// that is the older one: whoever went on from it made its copy, and if that is gone now, so is what it needs.
func (f *FS) keepBoth(ctx context.Context, sv *survey) (blockcrypt.ObjRef, error) {
	if !covers(sv.chosen, sv.own) {
		if _, err := f.keepRoot(ctx, sv.disk); err != nil {
			return blockcrypt.ObjRef{}, err
		}
	}
	return f.keepRoot(ctx, sv.chosen.data)
}

// keepRoot makes the copy of a root in roots/, if it is missing.
func (f *FS) keepRoot(ctx context.Context, root []byte) (ref blockcrypt.ObjRef, err error) {
	p, err := blockcrypt.ParseRootPrefix(root)
	if err != nil {
		return ref, fmt.Errorf("copy root: %w", err)
	}
	ref = rootObject(&p, root)
	err = f.store.Put(ctx, ref.Name, root)
	if errors.Is(err, remote.ErrExist) {
		old, err := f.store.Get(ctx, ref.Name, blockcrypt.MaxRoot)
		if err != nil {
			return ref, fmt.Errorf("read copy of root: %w", err)
		}
		if bytes.Equal(old, root) {
			return ref, nil
		}
		// A copy that was torn by a crash is made anew.
		if err := f.store.Delete(ctx, ref.Name); err != nil {
			return ref, fmt.Errorf("remove torn copy of root: %w", err)
		}
		err = f.store.Put(ctx, ref.Name, root)
		if err != nil {
			return ref, fmt.Errorf("copy root: %w", err)
		}
	} else if err != nil {
		return ref, fmt.Errorf("copy root: %w", err)
	}
	if f.shared != nil {
		return ref, nil // it is durable, and a sync would take the errors of what a fold has put
	}
	if err := f.store.Sync(ctx); err != nil {
		return ref, fmt.Errorf("copy root: %w", err)
	}
	return ref, nil
}

// nameSegments makes root vouch for the live segments, which are durable.
func nameSegments(r *blockcrypt.Root, live []blockcrypt.SegmentRef) {
	r.First, r.Last, r.Segments, r.FirstSegment = blockcrypt.SegmentRef{}, blockcrypt.SegmentRef{}, uint32(len(live)), ""
	if len(live) > 0 {
		r.First, r.Last = live[0], live[len(live)-1]
		r.FirstSegment = r.First.Name
	}
}

// currentTerm returns the line of t in the root's list, adding it if it is not there.
func currentTerm(r *blockcrypt.Root, t blockcrypt.Term) *blockcrypt.Term {
	if old := findTerm(r, t); old != nil {
		return old
	}
	if len(r.Terms) >= maxTerms {
		r.Terms = slices.Delete(r.Terms, 0, len(r.Terms)-maxTerms+1)
	}
	r.Terms = append(r.Terms, t)
	return &r.Terms[len(r.Terms)-1]
}

func findTerm(r *blockcrypt.Root, t blockcrypt.Term) *blockcrypt.Term {
	for i := range r.Terms {
		if r.Terms[i].Number == t.Number && r.Terms[i].Tag == t.Tag {
			return &r.Terms[i]
		}
	}
	return nil
}

// maxTerms is how many terms root remembers.
const maxTerms = blockcrypt.MaxRootTerms

// vaultTime is the time by which the vault counts its grace: it never goes back.
func (f *FS) vaultTime(last blockcrypt.Time) blockcrypt.Time {
	now := f.now()
	if now.Sec < last.Sec || now.Sec == last.Sec && now.Nsec < last.Nsec {
		return last
	}
	return now
}
