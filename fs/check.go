package fs

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"envfs/blockcrypt"
	"envfs/remote"
)

// Finding is one damage.
type Finding struct {
	Path   string `json:"path,omitempty"`   // of what it harms; empty: the vault as a whole
	Object string `json:"object,omitempty"` // on the store
	What   string `json:"what"`
	Harm   string `json:"harm"`
}

// CheckOptions says how to check.
type CheckOptions struct {
	Progress func(done, total int64) // bytes of file content; total is an estimate
}

// CheckResult counts what was checked.
type CheckResult struct {
	Files   int64 `json:"files"`
	Dirs    int64 `json:"dirs"`
	Bytes   int64 `json:"bytes"`
	Objects int64 `json:"objects"` // that the fold records name
	Foreign int64 `json:"foreign"` // objects that nothing names
	Damaged int64 `json:"damaged"`
}

// checkChunk is how many bytes of a file are read at a time.
const checkChunk = 1 << 20

// Check reads and authenticates everything that the vault consists of, as it lies on the store and not as memory
// remembers it, and reports what is damaged, by path. It works beside other use of the vault; what changes meanwhile is
// seen before or after the change. An error means that checking itself could not go on.
func (f *FS) Check(ctx context.Context, o CheckOptions, report func(Finding)) (CheckResult, error) {
	if f.follower != nil { // what is shown may change at any time, and what was shown may be gone then
		var err error
		if f, err = f.beside(ctx); err != nil {
			return CheckResult{}, err
		}
	}
	c := &checker{f: f, o: o, report: report, linked: make(map[blockcrypt.ID]error), buf: make([]byte, checkChunk)}
	f.mu.Lock()
	c.total = int64(f.root.Bytes)
	f.mu.Unlock()
	if err := c.objects(ctx); err != nil {
		return c.res, err
	}
	if err := c.dir(ctx, f.top, ""); err != nil {
		return c.res, err
	}
	return c.res, nil
}

type checker struct {
	f      *FS
	o      CheckOptions
	report func(Finding)
	res    CheckResult
	total  int64
	linked map[blockcrypt.ID]error // what was found of the files of several names that are done
	buf    []byte
}

func (c *checker) found(fd Finding) {
	c.res.Damaged++
	c.report(fd)
}

// fatal tells errors of checking from damage that checking finds: whatever keeps an object from being read is damage,
// but for want of means on this side.
func (c *checker) fatal(ctx context.Context, err error) bool {
	for _, means := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		if errors.Is(err, means) {
			return true
		}
	}
	return ctx.Err() != nil
}

// dir checks a directory and all below it.
func (c *checker) dir(ctx context.Context, ino *Inode, path string) error {
	c.res.Dirs++
	whole, err := c.index(ctx, ino, path)
	if err != nil {
		if c.fatal(ctx, err) {
			return fmt.Errorf("check %s: %w", path, err)
		}
		c.found(Finding{Path: path + "/", What: err.Error(), Harm: "names in this directory cannot be reached"})
		return nil
	}
	var names []DirEntry
	for _, r := range whole {
		err := c.f.ReadDir(ctx, ino, max(r.from, cookieDotDot+1)-1, func(e DirEntry) bool {
			if e.Cookie >= r.to {
				return false
			}
			names = append(names, e)
			return true
		})
		if err == nil || r.to != allHashes && errors.Is(err, ErrDamaged) { // what comes behind is damaged, as is known
			continue
		}
		if c.fatal(ctx, err) {
			return fmt.Errorf("check %s: %w", path, err)
		}
		c.found(Finding{Path: path + "/", What: err.Error(), Harm: "names in this directory cannot be reached"})
	}
	for _, e := range names {
		if err := c.child(ctx, ino, e.Name, path+"/"+e.Name); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) child(ctx context.Context, dir *Inode, name, path string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ino, st, err := c.f.Lookup(ctx, dir, name)
	if errors.Is(err, ErrNotExist) {
		return nil // removed meanwhile
	}
	if err == nil {
		defer c.f.Forget(ino, 1)
		switch st.Type {
		case blockcrypt.TypeDirectory:
			return c.dir(ctx, ino, path)
		case blockcrypt.TypeRegular:
			err = c.file(ctx, ino, st)
		}
	}
	if err == nil || errors.Is(err, ErrStale) {
		return nil
	}
	if c.fatal(ctx, err) {
		return fmt.Errorf("check %s: %w", path, err)
	}
	harm := "this file cannot be read, or not all of it"
	if errors.Is(err, errSpare) {
		harm = "this file can be read; older versions of it may not"
	}
	c.found(Finding{Path: path, What: err.Error(), Harm: harm})
	return nil
}

// hashRange is a part of a directory: the names whose hashes lie in [from, to).
type hashRange struct{ from, to uint64 }

const allHashes = ^uint64(0)

// index reads a directory's index and shards anew, and returns the parts that can be listed. A shard that is damaged is
// reported; an error is about the index as a whole.
func (c *checker) index(ctx context.Context, ino *Inode, path string) ([]hashRange, error) {
	whole := []hashRange{{0, allHashes}}
	c.f.mu.Lock()
	d, err := ino.asDir()
	var ref blockcrypt.Ref
	var id blockcrypt.ID
	if err == nil {
		ref, id = d.index, d.id
	}
	c.f.mu.Unlock()
	if err != nil || ref.IsZero() {
		return whole, nil
	}
	v, err := c.fetch(ctx, indexMiss(id, ref))
	if err != nil || v == nil {
		return whole, err
	}
	ix, err := cast[*blockcrypt.Index](v)
	if err != nil {
		return nil, err
	}
	for i, s := range ix.Shards {
		_, err := c.fetch(ctx, pageMiss(blockcrypt.KindShard, id, s.Ref))
		if err == nil {
			continue
		}
		if c.fatal(ctx, err) {
			return nil, err
		}
		c.found(Finding{Path: path + "/", What: err.Error(), Harm: fmt.Sprintf("%d names in this directory cannot be reached", s.Names)})
		last := &whole[len(whole)-1]
		end := last.to
		last.to = s.From
		if last.from >= last.to {
			whole = whole[:len(whole)-1]
		}
		next := uint64(allHashes)
		if i+1 < len(ix.Shards) {
			next = ix.Shards[i+1].From
		}
		whole = append(whole, hashRange{next, end})
	}
	if last := whole[len(whole)-1]; last.from == last.to {
		whole = whole[:len(whole)-1]
	}
	return whole, nil
}

// fetch reads an object of the base from the store. One that a fold has superseded meanwhile and deletion has taken is
// nil: no damage.
func (c *checker) fetch(ctx context.Context, m *miss) (any, error) {
	v, _, err := c.f.fetch(ctx, m, m.name())
	if errors.Is(err, remote.ErrNotExist) && m.ver.Birth <= c.f.grave.purgedTo() && c.gone(m) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.name(), err)
	}
	return v, nil
}

// gone reports whether an object was superseded since it was looked up.
func (c *checker) gone(m *miss) bool {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	d := c.f.dirs[m.owner]
	return d != nil && d.index.Hash != m.hash && m.kind == blockcrypt.KindIndex
}

// file reads a file's header, map and extents anew, and all its blocks.
func (c *checker) file(ctx context.Context, ino *Inode, st Stat) error {
	if st.Nlink < 2 {
		return c.content(ctx, ino, st)
	}
	if err, done := c.linked[ino.id]; done {
		return err
	}
	err := c.content(ctx, ino, st)
	c.linked[ino.id] = err
	return err
}

func (c *checker) content(ctx context.Context, ino *Inode, st Stat) error {
	c.res.Files++
	spare, err := c.header(ctx, ino)
	if err != nil {
		return err
	}
	h, err := c.f.Open(ctx, ino)
	if err != nil {
		return err
	}
	defer h.Close()
	var first error
	for off := int64(0); ; {
		n, err := h.ReadAt(ctx, c.buf, off)
		if err != nil {
			if c.fatal(ctx, err) {
				return err
			}
			if first == nil {
				first = err
			}
			n = checkChunk
		}
		if n == 0 || off >= int64(st.Size) {
			if first == nil {
				first = spare
			}
			return first
		}
		off += int64(n)
		c.res.Bytes += int64(n)
		if c.o.Progress != nil {
			c.o.Progress(c.res.Bytes, max(c.total, c.res.Bytes))
		}
	}
}
