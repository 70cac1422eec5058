package fs

import (
	"strings"
	"testing"
)

// After Reencrypt a file's content stands under a data key of the newest key epoch alone.
func TestReencrypt(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	want := r.grown()
	must(t, r.fs.Fold(ctx))
	r.newEpoch()
	var told int64
	res, err := r.fs.Reencrypt(ctx, "/a", func(done int64) { told = done })
	must(t, err)
	if res.Files != 30 || res.Damaged != 0 {
		t.Errorf("of a directory: %+v", res)
	}
	for _, path := range []string{"/big", "/broken", "/linked"} {
		if res, err = r.fs.Reencrypt(ctx, path, func(done int64) { told = done }); err != nil || res.Files != 1 {
			t.Errorf("%s: %+v, %v", path, res, err)
		}
	}
	if told == 0 {
		t.Error("no progress")
	}
	for path := range want {
		if strings.HasPrefix(path, "/many") {
			continue
		}
		if got := r.dataKeys(path); len(got) != 1 || got[0] != 2 {
			t.Errorf("%s has data keys %v", path, got)
		}
	}
	if res, err = r.fs.Reencrypt(ctx, "/", nil); err != nil || res.Files != 1500 || res.Done < 33 {
		t.Errorf("of all: %+v, %v", res, err)
	}
	r.holds(want, "afterwards")
	r.audit()
	if _, err := r.fs.Rewrap(ctx, nil); err != nil {
		t.Error(err)
	}
	r.holds(want, "rewrapped")
	r.close()
	r.open()
	r.holds(want, "opened again")
	r.audit()
}
