package main

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"envfs/cmd/envfs/internal/control"
	"envfs/fs"
	"envfs/keystore"
)

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, codeOK},
		{errors.New("anything"), codeError},
		{fmt.Errorf("mount: %w", fs.ErrNoVault), codeNoVault},
		{fs.ErrHalfMade, codeNoVault},
		{fs.ErrRootLost, codeNoVault},
		{fs.ErrInUse, codeInUse},
		{fs.ErrOtherWriter, codeInUse},
		{keystore.ErrWrongKey, codeWrongKey},
		{keystore.ErrNoSlot, codeError},
		{fs.ErrIncomplete, codeIncomplete},
		{fs.ErrFork, codeFork},
		{fs.ErrSetBack, codeFork},
		{fs.ErrOtherVault, codeFork},
		{fs.ErrVersion, codeError},
		{errDamage, codeDamage},
		{control.ErrBreak, codeInterrupted},
		{&control.Error{Code: codeFork}, codeFork},
		{hint(fs.ErrInUse, "a hint"), codeInUse},
		{errors.Join(fmt.Errorf("x: %w", fs.ErrInUse), errors.New("y")), codeInUse},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
}

// What a daemon tells must arrive as it left.
func TestWire(t *testing.T) {
	e := wire(hint(fmt.Errorf("mount: %w", fs.ErrFork), "look at both"))
	if exitCode(e) != codeFork || hintOf(e) != "look at both" || e.Error() != "mount: two machines wrote to this vault" {
		t.Errorf("%+v", e)
	}
	if h := hintOf(wire(fs.ErrHalfMade)); h == "" {
		t.Error("the table's hint is lost")
	}
}

func TestFormat(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1<<20 - 1: "1.0 MiB", 5 << 30: "5.0 GiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
	for s, want := range map[string]string{"plain/Path-1": "plain/Path-1", "a b": "'a b'", "it's": `'it'\''s'`, "": "''", "~x": "'~x'"} {
		if got := shellQuote(s); got != want {
			t.Errorf("shellQuote(%q) = %s, want %s", s, got, want)
		}
	}
	for s, want := range map[string]string{"plain": "plain", "a b": "a b", "\x1b[31m": `"\x1b[31m"`, "ä": "ä", `q"`: `"q\""`} {
		if got := printable(s); got != want {
			t.Errorf("printable(%q) = %s, want %s", s, got, want)
		}
	}
	if got := moment(time.Time{}); got != "-" {
		t.Errorf("moment of nothing: %s", got)
	}
	n := node{Type: typeDirectory, Mode: 0o7750}
	if got := modeString(&n); got != "drwsr-s--T" {
		t.Errorf("mode: %s", got)
	}
}

func TestInTree(t *testing.T) {
	for arg, want := range map[string]string{"/": ".", "": ".", ".": ".", "/src/": "src", "a//b/../c": "a/c", "../../x": "x"} {
		if got := inTree(arg); got != want {
			t.Errorf("inTree(%q) = %q, want %q", arg, got, want)
		}
	}
}
