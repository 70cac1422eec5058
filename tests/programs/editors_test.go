package programs

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// vim saves in each of its ways.
func TestVim(t *testing.T) {
	vim, err := exec.LookPath("vim.tiny")
	if err != nil {
		vim, err = exec.LookPath("vim")
	}
	must(t, err)
	v := mount(t)
	for _, c := range []struct {
		name, settings string
		sameFile       bool // the file is overwritten, not replaced
		backup         bool
	}{
		{"in-place", "set nobackup nowritebackup", true, false},
		{"copied", "set backup backupcopy=yes", true, true},
		{"renamed", "set backup backupcopy=no", false, true},
		{"auto", "set writebackup nobackup backupcopy=auto", true, false}, // true: it has a second name
	} {
		name := filepath.Join(v.Point, c.name)
		must(t, os.WriteFile(name, []byte("old text\n"), 0o640))
		must(t, os.Chmod(name, 0o751))
		must(t, os.Link(name, name+".other"))
		before := stat(t, name)
		runIn(t, v.Point, vim, "-u", "NONE", "-i", "NONE", "-es", "-c", "set backupskip=", "-c", c.settings, "-c", "%s/old/new/", "-c", "wq", name)
		after := stat(t, name)
		wantFile(t, name, "new text\n")
		if (before.Ino == after.Ino) != c.sameFile || after.Mode != before.Mode {
			t.Errorf("%s: file %d with mode %o became %d with %o", c.name, before.Ino, before.Mode, after.Ino, after.Mode)
		}
		if c.sameFile {
			wantFile(t, name+".other", "new text\n")
		} else {
			wantFile(t, name+".other", "old text\n")
		}
		if c.backup {
			wantFile(t, name+"~", "old text\n")
		}
	}
	// A swap file that a crash has left brings the text back.
	must(t, os.WriteFile(filepath.Join(v.Point, "text"), []byte("one\n"), 0o644))
	runIn(t, v.Point, vim, "-u", "NONE", "-i", "NONE", "-es", "-c", "set directory=.", "-c", "%s/one/two/", "-c", "preserve", "-c", "silent !cp .text.swp saved", "-c", "q!", "text")
	must(t, os.Rename(filepath.Join(v.Point, "saved"), filepath.Join(v.Point, ".text.swp")))
	must(t, v.Remount())
	runIn(t, v.Point, vim, "-u", "NONE", "-i", "NONE", "-es", "-r", "text", "-c", "w! recovered", "-c", "q!")
	wantFile(t, filepath.Join(v.Point, "recovered"), "two\n")
}

// What other editors do: a new file renamed over the old one, and a backup by a second name.
func TestSavePatterns(t *testing.T) {
	v := mount(t)
	at := func(name string) string { return filepath.Join(v.Point, name) }
	save := func(name, text string) {
		t.Helper()
		f, err := os.CreateTemp(v.Point, ".save-*")
		must(t, err)
		_, err = f.WriteString(text)
		must(t, err)
		must(t, f.Sync())
		must(t, f.Close())
		must(t, os.Rename(f.Name(), name))
	}
	save(at("renamed"), "one")
	reader, err := os.Open(at("renamed"))
	must(t, err)
	for _, text := range []string{"two", "three", ""} {
		save(at("renamed"), text)
		wantFile(t, at("renamed"), text)
	}
	// Who had opened the first one still has it.
	buf := make([]byte, 10)
	if n, err := reader.ReadAt(buf, 0); string(buf[:n]) != "one" {
		t.Errorf("the open file has %q (%v), want one", buf[:n], err)
	}
	must(t, reader.Close())

	// Backup by link, then replaced.
	must(t, os.WriteFile(at("linked"), []byte("one"), 0o644))
	must(t, os.Link(at("linked"), at("linked~")))
	save(at("linked"), "two")
	// Backup by rename, then written anew with O_EXCL, as Emacs does.
	must(t, os.WriteFile(at("moved"), []byte("one"), 0o644))
	must(t, os.Rename(at("moved"), at("moved~")))
	f, err := os.OpenFile(at("moved"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	must(t, err)
	_, err = f.WriteString("two")
	must(t, err)
	must(t, f.Close())
	// A lock as a dangling link, as Emacs makes it.
	must(t, os.Symlink("me@host.1:2", at(".#moved")))
	// Cut in place and written again.
	must(t, os.WriteFile(at("cut"), []byte("a longer text than the next"), 0o644))
	must(t, os.WriteFile(at("cut"), []byte("two"), 0o644))

	must(t, v.Remount())
	for name, want := range map[string]string{"linked": "two", "linked~": "one", "moved": "two", "moved~": "one", "cut": "two", "renamed": ""} {
		wantFile(t, at(name), want)
		if n := stat(t, at(name)).Nlink; n != 1 {
			t.Errorf("%s has %d links, want 1", name, n)
		}
	}
	if target, err := os.Readlink(at(".#moved")); target != "me@host.1:2" {
		t.Errorf("link to %q (%v)", target, err)
	}
}

func stat(t *testing.T, name string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(name, &st))
	return st
}

func wantFile(t *testing.T, name, want string) {
	t.Helper()
	if got, err := os.ReadFile(name); err != nil || string(got) != want {
		t.Errorf("%s: %q, %v; want %q", filepath.Base(name), got, err, want)
	}
}
