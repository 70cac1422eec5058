package tamper

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"envfs/tests/command"
)

// marker is part of every name, content, extended attribute and link target of the workload.
const marker = "Zq-PlainText-Marker-"

// TestNoPlaintext works in a vault, with a kill -9 and damage in between, and makes sure that nothing of it can be found
// in the store, in envfs's state, in its logs, and that the daemon opened no other file for writing.
func TestNoPlaintext(t *testing.T) {
	home := t.TempDir()
	binary, err := command.Build(home)
	must(t, err)
	store := filepath.Join(home, "store")
	v, err := command.New(binary, store, home)
	must(t, err)
	t.Cleanup(func() { _, _ = v.TryUnmount("--lazy") }) // of a test that failed
	r := newRand(5)
	t.Logf("seed %d", seed)

	must(t, v.Mount())
	work(t, r, v.Point, 600)
	must(t, v.Kill())
	seen := scan(t, home)
	must(t, v.Mount())
	work(t, r, v.Point, 200)
	must(t, v.Unmount())
	damage(t, store)
	if res, err := v.Run(v.Keyed("check", store)...); err != nil || res.Code != 26 || !strings.Contains(res.Out, "/"+marker) {
		t.Errorf("check of a damaged vault: exit code %d, %v: %s%s", res.Code, err, res.Out, res.Talk)
	}

	traced := filepath.Join(home, "trace")
	logged := traceMount(t, v, traced, func() {
		_ = filepath.WalkDir(v.Point, func(p string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				_, _ = os.ReadFile(p) // some cannot be read any more, which is what is to be logged
			}
			return nil
		})
		work(t, r, v.Point, 300)
	})
	if bytes.Contains(logged, []byte(marker)) || !bytes.Contains(logged, []byte("level=ERROR")) {
		t.Errorf("the log shows what it should not, or nothing of the damage:\n%s", logged)
	}
	if n := scan(t, home); n < seen {
		t.Errorf("only %d files were looked at", n)
	}
	for _, path := range written(t, traced) {
		switch {
		case strings.HasPrefix(path, store+"/"), path == store, strings.HasPrefix(path, filepath.Join(home, "state")+"/"):
		case strings.HasPrefix(path, "/dev/"), strings.HasPrefix(path, "/proc/"), strings.HasPrefix(path, "/sys/"):
		default:
			t.Errorf("the daemon opened %s for writing", path)
		}
	}
}

// scan looks for the marker in everything that envfs has written below home.
func scan(t *testing.T, home string) (files int) {
	t.Helper()
	for _, dir := range []string{"store", "state"} {
		for name, data := range readObjects(t, filepath.Join(home, dir)) {
			files++
			if bytes.Contains(data, []byte(marker)) || strings.Contains(name, marker) {
				t.Errorf("%s/%s holds plaintext", dir, name)
			}
		}
	}
	return files
}

// damage flips a bit in some headers and extents.
func damage(t *testing.T, store string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(store, "files/*/*"))
	must(t, err)
	for i := 0; i < len(names); i += 5 {
		data, err := os.ReadFile(names[i])
		must(t, err)
		must(t, os.WriteFile(names[i], flip(len(data)*6)(data), 0o600))
	}
}

// traceMount mounts the vault in the foreground under strace, calls fn and unmounts. It returns the log.
func traceMount(t *testing.T, v *command.Vault, trace string, fn func()) []byte {
	t.Helper()
	args := append([]string{"-f", "--seccomp-bpf", "-y", "-qq", "-e", "trace=openat,openat2,open,creat", "-o", trace, v.Binary},
		v.Keyed("mount", "--foreground", v.Store, v.Point)...)
	cmd := exec.Command("strace", args...)
	cmd.Env = v.Env()
	stderr, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	var log bytes.Buffer
	lines := bufio.NewReader(stderr)
	for {
		line, err := lines.ReadString('\n')
		log.WriteString(line)
		if err != nil {
			t.Fatalf("the daemon ended: %s", log.Bytes())
		}
		if strings.Contains(line, "msg=mounted") {
			break
		}
	}
	rest := make(chan []byte)
	go func() {
		data, _ := io.ReadAll(lines) // up to the daemon's end
		rest <- data
	}()
	fn()
	must(t, v.Unmount())
	log.Write(<-rest)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the daemon: %v\n%s", err, log.Bytes())
	}
	return log.Bytes()
}

// opening matches an open of strace: the directory it is relative to, the path, the flags.
var opening = regexp.MustCompile(`open(?:at2?|)\((?:[A-Z_]+|\d+)?(?:<([^>]*)>)?,? ?"([^"]*)", (\{flags=)?([A-Z_|0-9x]+)`)

// written returns the files that were opened for writing.
func written(t *testing.T, trace string) (paths []string) {
	t.Helper()
	data, err := os.ReadFile(trace)
	must(t, err)
	for line := range strings.Lines(string(data)) {
		m := opening.FindStringSubmatch(line)
		if m == nil || !strings.Contains(m[4], "O_WRONLY") && !strings.Contains(m[4], "O_RDWR") && !strings.Contains(m[4], "O_CREAT") {
			continue
		}
		path := m[2]
		if !filepath.IsAbs(path) {
			path = filepath.Join(m[1], path)
		}
		paths = append(paths, path)
	}
	if len(paths) < 10 {
		t.Fatalf("strace has seen %d files opened for writing", len(paths))
	}
	return paths
}

// work does random operations below root.
func work(t *testing.T, r *rand.Rand, root string, count int) {
	t.Helper()
	var files []string
	dirs := []string{root}
	name := func() string {
		return filepath.Join(dirs[r.IntN(len(dirs))], fmt.Sprintf("%s%d", marker, r.Uint64()))
	}
	text := func(n int) []byte { return bytes.Repeat([]byte(marker+"content "), n/28+1)[:n] }
	for range count {
		pick := ""
		if len(files) > 0 {
			pick = files[r.IntN(len(files))]
		}
		switch k := r.IntN(12); {
		case pick == "" || k < 4:
			p := name()
			must(t, os.WriteFile(p, text(r.IntN(60_000)), 0o600))
			files = append(files, p)
		case k == 4:
			p := name()
			must(t, os.Mkdir(p, 0o700))
			dirs = append(dirs, p)
		case k == 5:
			must(t, os.Symlink(marker+"target", name()))
		case k == 6:
			must(t, os.Link(pick, name()))
		case k == 7:
			must(t, unix.Setxattr(pick, "user."+marker, text(10+r.IntN(2000)), 0))
		case k == 8:
			p := name()
			must(t, os.Rename(pick, p))
			files[slices.Index(files, pick)] = p
		case k == 9:
			must(t, os.Truncate(pick, r.Int64N(50_000)))
		default:
			f, err := os.OpenFile(pick, os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteAt(text(1+r.IntN(10_000)), r.Int64N(50_000))
			must(t, err)
			if k == 10 {
				must(t, f.Sync())
			}
			must(t, f.Close())
		}
	}
}
