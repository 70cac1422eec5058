package fusefs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"envfs/fs"
)

const (
	// maxRequest is the size of the largest READ and WRITE, in bytes; more is not allowed by the kernel's default.
	maxRequest = 1 << 20

	// maxInflight bounds the memory of requests that wait to be answered: each of 128 bytes or more pins a buffer of
	// maxRequest bytes until then.
	maxInflight = 64 << 20

	defaultMaxBackground = 64
	defaultMaxNodes      = 500_000
)

// Options of [Mount]. The zero value is a good one for a single user on a local directory.
type Options struct {
	AllowOther    bool         // users other than the one who mounts may enter; a plain user needs user_allow_other in /etc/fuse.conf
	ReadOnly      bool         // the kernel refuses changes
	Follow        bool         // somebody else writes, as fs.Options.Follow: the kernel keeps nothing but pages of files
	Writeback     bool         // the kernel collects small writes; it then owns sizes and modification times of open files, and sees no holes
	Debug         bool         // log each request. Shows names of files
	FsName        string       // what df(1) shows as the device; "envfs" if empty
	Log           *slog.Logger // slog.Default() if nil
	MaxBackground int          // requests of read-ahead and write-back that may be under way at once; 64 if 0
	MaxNodes      int          // above this many files known to the kernel it is asked to forget the oldest; 500,000 if 0
}

// Server serves one mount. Its methods may be called concurrently.
type Server struct {
	fuse       *fuse.Server
	mountpoint string
	direct     bool // mounted by mount(2), not by fusermount3
	done       chan struct{}
	unmounting sync.Mutex
}

// Mount shows f at mountpoint, an existing directory, and returns when the first request can be served. As root it
// calls mount(2) itself, as another user the setuid program fusermount3.
//
// f stays the caller's: it is to be closed after [Server.Wait] returned.
func Mount(f *fs.FS, mountpoint string, o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.MaxNodes <= 0 {
		o.MaxNodes = defaultMaxNodes
	}
	raw := newRawFS(f, o.Log, o.MaxNodes)
	raw.writeback = o.Writeback
	if raw.follows = o.Follow; raw.follows {
		raw.believe = 0
	}
	return serve(raw, mountpoint, o)
}

// serve mounts raw and answers its requests.
func serve(raw *rawFS, mountpoint string, o Options) (*Server, error) {
	s := &Server{mountpoint: mountpoint, direct: os.Geteuid() == 0, done: make(chan struct{})}
	var err error
	s.fuse, err = fuse.NewServer(raw, mountpoint, mountOptions(o, s.direct))
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", mountpoint, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var background sync.WaitGroup
	background.Go(func() { raw.nodes.evict(ctx, raw.kernel) })
	if raw.follows {
		background.Go(func() { raw.fs.Follow(ctx, raw.dropPages) })
	}
	go func() {
		defer close(s.done)
		s.fuse.Serve()
		stop()
		background.Wait()
		raw.release()
	}()
	if err := s.fuse.WaitMount(); err != nil {
		_ = s.Detach()
		return nil, fmt.Errorf("mount %s: %w", mountpoint, err)
	}
	if s.direct {
		if err := raiseReadAhead(mountpoint); err != nil { // in a container /sys may be read-only
			o.Log.Debug("read-ahead stays as it is", "cause", err)
		}
	}
	return s, nil
}

// mountOptions are those that paid in measurements; docs/DESIGN.md tells how much.
func mountOptions(o Options, direct bool) *fuse.MountOptions {
	m := &fuse.MountOptions{
		Name:                    "envfs",
		FsName:                  o.FsName,
		AllowOther:              o.AllowOther,
		Options:                 []string{"default_permissions"},
		MaxWrite:                maxRequest,
		MaxBackground:           o.MaxBackground,
		MaxInflightRequestBytes: maxInflight,
		DisableSplice:           true, // replies lie in memory: splicing them costs three system calls
		DirectMountStrict:       direct,
		DirectMountFlags:        syscall.MS_NOSUID | syscall.MS_NODEV,
		EnableSymlinkCaching:    !o.Follow,
		// Nobody else changes a file's content, so a new modification time is no reason to drop its pages.
		ExplicitDataCacheControl: true,
		ExtraCapabilities: fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_READDIRPLUS_AUTO | fuse.CAP_ATOMIC_O_TRUNC |
			fuse.CAP_NO_EXPORT_SUPPORT,
		DisabledCapabilities: fuse.CAP_PASSTHROUGH,
		Debug:                o.Debug,
		Logger:               slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn),
		PanicHandler: func(v any) fuse.Status {
			o.Log.Error("a request failed by a mistake in envfs", "panic", v, "stack", string(debug.Stack()))
			return fuse.EIO
		},
	}
	if m.FsName == "" {
		m.FsName = "envfs"
	}
	if m.MaxBackground <= 0 {
		m.MaxBackground = defaultMaxBackground
	}
	if !o.Follow { // else the kernel would keep listings
		m.ExtraCapabilities |= fuse.CAP_NO_OPENDIR_SUPPORT
	}
	if o.Writeback {
		m.ExtraCapabilities |= fuse.CAP_WRITEBACK_CACHE
	}
	if o.ReadOnly {
		m.DirectMountFlags |= syscall.MS_RDONLY
		if !direct {
			m.Options = append(m.Options, "ro")
		}
	}
	return m
}

// Mountpoint returns where s is mounted.
func (s *Server) Mountpoint() string { return s.mountpoint }

// Wait returns when the file system is unmounted, by whomever, and no request is under way any more.
func (s *Server) Wait() { <-s.done }

// Unmount unmounts the file system and waits until no request is under way any more. The error wraps syscall.EBUSY
// if files in it are in use. Once unmounted, by whomever, Unmount returns nil.
func (s *Server) Unmount() error {
	s.unmounting.Lock()
	defer s.unmounting.Unlock()
	select {
	case <-s.done:
		return nil
	default:
	}
	if err := s.fuse.Unmount(); err != nil {
		select {
		case <-s.done: // somebody else was faster
			return nil
		default:
		}
		if !errors.Is(err, syscall.EBUSY) && strings.Contains(err.Error(), "busy") { // fusermount3 only tells in words
			err = syscall.EBUSY
		}
		return fmt.Errorf("unmount %s: %w", s.mountpoint, err)
	}
	s.Wait()
	return nil
}

// Detach takes the file system out of the tree of directories at once, also if it is in use. It goes on being served
// to those who use it; [Server.Wait] tells when the last has ended.
func (s *Server) Detach() error {
	var err error
	if s.direct {
		err = syscall.Unmount(s.mountpoint, syscall.MNT_DETACH)
	} else {
		err = fusermount("-u", "-z", s.mountpoint)
	}
	if err != nil {
		return fmt.Errorf("detach %s: %w", s.mountpoint, err)
	}
	return nil
}

func fusermount(args ...string) error {
	out, err := exec.Command("fusermount3", args...).CombinedOutput()
	if err != nil && len(out) > 0 {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return err
}
