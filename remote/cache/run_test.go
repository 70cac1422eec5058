package cache

import (
	"testing"
	"time"
)

// Where a page takes as long as the whole, the whole is fetched at once; where it takes much longer, late.
func TestBreakEven(t *testing.T) {
	for _, c := range []struct {
		page, whole time.Duration
		want        int
	}{
		{0, 0, wholeAfter},
		{20 * time.Millisecond, 0, wholeAfter},
		{0, 20 * time.Millisecond, wholeAfter},
		{20 * time.Millisecond, 15 * time.Millisecond, 1},
		{20 * time.Millisecond, 29 * time.Millisecond, 1},
		{20 * time.Millisecond, 62 * time.Millisecond, 3},
		{20 * time.Millisecond, time.Minute, wholeAtLast},
	} {
		r := newRuns()
		for range 100 {
			if c.page > 0 {
				r.took(false, c.page)
			}
			if c.whole > 0 {
				r.took(true, c.whole)
			}
		}
		k := pageKey{hashOf("name"), 7}
		pages := 1
		for ; !r.single(k.object); pages++ {
		}
		if pages != c.want {
			t.Errorf("a page in %v, the whole in %v: the whole instead of page %d, want %d", c.page, c.whole, pages, c.want)
		}
	}
}
