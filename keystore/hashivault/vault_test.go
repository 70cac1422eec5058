package hashivault

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"
)

// server is a running Vault (scripts/servers.sh vault-test builds it).
type server struct {
	t      *testing.T
	URL    string
	root   string // token
	unseal string
	http   *http.Client
}

// start starts a Vault with Transit at transit/ and AppRole at approle/, which ends with the test.
func start(t *testing.T, args ...string) *server {
	t.Helper()
	cmd := exec.Command("../../bin/vault-test", args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start Vault: %v; run scripts/servers.sh vault-test", err)
	}
	t.Cleanup(func() {
		_ = in.Close()
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
	s := &server{t: t, URL: "http://" + is.Address, root: is.Root, unseal: is.Unseal, http: &http.Client{Timeout: time.Minute}}
	if len(args) > 0 {
		return s // the caller knows how to reach it
	}
	s.must("POST", "sys/mounts/transit", map[string]any{"type": "transit"})
	s.must("POST", "sys/auth/approle", map[string]any{"type": "approle"})
	return s
}

// must makes a request as root and returns the reply.
func (s *server) must(method, path string, body any) (reply map[string]any) {
	s.t.Helper()
	content, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	q, err := http.NewRequest(method, s.URL+"/v1/"+path, bytes.NewReader(content))
	if err != nil {
		s.t.Fatal(err)
	}
	q.Header.Set("X-Vault-Token", s.root)
	resp, err := s.http.Do(q)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		s.t.Fatalf("%s %s: %s: %s, %v", method, path, resp.Status, text, err)
	}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &reply); err != nil {
			s.t.Fatalf("%s %s: %v", method, path, err)
		}
	}
	return reply
}

// field returns a text in a reply.
func field(reply map[string]any, names ...string) string {
	for _, n := range names[:len(names)-1] {
		reply, _ = reply[n].(map[string]any)
	}
	return fmt.Sprint(reply[names[len(names)-1]])
}

// key makes a derived key.
func (s *server) key(name string) {
	s.t.Helper()
	s.must("POST", "transit/keys/"+name, map[string]any{"derived": true})
}

// token returns a token with a policy, without the default one.
func (s *server) token(policy string, more map[string]any) string {
	s.t.Helper()
	s.must("PUT", "sys/policies/acl/suite", map[string]any{"policy": policy})
	body := map[string]any{"policies": []string{"suite"}, "no_default_policy": true}
	for k, v := range more {
		body[k] = v
	}
	return field(s.must("POST", "auth/token/create", body), "auth", "client_token")
}

// as returns an environment in which who holds a token asks.
func (s *server) as(token string) map[string]string {
	return map[string]string{"VAULT_ADDR": s.URL, "VAULT_TOKEN": token}
}

// open returns a provider in an environment.
func open(t *testing.T, env map[string]string, uri string) *Provider {
	t.Helper()
	p, err := New(uri, func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	return p
}
