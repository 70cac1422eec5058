package cache

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
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

// nameHash tells objects apart: 16 bytes of the SHA-256 of the name, so that names of any length have a place.
type nameHash [16]byte

func hashOf(name string) nameHash {
	sum := sha256.Sum256([]byte(name))
	return nameHash(sum[:16])
}

type pageKey struct {
	object nameHash
	number int64
}

// pages are the files of the cache, one a page: its bytes and their CRC-32C. Files that are missing, torn or decayed are
// as if they were not there. What was used least recently goes when there are too many bytes.
type pages struct {
	dir   string
	limit int64
	group singleflight.Group

	mu      sync.Mutex
	total   int64 // bytes of all entries
	entries map[pageKey]*list.Element
	recent  list.List // of *page, the most recently used first
	objects map[nameHash]map[int64]bool
}

type page struct {
	key  pageKey
	size int64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openPages returns the cache in a directory with what it holds from earlier. That a full disk has no place for the directory
// is no error.
func openPages(dir string, limit int64) (*pages, error) {
	p := &pages{dir: dir, limit: limit, entries: make(map[pageKey]*list.Element), objects: make(map[nameHash]map[int64]bool)}
	if err := os.MkdirAll(dir, 0o700); errors.Is(err, syscall.ENOSPC) {
		return p, nil
	} else if err != nil {
		return nil, err
	}
	type found struct {
		page
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
		key, ok := parsePagePath(path)
		info, err := d.Info()
		if err != nil || !ok {
			return nil // vanished meanwhile, or not ours
		}
		all = append(all, found{page{key, info.Size()}, info.ModTime()})
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b found) int { return a.used.Compare(b.used) })
	for _, f := range all {
		p.noteLocked(f.key, f.size)
	}
	p.evict()
	return p, nil
}

func (p *pages) path(k pageKey) string {
	name := hex.EncodeToString(k.object[:])
	return filepath.Join(p.dir, name[:2], name+"-"+strconv.FormatInt(k.number, 10))
}

func parsePagePath(path string) (k pageKey, ok bool) {
	object, number, found := strings.Cut(filepath.Base(path), "-")
	b, err := hex.DecodeString(object)
	if !found || err != nil || len(b) != len(k.object) {
		return k, false
	}
	k.object = nameHash(b)
	k.number, err = strconv.ParseInt(number, 10, 64)
	return k, err == nil && k.number >= wholeObject
}

// get returns a page that the cache holds.
func (p *pages) get(k pageKey) ([]byte, bool) {
	p.mu.Lock()
	e := p.entries[k]
	if e != nil {
		p.recent.MoveToFront(e)
	}
	p.mu.Unlock()
	if e == nil {
		return nil, false
	}
	data, err := os.ReadFile(p.path(k))
	if err == nil {
		if n := len(data) - 4; n >= 0 && crc32.Checksum(data[:n], castagnoli) == binary.BigEndian.Uint32(data[n:]) {
			return data[:n:n], true
		}
	}
	p.forget(k)
	return nil, false
}

// has reports whether the cache holds a page, as far as it knows.
func (p *pages) has(k pageKey) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.entries[k] != nil
}

// size returns the length of a page's content, if the cache holds it.
func (p *pages) size(k pageKey) (int64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.entries[k]
	if e == nil {
		return 0, false
	}
	return e.Value.(*page).size - 4, true
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

// put keeps a page, if the disk lets it: the cache only saves time.
func (p *pages) put(k pageKey, data []byte) {
	path := p.path(k)
	temp := path + tempSuffix
	err := writePage(temp, data)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = writePage(temp, data)
		}
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		_ = os.Remove(temp) // of a full disk
		return
	}
	p.mu.Lock()
	p.noteLocked(k, int64(len(data)+checksumSize))
	p.mu.Unlock()
	p.evict()
}

// tempSuffix is how the names of pages end that are being written.
const tempSuffix = ".tmp"

// checksumSize is how much longer than its content a page's file is.
const checksumSize = 4

// writePage writes a page's file.
func writePage(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		_, err = f.Write(binary.BigEndian.AppendUint32(nil, crc32.Checksum(data, castagnoli)))
	}
	return errors.Join(err, f.Close())
}

func (p *pages) noteLocked(k pageKey, size int64) {
	if e := p.entries[k]; e != nil {
		p.removeLocked(e)
	}
	p.entries[k] = p.recent.PushFront(&page{k, size})
	p.total += size
	if p.objects[k.object] == nil {
		p.objects[k.object] = make(map[int64]bool)
	}
	p.objects[k.object][k.number] = true
}

func (p *pages) removeLocked(e *list.Element) {
	pg := e.Value.(*page)
	p.recent.Remove(e)
	delete(p.entries, pg.key)
	p.total -= pg.size
	numbers := p.objects[pg.key.object]
	delete(numbers, pg.key.number)
	if len(numbers) == 0 {
		delete(p.objects, pg.key.object)
	}
}

// evict removes what was used least recently until the cache holds no more than it may.
func (p *pages) evict() {
	for {
		p.mu.Lock()
		last := p.recent.Back()
		if p.total <= p.limit || last == nil {
			p.mu.Unlock()
			return
		}
		k := last.Value.(*page).key
		p.removeLocked(last)
		p.mu.Unlock()
		_ = os.Remove(p.path(k)) // it may be gone
	}
}

// forget removes a page.
func (p *pages) forget(k pageKey) {
	p.mu.Lock()
	if e := p.entries[k]; e != nil {
		p.removeLocked(e)
	}
	p.mu.Unlock()
	_ = os.Remove(p.path(k)) // it may be gone
}

// drop removes what is kept of an object, and reports whether that was anything.
func (p *pages) drop(object nameHash) bool {
	p.mu.Lock()
	var numbers []int64
	for n := range p.objects[object] {
		numbers = append(numbers, n)
	}
	p.mu.Unlock()
	for _, n := range numbers {
		p.forget(pageKey{object, n})
	}
	return len(numbers) > 0
}
