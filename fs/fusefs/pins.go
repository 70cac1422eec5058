package fusefs

import (
	"context"
	"errors"
	"sync"
	"time"

	"envfs/blockcrypt"
	"envfs/fs"
)

// A program that opens a file by a name that the kernel remembers, just when another has replaced that file, meets
// ESTALE. The kernel then looks the name up and opens what it finds, and that once: the next replacement in between
// would be the program's. So what is looked up soon after such an open is held open for a moment: a file that is open
// lives on when it is replaced.

const (
	// pinTime is for how long files are held open, and for how long after an open that was stale.
	pinTime = time.Second
	// maxPins bounds the files that are held open at a time.
	maxPins = 64
)

// pins are the files that are held open. The zero pins is ready for use.
type pins struct {
	mu     sync.Mutex
	until  time.Time // what is looked up before is held
	held   map[*fs.File]*time.Timer
	closed bool
}

// stale notes that an open was stale.
func (p *pins) stale() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until = time.Now().Add(pinTime)
}

// wanted reports whether what is looked up now is to be held.
func (p *pins) wanted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.closed && len(p.held) < maxPins && time.Now().Before(p.until)
}

// hold closes a file after a while.
func (p *pins) hold(file *fs.File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		file.Close()
		return
	}
	if p.held == nil {
		p.held = make(map[*fs.File]*time.Timer)
	}
	p.held[file] = time.AfterFunc(pinTime, func() { p.drop(file) })
}

// drop closes a file that is held.
func (p *pins) drop(file *fs.File) {
	p.mu.Lock()
	_, held := p.held[file]
	delete(p.held, file)
	p.mu.Unlock()
	if held {
		file.Close()
	}
}

// release closes all files. No more are held.
func (p *pins) release() {
	p.mu.Lock()
	held := p.held
	p.held, p.closed = nil, true
	p.mu.Unlock()
	for file, timer := range held {
		timer.Stop()
		file.Close()
	}
}

// find looks up a name, and holds the file if that is wanted.
func (r *rawFS) find(ctx context.Context, dir *fs.Inode, name string) (*fs.Inode, fs.Stat, error) {
	for {
		ino, st, err := r.fs.Lookup(ctx, dir, name)
		if err != nil || st.Type != blockcrypt.TypeRegular || !r.pins.wanted() {
			return ino, st, err
		}
		file, err := r.fs.Open(ctx, ino)
		if errors.Is(err, fs.ErrStale) { // replaced since
			r.fs.Forget(ino, 1)
			continue
		}
		if err == nil {
			r.pins.hold(file)
		}
		return ino, st, nil // opening will tell what is wrong
	}
}
