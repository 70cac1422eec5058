package mountpoint

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Process is one that uses a mount.
type Process struct {
	PID  int
	Name string
	How  string // "cwd", "root", "exe", "open" or "mapped"
	Path string // one of the files it uses, without the mount point
}

// String returns the process as a person reads it.
func (p Process) String() string {
	return fmt.Sprintf("%d %s (%s %s)", p.PID, p.Name, p.How, p.Path)
}

// Users returns the processes that use the mount at path, as far as this user may see them. It asks nothing of the mount
// itself.
func Users(path string) []Process {
	pids, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	var all []Process
	for _, dir := range pids {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if how, file, ok := uses(dir, path); ok {
			name, _ := os.ReadFile(filepath.Join(dir, "comm"))
			all = append(all, Process{PID: pid, Name: string(bytes.TrimSpace(name)), How: how, Path: file})
		}
	}
	return all
}

// uses finds one use of the mount by the process whose directory in /proc is dir.
func uses(dir, mount string) (how, file string, ok bool) {
	for _, link := range []string{"cwd", "root", "exe"} {
		if target, err := os.Readlink(filepath.Join(dir, link)); err == nil {
			if rel, ok := below(target, mount); ok {
				return link, rel, true
			}
		}
	}
	fds, _ := os.ReadDir(filepath.Join(dir, "fd"))
	for _, fd := range fds {
		if target, err := os.Readlink(filepath.Join(dir, "fd", fd.Name())); err == nil {
			if rel, ok := below(target, mount); ok {
				return "open", rel, true
			}
		}
	}
	maps, err := os.Open(filepath.Join(dir, "maps"))
	if err != nil {
		return "", "", false
	}
	defer maps.Close()
	s := bufio.NewScanner(maps)
	for s.Scan() {
		if i := strings.IndexByte(s.Text(), '/'); i >= 0 {
			if rel, ok := below(s.Text()[i:], mount); ok {
				return "mapped", rel, true
			}
		}
	}
	return "", "", false
}

// below returns target relative to the mount point if it lies there.
func below(target, mount string) (string, bool) {
	target = strings.TrimSuffix(target, " (deleted)")
	if target == mount {
		return ".", true
	}
	return strings.CutPrefix(target, mount+"/")
}
