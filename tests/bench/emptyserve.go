package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"envfs/tests/bench/lab"
)

const (
	// emptyVerb has this program serve an empty file system, as another process.
	emptyVerb     = "serve-empty"
	writebackFlag = "-writeback"

	mountOrder   = "mount"
	unmountOrder = "unmount"
	okAnswer     = "ok"
)

// serveEmpty serves an empty file system as it is told by lines of in, each of which is answered by a line. It ends,
// with nothing mounted, when there are no more.
func serveEmpty(args []string, in io.Reader, out io.Writer) (err error) {
	if len(args) == 0 {
		return errors.New("serve: no mount point")
	}
	e := &emptyServer{point: args[0], writeback: len(args) > 1 && args[1] == writebackFlag, fs: newEmptyFS()}
	defer func() {
		if e.server != nil {
			err = errors.Join(err, lab.UnmountFUSE(e.point, true))
		}
	}()
	orders := bufio.NewScanner(in)
	for orders.Scan() {
		answer := okAnswer
		if err := e.obey(orders.Text()); err != nil {
			answer = strings.ReplaceAll(err.Error(), "\n", " ")
		}
		if _, err := fmt.Fprintln(out, answer); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
	return orders.Err()
}

// emptyServer is an emptyFS and where it is mounted.
type emptyServer struct {
	point     string
	writeback bool
	fs        *emptyFS
	server    *fuse.Server // nil if it is not mounted
	done      chan struct{}
}

func (e *emptyServer) obey(order string) error {
	switch order {
	case mountOrder:
		return e.mount()
	case unmountOrder:
		if err := lab.UnmountFUSE(e.point, false); err != nil {
			return err
		}
		<-e.done
		e.server = nil
		return nil
	default:
		return fmt.Errorf("no such order: %s", order)
	}
}

func (e *emptyServer) mount() error {
	server, err := fuse.NewServer(e.fs, e.point, e.options())
	if err != nil {
		return fmt.Errorf("mount %s: %w", e.point, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve()
	}()
	e.server, e.done = server, done
	if err := server.WaitMount(); err != nil {
		return fmt.Errorf("mount %s: %w", e.point, err)
	}
	if os.Geteuid() == 0 {
		_ = raiseReadAhead(e.point) // in a container /sys may be read-only; envfs goes on, too
	}
	return nil
}

// options are those of package fusefs: it is the ceiling of envfs that is measured.
func (e *emptyServer) options() *fuse.MountOptions {
	root := os.Geteuid() == 0
	o := &fuse.MountOptions{
		Name:                     "envfs-empty",
		FsName:                   "empty",
		AllowOther:               root,
		Options:                  []string{"default_permissions"},
		MaxWrite:                 maxRequest,
		MaxBackground:            64,
		MaxInflightRequestBytes:  64 << 20,
		DisableSplice:            true,
		DirectMountStrict:        root,
		DirectMountFlags:         syscall.MS_NOSUID | syscall.MS_NODEV,
		EnableSymlinkCaching:     true,
		ExplicitDataCacheControl: true,
		ExtraCapabilities: fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_READDIRPLUS_AUTO | fuse.CAP_ATOMIC_O_TRUNC |
			fuse.CAP_NO_OPENDIR_SUPPORT | fuse.CAP_NO_EXPORT_SUPPORT,
		DisabledCapabilities: fuse.CAP_PASSTHROUGH,
		Logger:               log.New(os.Stderr, "", 0),
	}
	if e.writeback {
		o.ExtraCapabilities |= fuse.CAP_WRITEBACK_CACHE
	}
	return o
}

// raiseReadAhead has the kernel read ahead as far as it does on a mount of envfs.
func raiseReadAhead(point string) error {
	var st unix.Stat_t
	if err := unix.Stat(point, &st); err != nil {
		return fmt.Errorf("stat %s: %w", point, err)
	}
	name := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(st.Dev), unix.Minor(st.Dev))
	return os.WriteFile(name, []byte("1024\n"), 0)
}
