package hashivault

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"envfs/keystore"
	"envfs/keystore/hashivault/vaulttest"
)

const opens = `path "transit/decrypt/photos" { capabilities = ["update"] }`

// role returns an environment in which an AppRole that may open asks; its tokens serve for n requests, 0: for any number.
func role(t *testing.T, s *vaulttest.Server, n int) map[string]string {
	t.Helper()
	s.Do("PUT", "sys/policies/acl/opens", map[string]any{"policy": opens})
	s.Do("POST", "auth/approle/role/mount", map[string]any{"token_policies": "opens", "token_num_uses": n})
	return map[string]string{
		"VAULT_ADDR":      s.URL,
		"VAULT_ROLE_ID":   fmt.Sprint(vaulttest.Field(s.Do("GET", "auth/approle/role/mount/role-id", nil), "data.role_id")),
		"VAULT_SECRET_ID": fmt.Sprint(vaulttest.Field(s.Do("POST", "auth/approle/role/mount/secret-id", map[string]any{}), "data.secret_id")),
	}
}

// An AppRole logs in, and again when its token is used up. A wrong secret is refused.
func TestAppRole(t *testing.T) {
	s := vaulttest.Start(t, http.DefaultClient)
	s.Key("photos")
	info, w := wrapped(t, open(t, s.Env(s.Root), photos))
	env := role(t, s, 2)
	p := open(t, env, "")
	for range 5 {
		if got, err := p.Secret(t.Context(), info); err != nil || string(got) != w {
			t.Fatalf("secret: %v", err)
		}
	}
	wrong := maps.Clone(env)
	wrong["VAULT_SECRET_ID"] = "00000000-0000-0000-0000-000000000000"
	if _, err := open(t, wrong, "").Secret(t.Context(), info); !errors.Is(err, keystore.ErrRefused) || !strings.Contains(err.Error(), "AppRole login") {
		t.Errorf("a wrong secret: %v", err)
	}
	bao := map[string]string{}
	for name, value := range env {
		bao[strings.Replace(name, "VAULT_", "BAO_", 1)] = value
	}
	if got, err := open(t, bao, "").Secret(t.Context(), info); err != nil || string(got) != w {
		t.Errorf("by OpenBao's variables: %v", err)
	}
}

// A token that is revoked, as one that has expired, is refused. That of the file is used if no other is named.
func TestTokens(t *testing.T) {
	s := vaulttest.Start(t, http.DefaultClient)
	s.Key("photos")
	info, w := wrapped(t, open(t, s.Env(s.Root), photos))
	token := s.Token(opens, nil)
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, ".vault-token"), []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := open(t, map[string]string{"VAULT_ADDR": s.URL, "HOME": home}, "")
	if got, err := p.Secret(t.Context(), info); err != nil || string(got) != w {
		t.Errorf("secret: %v", err)
	}
	s.Do("POST", "auth/token/revoke", map[string]any{"token": token})
	if _, err := p.Secret(t.Context(), info); !errors.Is(err, keystore.ErrRefused) {
		t.Errorf("secret, the token revoked: %v", err)
	}
	if _, err := New(photos, func(name string) string { return map[string]string{"VAULT_ADDR": s.URL, "HOME": t.TempDir()}[name] }); err == nil || !strings.Contains(err.Error(), "VAULT_TOKEN") {
		t.Errorf("nobody asks: %v", err)
	}
}

// A token opens until it expires, then it is refused.
func TestExpiry(t *testing.T) {
	s := vaulttest.Start(t, http.DefaultClient)
	s.Key("photos")
	info, w := wrapped(t, open(t, s.Env(s.Root), photos))
	p := open(t, s.Env(s.Token(opens, map[string]any{"ttl": "1s", "explicit_max_ttl": "1s"})), "")
	for {
		got, err := p.Secret(t.Context(), info)
		if errors.Is(err, keystore.ErrRefused) {
			return
		}
		if err != nil || string(got) != w {
			t.Fatalf("secret: %v", err)
		}
	}
}

// A token is renewed once less than half of its time is left, and not before.
func TestRenewal(t *testing.T) {
	s := vaulttest.Start(t, http.DefaultClient)
	s.Key("photos")
	info, _ := wrapped(t, open(t, s.Env(s.Root), photos))
	// A renewal to less than what it was made for leaves a token with little time.
	policy := opens + ` path "auth/token/lookup-self" { capabilities = ["read"] } path "auth/token/renew-self" { capabilities = ["update"] }`
	token := s.Token(policy, map[string]any{"ttl": "1h", "renewable": true})
	ttl := func() float64 {
		t.Helper()
		left, _ := vaulttest.Field(s.Do("POST", "auth/token/lookup", map[string]any{"token": token}), "data.ttl").(float64)
		return left
	}
	renewals := 0
	spy := proxy(t, s, func(q *http.Request) {
		if strings.HasSuffix(q.URL.Path, "renew-self") {
			renewals++
		}
	})
	use := func() {
		t.Helper()
		p := open(t, map[string]string{"VAULT_ADDR": spy, "VAULT_TOKEN": token}, "")
		for range 3 {
			if _, err := p.Secret(t.Context(), info); err != nil {
				t.Fatal(err)
			}
		}
	}
	use()
	if renewals != 0 {
		t.Errorf("%d renewals of a new token", renewals)
	}
	s.Do("POST", "auth/token/renew", map[string]any{"token": token, "increment": "10m"})
	if left := ttl(); left > 600 {
		t.Fatalf("%v seconds are left", left)
	}
	use()
	if left := ttl(); renewals != 1 || left <= 600 {
		t.Errorf("%d renewals, %v seconds are left", renewals, left)
	}
}

// proxy returns the address of a proxy before Vault that shows each request to see.
func proxy(t *testing.T, s *vaulttest.Server, see func(*http.Request)) string {
	to, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(to)
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		see(q)
		q.Header.Del("X-Vault-Namespace") // which this edition of Vault has not
		forward.ServeHTTP(w, q)
	}))
	t.Cleanup(p.Close)
	return p.URL
}

// Each request names the namespace, the login too.
func TestNamespace(t *testing.T) {
	s := vaulttest.Start(t, http.DefaultClient)
	s.Key("photos")
	info, _ := wrapped(t, open(t, s.Env(s.Root), photos))
	env := role(t, s, 0)
	seen := 0
	env["VAULT_ADDR"] = proxy(t, s, func(q *http.Request) {
		if q.Header.Get("X-Vault-Namespace") != "team/a" || q.Header.Get("X-Vault-Request") != "true" {
			t.Errorf("%s: headers %v", q.URL.Path, q.Header)
		}
		seen++
	})
	env["VAULT_NAMESPACE"] = "team/a"
	p := open(t, env, "")
	if _, err := p.Secret(t.Context(), info); err != nil || seen != 2 {
		t.Errorf("secret: %v, %d requests", err, seen)
	}
	if d, err := p.Describe(t.Context(), info); err != nil || !strings.Contains(d.Place, "team/a") || !strings.Contains(d.State, "not known") {
		t.Errorf("describe: %+v, %v", d, err)
	}
}

// A standby sends its caller to the active node. Nobody is followed further, or to where keys would go in clear.
func TestStandby(t *testing.T) {
	s := vaulttest.Start(t, http.DefaultClient)
	s.Key("photos")
	info, w := wrapped(t, open(t, s.Env(s.Root), photos))
	standby := func(to string) string {
		f := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, to+q.URL.Path, http.StatusTemporaryRedirect)
		}))
		t.Cleanup(f.Close)
		return f.URL
	}
	env := s.Env(s.Root)
	env["VAULT_ADDR"] = standby(s.URL)
	if got, err := open(t, env, "").Secret(t.Context(), info); err != nil || string(got) != w {
		t.Errorf("secret: %v", err)
	}
	for _, to := range []string{standby(s.URL), "http://vault.example:8200"} {
		env["VAULT_ADDR"] = standby(to)
		if _, err := open(t, env, "").Secret(t.Context(), info); err == nil || !strings.Contains(err.Error(), "not followed") {
			t.Errorf("sent on to %s: %v", to, err)
		}
	}
}

// Vault's certificate is checked against the authorities that are named.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pool := certificate(t, cert, key)
	s := vaulttest.Start(t, &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}, cert, key)
	s.Key("photos")
	authorities := filepath.Join(dir, "ca")
	if err := os.Mkdir(authorities, 0o700); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(cert)
	if err == nil {
		err = os.WriteFile(filepath.Join(authorities, "ours.pem"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"VAULT_CACERT": cert, "VAULT_CAPATH": authorities} {
		env := s.Env(s.Root)
		env[name] = value
		if _, _, err := open(t, env, photos).Wrap(t.Context(), newSlot()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := open(t, s.Env(s.Root), photos).Wrap(t.Context(), newSlot()); !errors.Is(err, keystore.ErrAway) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the authority: %v", err)
	}
}

// certificate writes a certificate for 127.0.0.1, signed by itself, and its key.
func certificate(t *testing.T, certFile, keyFile string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "vault"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := errors.Join(os.WriteFile(certFile, text, 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600)); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return pool
}

// Vault's audit log tells which vault was opened, as docs/KEYS.md says, and nothing else of it.
func TestAuditLog(t *testing.T) {
	s := vaulttest.Start(t, http.DefaultClient)
	s.Key("photos")
	log := filepath.Join(t.TempDir(), "audit.log")
	s.Do("PUT", "sys/audit/file", map[string]any{"type": "file", "options": map[string]string{"file_path": log}})
	s.Do("POST", "sys/mounts/transit/tune", map[string]any{"audit_non_hmac_request_keys": []string{"context"}})
	p := open(t, s.Env(s.Root), photos)
	info, _ := wrapped(t, p)
	if _, err := p.Secret(t.Context(), info); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		var l struct {
			Type    string `json:"type"`
			Request struct {
				Path string         `json:"path"`
				Data map[string]any `json:"data"`
			} `json:"request"`
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		context, ok := l.Request.Data["context"].(string)
		if !ok || l.Type != "request" {
			continue
		}
		said, err := strict.DecodeString(context)
		if err != nil || string(said) != info.ContextText() && string(said) != otherContext {
			t.Errorf("%s: context %q, %v", l.Request.Path, said, err)
		}
		found[l.Request.Path] = found[l.Request.Path] || strings.Contains(string(said), info.Vault.String())
		for name := range l.Request.Data {
			if name != "context" && name != "bits" && name != "ciphertext" {
				t.Errorf("%s: it is told %s", l.Request.Path, name)
			}
		}
	}
	if !found["transit/decrypt/photos"] || !found["transit/datakey/plaintext/photos"] {
		t.Errorf("the log names the vault in %v", found)
	}
}

// The policies that docs/KEYS.md prints let do what it says, and no more.
func TestPolicies(t *testing.T) {
	s := vaulttest.Start(t, http.DefaultClient)
	s.Key("photos")
	text, err := os.ReadFile("../../docs/KEYS.md")
	if err != nil {
		t.Fatal(err)
	}
	printed := func(heading string) string {
		_, rest, ok := strings.Cut(string(text), heading+":\n\n")
		policy, _, more := strings.Cut(rest, "\n\n")
		if !ok || !more || !strings.Contains(policy, `path "transit/`) {
			t.Fatalf("docs/KEYS.md prints no policy below %q", heading)
		}
		return policy
	}
	maker := open(t, s.Env(s.Token(printed("Who makes vaults, adds slots and rewraps them"), nil)), photos)
	info, w := wrapped(t, maker)
	if again, err := maker.Rewrap(t.Context(), info); err != nil {
		t.Errorf("rewrap: %v", err)
	} else {
		info.Provider.Wrapped = again
	}
	if d, err := maker.Describe(t.Context(), info); err != nil || d.State != "enabled" || d.Version != "1" {
		t.Errorf("describe: %+v, %v", d, err)
	}
	server := open(t, s.Env(s.Token(printed("Who only opens them, such as a server"), nil)), photos)
	if got, err := server.Secret(t.Context(), info); err != nil || string(got) != w {
		t.Errorf("secret: %v", err)
	}
	if _, err := server.Rewrap(t.Context(), info); !errors.Is(err, keystore.ErrRefused) {
		t.Errorf("rewrap by who only opens: %v", err)
	}
	if _, _, err := server.Wrap(t.Context(), newSlot()); !errors.Is(err, keystore.ErrRefused) {
		t.Errorf("wrap by who only opens: %v", err)
	}
}

// What this machine says wrong is told without a request.
func TestConfiguration(t *testing.T) {
	for text, env := range map[string]map[string]string{
		"set VAULT_ADDR":     {},
		"https://HOST:PORT":  {"VAULT_ADDR": "vault.example:8200"},
		"in clear":           {"VAULT_ADDR": "http://vault.example:8200", "VAULT_TOKEN": "x"},
		"characters":         {"VAULT_ADDR": "https://vault.example", "VAULT_TOKEN": "x\ny"},
		"no such file":       {"VAULT_ADDR": "https://vault.example", "VAULT_TOKEN": "x", "VAULT_CACERT": "/no/such/file"},
		"no certificate":     {"VAULT_ADDR": "https://vault.example", "VAULT_TOKEN": "x", "VAULT_CACERT": "/etc/hostname"},
		"VAULT_APPROLE_PATH": {"VAULT_ADDR": "https://vault.example", "VAULT_ROLE_ID": "x", "VAULT_APPROLE_PATH": "../sys"},
	} {
		if _, err := New(photos, func(name string) string { return env[name] }); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v: %v", env, err)
		}
	}
}

// Without a home directory no token is looked for in whatever directory this is.
func TestNoHome(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile(".vault-token", []byte("stranger\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"VAULT_ADDR": "https://127.0.0.1:1"}
	if _, err := New(photos, func(name string) string { return env[name] }); err == nil || !strings.Contains(err.Error(), "VAULT_TOKEN") {
		t.Errorf("%v", err)
	}
}

// Nonsense in the environment is an error, not a crash.
func TestOddEnvironments(t *testing.T) {
	s := keystore.SlotInfo{Kind: Kind, Provider: keystore.ProviderData{Key: "transit/photos", Wrapped: []byte("vault:v1:AAAA")}}
	for _, change := range []string{"ADDR=::", "ADDR=//x", "ADDR=https://", "ADDR=https://a b", "ADDR=https://u:secret@h", "ADDR=unix:///x", "NAMESPACE=a\nb", "NAMESPACE=\x00", "TOKEN=secret\n",
		"TOKEN=secret ", "CACERT=/nowhere", "CACERT=/dev/null", "CAPATH=[", "CAPATH=/nowhere", "APPROLE_PATH=..", "APPROLE_PATH=a?b"} {
		name, value, _ := strings.Cut(change, "=")
		env := map[string]string{"VAULT_ADDR": "https://127.0.0.1:1", "VAULT_TOKEN": "secret"}
		env["VAULT_"+name] = value
		p, err := New("", func(name string) string { return env[name] })
		if err == nil {
			_, err = p.Secret(t.Context(), s)
		}
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", change, err)
		}
		if name == "NAMESPACE" && errors.Is(err, keystore.ErrAway) {
			t.Errorf("%q: waiting would not mend it: %v", change, err)
		}
	}
}
