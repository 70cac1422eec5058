package programs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Locks of the two kinds keep two processes apart.
func TestLocks(t *testing.T) {
	v := mount(t)
	name := filepath.Join(v.Point, "file")
	a, b := newActor(t, "plain", name), newActor(t, "plain", name)
	for _, c := range []struct {
		who  *actor
		line string
		want string
	}{
		{a, fmt.Sprintf("flock %d", unix.LOCK_EX|unix.LOCK_NB), "ok"},
		{b, fmt.Sprintf("flock %d", unix.LOCK_EX|unix.LOCK_NB), "EAGAIN"},
		{b, fmt.Sprintf("flock %d", unix.LOCK_SH|unix.LOCK_NB), "EAGAIN"},
		{a, fmt.Sprintf("flock %d", unix.LOCK_UN), "ok"},
		{b, fmt.Sprintf("flock %d", unix.LOCK_SH|unix.LOCK_NB), "ok"},
		{a, fmt.Sprintf("flock %d", unix.LOCK_SH|unix.LOCK_NB), "ok"},
		{a, fmt.Sprintf("lock %d 0 100", unix.F_WRLCK), "ok"},
		{b, fmt.Sprintf("lock %d 50 100", unix.F_WRLCK), "EAGAIN"},
		{b, fmt.Sprintf("lock %d 100 100", unix.F_WRLCK), "ok"},
		{b, fmt.Sprintf("lock %d 99 1", unix.F_RDLCK), "EAGAIN"},
		{a, fmt.Sprintf("lock %d 0 100", unix.F_RDLCK), "ok"},
		{b, fmt.Sprintf("lock %d 99 1", unix.F_RDLCK), "ok"},
	} {
		if got := c.who.ask(t, "%s", c.line); got != c.want {
			t.Errorf("%s: %s, want %s", c.line, got, c.want)
		}
	}
	// One waits until the other lets go.
	a.tell(t, "wait %d 100 1", unix.F_WRLCK)
	if got := b.ask(t, "lock %d 0 0", unix.F_UNLCK); got != "ok" {
		t.Errorf("unlock: %s", got)
	}
	if got := a.hear(t); got != "ok" {
		t.Errorf("wait for a lock: %s", got)
	}
}

// What one process writes, by write(2) or into a mapping, another sees at once, by read(2) and in a mapping; all of it
// is there after mounting again.
func TestSharedMapping(t *testing.T) {
	for _, mode := range [][]string{nil, {"--writeback"}} {
		t.Run(strings.Join(append(mode, "mount"), ""), func(t *testing.T) {
			v := mount(t, mode...)
			name := filepath.Join(v.Point, "file")
			must(t, os.WriteFile(name, make([]byte, 100_000), 0o644))
			t.Run("work", func(t *testing.T) { // so that the processes end before the vault is mounted again
				a, b := newActor(t, "plain", name), newActor(t, "plain", name)
				for i, off := range []int{0, 4094, 50_000, 99_990} {
					word := fmt.Sprintf("word%d", i)
					for _, c := range []struct {
						who        *actor
						line, want string
					}{
						{a, fmt.Sprintf("map %d %s", off, word), "ok"},
						{b, fmt.Sprintf("read %d %d", off, len(word)), word},
						{b, fmt.Sprintf("mapread %d %d", off, len(word)), word},
						{b, fmt.Sprintf("write %d W", off), "ok"},
						{a, fmt.Sprintf("mapread %d %d", off, len(word)), "W" + word[1:]},
					} {
						if got := c.who.ask(t, "%s", c.line); got != c.want {
							t.Errorf("%s: %q, want %q", c.line, got, c.want)
						}
					}
				}
			})
			must(t, v.Remount())
			data, err := os.ReadFile(name)
			must(t, err)
			want := make([]byte, 100_000)
			for i, off := range []int{0, 4094, 50_000, 99_990} {
				copy(want[off:], fmt.Sprintf("Word%d", i))
			}
			if string(data) != string(want) {
				t.Error("after mounting again the content differs")
			}
		})
	}
}

// Two processes append to one file: each line is there once, whole.
func TestAppend(t *testing.T) {
	const each = 2000
	for _, mode := range [][]string{nil, {"--writeback"}} {
		t.Run(strings.Join(append(mode, "mount"), ""), func(t *testing.T) {
			v := mount(t, mode...)
			name := filepath.Join(v.Point, "log")
			t.Run("work", func(t *testing.T) {
				a, b := newActor(t, "append", name), newActor(t, "append", name)
				a.tell(t, "append %d %s", each, strings.Repeat("a", 70))
				b.tell(t, "append %d %s", each, strings.Repeat("b", 33))
				for _, who := range []*actor{a, b} {
					if got := who.hear(t); got != "ok" {
						t.Error(got)
					}
				}
			})
			must(t, v.Remount())
			data, err := os.ReadFile(name)
			must(t, err)
			count := make(map[string]int)
			for line := range strings.Lines(string(data)) {
				count[line]++
			}
			if len(count) != 2 || count[strings.Repeat("a", 70)+"\n"] != each || count[strings.Repeat("b", 33)+"\n"] != each {
				t.Errorf("%d different lines in %d bytes, want %d each of two", len(count), len(data), each)
			}
		})
	}
}
