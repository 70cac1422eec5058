package fs

import (
	"context"
	"strings"

	"envfs/blockcrypt"
	"envfs/remote"
)

// The writer of a shared store sends segments, some together, before root names them: until then any of them may be missing
// there, and they may not become a part of the vault. So nobody shows them or goes on from them but their writer, who has
// all of them here until root names them.

// segmentsHere returns the segments with content of which there are copies here.
func segmentsHere(ctx context.Context, shared remote.Shared) (map[string]bool, error) {
	objects, err := shared.Unpublished(ctx)
	here := make(map[string]bool)
	for _, o := range objects {
		if n, perr := blockcrypt.ParseName(o.Name); perr == nil && n.Kind == blockcrypt.KindSegment && o.Size > 0 {
			here[o.Name] = true
		}
	}
	return here, err
}

// someSegments is a store that lists no other segments than these.
type someSegments struct {
	remote.Store
	names map[string]bool
}

// withSegments returns the store with those segments that are here or named, and no others.
func withSegments(store remote.Store, here map[string]bool, named []blockcrypt.SegmentRef) remote.Store {
	for _, s := range named {
		here[s.Name] = true
	}
	return &someSegments{store, here}
}

// List implements remote.Store.
func (s *someSegments) List(ctx context.Context, prefix string, fn func(remote.Info) error) error {
	return s.Store.List(ctx, prefix, func(i remote.Info) error {
		if strings.HasPrefix(i.Name, "journal/") && !s.names[i.Name] {
			return nil
		}
		return fn(i)
	})
}

// dropUnnamed deletes from the shared store the segments of terms before this one that root does not name. Not before root
// has ended these terms: until then it may come to name them.
func (f *FS) dropUnnamed(ctx context.Context, live []blockcrypt.SegmentRef) error {
	if f.shared == nil {
		return nil
	}
	keep, err := segmentsHere(ctx, f.shared)
	if err != nil {
		return err
	}
	for _, s := range live {
		keep[s.Name] = true
	}
	var names []string
	err = f.store.List(ctx, "journal/", func(i remote.Info) error {
		n, err := blockcrypt.ParseName(i.Name)
		if err != nil || keep[i.Name] {
			return nil
		}
		if t := findTerm(f.root, blockcrypt.Term{Number: n.Term, Tag: n.R.Tag()}); t != nil && t.Closed {
			names = append(names, i.Name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return f.store.Delete(ctx, names...)
}
