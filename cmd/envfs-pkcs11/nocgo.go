//go:build !cgo

package main

import (
	"errors"

	"envfs/keystore/pkcs11/wire"
)

// device stands for what this build has not.
type device struct{}

func load(string) (*device, error) {
	return nil, errors.New("built without cgo, it cannot load modules: build it with CGO_ENABLED=1 and a C compiler")
}

func (*device) answer(wire.Request) wire.Reply { return wire.Reply{Code: wire.Away} }

func (*device) close() {}
