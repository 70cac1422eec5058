// Command vault-test is the real Vault for tests: its core, its Transit and AppRole, its file audit and its HTTP
// handler, with storage in memory. It prints one line of JSON, {"address", "root_token", "unseal_key"}, when it is
// initialised, unsealed and listening, and ends with its standard input, so that it never outlives the test that
// started it.
//
// Vault is under the Business Source License 1.1: this program is built where tests run and is never part of what envfs
// ships.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/audit"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/logical/transit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

func main() {
	cert := flag.String("cert", "", "serve TLS with the certificate in `FILE` (PEM)")
	key := flag.String("key", "", "its private key, in `FILE` (PEM)")
	flag.Parse()
	if err := run(*cert, *key); err != nil {
		fmt.Fprintln(os.Stderr, "vault-test:", err)
		os.Exit(1)
	}
}

func run(cert, key string) error {
	core, err := newCore()
	if err != nil {
		return err
	}
	made, err := initialize(core)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: vaulthttp.Handler.Handler(&vault.HandlerProperties{
		Core: core, ListenerConfig: &configutil.Listener{Address: ln.Addr().String()},
	})}
	failed := make(chan error, 1)
	go func() {
		if cert != "" {
			failed <- server.ServeTLS(ln, cert, key)
			return
		}
		failed <- server.Serve(ln)
	}()
	made["address"] = ln.Addr().String()
	if err := json.NewEncoder(os.Stdout).Encode(made); err != nil {
		return err
	}
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		failed <- err
	}()
	return <-failed
}

// newCore returns a core that is neither initialised nor unsealed.
func newCore() (*vault.Core, error) {
	logger := hclog.New(&hclog.LoggerOptions{Name: "vault", Level: hclog.Error, Output: os.Stderr})
	storage, err := inmem.NewInmem(nil, logger)
	if err != nil {
		return nil, err
	}
	return vault.NewCore(&vault.CoreConfig{
		Physical:           storage,
		Logger:             logger,
		LogLevel:           "error",
		DisableMlock:       true,
		LogicalBackends:    map[string]logical.Factory{"transit": transit.Factory},
		CredentialBackends: map[string]logical.Factory{"approle": approle.Factory},
		AuditBackends:      map[string]audit.Factory{"file": audit.NewFileBackend},
		BuiltinRegistry:    builtin{},
	})
}

// initialize initialises and unseals the core, with one share of the unseal key.
func initialize(core *vault.Core) (map[string]string, error) {
	ctx := context.Background()
	one := &vault.SealConfig{SecretShares: 1, SecretThreshold: 1}
	made, err := core.Initialize(ctx, &vault.InitParams{BarrierConfig: one, RecoveryConfig: one})
	if err != nil {
		return nil, fmt.Errorf("initialise: %w", err)
	}
	share := made.SecretShares[0]
	if open, err := core.Unseal(append([]byte(nil), share...)); err != nil || !open {
		return nil, fmt.Errorf("unseal: open is %v: %w", open, err)
	}
	return map[string]string{"root_token": made.RootToken, "unseal_key": base64.StdEncoding.EncodeToString(share)}, nil
}

// builtin is the registry of plugins that are built in: those of newCore.
type builtin struct{}

func (builtin) Contains(name string, kind consts.PluginType) bool {
	return kind == consts.PluginTypeSecrets && name == "transit" || kind == consts.PluginTypeCredential && name == "approle"
}

func (b builtin) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	switch {
	case !b.Contains(name, kind):
		return nil, false
	case name == "transit":
		return func() (any, error) { return logical.Factory(transit.Factory), nil }, true
	}
	return func() (any, error) { return logical.Factory(approle.Factory), nil }, true
}

func (builtin) Keys(kind consts.PluginType) []string {
	switch kind {
	case consts.PluginTypeSecrets:
		return []string{"transit"}
	case consts.PluginTypeCredential:
		return []string{"approle"}
	}
	return nil
}

func (b builtin) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, b.Contains(name, kind)
}

func (builtin) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }
