// Command envfs-pkcs11 is envfs's helper for PKCS#11 modules: it loads the module that its argument names, and answers
// requests on its standard input (keystore/pkcs11/wire) until that ends. envfs starts it; nobody else needs to.
//
// It is a program of its own because a module is a shared library made by its vendor: it needs the C library, which
// envfs does not, and it may crash or hang.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"envfs/keystore/arena"
	"envfs/keystore/pkcs11/wire"
)

// parting is how long the module has to end when there is nobody left to serve.
const parting = time.Second

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "envfs-pkcs11:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return errors.New("usage: envfs-pkcs11 MODULE (envfs starts it)")
	}
	if err := arena.NoDumps(); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	replies, err := ownOutput()
	if err != nil {
		return err
	}
	requests, ended := listen(os.Stdin)
	d, err := load(os.Args[1])
	if err != nil {
		return err
	}
	defer d.close()
	for q := range requests {
		r := d.answer(q)
		clear(q.PIN)
		err := wire.Write(replies, r)
		clear(r.MAC)
		if err != nil {
			return fmt.Errorf("reply: %w", err)
		}
	}
	return <-ended
}

// ownOutput returns standard output for replies only: what a module prints goes to standard error.
func ownOutput() (*os.File, error) {
	fd, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("keep standard output: %w", err)
	}
	if err := unix.Dup2(2, 1); err != nil {
		return nil, fmt.Errorf("redirect standard output: %w", err)
	}
	return os.NewFile(uintptr(fd), "replies"), nil
}

// listen reads requests. When they end the process does, also if the module hangs.
func listen(r io.Reader) (<-chan wire.Request, <-chan error) {
	requests, ended := make(chan wire.Request), make(chan error, 1)
	go func() {
		for {
			var q wire.Request
			err := wire.Read(r, &q)
			if err != nil {
				time.AfterFunc(parting, func() { os.Exit(1) })
				if err != io.EOF {
					ended <- err
				}
				close(ended)
				close(requests)
				return
			}
			requests <- q
		}
	}()
	return requests, ended
}
