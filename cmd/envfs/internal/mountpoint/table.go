// Package mountpoint looks after the directory that a vault is mounted on: which mounts there are, whether a directory
// may become a mount point, taking mounts away, and who still uses one.
package mountpoint

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// FSType is the type of envfs's mounts in the kernel's table.
const FSType = "fuse.envfs"

// Mount is one line of the kernel's table of mounts.
type Mount struct {
	Path   string // where
	Type   string
	Source string // for envfs: the store
	Major  uint32
	Minor  uint32
}

// Table returns the mounts that this process sees, oldest first.
func Table() ([]Mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	defer f.Close()
	return parse(f)
}

// parse reads the format of proc_pid_mountinfo(5).
func parse(r io.Reader) ([]Mount, error) {
	var all []Mount
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		left, right, ok := strings.Cut(s.Text(), " - ")
		a, b := strings.Fields(left), strings.Fields(right)
		if !ok || len(a) < 6 || len(b) < 2 {
			return nil, fmt.Errorf("read mounts: strange line %q", s.Text())
		}
		m := Mount{Path: unescape(a[4]), Type: b[0], Source: unescape(b[1])}
		if _, err := fmt.Sscanf(a[2], "%d:%d", &m.Major, &m.Minor); err != nil {
			return nil, fmt.Errorf("read mounts: strange device %q", a[2])
		}
		all = append(all, m)
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	return all, nil
}

// unescape undoes the kernel's octal escapes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Envfs returns envfs's mounts.
func Envfs() ([]Mount, error) {
	all, err := Table()
	if err != nil {
		return nil, err
	}
	var ours []Mount
	for _, m := range all {
		if m.Type == FSType {
			ours = append(ours, m)
		}
	}
	return ours, nil
}

// At returns the mount that is visible at path, if path is a mount point.
func At(path string) (m Mount, ok bool, err error) {
	all, err := Table()
	if err != nil {
		return Mount{}, false, err
	}
	for _, c := range all {
		if c.Path == path {
			m, ok = c, true // the latest lies on top
		}
	}
	return m, ok, nil
}

// probeTimeout is how long a mount may take to answer. One that does not answer is stuck, not dead.
const probeTimeout = 2 * time.Second

// Dead reports whether the daemon of the mount is gone. It asks for what the kernel never remembers: it would go on
// answering stat(2) for the top directory.
func (m Mount) Dead() bool {
	answer := make(chan error, 1)
	go func() {
		var st unix.Statfs_t
		answer <- unix.Statfs(m.Path, &st)
	}()
	select {
	case err := <-answer:
		return errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED) // it died while it was asked
	case <-time.After(probeTimeout):
		return false
	}
}
