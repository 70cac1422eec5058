package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var testTime = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

func open(t testing.TB, dir string) *Log {
	t.Helper()
	l, torn, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if torn.Bytes != 0 {
		t.Fatalf("%d bytes are torn", torn.Bytes)
	}
	return l
}

func add(t testing.TB, l *Log, n int) {
	t.Helper()
	for i := range n {
		err := l.Append(&Entry{Time: testTime, User: "alice", Action: "Decrypt", Context: map[string]string{"n\n": "<x>"}, ID: fmt.Sprint(i), Result: "ok"})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// made returns a log with n lines, their bytes, and the checkpoint of the last.
func made(t testing.TB, n int) (dir string, lines [][]byte, c Checkpoint) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "audit")
	l := open(t, dir)
	add(t, l, n)
	c = l.Head()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, bytes.SplitAfter(content(t, dir), []byte("\n"))[:n], c
}

func content(t testing.TB, dir string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, segmentName(1)))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t testing.TB, dir string, data []byte) {
	t.Helper()
	path := filepath.Join(dir, segmentName(1))
	os.Remove(path) // file systems hurry to sync what is truncated and written again
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func verify(t testing.TB, dir string, c ...Checkpoint) *Report {
	t.Helper()
	r, err := Verify(dir, c...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAppendVerify(t *testing.T) {
	dir, _, c := made(t, 10)
	r := verify(t, dir, c)
	if len(r.Findings) > 0 || r.Lines != 10 || r.Head.Hash != c.Hash || c.Seq != 10 {
		t.Fatalf("%+v", r)
	}
	l := open(t, dir)
	add(t, l, 5)
	if has, err := l.Has(1, "4"); !has || err != nil {
		t.Errorf("Has = %v, %v", has, err)
	}
	if has, err := l.Has(1, "x"); has || err != nil {
		t.Errorf("Has = %v, %v", has, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(&Entry{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Append after Close: %v", err)
	}
	if r := verify(t, dir, c, l.Head()); len(r.Findings) > 0 || r.Lines != 15 {
		t.Fatalf("%+v", r)
	}
	again, err := ParseCheckpoint(c.String())
	if err != nil || again.Seq != c.Seq || again.Hash != c.Hash {
		t.Errorf("checkpoint %v comes back as %v, %v", c, again, err)
	}
}

// TestEveryByteCounts alters each byte of a log: all but the newline at its very end are found.
func TestEveryByteCounts(t *testing.T) {
	dir, _, c := made(t, 5)
	whole := content(t, dir)
	for i := range whole {
		for _, flip := range []byte{1, 0x20} {
			altered := bytes.Clone(whole)
			altered[i] ^= flip
			write(t, dir, altered)
			if r := verify(t, dir, c); len(r.Findings) == 0 {
				t.Fatalf("byte %d (%q) altered: not found", i, whole[i])
			}
		}
	}
}

func TestLinesThatMoved(t *testing.T) {
	dir, lines, c := made(t, 8)
	for name, changed := range map[string][][]byte{
		"first removed":  lines[1:],
		"middle removed": slices.Delete(slices.Clone(lines), 3, 4),
		"last removed":   lines[:7],
		"all removed":    nil,
		"swapped":        {lines[0], lines[2], lines[1], lines[3], lines[4], lines[5], lines[6], lines[7]},
		"last swapped":   {lines[0], lines[1], lines[2], lines[3], lines[4], lines[5], lines[7], lines[6]},
		"repeated":       slices.Insert(slices.Clone(lines), 3, lines[3]),
		"cut in a line":  append(slices.Clone(lines[:7]), lines[7][:20]),
	} {
		write(t, dir, bytes.Join(changed, nil))
		if r := verify(t, dir, c); len(r.Findings) == 0 {
			t.Errorf("%s: not found", name)
		}
	}
}

// TestForged replaces the log by one whose chain is right from its beginning: only the checkpoint tells.
func TestForged(t *testing.T) {
	dir, _, c := made(t, 5)
	forged := filepath.Join(t.TempDir(), "audit")
	l := open(t, forged)
	for range 9 {
		if err := l.Append(&Entry{Time: testTime, User: "bob", Result: "ok"}); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	write(t, dir, content(t, forged))
	if r := verify(t, dir); len(r.Findings) > 0 {
		t.Fatalf("%+v", r)
	}
	if r := verify(t, dir, c); len(r.Findings) != 1 || r.Findings[0].Seq != 5 {
		t.Fatalf("%+v", r)
	}
}

// TestTorn opens logs that end within a line, at each length of it.
func TestTorn(t *testing.T) {
	dir, lines, _ := made(t, 3)
	good := bytes.Join(lines[:2], nil)
	for n := 1; n < len(lines[2]); n++ {
		write(t, dir, append(bytes.Clone(good), lines[2][:n]...))
		l, torn, err := Open(dir)
		if err != nil {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
		aside, err := os.ReadFile(torn.File)
		if err != nil || torn.Bytes != int64(n) || !bytes.Equal(aside, lines[2][:n]) {
			t.Fatalf("cut to %d bytes: %d put aside: %v", n, torn.Bytes, err)
		}
		add(t, l, 1)
		l.Close()
		if r := verify(t, dir); len(r.Findings) > 0 || r.Lines != 3 {
			t.Fatalf("cut to %d bytes: %+v", n, r)
		}
	}
}

// TestAlteredFarFromEnd: what no crash leaves is not put aside, but refused.
func TestAlteredFarFromEnd(t *testing.T) {
	dir, lines, _ := made(t, 2)
	write(t, dir, append(bytes.Join(lines, nil), bytes.Repeat([]byte("x\n"), batchSize)...))
	if _, _, err := Open(dir); !errors.Is(err, ErrAltered) {
		t.Fatal(err)
	}
}

// TestSegments makes a log of several files and takes some of them away.
func TestSegments(t *testing.T) {
	dir, _, first := made(t, 3)
	l := open(t, dir)
	l.size = segmentSize
	add(t, l, 2)
	middle := l.Head()
	l.Close()
	l = open(t, dir)
	l.size = segmentSize
	add(t, l, 2)
	last := l.Head()
	l.Close()
	if r := verify(t, dir, first, middle, last); len(r.Findings) > 0 || r.Lines != 7 {
		t.Fatalf("%+v", r)
	}
	all, err := segments(dir)
	if err != nil || len(all) != 3 {
		t.Fatalf("%v, %v", all, err)
	}
	// Old segments may be moved elsewhere by who keeps the checkpoint of their end.
	if err := os.Rename(all[0].path, filepath.Join(t.TempDir(), "old")); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, dir, last); len(r.Findings) != 1 {
		t.Fatalf("%+v", r)
	}
	if r := verify(t, dir, first, last); len(r.Findings) != 0 {
		t.Fatalf("%+v", r)
	}
	if r := verify(t, dir, Checkpoint{Seq: 3}, last); len(r.Findings) == 0 {
		t.Fatal("a wrong checkpoint of the end of what is missing is taken")
	}
	l = open(t, dir)
	add(t, l, 1)
	l.Close()
	if err := os.Remove(all[1].path); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, dir, first, last); len(r.Findings) == 0 {
		t.Fatal("the missing segment is not found")
	}
}

// TestConcurrent adds lines from many sides, and verifies meanwhile.
func TestConcurrent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l := open(t, dir)
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 50 {
				e := Entry{Time: testTime, ID: fmt.Sprintf("%d-%d", g, i), Result: "ok"}
				if err := l.Append(&e); err != nil {
					t.Error(err)
					return
				}
				if head := l.Head(); head.Seq < e.Seq {
					t.Errorf("line %d was answered, the head is %d", e.Seq, head.Seq)
					return
				}
			}
		})
	}
	for range 5 {
		if r := verify(t, dir); len(r.Findings) > 0 {
			t.Errorf("%+v", r)
		}
	}
	wg.Wait()
	l.Close()
	if r := verify(t, dir); len(r.Findings) > 0 || r.Lines != 800 {
		t.Errorf("%+v", r)
	}
}

// TestFull: a disk that takes nothing gives an error, and when it does again the log goes on.
func TestFull(t *testing.T) {
	dir, _, _ := made(t, 1)
	l := open(t, dir)
	good := l.file
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	l.file = full
	if err := l.Append(&Entry{ID: "lost"}); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Fatalf("Append on a full disk: %v", err)
	}
	if l.Trouble() == nil || l.broken == nil { // a device cannot be truncated, so the log is at its end
		t.Fatal("not broken")
	}
	if err := l.Append(&Entry{ID: "more"}); err == nil {
		t.Fatal("a broken log takes a line")
	}
	l.Close()
	good.Close()
	l = open(t, dir)
	add(t, l, 1)
	l.Close()
	if r := verify(t, dir); len(r.Findings) > 0 || r.Lines != 2 {
		t.Errorf("%+v", r)
	}
}

func FuzzVerify(f *testing.F) {
	dir, lines, _ := made(f, 3)
	f.Add(bytes.Join(lines, nil))
	f.Add([]byte(strings.Repeat("0", hashDigits) + " {}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		write(t, dir, data)
		r := verify(t, dir)
		c := cursor{}
		if err := c.read(&segment{filepath.Join(dir, segmentName(1)), 1}); (err == nil) != (len(r.Findings) == 0 && r.Torn == 0) {
			t.Fatalf("opening: %v, verifying: %+v", err, r)
		}
	})
}
