package port

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// inside tells the copy of this test binary that it runs in a network of its own.
const inside = "ENVFS_TEST_NETWORK"

// In a network with four ports, one of which is reserved, nobody is given that one, and a server can have it.
func TestReserve(t *testing.T) {
	if os.Getenv(inside) == "" {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		way := "-rn"
		if os.Geteuid() == 0 {
			way = "-n"
		}
		cmd := exec.Command("unshare", way, "/bin/sh", "-c",
			`ip link set lo up && echo 50000 50003 >/proc/sys/net/ipv4/ip_local_port_range && exec "$0" -test.run='^TestReserve$'`, exe)
		cmd.Env = append(os.Environ(), inside+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return
	}
	p, err := Reserve()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := net.Dial("tcp", p.Address()); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("while nobody listens: %v", err)
		}
		server, err := net.Listen("tcp", p.Address())
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", p.Address())
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		server.Close()
	}
	others := 0
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if errors.Is(err, unix.EADDRINUSE) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if l.Addr().String() == p.Address() {
			t.Error("somebody else is given the port")
		}
		others++
	}
	if others == 0 {
		t.Error("nobody is given a port")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil || l.Addr().String() != p.Address() {
		t.Errorf("it is not given back: %v", err)
	}
}
