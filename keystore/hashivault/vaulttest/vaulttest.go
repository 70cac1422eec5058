// Package vaulttest runs the real Vault for tests: bin/vault-test, which scripts/servers.sh builds from tools/vault.
package vaulttest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A T is the part of testing.TB that the server needs.
type T interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Server is a running Vault. It must not be used concurrently.
type Server struct {
	t      T
	URL    string
	Root   string // the token that may do everything
	Unseal string // the one share of the key that unseals it
	HTTP   *http.Client
}

// Start starts a Vault with storage in memory, which ends with the test, and has Transit at transit/ and AppRole at
// approle/. With the files of a certificate and its key, which client must trust, it serves TLS.
func Start(t T, client *http.Client, certAndKey ...string) *Server {
	t.Helper()
	s := &Server{t: t, URL: "http://", HTTP: client}
	var args []string
	if len(certAndKey) == 2 {
		s.URL, args = "https://", []string{"-cert", certAndKey[0], "-key", certAndKey[1]}
	}
	path, err := binary()
	if err != nil {
		t.Fatalf("start Vault: %v", err)
	}
	cmd := exec.Command(path, args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatalf("start Vault: %v", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatalf("start Vault: %v", err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start Vault: %v", err)
	}
	t.Cleanup(func() {
		_ = in.Close() // which ends it
		_ = cmd.Wait()
	})
	var is struct {
		Address string `json:"address"`
		Root    string `json:"root_token"`
		Unseal  string `json:"unseal_key"`
	}
	if err := json.NewDecoder(out).Decode(&is); err != nil {
		t.Fatalf("start Vault: %v", err)
	}
	s.URL, s.Root, s.Unseal = s.URL+is.Address, is.Root, is.Unseal
	s.Do("POST", "sys/mounts/transit", map[string]any{"type": "transit"})
	s.Do("POST", "sys/auth/approle", map[string]any{"type": "approle"})
	return s
}

// binary finds bin/vault-test above the working directory.
func binary() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		path := filepath.Join(dir, "bin", "vault-test")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("bin/vault-test is missing; run scripts/servers.sh vault-test")
		}
	}
}

// Do makes a request as root and returns the reply. If it fails so does the test.
func (s *Server) Do(method, path string, body any) (reply map[string]any) {
	s.t.Helper()
	content, err := json.Marshal(body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	q, err := http.NewRequest(method, s.URL+"/v1/"+path, bytes.NewReader(content))
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	q.Header.Set("X-Vault-Token", s.Root)
	resp, err := s.HTTP.Do(q)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= http.StatusMultipleChoices {
		s.t.Fatalf("%s %s: %s: %s, %v", method, path, resp.Status, text, err)
	}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &reply); err != nil {
			s.t.Fatalf("%s %s: %v", method, path, err)
		}
	}
	return reply
}

// Field returns what a reply holds at a path of names, such as "data.role_id".
func Field(reply map[string]any, path string) any {
	names := strings.Split(path, ".")
	for _, n := range names[:len(names)-1] {
		reply, _ = reply[n].(map[string]any)
	}
	return reply[names[len(names)-1]]
}

// Key makes a derived key.
func (s *Server) Key(name string) {
	s.t.Helper()
	s.Do("POST", "transit/keys/"+name, map[string]any{"derived": true})
}

// Token returns a token with one policy, not even the default one, and whatever else settings say of it.
func (s *Server) Token(policy string, settings map[string]any) string {
	s.t.Helper()
	s.Do("PUT", "sys/policies/acl/test", map[string]any{"policy": policy})
	body := map[string]any{"policies": []string{"test"}, "no_default_policy": true}
	for name, value := range settings {
		body[name] = value
	}
	return fmt.Sprint(Field(s.Do("POST", "auth/token/create", body), "auth.client_token"))
}

// Env returns an environment in which who holds a token asks.
func (s *Server) Env(token string) map[string]string {
	return map[string]string{"VAULT_ADDR": s.URL, "VAULT_TOKEN": token}
}
