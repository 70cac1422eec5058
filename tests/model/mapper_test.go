package model

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The process that serves a mount must not touch a mapping of a file in it: a page fault holds a lock of the process's
// address space until the daemon answers, and the daemon, here the same process, may need that lock to grow its memory.
// So mappings are made by a child, which is started before any mount and is handed the open files.

// mapperEnv, set in its environment, makes the test binary the child.
const mapperEnv = "ENVFS_MODEL_MAPPER"

// mapping is what the child is asked to do with a file: to change the bytes from page+at, and tell what it then sees.
type mapping struct {
	Page int64
	At   int
	Data []byte
	Sync bool
}

// mapped is its answer.
type mapped struct {
	Errno syscall.Errno
	Seen  []byte // the mapping, from page on
	Same  bool   // read(2) gives the same bytes
}

// mapper is the child, seen from the tests.
type mapper struct {
	mu   sync.Mutex
	conn *net.UnixConn
	in   *gob.Decoder
}

var child mapper // started by TestMain, as it must be there before the first mount

func TestMain(m *testing.M) {
	if os.Getenv(mapperEnv) != "" {
		if err := serveMappings(); err != nil && !errors.Is(err, io.EOF) {
			fmt.Fprintln(os.Stderr, "mapper:", err)
			os.Exit(1)
		}
		return
	}
	stop, err := child.start()
	if err != nil {
		fmt.Fprintln(os.Stderr, "start the process that maps files:", err)
		os.Exit(1)
	}
	code := m.Run()
	stop()
	os.Exit(code)
}

func (c *mapper) start() (stop func(), err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "mapper"), os.NewFile(uintptr(fds[1]), "model")
	defer theirs.Close()
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), mapperEnv+"=1")
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c.conn = conn.(*net.UnixConn)
	c.in = gob.NewDecoder(c.conn)
	return func() {
		c.conn.Close()
		cmd.Wait()
	}, nil
}

// do has the child do what m says with an open file.
func (c *mapper) do(fd int, m mapping) (mapped, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out bytes.Buffer
	if err := gob.NewEncoder(&out).Encode(m); err != nil {
		return mapped{}, err
	}
	// The file goes with the first byte, the length of what follows.
	head := []byte{byte(out.Len() >> 16), byte(out.Len() >> 8), byte(out.Len())}
	if _, _, err := c.conn.WriteMsgUnix(head, unix.UnixRights(fd), nil); err != nil {
		return mapped{}, err
	}
	if _, err := c.conn.Write(out.Bytes()); err != nil {
		return mapped{}, err
	}
	var r mapped
	err := c.in.Decode(&r)
	return r, err
}

// serveMappings is the child's life.
func serveMappings() error {
	conn, err := net.FileConn(os.NewFile(3, "model"))
	if err != nil {
		return err
	}
	sock := conn.(*net.UnixConn)
	answers := gob.NewEncoder(sock)
	for {
		m, fd, err := receive(sock)
		if err != nil {
			return err
		}
		r, err := m.apply(fd)
		unix.Close(fd)
		if err != nil {
			if !errors.As(err, &r.Errno) {
				return err
			}
		}
		if err := answers.Encode(r); err != nil {
			return err
		}
	}
}

func receive(sock *net.UnixConn) (m mapping, fd int, err error) {
	head := make([]byte, 3)
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := sock.ReadMsgUnix(head, oob)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return m, -1, err
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(msgs) != 1 {
		return m, -1, fmt.Errorf("no file came with the request: %w", err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil {
		return m, -1, err
	}
	if _, err := io.ReadFull(sock, head[n:]); err != nil {
		return m, -1, err
	}
	body := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
	if _, err := io.ReadFull(sock, body); err != nil {
		return m, -1, err
	}
	return m, fds[0], gob.NewDecoder(bytes.NewReader(body)).Decode(&m)
}

// apply changes the file through a shared mapping, and reads it back by the mapping and by read(2).
func (m mapping) apply(fd int) (r mapped, err error) {
	mem, err := unix.Mmap(fd, m.Page, m.At+len(m.Data), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return r, err
	}
	defer unix.Munmap(mem)
	copy(mem[m.At:], m.Data)
	if m.Sync {
		if err := unix.Msync(mem, unix.MS_SYNC); err != nil {
			return r, err
		}
	}
	r.Seen = bytes.Clone(mem)
	read := make([]byte, len(mem))
	if _, err := unix.Pread(fd, read, m.Page); err != nil {
		return r, err
	}
	r.Same = bytes.Equal(r.Seen, read)
	return r, nil
}
