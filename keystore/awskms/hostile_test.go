package awskms

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"envfs/keystore"
	"envfs/kms/kmstest"
)

// Whatever a server answers, to whatever it is asked, is an error and no more.
func TestHostileReplies(t *testing.T) {
	env := kmstest.Start(t)
	var body string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_, _ = w.Write([]byte(body))
	}))
	defer s.Close()
	key := env.Key()
	p := open(t, at(env.Env(env.Admin), s.URL), key)
	slot := keystore.SlotInfo{Kind: Kind, Provider: keystore.ProviderData{Key: key, Wrapped: []byte{1}}}
	for _, body = range []string{
		"", "{}", "null", "[]", `"x"`, "{", `{"KeyMetadata":null}`, `{"KeyMetadata":{}}`, `{"KeyMetadata":{"KeyState":7}}`,
		`{"Plaintext":null,"CiphertextBlob":null,"KeyId":null}`, `{"Plaintext":"?"}`, `{"CiphertextBlob":""}`, `{"KeyMetadata":{"KeyState":""}}`,
	} {
		if w, d, err := p.Wrap(t.Context(), slot); err == nil {
			t.Errorf("%q: wrap: %x, %v", body, w, d)
		}
		if wrapped, err := p.Rewrap(t.Context(), slot); err == nil {
			t.Errorf("%q: rewrap: %x", body, wrapped)
		}
		if d, err := p.Describe(t.Context(), slot); err == nil {
			t.Errorf("%q: describe: %+v", body, d)
		}
		if w, err := p.Secret(t.Context(), slot); err == nil && len(w) != 0 {
			t.Errorf("%q: secret: %x", body, w)
		}
	}
}

// An environment with nothing in it, or with nonsense, is an error that says so, not a crash. Keys never go over a
// network in clear.
func TestEnvironments(t *testing.T) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AWS_") || name == "HOME" {
			t.Setenv(name, "") // which puts it back after the test
			os.Unsetenv(name)
		}
	}
	slot := keystore.SlotInfo{Kind: Kind, Provider: keystore.ProviderData{Key: "arn:aws:kms:eu-west-1:1:key/x", Wrapped: []byte{1}}}
	base := map[string]string{"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL_KMS": "https://127.0.0.1:1"}
	for _, change := range []string{
		"AWS_REGION=", "AWS_REGION=../../x", "AWS_REGION=a b\n", "AWS_ACCESS_KEY_ID=", "AWS_ENDPOINT_URL_KMS=", "AWS_ENDPOINT_URL_KMS=::", "AWS_ENDPOINT_URL_KMS=x",
		"AWS_ENDPOINT_URL_KMS=http://kms.example", "AWS_ENDPOINT_URL=http://192.0.2.1", "AWS_ENDPOINT_URL_KMS=file:///etc/passwd", "AWS_CA_BUNDLE=/nowhere", "AWS_CA_BUNDLE=/dev/null",
		"AWS_PROFILE=none", "AWS_CONFIG_FILE=/nowhere", "AWS_CONFIG_FILE=/dev/null", "AWS_RETRY_MODE=never", "AWS_RETRY_MODE=adaptive", "AWS_MAX_ATTEMPTS=x", "AWS_MAX_ATTEMPTS=-1", "AWS_DEFAULTS_MODE=auto",
		"AWS_DEFAULTS_MODE=mobile", "AWS_USE_FIPS_ENDPOINT=true", "AWS_USE_DUALSTACK_ENDPOINT=x", "AWS_ROLE_ARN=x", "AWS_WEB_IDENTITY_TOKEN_FILE=/nowhere", "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://192.0.2.1",
	} {
		t.Run(change, func(t *testing.T) {
			for name, value := range base {
				t.Setenv(name, value)
			}
			name, value, _ := strings.Cut(change, "=")
			t.Setenv(name, value)
			if name == "AWS_ENDPOINT_URL" {
				os.Unsetenv("AWS_ENDPOINT_URL_KMS")
			}
			if change == "AWS_ENDPOINT_URL_KMS=" || strings.HasPrefix(change, "AWS_DEFAULTS_MODE") {
				t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1") // nothing here asks AWS itself
			}
			p, err := New(t.Context(), "")
			if err == nil {
				_, err = p.Secret(t.Context(), slot)
			}
			if err == nil {
				t.Fatal("it opens")
			}
			clear := strings.Contains(value, "http://") && strings.HasPrefix(name, "AWS_ENDPOINT")
			if clear && !strings.Contains(err.Error(), "in clear") {
				t.Errorf("sent in clear: %v", err)
			}
		})
	}
}
