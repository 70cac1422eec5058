package hashivault

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"envfs/blockcrypt"
	"envfs/keystore"
	"envfs/keystore/hashivault/vaulttest"
	"envfs/keystore/providertest"
	"envfs/tests/port"
)

const photos = "hashivault://transit/photos"

// open returns a provider in an environment.
func open(t *testing.T, env map[string]string, uri string) *Provider {
	t.Helper()
	p, err := New(uri, func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// at returns an environment in which nobody knows better who asks, at another address.
func at(url string) map[string]string {
	return map[string]string{"VAULT_ADDR": url, "VAULT_TOKEN": "hvs.x"}
}

// TestProvider runs the suite against Vault.
func TestProvider(t *testing.T) {
	s := vaulttest.Start(t, http.DefaultClient)
	s.Key("photos")
	s.Key("other")
	stranger := s.Token(`path "transit/decrypt/other" { capabilities = ["update"] }`, nil)
	deaf, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close() // who connects waits for ever
	gone, err := port.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	providertest.Run(t, providertest.Service{
		Open:      func(t *testing.T) keystore.Wrapper { return open(t, s.Env(s.Root), photos) },
		Other:     func(t *testing.T) keystore.Wrapper { return open(t, s.Env(s.Root), "hashivault://transit/other") },
		Forbidden: func(t *testing.T) keystore.Wrapper { return open(t, s.Env(stranger), photos) },
		Rotate:    func(*testing.T) { s.Do("POST", "transit/keys/photos/rotate", nil) },
		Away:      func(t *testing.T) keystore.Wrapper { return open(t, at("http://"+gone.Address()), photos) },
		Slow:      func(t *testing.T) keystore.Wrapper { return open(t, at("http://"+deaf.Addr().String()), photos) },
		Replies: func(t *testing.T, body []byte) keystore.Wrapper {
			fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }))
			t.Cleanup(fake.Close)
			return open(t, at(fake.URL), photos)
		},
	})
}

// newSlot returns the public part of a slot.
func newSlot() keystore.SlotInfo {
	return keystore.SlotInfo{Vault: blockcrypt.ID{1, 2, 3}, Kind: Kind}
}

// wrapped returns a slot that p has made, and W.
func wrapped(t *testing.T, p *Provider) (keystore.SlotInfo, string) {
	t.Helper()
	info := newSlot()
	w, data, err := p.Wrap(t.Context(), info)
	if err != nil {
		t.Fatal(err)
	}
	info.Provider = data
	return info, string(w)
}

// A key that ignores the context is found out, also by who may not read what it is.
func TestNotDerived(t *testing.T) {
	s := vaulttest.Start(t, http.DefaultClient)
	s.Do("POST", "transit/keys/photos", map[string]any{})
	user := s.Token(`path "transit/datakey/plaintext/photos" { capabilities = ["update"] }
		path "transit/decrypt/photos" { capabilities = ["update"] }`, nil)
	for _, token := range []string{s.Root, user} {
		_, _, err := open(t, s.Env(token), photos).Wrap(t.Context(), newSlot())
		if !errors.Is(err, keystore.ErrRefused) || !strings.Contains(err.Error(), "vault write -f transit/keys/photos derived=true") {
			t.Errorf("wrap: %v", err)
		}
	}
	d, err := open(t, s.Env(s.Root), "").Describe(t.Context(), keystore.SlotInfo{Provider: keystore.ProviderData{Key: "transit/photos", Wrapped: []byte("vault:v1:AAAA")}})
	if err != nil || !strings.Contains(d.State, "not derived") {
		t.Errorf("describe: %+v, %v", d, err)
	}
}

// Who may make a slot but not open it learns it before the vault is made. A key or a mount that is not there is refused.
func TestRefused(t *testing.T) {
	s := vaulttest.Start(t, http.DefaultClient)
	s.Key("photos")
	user := s.Token(`path "transit/datakey/plaintext/photos" { capabilities = ["update"] }`, nil)
	for uri, token := range map[string]string{photos: user, "hashivault://transit/none": s.Root, "hashivault://elsewhere/photos": s.Root} {
		if _, _, err := open(t, s.Env(token), uri).Wrap(t.Context(), newSlot()); !errors.Is(err, keystore.ErrRefused) {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

// A sealed Vault is away, and is there again when it is unsealed.
func TestSealed(t *testing.T) {
	s := vaulttest.Start(t, http.DefaultClient)
	s.Key("photos")
	p := open(t, s.Env(s.Root), photos)
	info, w := wrapped(t, p)
	s.Do("PUT", "sys/seal", nil)
	if _, err := p.Secret(t.Context(), info); !errors.Is(err, keystore.ErrAway) {
		t.Errorf("secret: %v", err)
	}
	s.Do("PUT", "sys/unseal", map[string]any{"key": s.Unseal})
	if got, err := p.Secret(t.Context(), info); err != nil || string(got) != w {
		t.Errorf("secret: %v", err)
	}
}

// Nothing that a key file names leads anywhere but to Transit's operations with a key.
func TestNames(t *testing.T) {
	asked := 0
	fake := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer fake.Close()
	p := open(t, at(fake.URL), "")
	good := "vault:v1:AAAA"
	for _, data := range []keystore.ProviderData{
		{Key: "photos"}, {Key: "transit/../photos"}, {Key: "transit/.."}, {Key: "./photos"}, {Key: "transit//photos"}, {Key: "/photos"}, {Key: "transit/"},
		{Key: "transit/a?b"}, {Key: "transit/a%2fb"}, {Key: "https://evil.example/x"}, {Key: "transit/a b"}, {Key: "transit/é"},
		{Key: "transit/" + strings.Repeat("x", 300)}, {Key: ""}, {Key: "transit/photos", Wrapped: []byte("vault:v0:AAAA")},
		{Key: "transit/photos", Wrapped: []byte("vault:v1:")}, {Key: "transit/photos", Wrapped: []byte("vault:v1:AAA")},
		{Key: "transit/photos", Wrapped: []byte("vault:v1:AAAA\n")}, {Key: "transit/photos", Wrapped: []byte("vault:v1:AAB=")},
		{Key: "transit/photos", Wrapped: []byte("bank:v1:AAAA")}, {Key: "transit/photos", Wrapped: []byte("vault:v1:AAAA:x")},
	} {
		if data.Wrapped == nil {
			data.Wrapped = []byte(good)
		}
		if _, err := p.Secret(t.Context(), keystore.SlotInfo{Provider: data}); err == nil || asked > 0 {
			t.Errorf("%q, %q: %v; asked is %v", data.Key, data.Wrapped, err, asked > 0)
		}
	}
	for uri, want := range map[string]string{
		photos: "transit/decrypt/photos", "hashivault://team/a/transit/my.key-1_": "team/a/transit/decrypt/my.key-1_",
	} {
		if n, err := parseURI(uri); err != nil || n.path("decrypt") != want {
			t.Errorf("%s: %s, %v", uri, n.path("decrypt"), err)
		}
	}
}

func FuzzCheckWrapped(f *testing.F) {
	f.Add("vault:v1:AAAA")
	f.Fuzz(func(t *testing.T, s string) {
		if checkWrapped(s) == nil && (!strings.HasPrefix(s, "vault:v") || strings.ContainsAny(s, " \r\n\x00")) {
			t.Errorf("%q", s)
		}
	})
}
