package memfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"envfs/remote/dir"
	"envfs/remote/dir/memfs"
)

func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func create(t testing.TB, m dir.FS, name string) dir.File {
	t.Helper()
	f, err := m.Create(name)
	must(t, err)
	return f
}

func write(t testing.TB, f dir.File, off int64, data string) {
	t.Helper()
	_, err := f.WriteAt([]byte(data), off)
	must(t, err)
}

// outcomes returns how often each tree was left by many crashes after the whole log.
func outcomes(t testing.TB, m *memfs.FS, mode memfs.Mode) map[string]int {
	t.Helper()
	rng := newRand(t)
	l := m.Log()
	seen := make(map[string]int)
	for range 400 {
		seen[strings.Join(tree(t, l.State(rng, l.Len(), mode), ""), "; ")]++
	}
	return seen
}

func want(t *testing.T, seen map[string]int, trees ...string) {
	t.Helper()
	allowed := make(map[string]bool)
	for _, tree := range trees {
		allowed[tree] = true
		if seen[tree] == 0 {
			t.Errorf("never seen: %q", tree)
		}
	}
	for tree := range seen {
		if !allowed[tree] {
			t.Errorf("not allowed: %q", tree)
		}
	}
}

func TestNamesAndContentAreDurableApart(t *testing.T) {
	m := memfs.New()
	f := create(t, m, "a")
	write(t, f, 0, "x")
	want(t, outcomes(t, m, memfs.ModeRandom), "", "a 0 ", "a 1 00", "a 1 78")
	must(t, f.Sync())
	want(t, outcomes(t, m, memfs.ModeRandom), "", "a 1 78")
	want(t, outcomes(t, m, memfs.ModeDropAll), "")
	want(t, outcomes(t, m, memfs.ModeRandom|memfs.NamesOnSync), "a 1 78")
	must(t, m.SyncDir(""))
	want(t, outcomes(t, m, memfs.ModeDropAll), "a 1 78")
	want(t, outcomes(t, m, memfs.ModeRandom), "a 1 78")
}

func TestSyncDirAlone(t *testing.T) {
	m := memfs.New()
	write(t, create(t, m, "a"), 0, "x")
	must(t, m.SyncDir(""))
	want(t, outcomes(t, m, memfs.ModeRandom), "a 0 ", "a 1 00", "a 1 78")
	want(t, outcomes(t, m, memfs.ModeDropAll), "a 0 ")
	want(t, outcomes(t, m, memfs.ModePrefix), "a 1 78")
}

func TestNewDirectoryNeedsItsParent(t *testing.T) {
	m := memfs.New()
	must(t, m.Mkdir("d"), create(t, m, "d/a").Sync(), m.SyncDir("d"))
	want(t, outcomes(t, m, memfs.ModeRandom), "", "d/; d/a 0 ")
	must(t, m.SyncDir(""))
	want(t, outcomes(t, m, memfs.ModeDropAll), "d/; d/a 0 ")
}

func TestRenameIsAtomic(t *testing.T) {
	m := memfs.New()
	f, g := create(t, m, "a"), create(t, m, "b")
	write(t, f, 0, "x")
	must(t, f.Sync(), g.Sync(), m.SyncDir(""), m.Rename("a", "b"))
	want(t, outcomes(t, m, memfs.ModeRandom), "a 1 78; b 0 ", "b 1 78")
	create(t, m, "c")
	want(t, outcomes(t, m, memfs.ModeRandom), "a 1 78; b 0 ", "b 1 78", "b 1 78; c 0 ", "a 1 78; b 0 ; c 0 ")
}

func TestSameNameInOrder(t *testing.T) {
	m := memfs.New()
	create(t, m, "a")
	must(t, m.Remove("a"))
	write(t, create(t, m, "a"), 0, "")
	must(t, m.Rename("a", "b"))
	want(t, outcomes(t, m, memfs.ModeRandom), "", "a 0 ", "b 0 ")
}

func TestLink(t *testing.T) {
	m := memfs.New()
	f := create(t, m, "a")
	write(t, f, 0, "x")
	must(t, f.Sync(), m.Link("a", "b"))
	want(t, outcomes(t, m, memfs.ModeRandom), "", "a 1 78", "b 1 78", "a 1 78; b 1 78")
}

func TestWritesAreTornAtSectors(t *testing.T) {
	m := memfs.New()
	f := create(t, m, "a")
	must(t, m.SyncDir(""))
	data := bytes.Repeat([]byte{1}, 1300)
	_, err := f.WriteAt(data, 200)
	must(t, err)
	rng, l := newRand(t), m.Log()
	shapes := make(map[string]bool)
	for range 500 {
		s := l.State(rng, l.Len(), memfs.ModeTorn)
		got := content(t, s, "a")
		shape := ""
		for i, c := range got {
			if i > 200 && i%512 != 0 && c != got[i-1] {
				t.Fatalf("torn at byte %d\n%s", i, s.Schedule())
			}
			if i == 200 || i > 200 && i%512 == 0 {
				shape += string('0' + rune(c))
			}
		}
		shapes[shape] = true
	}
	for _, shape := range []string{"", "1", "11", "111", "011", "001", "101", "000"} {
		if !shapes[shape] {
			t.Errorf("never torn as %q; seen %v", shape, shapes)
		}
	}
}

func TestFailedSyncLosesForGood(t *testing.T) {
	m := memfs.New()
	f := create(t, m, "a")
	must(t, m.SyncDir(""))
	write(t, f, 0, "xxx")
	m.Fail(func(op memfs.Op) error {
		if op.Kind == memfs.OpSync {
			return syscall.EIO
		}
		return nil
	})
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("sync: %v, want EIO", err)
	}
	m.Fail(nil)
	write(t, f, 1, "y")
	must(t, f.Sync())
	want(t, outcomes(t, m, memfs.ModeRandom), "a 2 0079", "a 3 007900", "a 3 787978")
	want(t, outcomes(t, m, memfs.ModeDropAll), "a 2 0079")
}

func TestSyncFS(t *testing.T) {
	m := memfs.New()
	must(t, m.Mkdir("d"))
	write(t, create(t, m, "d/a"), 0, "x")
	must(t, m.SyncFS())
	want(t, outcomes(t, m, memfs.ModeDropAll), "d/; d/a 1 78")
}

func TestCrashOfACrash(t *testing.T) {
	m := memfs.New()
	f := create(t, m, "a")
	write(t, f, 0, "x")
	must(t, f.Sync(), m.SyncDir(""))
	st, err := m.Stat("a")
	must(t, err)
	create(t, m, "lost")
	m = m.Log().State(nil, m.Log().Len(), memfs.ModeDropAll)
	again, err := m.Stat("a")
	must(t, err)
	if again.Inode != st.Inode || !again.Birth.Equal(st.Birth) {
		t.Errorf("inode %d of %v became %d of %v", st.Inode, st.Birth, again.Inode, again.Birth)
	}
	create(t, m, "b")
	want(t, outcomes(t, m, memfs.ModeRandom), "a 1 78", "a 1 78; b 0 ")
	if st, err = m.Stat("b"); err != nil || !st.Birth.After(again.Birth) {
		t.Errorf("b was made at %v, a at %v: %v", st.Birth, again.Birth, err)
	}
}

func TestCapacity(t *testing.T) {
	m := memfs.New()
	m.SetCapacity(10)
	f := create(t, m, "a")
	write(t, f, 0, "12345678")
	n, err := f.WriteAt([]byte("abcd"), 8)
	if n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("wrote %d, %v, want 2, ENOSPC", n, err)
	}
	must(t, m.Remove("a"))
	if space, err := m.Space(); err != nil || space.Free != 0 {
		t.Errorf("free %d while open: %v", space.Free, err)
	}
	must(t, f.Close())
	if space, err := m.Space(); err != nil || space.Free != 10 {
		t.Errorf("free %d, want 10: %v", space.Free, err)
	}
}

func TestMarks(t *testing.T) {
	m := memfs.New()
	m.Mark("one")
	create(t, m, "a")
	m.Mark("two")
	l := m.Log()
	m.Mark("three")
	if got := fmt.Sprint(l.Marks(l.Len()), l.Marks(2)); got != "[one two] [one]" {
		t.Errorf("marks %s", got)
	}
}

func TestSameSeedSameState(t *testing.T) {
	l := workload(t, 500).Log()
	for seed := range uint64(20) {
		a := l.State(rand.New(rand.NewPCG(seed, 1)), l.Len(), memfs.ModeTorn)
		b := l.State(rand.New(rand.NewPCG(seed, 1)), l.Len(), memfs.ModeTorn)
		if a.Schedule() != b.Schedule() || fmt.Sprint(tree(t, a, "")) != fmt.Sprint(tree(t, b, "")) {
			t.Fatalf("seed %d gives two states", seed)
		}
	}
}

// workload is like what a store does: many objects, and a journal that is synced now and then. About n operations.
func workload(t testing.TB, n int) *memfs.FS {
	m := memfs.New()
	must(t, m.Mkdir("files"), m.Mkdir("journal"), m.SyncDir(""))
	j := create(t, m, "journal/1")
	block := bytes.Repeat([]byte{7}, 4096)
	var end int64
	for i := 0; m.Log().Len() < n; i++ {
		if i%50 == 0 {
			must(t, m.Mkdir(fmt.Sprintf("files/%d", i/50)))
		}
		f := create(t, m, fmt.Sprintf("files/%d/%d", i/50, i))
		_, err := f.WriteAt(block, 0)
		must(t, err)
		for range 5 {
			_, err := j.WriteAt(block[:300], end)
			must(t, err)
			end += 300
		}
		if i%10 == 0 {
			must(t, f.Sync(), m.SyncDir(fmt.Sprintf("files/%d", i/50)), j.Sync())
		}
		must(t, f.Close())
	}
	return m
}

// cpuTime returns how much of a processor's time the thread has had.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	must(t, unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts))
	return time.Duration(ts.Nano())
}

// A state takes a part of the time that the operations took. What is counted is the thread's own time, so that neither a
// slow machine matters nor a busy one.
func TestStatesAreQuick(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := cpuTime(t)
	l := workload(t, 20_000).Log()
	work := cpuTime(t) - start
	rng := newRand(t)
	best := time.Hour
	for range 5 {
		start := cpuTime(t)
		l.State(rng, l.Len(), memfs.ModeTorn)
		best = min(best, cpuTime(t)-start)
	}
	t.Logf("%d operations in %v, a state of them in %v", l.Len(), work, best)
	if best > work {
		t.Errorf("a state of %d operations takes %v, they took %v", l.Len(), best, work)
	}
}

func BenchmarkState(b *testing.B) {
	l := workload(b, 20_000).Log()
	rng := newRand(b)
	for b.Loop() {
		l.State(rng, l.Len(), memfs.ModeTorn)
	}
}

func TestClosedFile(t *testing.T) {
	m := memfs.New()
	f := create(t, m, "a")
	must(t, f.Close())
	if _, err := f.ReadAt(make([]byte, 1), 0); err == nil || err == io.EOF {
		t.Errorf("read of a closed file: %v", err)
	}
	if f.Close() == nil {
		t.Error("closed twice")
	}
}

// Who comes after a process that was killed finds all that it did, and can lose what it has not synced.
func TestResume(t *testing.T) {
	m := memfs.New()
	f, err := m.Create("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("synced"), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := m.SyncDir(""); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("UNSYNCED"), 0); err != nil {
		t.Fatal(err)
	}
	at := m.Log().Len()
	if err := m.Remove("a"); err != nil {
		t.Fatal(err)
	}
	r := m.Log().Resume(at)
	if got, err := r.ReadFile("a", 100); err != nil || string(got) != "UNSYNCED" {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := r.Create("b"); err != nil {
		t.Fatal(err)
	}
	if n := r.Log().Len(); n != at+1 {
		t.Errorf("the log has %d operations, want %d", n, at+1)
	}
	lost := r.Log().State(nil, at+1, memfs.ModeDropAll)
	if got, err := lost.ReadFile("a", 100); err != nil || string(got) != "synced" {
		t.Errorf("after a power loss: %q, %v", got, err)
	}
	if _, err := lost.ReadFile("b", 100); err == nil {
		t.Error("a name outlives a power loss")
	}
}
