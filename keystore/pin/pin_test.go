package pin

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"envfs/blockcrypt"
	"envfs/keystore"
)

var vault = blockcrypt.ID{1, 2, 3}

func samplePin(n byte) Pin {
	return Pin{
		RootKey: keystore.Fingerprint{n}, Generation: uint64(n), RootSeq: 100 + uint64(n), RootHash: blockcrypt.Hash{n, 1},
		Durable: Position{Batch: 1<<63 + uint64(n), Hash: blockcrypt.Hash{n, 2}},
	}
}

func load(t *testing.T, dir string) Pins {
	t.Helper()
	p, err := Load(dir, vault)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSetAndLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "pins")
	p := load(t, dir)
	if _, ok := p.At("/a"); ok {
		t.Error("a vault never seen has a pin")
	}
	if _, _, ok := p.Newest(); ok {
		t.Error("a vault never seen has a newest pin")
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("loading made the directory: %v", err)
	}
	locations := []string{"/a", "s3://bucket/prefix?endpoint=https://[::1]:9000&x=<é>", ""}
	for i, l := range locations {
		if err := p.Set(l, samplePin(byte(i+1))); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Set("/a", samplePin(9)); err != nil {
		t.Fatal(err)
	}
	q := load(t, dir)
	for i, want := range []Pin{samplePin(9), samplePin(2), samplePin(3)} {
		if got, ok := q.At(locations[i]); !ok || got != want {
			t.Errorf("%s: %+v", locations[i], got)
		}
	}
	if l, pin, ok := q.Newest(); !ok || l != "/a" || pin != samplePin(9) {
		t.Errorf("newest is %q", l)
	}
	info, err := os.Stat(filepath.Join(dir, vault.String()+".json"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	names, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
	if other, err := Load(dir, blockcrypt.ID{9}); err != nil || len(other.at) != 0 {
		t.Errorf("another vault has pins: %v", err)
	}
}

func TestSetRefuses(t *testing.T) {
	p := load(t, t.TempDir())
	for _, l := range []string{strings.Repeat("x", maxLocation+1), "\xff"} {
		if err := p.Set(l, samplePin(1)); err == nil {
			t.Errorf("location of %d bytes accepted", len(l))
		}
	}
}

// Mounts of several locations of one vault remember at the same time.
func TestConcurrentSet(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			p, err := Load(dir, vault)
			for i := 0; err == nil && i < 5; i++ {
				err = p.Set(fmt.Sprint("/", n), samplePin(byte(i)))
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	p := load(t, dir)
	for n := range 8 {
		if got, _ := p.At(fmt.Sprint("/", n)); got != samplePin(4) {
			t.Errorf("/%d: %+v", n, got)
		}
	}
}

func TestCheck(t *testing.T) {
	p := load(t, t.TempDir())
	last := samplePin(5)
	if err := p.Set("/a", last); err != nil {
		t.Fatal(err)
	}
	with := func(edit func(*Pin)) Pin {
		q := last
		edit(&q)
		return q
	}
	yes := func(fp keystore.Fingerprint, gen uint64) bool { return fp == last.RootKey && gen == last.Generation }
	no := func(keystore.Fingerprint, uint64) bool { return false }
	for _, c := range []struct {
		name     string
		location string
		found    Pin
		follows  func(keystore.Fingerprint, uint64) bool
		want     error
	}{
		{"the same", "/a", last, no, nil},
		{"newer", "/a", with(func(q *Pin) { q.RootSeq++; q.RootHash[0]++ }), no, nil},
		{"newer key file", "/a", with(func(q *Pin) { q.RootSeq++; q.RootHash[0]++; q.Generation++; q.RootKey[0]++ }), yes, nil},
		{"not seen here", "/b", with(func(q *Pin) { q.RootSeq = 1; q.RootKey[0]++ }), no, nil},
		{"journal further on", "/a", with(func(q *Pin) { q.Durable.Batch++ }), no, nil},
		{"older root", "/a", with(func(q *Pin) { q.RootSeq-- }), yes, ErrSetBack},
		{"older key file", "/a", with(func(q *Pin) { q.RootSeq++; q.Generation-- }), yes, ErrSetBack},
		{"another root", "/a", with(func(q *Pin) { q.RootHash[0]++ }), yes, ErrOtherRoot},
		{"another key", "/a", with(func(q *Pin) { q.RootSeq++; q.Generation++; q.RootKey[0]++ }), no, ErrOtherKey},
	} {
		if err := p.Check(c.location, c.found, c.follows); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	p := load(t, dir)
	if err := p.Set("/a", samplePin(1)); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(p.path())
	if err != nil {
		t.Fatal(err)
	}
	other := Pins{dir: dir, vault: blockcrypt.ID{9}}
	for name, data := range map[string][]byte{
		"empty":           {},
		"cut":             good[:len(good)/2],
		"trailing":        append(bytes.Clone(good), ' '),
		"unknown field":   bytes.Replace(good, []byte(`"version"`), []byte("\"x\": 1,\n  \"version\""), 1),
		"another version": bytes.Replace(good, []byte(`"version": 0`), []byte(`"version": 1`), 1),
		"another vault":   bytes.Replace(good, []byte(vault.String()), []byte(other.vault.String()), 1),
		"hash":            bytes.Replace(good, []byte(`"root_sha256": "01`), []byte(`"root_sha256": "1`), 1),
		"too long":        make([]byte, maxSize+1),
	} {
		if bytes.Equal(data, good) {
			t.Fatalf("%s: not changed", name)
		}
		if err := os.WriteFile(p.path(), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir, vault); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		if err := p.Set("/b", samplePin(2)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: set: %v", name, err)
		}
		if got, err := os.ReadFile(p.path()); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: the file was changed", name)
		}
	}
}

func FuzzDecode(f *testing.F) {
	p := Pins{dir: f.TempDir(), vault: vault}
	if err := p.Set("/a", samplePin(1)); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(p.path())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) { decode(data, vault) })
}
