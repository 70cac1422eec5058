package main

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	filippo "filippo.io/age"
	"github.com/rogpeppe/go-internal/testscript"

	"envfs/cmd/envfs/internal/mountpoint"
	"envfs/keystore/hashivault/vaulttest"
	"envfs/tests/port"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"envfs": main, mountHelper: main})
}

// TestScripts runs testdata/script/*.txtar: the command as users type it, with real mounts.
func TestScripts(t *testing.T) {
	helpers := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", helpers, "envfs/cmd/envfs-pkcs11").CombinedOutput(); err != nil {
		t.Fatalf("build envfs-pkcs11: %v\n%s", err, out)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, "state"))
			e.Setenv("PATH", e.Getenv("PATH")+":"+helpers)
			e.Defer(func() { detachBelow(t, e.WorkDir) })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":     code,
			"poke":     poke,
			"mode":     mode,
			"dial":     dial,
			"port":     reserve,
			"identity": ageIdentity,
			"transit":  transit,
		},
	})
}

// detachBelow takes away the mounts that a failed script has left.
func detachBelow(t *testing.T, dir string) {
	mounts, err := mountpoint.Envfs()
	if err != nil {
		t.Error(err)
	}
	for _, m := range mounts {
		if strings.HasPrefix(m.Path, dir+"/") {
			t.Logf("%s was left mounted", m.Path)
			if err := mountpoint.Detach(m.Path); err != nil {
				t.Error(err)
			}
		}
	}
}

// reserve sets a variable to a port of 127.0.0.1 at which nobody listens, unless a server of the script does: port NAME.
func reserve(ts *testscript.TestScript, neg bool, args []string) {
	p, err := port.Reserve()
	ts.Check(err)
	ts.Defer(func() { _ = p.Close() })
	ts.Setenv(args[0], p.Number)
}

// ageIdentity writes an age identity to a file and sets a variable to its recipient: identity FILE NAME [pq |
// PASSPHRASE-FILE]. Debian's age-keygen makes no hybrid ones yet, and its age reads passphrases from terminals only.
func ageIdentity(ts *testscript.TestScript, neg bool, args []string) {
	var secret, recipient string
	if len(args) == 3 && args[2] == "pq" {
		i, err := filippo.GenerateHybridIdentity()
		ts.Check(err)
		secret, recipient = i.String(), i.Recipient().String()
	} else {
		i, err := filippo.GenerateX25519Identity()
		ts.Check(err)
		secret, recipient = i.String(), i.Recipient().String()
	}
	text := []byte("# made by a test\n" + secret + "\n")
	if len(args) == 3 && args[2] != "pq" {
		text = encrypted(ts, text, strings.TrimSpace(ts.ReadFile(args[2])))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), text, 0o600))
	ts.Setenv(args[1], recipient)
}

// encrypted is text as age -p writes it, but cheap.
func encrypted(ts *testscript.TestScript, text []byte, passphrase string) []byte {
	to, err := filippo.NewScryptRecipient(passphrase)
	ts.Check(err)
	to.SetWorkFactor(10)
	var out bytes.Buffer
	w, err := filippo.Encrypt(&out, to)
	ts.Check(err)
	_, err = w.Write(text)
	ts.Check(errors.Join(err, w.Close()))
	return out.Bytes()
}

// code runs a program that must exit with the given code: code 10 envfs mount ...
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code NUMBER PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// poke changes one byte of a file by adding 1: poke FILE OFFSET; a negative offset counts from the end.
func poke(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: poke FILE OFFSET")
	}
	data := []byte(ts.ReadFile(args[0]))
	off, err := strconv.Atoi(args[1])
	ts.Check(err)
	if off < 0 {
		off += len(data)
	}
	data[off]++
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o600))
}

// mode compares the permissions of a file: mode 0500 FILE.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode OCTAL FILE")
	}
	want, err := strconv.ParseUint(args[0], 8, 32)
	ts.Check(err)
	st, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := st.Mode().Perm(); got != os.FileMode(want) {
		ts.Fatalf("%s has mode %04o, want %04o", args[1], got, want)
	}
}

// dial returns when somebody listens at a Unix socket: dial PATH.
func dial(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: dial PATH")
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("unix", ts.MkAbs(args[0]))
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("nobody listens: %v", err)
		}
	}
}

// transit starts a Vault with derived keys in Transit, and sets VAULT_ADDR and VAULT_TOKEN: transit KEY...
func transit(ts *testscript.TestScript, neg bool, keys []string) {
	if neg {
		ts.Fatalf("usage: transit KEY...")
	}
	s := vaulttest.Start(scripted{ts}, http.DefaultClient)
	for _, k := range keys {
		s.Key(k)
	}
	for name, value := range s.Env(s.Root) {
		ts.Setenv(name, value)
	}
}

// scripted is a script as vaulttest sees it.
type scripted struct{ *testscript.TestScript }

func (scripted) Helper() {}

func (s scripted) Cleanup(f func()) { s.Defer(f) }
