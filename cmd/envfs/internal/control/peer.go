package control

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// peer returns who is at the other end of a connection.
func peer(c *net.UnixConn) (cred *unix.Ucred, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("peer of socket: %w", err)
	}
	if cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("peer of socket: %w", err)
	}
	return cred, nil
}
