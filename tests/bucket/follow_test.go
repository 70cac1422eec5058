package bucket

import (
	"bytes"
	be "encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"envfs/tests/command"
)

// pace is how often the writer of TestFollower commits, reads how often the follower's reader looks at least, and chases how
// often it is looked whether the follower keeps up.
const (
	pace   = 100 * time.Millisecond
	reads  = 10_000
	chases = 4
	late   = 5 * time.Second // what half of the reads are behind at most, and 99 % if that is asked for
)

var timely = flag.Bool("bucket.timely", false, "99 % of a follower's reads are to be at most 5 s behind, which takes a machine whose disk does not stall")

// counter is a pair of files that are always written in one order, with one number.
type counter struct {
	write func(path string, data []byte) error
	names [2]string
}

// numbered is a content that tells its number in every part of it.
func numbered(n uint64) []byte { return bytes.Repeat(be.BigEndian.AppendUint64(nil, n), 512) }

func number(data []byte) (uint64, error) {
	if len(data) != 4096 || !bytes.Equal(data, numbered(be.BigEndian.Uint64(data))) {
		return 0, fmt.Errorf("%d bytes, of more than one content", len(data))
	}
	return be.BigEndian.Uint64(data), nil
}

// overwrite writes into a file that is there.
func overwrite(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// replace puts a new file in the place of the old one.
func replace(path string, data []byte) error {
	if err := os.WriteFile(path+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// following is what of `envfs status --json` is about keeping up.
type following struct {
	Since  time.Time `json:"to_publish_since"`
	Looked time.Time `json:"looked"`
}

// A follower that reads two files in the order opposite to that in which they are written never finds the second older than
// the first, and no file half; and it keeps up: the writer publishes by itself, and what it has published is shown once the
// follower has looked. By how much the last of the reads are behind is up to the machine's disk, too.
func TestFollower(t *testing.T) {
	r := newRig(t)
	must(t, r.Mount())
	follower := r.elsewhere()
	counters := []counter{{replace, [2]string{"a", "b"}}, {overwrite, [2]string{"c", "d"}}}
	var mu sync.Mutex
	var written []time.Time // when each number was
	step := func() error {
		n := uint64(len(written))
		for _, c := range counters {
			for _, name := range c.names {
				if err := c.write(filepath.Join(r.Point, name), numbered(n)); err != nil {
					return err
				}
			}
		}
		mu.Lock()
		defer mu.Unlock()
		written = append(written, time.Now())
		return nil
	}
	must(t, step())
	r.sync()
	must(t, follower.Mount("--follow"))

	var done atomic.Bool
	var writer sync.WaitGroup
	writer.Go(func() {
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for range tick.C {
			if err := step(); err != nil {
				t.Error(err)
			}
			if t.Failed() || done.Load() {
				return
			}
		}
	})
	read := func(name string) uint64 {
		data, err := os.ReadFile(filepath.Join(follower.Point, name))
		var n uint64
		if err == nil {
			n, err = number(data)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return n
	}
	var chased atomic.Bool
	writer.Go(func() {
		defer chased.Store(true)
		for range chases {
			mu.Lock()
			last := len(written) - 1
			at := written[last]
			mu.Unlock()
			if !r.eventually("the writer publishes", r.Vault, func(st *following) bool { return st.Since.IsZero() || st.Since.After(at) }) {
				return
			}
			at = time.Now()
			if !r.eventually("the follower looks", follower, func(st *following) bool { return st.Looked.After(at) }) {
				return
			}
			for _, c := range counters {
				for _, name := range c.names {
					if n := read(name); n < uint64(last) {
						t.Errorf("%s holds %d, and %d was published before the follower looked", name, n, last)
					}
				}
			}
		}
	})
	var behind []time.Duration
	seen := make(map[uint64]bool)
	for (len(behind) < reads || !chased.Load()) && !t.Failed() {
		for _, c := range counters {
			second := read(c.names[1])
			first := read(c.names[0])
			if first < second {
				t.Errorf("%s holds %d, and before that %s held %d", c.names[0], first, c.names[1], second)
			}
			seen[second] = true
			var lag time.Duration
			mu.Lock()
			if int(second)+1 < len(written) {
				lag = time.Since(written[second+1])
			}
			mu.Unlock()
			behind = append(behind, lag)
		}
	}
	done.Store(true)
	writer.Wait()
	slices.Sort(behind)
	median, p99 := behind[len(behind)/2], behind[len(behind)*99/100]
	t.Logf("%d reads, %d of %d numbers seen, behind: median %v, p99 %v, at most %v", len(behind), len(seen), len(written),
		median.Round(time.Millisecond), p99.Round(time.Millisecond), behind[len(behind)-1].Round(time.Millisecond))
	if median > late || *timely && p99 > late {
		t.Errorf("half of the reads are more than %v behind, 1 %% more than %v", median, p99)
	}
	must(t, follower.Unmount())
	must(t, r.Unmount())
}

// eventually asks for the status until it is as wanted. It may be called on any goroutine, and reports whether that came true.
func (r *rig) eventually(what string, v *command.Vault, wanted func(*following) bool) bool {
	for began := time.Now(); time.Since(began) < 2*time.Minute; time.Sleep(20 * time.Millisecond) {
		st, err := statusOf[following](v)
		if err != nil {
			r.t.Error(err)
			return false
		}
		if wanted(&st) {
			return true
		}
	}
	r.t.Errorf("%s: not in two minutes", what)
	return false
}

// What a program has open on a follower, and where it stands, stays usable while the writer changes, moves and removes it.
func TestFollowerInUse(t *testing.T) {
	r := newRig(t)
	must(t, r.Mount())
	files := fill(t, filepath.Join(r.Point, "d"), 20)
	must(t, os.WriteFile(filepath.Join(r.Point, "log"), []byte("one\n"), 0o644))
	r.sync()
	follower := r.elsewhere()
	must(t, follower.Mount("--follow"))
	at := func(name string) string { return filepath.Join(follower.Point, name) }
	log, err := os.Open(at("log"))
	must(t, err)
	defer log.Close()
	gone, err := os.Open(at("d/file19"))
	must(t, err)
	defer gone.Close()
	dir, err := os.Open(at("d"))
	must(t, err)
	defer dir.Close()
	expect := func(want string) {
		t.Helper()
		got := make([]byte, 100)
		n, _ := log.ReadAt(got, 0)
		if string(got[:n]) != want {
			t.Errorf("open file holds %q, want %q", got[:n], want)
		}
	}
	expect("one\n")

	must(t, os.WriteFile(filepath.Join(r.Point, "log"), []byte("one\ntwo\n"), 0o644))
	must(t, os.Rename(filepath.Join(r.Point, "d"), filepath.Join(r.Point, "e")))
	must(t, os.Remove(filepath.Join(r.Point, "e/file19")))
	must(t, os.WriteFile(filepath.Join(r.Point, "marker"), nil, 0o644))
	r.sync()
	appear(t, at("marker"))
	expect("one\ntwo\n")
	last := make([]byte, len(files["file19"])+1)
	n, _ := gone.ReadAt(last, 0)
	if !bytes.Equal(last[:n], files["file19"]) {
		t.Errorf("what was removed has %d bytes, had %d", n, len(files["file19"]))
	}
	names, err := dir.Readdirnames(-1)
	if err != nil || len(names) != 19 {
		t.Errorf("a directory that has moved lists %d names, %v", len(names), err)
	}
	if _, err := os.Stat(at("d")); !os.IsNotExist(err) {
		t.Errorf("the old name: %v", err)
	}
	delete(files, "file19")
	compare(t, at("e"), files)
	if err := os.WriteFile(at("x"), nil, 0o644); err == nil {
		t.Error("a follower can be written to")
	}
	must(t, r.Unmount()) // folds
	must(t, r.Mount())
	must(t, os.WriteFile(filepath.Join(r.Point, "second"), nil, 0o644))
	r.sync()
	appear(t, at("second"))
	compare(t, at("e"), files)
	expect("one\ntwo\n")
	must(t, r.Unmount())
	res, err := follower.Run("status")
	must(t, err)
	t.Log(res.Out)
	must(t, log.Close())
	must(t, gone.Close())
	must(t, dir.Close())
	must(t, follower.Unmount())
}

// appear returns when a file is there, at the latest after a while that no follower needs.
func appear(t *testing.T, path string) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
		if time.Since(began) > 2*time.Minute {
			t.Fatalf("%s has not appeared in two minutes", filepath.Base(path))
		}
	}
}
