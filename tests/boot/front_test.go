package boot

import (
	"io"
	"net"
	"testing"
)

// newFront returns an address at which connections are refused, until later has somebody listen there who passes them
// on: after the first two were refused.
func newFront(t *testing.T) (address string, later func(to string)) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String(), func(to string) {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if n < 4 { // more than one call's own tries
				c.Close()
				continue
			}
			go pass(c, to)
		}
	}
}

func pass(c net.Conn, to string) {
	defer c.Close()
	far, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer far.Close()
	go func() { _, _ = io.Copy(far, c) }()
	_, _ = io.Copy(c, far)
}
