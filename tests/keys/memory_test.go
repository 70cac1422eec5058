// Package keys tests the keys of vaults as the command has them: what lies in memory, what a removal costs.
package keys

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"envfs/keystore/arena"
	"envfs/tests/command"
)

var envfs string

func TestMain(m *testing.M) { os.Exit(command.Main(m, &envfs)) }

func newVault(t *testing.T) *command.Vault {
	t.Helper()
	home := t.TempDir()
	v, err := command.New(envfs, filepath.Join(home, "store"), home)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Discard() })
	return v
}

// run runs the command, which must succeed.
func run(t *testing.T, v *command.Vault, args ...string) string {
	t.Helper()
	r, err := v.Run(args...)
	if err != nil || r.Code != 0 {
		t.Fatalf("%v: exit code %d, %v: %s", args, r.Code, err, r.Talk)
	}
	return r.Talk
}

// locked returns the keys in a process's locked memory: its cells that are not zero.
func locked(t *testing.T, pid int) map[[arena.KeySize]byte]int {
	t.Helper()
	maps, err := os.Open(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer maps.Close()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	keys := make(map[[arena.KeySize]byte]int)
	var from, to int64
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		line := lines.Text()
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok {
			if !strings.Contains(flags+" ", " lo ") {
				continue
			}
			data := make([]byte, to-from)
			if _, err := mem.ReadAt(data, from); err != nil {
				t.Fatal(err)
			}
			for ; len(data) >= arena.KeySize; data = data[arena.KeySize:] {
				if cell := [arena.KeySize]byte(data); cell != [arena.KeySize]byte{} {
					keys[cell]++
				}
			}
			continue
		}
		area, _, _ := strings.Cut(line, " ")
		a, b, ok := strings.Cut(area, "-")
		if !ok {
			continue
		}
		begin, err := strconv.ParseInt(a, 16, 64)
		if err != nil {
			continue
		}
		if end, err := strconv.ParseInt(b, 16, 64); err == nil {
			from, to = begin, end
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return keys
}

// The secret and the root key of a slot that was replaced are gone from the daemon's memory: of what lay there before,
// only the KEK is left, under which files lie.
func TestMemoryAfterReplacing(t *testing.T) {
	v := newVault(t)
	if err := v.Mount(); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(filepath.Join(v.Home, "key"))
	if err != nil {
		t.Fatal(err)
	}
	before := locked(t, v.PID())
	w := [arena.KeySize]byte(hexKey(t, old))
	if before[w] != 1 || len(before) != 3 {
		t.Fatalf("%d keys lie in memory; the slot's secret %d times", len(before), before[w])
	}
	next := filepath.Join(v.Home, "next")
	run(t, v, "key", "generate", next)
	run(t, v, v.Keyed("key", "replace", v.Store, "keyfile", "--new-keyfile", next)...)
	after := locked(t, v.PID())
	kept := 0
	for key := range before {
		if after[key] > 0 {
			kept++
		}
	}
	if after[w] != 0 || kept != 1 {
		t.Errorf("%d of %d keys are still in memory; the slot's secret %d times", kept, len(before), after[w])
	}
	if err := v.Unmount(); err != nil {
		t.Fatal(err)
	}
}

// hexKey decodes a key file as `envfs key generate` makes it.
func hexKey(t *testing.T, text []byte) []byte {
	t.Helper()
	var key []byte
	if _, err := fmt.Sscanf(string(bytes.TrimSpace(text)), "%x", &key); err != nil || len(key) != arena.KeySize {
		t.Fatalf("key file: %d bytes, %v", len(key), err)
	}
	return key
}
