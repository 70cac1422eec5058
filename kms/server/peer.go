package server

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// LocalName is how the log names the user of this machine with the number uid, who administers the KMS.
func LocalName(uid int) string { return fmt.Sprintf("local:%d", uid) }

// peerListener accepts connections to a Unix socket, and asks the system who is there (SO_PEERCRED).
type peerListener struct {
	*net.UnixListener
	allow func(uid int) bool
	log   *slog.Logger
}

// Accept returns the next connection of a user who is allowed.
func (l *peerListener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := peerUID(c)
		if err == nil && l.allow(uid) {
			return &peerConn{c, uid}, nil
		}
		l.log.Warn("a user of this machine was not let in", "uid", uid, "error", err)
		c.Close()
	}
}

func peerUID(c *net.UnixConn) (uid int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	var cred *unix.Ucred
	cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if cerr != nil {
		return -1, cerr
	}
	if err != nil {
		return -1, err
	}
	return int(cred.Uid), nil
}

// peerConn is a connection whose address is the user at the other end.
type peerConn struct {
	*net.UnixConn
	uid int
}

func (c *peerConn) RemoteAddr() net.Addr { return peerAddr(c.uid) }

type peerAddr int

// maxSocketPath is what fits into an address of a Unix socket, with a zero at its end.
const maxSocketPath = 107

const peerPrefix = "unix:uid="

func (a peerAddr) Network() string { return "unix" }
func (a peerAddr) String() string  { return fmt.Sprintf("%s%d", peerPrefix, int(a)) }

// peerOf returns the number of the user who sent a request through a [peerConn].
func peerOf(r *http.Request) int {
	uid := -1
	if digits, ok := strings.CutPrefix(r.RemoteAddr, peerPrefix); ok {
		fmt.Sscan(digits, &uid)
	}
	return uid
}

// listenUnix listens at a socket with the given permissions, in the place of one that a process which is gone has left.
// Only who holds the lock of the KMS may call it.
func listenUnix(path string, mode os.FileMode, allow func(uid int) bool, log *slog.Logger) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("listen at %s: the path has more than %d bytes, which a socket's may have (unix(7))", path, maxSocketPath)
	}
	if st, err := os.Lstat(path); err == nil && st.Mode().Type() == os.ModeSocket {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("listen at %s: %w", path, err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	if err := os.Chmod(path, mode); err != nil {
		l.Close()
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	return &peerListener{l, allow, log}, nil
}
