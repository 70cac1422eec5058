package fs

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"envfs/blockcrypt"
	"envfs/remote"
)

// gated lets nothing be appended to an object before its gate is open.
type gated struct {
	remote.Local
	waiting chan struct{} // gets one for each append that waits
	gate    chan struct{}
}

func (g *gated) Create(ctx context.Context, name string) (remote.File, error) {
	file, err := g.Local.Create(ctx, name)
	return &gatedFile{file, g}, err
}

type gatedFile struct {
	remote.File
	g *gated
}

func (f *gatedFile) Append(p []byte) error {
	f.g.waiting <- struct{}{}
	<-f.g.gate
	return f.File.Append(p)
}

// What was written before an operation is in the journal before it, also if another goroutine is about to flush it.
func TestOperationWaitsForFlush(t *testing.T) {
	ctx := context.Background()
	r := newRig(t)
	ino, h, _, err := r.fs.Create(ctx, r.fs.Root(), "file", 0o644, Cred{})
	must(t, err)
	defer r.fs.Forget(ino, 1)
	g := &gated{Local: r.fs.local, waiting: make(chan struct{}, 1), gate: make(chan struct{})}
	r.fs.local = g
	_, err = h.WriteAt(ctx, bytes.Repeat([]byte("x"), 64<<10), 0, false)
	must(t, err)
	flushed, set := make(chan error, 1), make(chan error, 1)
	go func() { flushed <- h.Flush(ctx) }()
	select {
	case <-g.waiting:
	case err := <-flushed:
		t.Fatalf("flushed, and nothing was appended: %v", err)
	}
	mtime := blockcrypt.Time{Sec: 1234567, Nsec: 89}
	go func() {
		_, err := r.fs.SetAttr(ctx, ino, SetAttr{Mtime: &mtime})
		set <- err
	}()
	select {
	case err := <-set:
		t.Errorf("attributes were set before what had been written was in the journal (%v)", err)
		set <- err
	case <-time.After(50 * time.Millisecond): // it cannot be seen waiting; if it does not, the time comes out wrong
	}
	close(g.gate)
	must(t, errors.Join(<-flushed, <-set))
	st, err := r.fs.GetAttr(ctx, ino)
	must(t, err)
	if st.Mtime != mtime {
		t.Errorf("modified at %v, want %v as was set after the write", st.Mtime, mtime)
	}
	h.Close()
}
