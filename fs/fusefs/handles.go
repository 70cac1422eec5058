package fusefs

import (
	"sync"

	"envfs/fs"
)

// handles maps the kernel's file handles to open files. A handle is an index; those of closed files are used again,
// which is safe because the kernel sends RELEASE last.
type handles struct {
	mu    sync.RWMutex
	files []*fs.File
	free  []uint64
}

// add returns the handle of an open file.
func (t *handles) add(f *fs.File) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k := len(t.free) - 1; k >= 0 {
		h := t.free[k]
		t.free = t.free[:k]
		t.files[h] = f
		return h
	}
	t.files = append(t.files, f)
	return uint64(len(t.files) - 1)
}

// get returns the file of a handle, or nil if the kernel asks for one that is not open.
func (t *handles) get(h uint64) *fs.File {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if h < uint64(len(t.files)) {
		return t.files[h]
	}
	return nil
}

// remove ends a handle and returns its file, which the caller closes; nil if it is not open.
func (t *handles) remove(h uint64) *fs.File {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h >= uint64(len(t.files)) || t.files[h] == nil {
		return nil
	}
	f := t.files[h]
	t.files[h] = nil
	t.free = append(t.free, h)
	return f
}

// release closes every file that is still open: after a forced unmount the kernel sends no RELEASE.
func (t *handles) release() {
	t.mu.Lock()
	files := t.files
	t.files, t.free = nil, nil
	t.mu.Unlock()
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
