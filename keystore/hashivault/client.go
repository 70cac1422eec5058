package hashivault

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// maxReply bounds a reply, in bytes.
const maxReply = 256 << 10

// client makes requests of one Vault. It is safe for concurrent use.
type client struct {
	http      *http.Client
	address   *url.URL
	namespace string
	auth      auth
}

// Configured reports whether this machine says where Vault is: VAULT_ADDR or BAO_ADDR.
//
// Of the same variables, which OpenBao's tools also call BAO_..., come VAULT_NAMESPACE, VAULT_CACERT or VAULT_CAPATH,
// and who asks: VAULT_TOKEN; or an AppRole, VAULT_ROLE_ID with VAULT_SECRET_ID, mounted at VAULT_APPROLE_PATH
// ("approle"); or ~/.vault-token.
func Configured(getenv func(string) string) bool { return variable(getenv, "ADDR") != "" }

// variable returns VAULT_name, or else BAO_name.
func variable(getenv func(string) string, name string) string {
	if v := getenv("VAULT_" + name); v != "" {
		return v
	}
	return getenv("BAO_" + name)
}

func newClient(getenv func(string) string) (*client, error) {
	text := variable(getenv, "ADDR")
	if text == "" {
		return nil, errors.New("no address is known: set VAULT_ADDR")
	}
	address, err := url.Parse(text)
	if err != nil || address.Host == "" || address.User != nil || address.RawQuery != "" || address.Scheme != "https" && address.Scheme != "http" {
		return nil, errors.New("VAULT_ADDR is not https://HOST:PORT")
	}
	if address.Scheme == "http" && !loopback(address.Hostname()) {
		return nil, fmt.Errorf("VAULT_ADDR: http://%s would send keys in clear: use https", address.Host)
	}
	namespace := variable(getenv, "NAMESPACE")
	if namespace != "" && !headerSafe(namespace) {
		return nil, errors.New("VAULT_NAMESPACE has characters that no namespace has")
	}
	roots, err := authorities(variable(getenv, "CACERT"), variable(getenv, "CAPATH"))
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	c := &client{
		http:      &http.Client{Transport: transport, CheckRedirect: toActive},
		address:   address,
		namespace: namespace,
	}
	if err := c.auth.configure(getenv); err != nil {
		return nil, err
	}
	return c, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// authorities returns the certificates in a file or in the files of a directory, nil for those of the system.
func authorities(file, dir string) (*x509.CertPool, error) {
	files := []string{file}
	switch {
	case file == "" && dir == "":
		return nil, nil
	case file == "":
		var err error
		if files, err = filepath.Glob(filepath.Join(dir, "*")); err != nil {
			return nil, fmt.Errorf("VAULT_CAPATH: %w", err)
		}
	}
	pool, found := x509.NewCertPool(), false
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("read certificates of authorities: %w", err)
		}
		found = pool.AppendCertsFromPEM(text) || found
	}
	if !found {
		return nil, fmt.Errorf("there is no certificate in %s", file+dir)
	}
	return pool, nil
}

// toActive lets a standby send its caller to the active node, once, but never to where keys would go in clear.
func toActive(r *http.Request, via []*http.Request) error {
	if len(via) > 1 || r.URL.Scheme != via[0].URL.Scheme || r.URL.Scheme == "http" && !loopback(r.URL.Hostname()) {
		return fmt.Errorf("sent on to %s://%s, which is not followed", r.URL.Scheme, r.URL.Host)
	}
	return nil
}

// place names the Vault that is asked.
func (c *client) place() string {
	if c.namespace != "" {
		return c.address.String() + ", namespace " + c.namespace
	}
	return c.address.String()
}

// post sends body and stores the reply's data in data.
func (c *client) post(ctx context.Context, path string, body, data any) error {
	return c.authorized(ctx, http.MethodPost, path, body, data)
}

func (c *client) get(ctx context.Context, path string, data any) error {
	return c.authorized(ctx, http.MethodGet, path, nil, data)
}

// authorized makes a request with a token. If one of an AppRole is refused, which it is when it has expired, there is
// another login.
func (c *client) authorized(ctx context.Context, method, path string, body, data any) error {
	token, again, err := c.auth.token(ctx, c)
	if err != nil {
		return err
	}
	err = c.data(ctx, method, path, token, body, data)
	if denied, ok := errors.AsType[*refusal](err); ok && denied.status == http.StatusForbidden && again != nil {
		if token, err = again(); err != nil {
			return err
		}
		return c.data(ctx, method, path, token, body, data)
	}
	return err
}

// data makes a request and decodes the data of the reply.
func (c *client) data(ctx context.Context, method, path, token string, body, data any) error {
	var r struct {
		Data json.RawMessage `json:"data"`
	}
	defer func() { clear(r.Data) }()
	if err := c.do(ctx, method, path, token, body, &r); err != nil {
		return err
	}
	if err := json.Unmarshal(r.Data, data); err != nil {
		return errReply
	}
	return nil
}

// do makes a request and decodes the reply into reply.
func (c *client) do(ctx context.Context, method, path, token string, body, reply any) error {
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return err
		}
	}
	q, err := http.NewRequestWithContext(ctx, method, c.address.JoinPath("v1", path).String(), bytes.NewReader(content))
	if err != nil {
		return err
	}
	q.Header.Set("X-Vault-Request", "true")
	if token != "" {
		q.Header.Set("X-Vault-Token", token)
	}
	if c.namespace != "" {
		q.Header.Set("X-Vault-Namespace", c.namespace)
	}
	if body != nil {
		q.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(q)
	if err != nil {
		return unreached(ctx, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	defer clear(text)
	if err != nil {
		return unreached(ctx, err)
	}
	if resp.StatusCode != http.StatusOK {
		return failed(resp.StatusCode, text)
	}
	if err := json.Unmarshal(text, reply); err != nil {
		return errReply // the decoder's error might quote what is secret
	}
	return nil
}

// headerSafe tells whether a token can stand in a header.
func headerSafe(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' })
}
