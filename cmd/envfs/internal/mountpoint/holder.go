package mountpoint

import (
	"bytes"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Holder is the process that has locked a store.
type Holder struct {
	PID   int
	User  string
	Since time.Time // when the process began; zero if not known
}

// HolderOf finds the process on this machine that holds the flock of the directory store. It sees other users' processes,
// too, but none in another process namespace.
func HolderOf(store string) (h Holder, ok bool) {
	var st unix.Stat_t
	if unix.Stat(store, &st) != nil {
		return h, false
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return h, false
	}
	// proc_locks(5): "1: FLOCK  ADVISORY  WRITE 1234 fd:01:393229 0 EOF", the device in hexadecimal
	want := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for line := range bytes.Lines(locks) {
		f := strings.Fields(string(line))
		if len(f) < 6 || f[1] != "FLOCK" || f[5] != want {
			continue
		}
		if pid, err := strconv.Atoi(f[4]); err == nil && pid > 0 {
			return describe(pid)
		}
	}
	return h, false
}

// describe tells about a process, if it still exists: a lock outlives who took it if it was handed on.
func describe(pid int) (h Holder, ok bool) {
	h = Holder{PID: pid}
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return h, false
	}
	h.Since = time.Unix(st.Ctim.Unix())
	h.User = strconv.Itoa(int(st.Uid))
	// The directory of a process that may not be dumped is root's: the user stands in its status.
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return h, false
	}
	for line := range bytes.Lines(status) {
		if f := strings.Fields(string(line)); len(f) > 1 && f[0] == "Uid:" {
			h.User = f[1]
		}
	}
	if u, err := user.LookupId(h.User); err == nil {
		h.User = u.Username
	}
	return h, true
}
