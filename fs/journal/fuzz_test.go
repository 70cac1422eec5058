package journal_test

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"testing"

	"envfs/fs/journal"
)

// FuzzRun lays arbitrary bytes over a journal of two segments: replaying never fails, and never yields what was not
// appended.
func FuzzRun(f *testing.F) {
	s := newMemStore()
	w := journal.NewWriter(config(s), journal.Pos{}, 0)
	var want []done
	for n := range 4 {
		at, err := w.Append(context.Background(), batch(n, n%2))
		if err != nil {
			f.Fatal(err)
		}
		want = append(want, done{at, batch(n, n%2)})
		if n == 1 {
			if err := w.Rotate(context.Background()); err != nil {
				f.Fatal(err)
			}
		}
	}
	names := slices.Sorted(maps.Keys(s.objects))
	first := s.objects[names[0]].data
	f.Add(first, uint16(0), false)
	f.Add(s.objects[names[1]].data, uint16(0), false)
	f.Add(first[64:], uint16(64), true)
	f.Add([]byte("x"), uint16(700), true)
	f.Add([]byte{}, uint16(0), true)
	f.Fuzz(func(t *testing.T, p []byte, at uint16, second bool) {
		c := s.clone()
		name := names[0]
		if second {
			name = names[1]
		}
		o := c.objects[name]
		o.data = append(bytes.Clone(o.data[:min(int(at), len(o.data))]), p...)
		got, _ := run(t, replayOf(c))
		checkPrefix(t, got, want)
	})
}
