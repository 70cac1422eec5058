package cache

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/singleflight"
)

// pageSize is the unit in which parts of objects are kept, in bytes.
const pageSize = 128 << 10

// wholeObject is the page number of an object that is kept whole.
const wholeObject = -1

// nameHash tells objects apart: 16 bytes of the SHA-256 of the name, so that names of any length have a place. Of the first
// byte the lowest bit is 1 for extents.
type nameHash [16]byte

func hashOf(name string) nameHash {
	sum := sha256.Sum256([]byte(name))
	hash := nameHash(sum[:16])
	hash[0] &^= 1
	if isExtent(name) {
		hash[0] |= 1
	}
	return hash
}

// sealed reports whether each block of the object is authenticated when it is read. Then its pages need no checksum.
func (h nameHash) sealed() bool { return h[0]&1 == 1 }

type pageKey struct {
	object nameHash
	number int64
}

// pages are the files of the cache: each holds a row of pages of one object, and after them, but for extents, the CRC-32C of
// each. What is missing, torn or decayed is as if it was not there; who reads an extent has to find out, and tells by drop.
// What was used least recently goes when there are too many bytes.
type pages struct {
	dir   string
	limit int64
	group singleflight.Group
	puts  sync.WaitGroup

	mu      sync.Mutex
	total   int64                           // bytes of all rows
	entries map[pageKey]*list.Element       // every page of every row; none is in two
	recent  list.List                       // of row, the most recently used first
	objects map[nameHash]map[int64]struct{} // the pages of each object
	closed  bool                            // nothing is kept any more
}

// openPages returns the cache in a directory with what it holds from earlier. That a full disk has no place for the
// directory is no error.
func openPages(dir string, limit int64) (*pages, error) {
	p := &pages{dir: dir, limit: limit, entries: make(map[pageKey]*list.Element), objects: make(map[nameHash]map[int64]struct{})}
	if err := os.MkdirAll(dir, 0o700); errors.Is(err, syscall.ENOSPC) {
		return p, nil
	} else if err != nil {
		return nil, err
	}
	type found struct {
		row
		used time.Time
	}
	var all []found
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if strings.HasSuffix(path, tempSuffix) { // a crash has left it, or whoever is writing it does without
			_ = os.Remove(path)
			return nil
		}
		r, ok := parseRowPath(path)
		info, err := d.Info()
		if err != nil || !ok {
			return nil // vanished meanwhile, or not ours
		}
		if r.size = info.Size(); !r.plausible() { // torn
			_ = os.Remove(path)
			return nil
		}
		all = append(all, found{r, info.ModTime()})
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b found) int { return a.used.Compare(b.used) })
	for _, f := range all {
		p.note(f.row)
	}
	return p, nil
}

func (p *pages) path(r row) string {
	name := hex.EncodeToString(r.key.object[:])
	path := filepath.Join(p.dir, name[:2], name+"-"+strconv.FormatInt(r.key.number, 10))
	if r.count > 1 {
		path += "+" + strconv.FormatInt(r.count, 10)
	}
	return path
}

// use returns the row that a page is in, or nil.
func (p *pages) use(k pageKey) *list.Element {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.entries[k]
	if e != nil {
		p.recent.MoveToFront(e)
	}
	return e
}

// get returns a page that the cache holds.
func (p *pages) get(k pageKey) ([]byte, bool) {
	e := p.use(k)
	if e == nil {
		return nil, false
	}
	r := e.Value.(row)
	data, err := readPage(p.path(r), r, k.number)
	if err != nil {
		p.forget(e)
		return nil, false
	}
	return data, true
}

// readAt copies a page that the cache holds into dst, from within the page on. It returns also how long the page is.
func (p *pages) readAt(k pageKey, dst []byte, within int) (n, length int, ok bool) {
	e := p.use(k)
	if e == nil {
		return 0, 0, false
	}
	r := e.Value.(row)
	n, length, err := readPart(p.path(r), r, k.number, dst, within)
	if err != nil {
		p.forget(e)
		return 0, 0, false
	}
	return n, length, true
}

// has reports whether the cache holds a page, as far as it knows.
func (p *pages) has(k pageKey) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.entries[k] != nil
}

// size returns the length of an object that the cache holds whole.
func (p *pages) size(object nameHash) (int64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.entries[pageKey{object, wholeObject}]
	if e == nil {
		return 0, false
	}
	return e.Value.(row).bytes(), true
}

// fetch returns a page, which it gets by load and keeps unless the cache holds it by now. Those who want it at the same
// time share the request.
func (p *pages) fetch(ctx context.Context, k pageKey, load func(ctx context.Context) ([]byte, error)) ([]byte, error) {
	shared := context.WithoutCancel(ctx) // one who gives up does not end it for the others
	result := p.group.DoChan(fmt.Sprintf("%x-%d", k.object, k.number), func() (any, error) {
		if data, ok := p.get(k); ok {
			return data, nil
		}
		data, err := load(shared)
		if err != nil {
			return nil, err
		}
		p.put(k, data)
		return data, nil
	})
	select {
	case r := <-result:
		if r.Err != nil {
			return nil, r.Err
		}
		return slices.Clone(r.Val.([]byte)), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// put keeps a page, or an object that is kept whole, if the disk lets it: the cache only saves time.
func (p *pages) put(k pageKey, data []byte) { p.putRow(k, data, max(1, len(data)), false) }

// putRow keeps a row of pages from k on, each of length bytes but the last, which may be shorter. Direct:
// past the kernel's page cache.
func (p *pages) putRow(k pageKey, data []byte, length int, direct bool) {
	if !p.begin() {
		return
	}
	defer p.puts.Done()
	var sums []byte
	if !k.object.sealed() {
		sums = sumsOf(data, length)
	}
	r := row{key: k, count: int64(max(1, (len(data)+length-1)/length)), size: int64(len(data) + len(sums))}
	path := p.path(r)
	temp := path + tempSuffix
	err := writeRow(temp, data, sums, direct)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = writeRow(temp, data, sums, direct)
		}
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		_ = os.Remove(temp) // of a full disk
		return
	}
	p.note(r)
}

// begin reports whether something may be put into the cache, which is to be told to puts when it is done.
func (p *pages) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.puts.Add(1)
	}
	return !p.closed
}

// close returns once nothing is written to the cache any more: requests that others share may outlast who has made them.
func (p *pages) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.puts.Wait()
}

// note takes a row in, in place of those that hold some of its pages, and makes room. A row that holds all of them stays.
func (p *pages) note(r row) {
	p.mu.Lock()
	gone := p.replaceLocked(r)
	for p.total > p.limit && p.recent.Len() > 0 {
		gone = append(gone, p.removeLocked(p.recent.Back()))
	}
	p.mu.Unlock()
	for _, old := range gone {
		_ = os.Remove(p.path(old)) // it may be gone
	}
}

// replaceLocked takes a row in, and returns those whose files are of no use any more.
func (p *pages) replaceLocked(r row) (gone []row) {
	for n := range r.count {
		e := p.entries[pageKey{r.key.object, r.key.number + n}]
		if e == nil {
			continue
		}
		old := e.Value.(row)
		if old.key.number < r.key.number && old.end() >= r.end() || old.key == r.key && old.count > r.count {
			return append(gone, r)
		}
		p.removeLocked(e)
		if old.key != r.key || old.count != r.count { // else its file was replaced
			gone = append(gone, old)
		}
	}
	e := p.recent.PushFront(r)
	numbers := p.objects[r.key.object]
	if numbers == nil {
		numbers = make(map[int64]struct{})
		p.objects[r.key.object] = numbers
	}
	for n := range r.count {
		k := pageKey{r.key.object, r.key.number + n}
		p.entries[k] = e
		numbers[k.number] = struct{}{}
	}
	p.total += r.size
	return gone
}

// removeLocked takes a row out. Its file stays for the caller to remove.
func (p *pages) removeLocked(e *list.Element) row {
	r := e.Value.(row)
	p.recent.Remove(e)
	numbers := p.objects[r.key.object]
	for n := range r.count {
		delete(p.entries, pageKey{r.key.object, r.key.number + n})
		delete(numbers, r.key.number+n)
	}
	if len(numbers) == 0 {
		delete(p.objects, r.key.object)
	}
	p.total -= r.size
	return r
}

// forget removes a row, unless another has taken its place meanwhile.
func (p *pages) forget(e *list.Element) {
	p.mu.Lock()
	r := e.Value.(row)
	held := p.entries[r.key] == e
	if held {
		p.removeLocked(e)
	}
	p.mu.Unlock()
	if held {
		_ = os.Remove(p.path(r)) // it may be gone
	}
}

// drop removes what is kept of an object, and reports whether that was anything.
func (p *pages) drop(object nameHash) bool {
	p.mu.Lock()
	var all []*list.Element
	for n := range p.objects[object] {
		if e := p.entries[pageKey{object, n}]; !slices.Contains(all, e) {
			all = append(all, e)
		}
	}
	p.mu.Unlock()
	for _, e := range all {
		p.forget(e)
	}
	return len(all) > 0
}
