package programs

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const treeSeed = 3

// newTree makes a tree of over 10,000 files with odd names, modes, links and times on a bare directory.
func newTree(t *testing.T, dirs, filesEach int) string {
	t.Helper()
	t.Logf("seed %d", treeSeed)
	rng := rand.New(rand.NewPCG(treeSeed, treeSeed))
	top := filepath.Join(t.TempDir(), "tree")
	must(t, os.Mkdir(top, 0o755))
	all := []string{top}
	for len(all) < dirs {
		dir := filepath.Join(all[rng.IntN(len(all))], oddName(rng, len(all)))
		if len(dir) < 2500 {
			must(t, os.Mkdir(dir, 0o755))
			all = append(all, dir)
		}
	}
	content := make([]byte, 40<<10)
	for i := range content {
		content[i] = byte(rng.Uint32())
	}
	var last string
	for _, dir := range all {
		for i := range filesEach {
			name := filepath.Join(dir, oddName(rng, i))
			switch rng.IntN(20) {
			case 0:
				must(t, os.Symlink(oddName(rng, i)+"/"+oddName(rng, i), name))
			case 1, 2:
				if last == "" {
					continue
				}
				must(t, os.Link(last, name))
				continue
			default:
				size, at := rng.IntN(4000), rng.IntN(1000)
				if rng.IntN(20) == 0 {
					size = rng.IntN(len(content) - at)
				}
				must(t, os.WriteFile(name, content[at:at+size], 0o600))
				mode := 0o400 | rng.Uint32()&0o7777
				if rng.IntN(10) == 0 {
					must(t, unix.Lsetxattr(name, "user.odd\xff"+oddName(rng, i)[:1], content[:rng.IntN(100)], 0))
					mode |= 0o200 // or else tar, when not run by root, fails on any file system
				}
				must(t, unix.Chmod(name, mode))
				last = name
			}
			if os.Geteuid() == 0 && rng.IntN(5) == 0 {
				must(t, unix.Lchown(name, rng.IntN(1<<31), rng.IntN(1<<31)))
				if rng.IntN(2) == 0 && name == last {
					must(t, unix.Chmod(name, 0o6755))
				}
			}
			setTime(t, name, oddTime(rng))
		}
	}
	slices.Reverse(all) // setting the time of a directory must come after all in it
	for _, dir := range all {
		must(t, unix.Chmod(dir, 0o700|rng.Uint32()&0o7777))
		setTime(t, dir, oddTime(rng))
	}
	return top
}

// oddName returns a name of any bytes, made unique by n within names of one kind.
func oddName(rng *rand.Rand, n int) string {
	length := 1 + rng.IntN(20)
	if rng.IntN(50) == 0 {
		length = 240
	}
	var b strings.Builder
	if rng.IntN(10) == 0 {
		b.WriteString([]string{"-rf", " ", ".", "...", "~", "\n", "\\", "\xff\xfe"}[rng.IntN(8)])
	}
	for b.Len() < length {
		c := byte(rng.Uint32())
		if rng.IntN(3) > 0 {
			c = "abcdefghijklmnopqrstuvwxyz"[c%26]
		}
		if c != 0 && c != '/' {
			b.WriteByte(c)
		}
	}
	fmt.Fprintf(&b, "%x", n)
	return b.String()
}

// oddTime returns a time that ext4 can hold, to the nanosecond: 1901 to 2446.
func oddTime(rng *rand.Rand) unix.Timespec {
	switch rng.IntN(20) {
	case 0:
		return unix.Timespec{Sec: -1 << 31}
	case 1:
		return unix.Timespec{Sec: time.Date(2446, 5, 10, 22, 38, 55, 0, time.UTC).Unix(), Nsec: 999999999}
	case 2:
		return unix.Timespec{Sec: -1, Nsec: 1}
	case 3:
		return unix.Timespec{Nsec: 999999999}
	}
	return unix.Timespec{Sec: rng.Int64N(15<<30) - 1<<31, Nsec: rng.Int64N(1e9)}
}

func setTime(t *testing.T, name string, at unix.Timespec) {
	t.Helper()
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW))
}

// describe returns a line for each file below top: all that a copy must keep. Of hard links it says the first name.
func describe(t *testing.T, top string) map[string]string {
	t.Helper()
	lines, first := make(map[string]string), make(map[uint64]string)
	must(t, filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		rel := strings.TrimPrefix(name, top)
		line := fmt.Sprintf("mode %o owner %d:%d links %d time %d.%09d", st.Mode, st.Uid, st.Gid, st.Nlink, st.Mtim.Sec, st.Mtim.Nsec)
		if !d.IsDir() {
			line += fmt.Sprintf(" size %d", st.Size)
			if _, ok := first[st.Ino]; !ok {
				first[st.Ino] = rel
			}
			line += fmt.Sprintf(" same as %q", first[st.Ino])
		}
		if d.Type().IsRegular() {
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %x", sha256.Sum256(data))
		} else if d.Type() == os.ModeSymlink {
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" -> %q", target)
		}
		xattrs, err := listXattrs(name)
		lines[rel] = line + xattrs
		return err
	}))
	return lines
}

func listXattrs(name string) (string, error) {
	buf, value := make([]byte, 64<<10), make([]byte, 64<<10)
	n, err := unix.Llistxattr(name, buf)
	if err != nil {
		return "", err
	}
	var all []string
	for attr := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if attr == "" {
			continue
		}
		n, err := unix.Lgetxattr(name, attr, value)
		if err != nil {
			return "", err
		}
		all = append(all, fmt.Sprintf(" %q=%.4x", attr, sha256.Sum256(value[:n])))
	}
	slices.Sort(all)
	return strings.Join(all, ""), nil
}

// wantSame compares two trees as describe returns them.
func wantSame(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	bad := 0
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] && bad < 3 {
			bad++
			t.Errorf("%s: %q:\ngot  %s\nwant %s", what, name, got[name], want[name])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d files, want %d", what, len(got), len(want))
	}
}

// archive pipes the tree below from into one below to, and returns the hash of what went through the pipe.
func archive(t *testing.T, from, to string) string {
	t.Helper()
	// Attributes other than user.* are those of the file system, or for root only.
	out := exec.Command("tar", "-C", from, "-c", "--sort=name", "--format=posix", "--xattrs", "--xattrs-include=user.*",
		"--pax-option=delete=atime,delete=ctime,exthdr.name=%d/%f", "--numeric-owner", "--no-acls", "--no-selinux", ".")
	in := exec.Command("tar", "-C", to, "-x", "-p", "--xattrs", "--xattrs-include=user.*", "--numeric-owner", "--delay-directory-restore")
	out.Env, in.Env = environ, environ
	stream, err := out.StdoutPipe()
	must(t, err)
	sum := sha256.New()
	stdin, err := in.StdinPipe()
	must(t, err)
	var outTalk, inTalk strings.Builder
	out.Stderr, in.Stderr = &outTalk, &inTalk
	must(t, in.Start())
	must(t, out.Start())
	buf := make([]byte, 256<<10)
	for {
		n, err := stream.Read(buf)
		sum.Write(buf[:n])
		if _, werr := stdin.Write(buf[:n]); werr != nil {
			t.Errorf("write to tar: %v", werr)
			break
		}
		if err != nil {
			break
		}
	}
	stdin.Close()
	if err := in.Wait(); err != nil {
		t.Errorf("tar -x: %v\n%s", err, tail(inTalk.String()))
	}
	if err := out.Wait(); err != nil {
		t.Errorf("tar -c: %v\n%s", err, tail(outTalk.String()))
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// A large odd tree is the same after tar in, mounting again, and tar out; the two archives are the same byte for byte.
func TestTar(t *testing.T) {
	tree := newTree(t, 220, 50)
	want := describe(t, tree)
	if len(want) < 10_000 {
		t.Fatalf("the tree has only %d files", len(want))
	}
	v := mount(t)
	inside, outside := filepath.Join(v.Point, "tree"), filepath.Join(t.TempDir(), "out")
	must(t, os.Mkdir(inside, 0o755))
	must(t, os.Mkdir(outside, 0o755))
	in := archive(t, tree, inside)
	wantSame(t, "tar in", describe(t, inside), want)
	must(t, v.Remount())
	wantSame(t, "mounted again", describe(t, inside), want)
	if out := archive(t, inside, outside); out != in {
		t.Error("the archive made of the mount differs from the one that was unpacked there")
	}
	wantSame(t, "tar out", describe(t, outside), want)
	must(t, exec.Command("rm", "-rf", inside).Run())
	if names, err := os.ReadDir(v.Point); err != nil || len(names) != 0 {
		t.Errorf("after rm -rf: %v, %v", names, err)
	}
}

// rsync copies a tree once; the second time there is nothing to do, also after mounting again.
func TestRsync(t *testing.T) {
	tree := newTree(t, 60, 30)
	v := mount(t)
	inside := filepath.Join(v.Point, "tree")
	rsync := func(args ...string) string {
		return runIn(t, v.Point, "rsync", append([]string{"-aHX", "--delete", "--itemize-changes"}, args...)...)
	}
	if got := rsync(tree+"/", inside+"/"); strings.Count(got, "\n") < 1000 {
		t.Errorf("the first time rsync moves only %d files", strings.Count(got, "\n"))
	}
	if got := rsync(tree+"/", inside+"/"); got != "" {
		t.Errorf("the second time rsync still moves:\n%s", tail(got))
	}
	must(t, v.Remount())
	if got := rsync("--checksum", tree+"/", inside+"/"); got != "" {
		t.Errorf("after mounting again rsync still moves:\n%s", tail(got))
	}
	if got := rsync("--checksum", "--dry-run", inside+"/", tree+"/"); got != "" {
		t.Errorf("on the way back rsync would move:\n%s", tail(got))
	}
	wantSame(t, "rsync", describe(t, inside), describe(t, tree))
}
