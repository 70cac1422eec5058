// Package port keeps ports of 127.0.0.1 for tests.
package port

import (
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Port is a TCP port of 127.0.0.1 that the kernel gives to nobody else: neither to who asks for any port nor, as its own
// end, to who connects. A server that is told to can listen there, again and again, if it sets SO_REUSEADDR, as those in Go
// do. While none does, connections are refused.
type Port struct {
	Number string
	bound  *os.File // bound there, and never listens
}

// Reserve returns a port that is kept until Close, or until nothing refers to it any more.
func Reserve() (*Port, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("reserve port: %w", err)
	}
	p := &Port{bound: os.NewFile(uintptr(fd), "port")}
	if p.Number, err = bind(fd); err != nil {
		_ = p.Close() // the first error tells more
		return nil, fmt.Errorf("reserve port: %w", err)
	}
	return p, nil
}

func bind(fd int) (number string, err error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return "", err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return "", err
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		return "", err
	}
	return strconv.Itoa(at.(*unix.SockaddrInet4).Port), nil
}

// Address is the port with its host.
func (p *Port) Address() string { return net.JoinHostPort("127.0.0.1", p.Number) }

// Close gives the port back.
func (p *Port) Close() error { return p.bound.Close() }
