package fs

import (
	"bytes"
	"context"
	"testing"

	"envfs/blockcrypt"
	"envfs/remote"
)

// cancelling ends a context at the moment when root has been replaced.
type cancelling struct {
	remote.Store
	cancel context.CancelFunc
}

func (c *cancelling) Replace(ctx context.Context, name string, old []byte, content func([]byte) ([]byte, error)) error {
	err := c.Store.Replace(ctx, name, old, content)
	if name == blockcrypt.RootName {
		c.cancel()
	}
	return err
}

// A fold that is told to end, as when the vault is closed, ends before or after its commit, and writing goes on.
func TestCancelledFoldDoesNotStopWriting(t *testing.T) {
	r := newRig(t)
	store := r.fs.store
	for i := range 2 {
		r.write("file", bytes.Repeat([]byte{byte(i)}, 100<<10))
		ctx, cancel := context.WithCancel(context.Background())
		if i == 0 {
			cancel() // before it begins
			if err := r.fs.Fold(ctx); err == nil {
				t.Error("a fold that was told to end beforehand did not")
			}
			continue
		}
		r.fs.store = &cancelling{store, cancel}
		if err := r.fs.Fold(ctx); err != nil {
			t.Errorf("fold: %v", err)
		}
		r.fs.store = store
	}
	must(t, r.fs.syncNow(cancelled()))
	r.write("file", []byte("after"))
	must(t, r.fs.flushAll(cancelled()))
	must(t, r.fs.stoppedBy())
	r.close()
	r.open()
	if got := r.read("file"); !bytes.HasPrefix(got, []byte("after")) {
		t.Errorf("%q after opening again", got[:5])
	}
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
