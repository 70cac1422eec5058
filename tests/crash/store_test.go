package crash

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"time"

	"envfs/blockcrypt"
	"envfs/fs"
	"envfs/keystore"
	"envfs/remote"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// census is what the fold records of a store say.
type census struct {
	store remote.Store
	vault blockcrypt.Vault
	keys  *keystore.Vault
	root  *blockcrypt.Root
	recs  []*blockcrypt.FoldRecord
	born  map[string]blockcrypt.Born // what lives
}

func (s *session) census() (*census, error) {
	file, _, err := fs.Peek(s.ctx, s.store, "")
	if err != nil {
		return nil, err
	}
	c := &census{store: s.store, born: make(map[string]blockcrypt.Born)}
	if c.keys, err = s.opener.unlockNewest(s.ctx, s.store, file); err != nil {
		return nil, err
	}
	c.vault = blockcrypt.Vault{Suite: blockcrypt.Suite(file.Params().Suite), ID: file.VaultID()}
	data, err := s.store.Get(s.ctx, blockcrypt.RootName, blockcrypt.MaxRoot)
	if err != nil {
		return nil, err
	}
	if c.root, err = c.vault.OpenRoot(c.keys, data); err != nil {
		return nil, err
	}
	if c.recs, err = foldRecords(s.ctx, s.store, c.vault, c.keys, c.root.Fold); err != nil {
		return nil, err
	}
	for _, rec := range c.recs {
		for _, b := range rec.Born {
			if _, twice := c.born[b.Name]; twice {
				return nil, fmt.Errorf("%s was born twice", b.Name)
			}
			if n, err := blockcrypt.ParseName(b.Name); err != nil || n.Seq > rec.Seq {
				return nil, fmt.Errorf("fold %d names %s, whose birth it is before (%v)", rec.Seq, b.Name, err)
			}
			c.born[b.Name] = b
		}
	}
	for _, rec := range c.recs {
		for _, d := range rec.Dead {
			delete(c.born, d.Name)
		}
	}
	return c, nil
}

// audit holds the objects on the store against what the fold records say of them: all that is alive is there, as long
// and with the checksum that they say, and nothing was born twice. An extent may be longer: a crash leaves what was
// appended but not committed. Key epochs are what they are said to be.
func (s *session) audit() error {
	c, err := s.census()
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(c.born)) {
		if err := s.auditObject(c.born[name]); err != nil {
			return fmt.Errorf("audit: %w", err)
		}
	}
	return s.tellsKeyUse()
}

// foldRecords returns all fold records, the newest first.
func foldRecords(ctx context.Context, st remote.Store, v blockcrypt.Vault, keys *keystore.Vault, newest blockcrypt.ObjRef) ([]*blockcrypt.FoldRecord, error) {
	refs := []blockcrypt.ObjRef{newest}
	var recs []*blockcrypt.FoldRecord
	for i := 0; i < len(refs); i++ {
		data, err := st.Get(ctx, refs[i].Name, blockcrypt.MaxFold)
		if err != nil {
			return nil, err
		}
		rec, err := v.OpenFold(keys, refs[i].Name, data)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			refs = append(refs, rec.Runs...)
		}
		recs = append(recs, rec)
	}
	return recs, nil
}

func (s *session) auditObject(b blockcrypt.Born) error {
	data, err := s.store.Get(s.ctx, b.Name, 1<<30)
	switch {
	case err != nil:
		return err
	case uint64(len(data)) < b.Length:
		return fmt.Errorf("%s has %d bytes, its fold says %d", b.Name, len(data), b.Length)
	case crc32.Checksum(data[:b.Length], castagnoli) != b.CRC32C:
		return fmt.Errorf("%s has another checksum than its fold says", b.Name)
	case b.Hash != blockcrypt.Hash{} && b.Hash != blockcrypt.Sum(data):
		return fmt.Errorf("%s has another hash than its fold says", b.Name)
	}
	return nil
}

// noteRoots remembers which copies of roots there are, and checks that none has gone within the grace. It is called
// before time passes, so that none was there for long before it is seen.
func (s *session) noteRoots() error {
	if s.roots == nil {
		s.roots = make(map[string]time.Time)
	}
	gone := maps.Clone(s.roots)
	err := s.store.List(s.ctx, "roots/", func(i remote.Info) error {
		delete(gone, i.Name)
		if _, ok := s.roots[i.Name]; !ok {
			s.roots[i.Name] = s.clock.Now()
		}
		return nil
	})
	for name, since := range gone {
		if age := s.clock.Now().Sub(since); age < s.limits.Grace {
			return fmt.Errorf("%s was deleted after %v", name, age)
		}
		delete(s.roots, name)
	}
	return err
}

// pass lets time pass.
func (s *session) pass(d time.Duration) error {
	if err := s.noteRoots(); err != nil {
		return err
	}
	s.clock.advance(d)
	return nil
}

// lookBack opens every root that is kept: each shows a moment of history, whole.
func (s *session) lookBack() error {
	if err := s.noteRoots(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(s.roots)) {
		f, err := s.opener.open(s.ctx, s.stage, fs.Options{ReadOnly: true, RootName: name, Clock: s.clock, Limits: s.limits})
		if err != nil {
			return fmt.Errorf("open %s: %w", name, err)
		}
		got, err := dump(s.ctx, f)
		if err = errors.Join(err, f.Close(s.ctx)); err == nil {
			_, _, err = s.hist.find(got, s.at(), promised{})
		}
		if err != nil {
			return fmt.Errorf("at %s: %w", name, err)
		}
	}
	return nil
}

// rewrite moves blocks out of extents that are mostly dead.
func (s *session) rewrite() error {
	return s.do("rewrite", stepNote, 0, func() error {
		n, err := s.fs.Rewrite(s.ctx)
		s.moved += n
		return err
	}, nil)
}

// sweep removes orphans: all of them, unless folds have failed before, after which some have numbers that nobody would
// expect.
func (s *session) sweep() error {
	return s.do("sweep", stepNote, 0, func() error {
		_, left, err := s.fs.Sweep(s.ctx)
		if err == nil && left > 0 && !s.failed {
			err = fmt.Errorf("%d objects that nothing names are left", left)
		}
		return err
	}, nil)
}
