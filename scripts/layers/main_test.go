package main

import "testing"

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		pkg, imp string
		allowed  bool
	}{
		{"blockcrypt", "io", true},
		{"blockcrypt", "envfs/remote", false},
		{"keystore", "envfs/keystore/arena", true},
		{"keystore/pin", "envfs/remote", false},
		{"remote/dir", "envfs/remote", true},
		{"remote", "envfs/remote/dir", false},
		{"fs", "envfs/remote", true},
		{"fs", "envfs/remote/dir", false},
		{"fs", "envfs/fs/fusefs", false},
		{"fs", "github.com/hanwen/go-fuse/v2/fuse", false},
		{"fs/fusefs", "github.com/hanwen/go-fuse/v2/fuse", true},
		{"fs/fusefs", "envfs/fs", true},
		{"fs/fusefs", "envfs/keystore", false},
		{"fs/filemap", "envfs/remote", false},
		{"cmd/envfs", "envfs/fs/fusefs", true},
		{"cmd/envfs", "envfs/cmd/envfs/internal/state", true},
		{"cmd/envfs", "envfs/tests/model", false},
		{"new", "io", false},
	} {
		wrong := check(listed{ImportPath: module + "/" + c.pkg, Imports: []string{c.imp}})
		if (len(wrong) == 0) != c.allowed {
			t.Errorf("%s -> %s: %v, want allowed %v", c.pkg, c.imp, wrong, c.allowed)
		}
	}
}
