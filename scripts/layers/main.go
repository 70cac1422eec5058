// Command layers checks that dependencies between the packages of this module point down only:
//
//	cmd -> fs/fusefs -> fs -> {keystore, remote} -> blockcrypt
//	cmd -> kms/server -> kms -> kms/{audit, policy, store} -> kms/internal/envelope
//
// and that what talks to the world outside is imported only where it belongs.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

const module = "envfs"

// rule says which packages of this module a package may import, besides what lies below itself.
type rule struct {
	pkg   string   // the package and all below it, unless a longer rule fits
	below []string // it may import these packages, not what lies below them; "..." at the end takes that in
}

// rules, the longest fitting pkg counts.
var rules = [...]rule{
	{"blockcrypt", nil},
	{"keystore", []string{"blockcrypt"}},
	{"remote", []string{"blockcrypt"}},
	{"remote/dir", []string{"remote", "blockcrypt"}},
	{"remote/s3", []string{"remote", "blockcrypt"}},
	{"remote/s3/s3test", []string{"tests/port"}},
	{"remote/cache", []string{"remote", "remote/dir", "blockcrypt"}},
	{"remote/remotetest", []string{"remote", "blockcrypt"}},
	{"fs/journal", []string{"keystore", "remote", "blockcrypt"}},
	{"fs/filemap", []string{"blockcrypt"}},
	{"fs/fusefs", []string{"fs", "blockcrypt"}},
	{"fs", []string{"fs/journal", "fs/filemap", "keystore...", "remote", "blockcrypt"}},
	{"kms/internal/envelope", nil},
	{"kms/blob", []string{"kms/internal/envelope"}},
	{"kms/seal", []string{"kms/internal/envelope"}},
	{"kms/store", []string{"kms/internal/envelope", "keystore/arena"}},
	{"kms/sigv4", nil},
	{"kms/policy", nil},
	{"kms/audit", nil},
	{"kms/server", []string{"kms", "kms/sigv4", "kms/audit"}},
	{"kms/kmstest", []string{"kms..."}},
	{"kms", []string{"kms/blob", "kms/store", "kms/policy", "kms/audit", "keystore/arena"}},
	{"cmd", []string{"fs...", "keystore...", "remote...", "kms...", "blockcrypt"}},
	{"tests", []string{"fs...", "keystore...", "remote...", "kms...", "blockcrypt"}},
	{"scripts", nil},
}

// outside says where else than in tests a module may be imported.
var outside = map[string][]string{
	"github.com/hanwen/go-fuse/": {"fs/fusefs", "cmd", "tests"},
	"github.com/minio/minio-go/": {"remote/s3", "tests/bench"},
	"github.com/aws/":            {"keystore/awskms", "kms", "tests"},
	"filippo.io/age":             {"keystore/agekey", "keystore/masterkey"},
	"github.com/godbus/dbus/":    {"keystore/loginkeyring"},
	"github.com/google/go-tpm/":  {"keystore/tpm"},
	"github.com/miekg/pkcs11":    {"cmd/envfs-pkcs11"},
	"github.com/spf13/":          {"cmd"},
	"go.etcd.io/bbolt":           {"kms/store"},
	"golang.org/x/crypto/":       {"keystore", "blockcrypt"},
}

// listed is a package as go list describes it.
type listed struct {
	ImportPath string
	Imports    []string
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "layers:", err)
		os.Exit(1)
	}
}

func run() error {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var wrong []error
	for dec := json.NewDecoder(out); ; {
		var p listed
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			return fmt.Errorf("read package list: %w", err)
		}
		wrong = append(wrong, check(p)...)
	}
	return errors.Join(append(wrong, cmd.Wait())...)
}

// check returns an error for each import that a package must not have.
func check(p listed) []error {
	pkg, _ := strings.CutPrefix(p.ImportPath, module+"/")
	r, ok := ruleOf(pkg)
	if !ok {
		return []error{fmt.Errorf("%s: no rule says where it stands", pkg)}
	}
	var wrong []error
	for _, imp := range p.Imports {
		if !allowed(pkg, r, imp) {
			wrong = append(wrong, fmt.Errorf("%s must not import %s", pkg, imp))
		}
	}
	return wrong
}

func ruleOf(pkg string) (r rule, ok bool) {
	for _, c := range rules {
		if within(pkg, c.pkg) && len(c.pkg) > len(r.pkg) {
			r, ok = c, true
		}
	}
	return r, ok
}

func allowed(pkg string, r rule, imp string) bool {
	ours, ok := strings.CutPrefix(imp, module+"/")
	if !ok {
		for prefix, places := range outside {
			if strings.HasPrefix(imp, prefix) {
				return slices.ContainsFunc(places, func(place string) bool { return within(pkg, place) })
			}
		}
		return true
	}
	if to, ok := ruleOf(ours); ok && to.pkg == r.pkg {
		return true // within the same room
	}
	return slices.ContainsFunc(r.below, func(b string) bool {
		if tree, ok := strings.CutSuffix(b, "..."); ok {
			return within(ours, tree)
		}
		return ours == b
	})
}

// within reports whether pkg is dir or lies below it.
func within(pkg, dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }
