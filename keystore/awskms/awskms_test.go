package awskms

import (
	"errors"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"envfs/blockcrypt"
	"envfs/keystore"
	"envfs/keystore/providertest"
	"envfs/kms/kmstest"
	"envfs/tests/port"
)

// open returns a provider in an environment.
func open(t *testing.T, env map[string]string, key string) *Provider {
	t.Helper()
	for name, value := range env {
		t.Setenv(name, value)
	}
	p, err := New(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// at returns an environment with another endpoint, without TLS.
func at(env map[string]string, url string) map[string]string {
	other := maps.Clone(env)
	other["AWS_ENDPOINT_URL_KMS"] = url
	return other
}

// TestProvider runs the suite against the embedded KMS, by way of AWS's own client.
func TestProvider(t *testing.T) {
	k := kmstest.Start(t)
	key, other := k.Key(), k.Key()
	env, stranger := k.Env(k.Admin), k.Env(k.User("stranger"))
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
	named := map[string]string{"KeyId": key}
	providertest.Run(t, providertest.Service{
		Open:      func(t *testing.T) keystore.Wrapper { return open(t, env, key) },
		Other:     func(t *testing.T) keystore.Wrapper { return open(t, env, other) },
		Forbidden: func(t *testing.T) keystore.Wrapper { return open(t, stranger, key) },
		Disable:   func(*testing.T) { k.Do("DisableKey", named, nil) },
		Enable:    func(*testing.T) { k.Do("EnableKey", named, nil) },
		Rotate:    func(*testing.T) { k.Do("RotateKeyOnDemand", named, nil) },
		Away: func(t *testing.T) keystore.Wrapper {
			return open(t, at(env, "http://"+gone.Address()), key)
		},
		Slow: func(t *testing.T) keystore.Wrapper {
			return open(t, at(env, "http://"+deaf.Addr().String()), key)
		},
		Replies: func(t *testing.T, body []byte) keystore.Wrapper {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/x-amz-json-1.1")
				_, _ = w.Write(body)
			}))
			t.Cleanup(s.Close)
			return open(t, at(env, s.URL), key)
		},
	})
}

// Without a CA of its own, as with AWS itself, the machine's authorities count.
func TestWithoutCA(t *testing.T) {
	k := kmstest.Start(t)
	env := k.Env(k.Admin)
	env["AWS_CA_BUNDLE"] = ""
	p := open(t, env, k.Key())
	if _, _, err := p.Wrap(t.Context(), keystore.SlotInfo{Kind: Kind}); !errors.Is(err, keystore.ErrAway) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server whose certificate nobody vouches for: %v", err)
	}
}

// A KMS that answers with another key's plaintext gives a W that the slot's commitment refuses, and an alias may move.
func TestAlias(t *testing.T) {
	k := kmstest.Start(t)
	key, other := k.Key(), k.Key()
	k.Do("CreateAlias", map[string]string{"AliasName": "alias/photos", "TargetKeyId": key}, nil)
	p := open(t, k.Env(k.Admin), "alias/photos")
	s := keystore.SlotInfo{Vault: blockcrypt.ID{1}, Kind: Kind}
	w, data, err := p.Wrap(t.Context(), s)
	if err != nil || data.Key != key {
		t.Fatalf("wrap: key %s, %v", data.Key, err)
	}
	k.Do("UpdateAlias", map[string]string{"AliasName": "alias/photos", "TargetKeyId": other}, nil)
	s.Provider = data
	if got, err := p.Secret(t.Context(), s); err != nil || string(got) != string(w) {
		t.Errorf("after the alias has moved: %v", err)
	}
}

// What a key file names is asked of this machine's own region only.
func TestOtherRegion(t *testing.T) {
	k := kmstest.Start(t)
	p := open(t, k.Env(k.Admin), "")
	for _, key := range []string{"arn:aws:kms:eu-west-9:000000000000:key/x", "arn:aws:kms::1:key/x", "https://evil.example", "alias/photos", ""} {
		s := keystore.SlotInfo{Kind: Kind, Provider: keystore.ProviderData{Key: key, Wrapped: []byte{1}}}
		if _, err := p.Secret(t.Context(), s); err == nil || strings.Contains(err.Error(), "dial") {
			t.Errorf("key %q: %v", key, err)
		}
	}
}

func TestParse(t *testing.T) {
	for uri, want := range map[string]string{
		"awskms://alias/photos":                         "alias/photos",
		"awskms://1234abcd-12ab-34cd-56ef-1234567890ab": "1234abcd-12ab-34cd-56ef-1234567890ab",
		"awskms://arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab": "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		"awskms://": "", "awskms://alias/": "", "awskms://a b": "", "awskms://arn:aws:s3:::bucket": "", "kms://x": "", "awskms://../x?y": "",
	} {
		got, err := Parse(uri)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", uri, got, err)
		}
	}
}
