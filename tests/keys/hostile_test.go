package keys

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"envfs/fs"
	"envfs/keystore"
	"envfs/remote/dir"
)

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

// hostileVault makes a vault whose slots hold what somebody wrote who wants the reader's machine to do something.
func hostileVault(t *testing.T, path string, slots []keystore.NewSlot) {
	t.Helper()
	keys, err := keystore.Create(rand.Reader, time.Now(), keystore.DefaultParams(keystore.SuiteAESGCM), slots)
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	store, err := dir.Create(path, dir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := fs.Init(t.Context(), store, keys, fs.InitOptions{Clock: systemClock{}, Rand: rand.Reader, Host: "evil", User: "evil"}); err != nil {
		t.Fatal(err)
	}
}

// listener counts who connects, and ends each connection.
func listener(t *testing.T, network, at string) (address string, count *atomic.Int32) {
	t.Helper()
	l, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	count = new(atomic.Int32)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			count.Add(1)
			c.Close()
		}
	}()
	return l.Addr().String(), count
}

// What a key file says about its providers is only data: no address in it is contacted, no program or module of it is
// loaded, and work is bounded, whatever the machine is configured for.
func TestHostileProviderData(t *testing.T) {
	evil, contacted := listener(t, "tcp", "127.0.0.1:0")
	work := t.TempDir()
	touched := filepath.Join(work, "touched")
	script := filepath.Join(work, "evil.so")
	if err := os.WriteFile(script, []byte("#!/bin/sh\ntouch "+touched+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(evil)
	names := map[string][]string{
		"awskms": {"arn:aws:kms:us-east-1:000000000000:key/plain", "https://" + evil, "arn:aws:kms:" + evil + ":000000000000:key/x", "arn:aws:kms:us-east-1:000000000000:key/../../" + evil,
			"arn:aws:kms:us-east-1@" + evil + "/:1:key/x", "alias/x?endpoint=https://" + evil},
		"hashivault": {"transit/plain", "http://" + evil + "/transit/x", "transit/../../sys/seal", "//" + evil + "/x", "transit/x?token=1", "transit/x#", "transit/$(touch " + touched + ")"},
		"pkcs11": {"pkcs11:token=a;object=b?module-path=" + script, "pkcs11:token=a;object=b?pin-source=|touch%20" + touched,
			"pkcs11:module-path=" + script + ";token=a", "pkcs11:token=a;object=b?pin-value=1"},
		"age":        {"age1evil1qqqq", "age1yubikey1qqqq", script, "|" + script},
		"tpm":        {script, "/dev/mem", "tcp://" + evil, "host=" + host + ",port=" + port},
		"keyring":    {"unix:path=" + work + "/bus", "$(touch " + touched + ")"},
		"statefile":  {script, "../../.ssh/id_ed25519"},
		"unheard-of": {script},
	}
	var slots []keystore.NewSlot
	for kind, all := range names {
		for _, name := range all {
			if len(slots) < keystore.MaxSlots {
				slots = append(slots, keystore.NewSlot{Provider: keystore.Made(kind,
					keystore.ProviderData{Key: name, Wrapped: []byte("vault:v1:" + strings.Repeat("A", 200))}, make([]byte, 32))})
			}
		}
	}
	store := filepath.Join(work, "store")
	hostileVault(t, store, slots)

	var asked atomic.Int32
	tpm, tpmAsked := listener(t, "unix", filepath.Join(work, "tpm"))
	bus, busAsked := listener(t, "unix", filepath.Join(work, "session-bus"))
	if err := os.MkdirAll(filepath.Join(work, ".local/state/envfs/keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.Error(w, `{"__type":"InvalidCiphertextException","errors":["no"]}`, http.StatusBadRequest)
	}))
	defer service.Close()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	identityFile := filepath.Join(work, "identity")
	if err := os.WriteFile(identityFile, []byte(identity.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ours := regexp.MustCompile(fmt.Sprintf(`execve\("(%s[^"]*|[^"]*/envfs-pkcs11|/proc/self/exe)"|sa_family=AF_UNIX|htons\(%s\)|resumed|exited|killed|---`,
		regexp.QuoteMeta(filepath.Dir(envfs)), service.URL[strings.LastIndex(service.URL, ":")+1:]))
	// Naming an identity has the slots tried that are of age, and only these.
	for _, named := range [][]string{nil, {"--identity", identityFile}} {
		trace := filepath.Join(work, "trace")
		cmd := exec.Command("strace", append([]string{"-f", "-qq", "-e", "trace=execve,connect", "-o", trace, envfs, "ls", store}, named...)...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + work, "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=y",
			"AWS_EC2_METADATA_DISABLED=true", "AWS_ENDPOINT_URL_KMS=" + service.URL, "VAULT_ADDR=" + service.URL, "VAULT_TOKEN=t",
			"ENVFS_PKCS11_MODULE=/nonexistent/module.so", "ENVFS_TPM=" + tpm, "DBUS_SESSION_BUS_ADDRESS=unix:path=" + bus}
		begun := time.Now()
		out, err := cmd.CombinedOutput()
		if err == nil || named != nil && !strings.Contains(string(out), "age: recipient age1evil1") {
			t.Errorf("the vault opens, or was not tried: %s", out)
		}
		if took := time.Since(begun); took > 90*time.Second {
			t.Errorf("it takes %v", took)
		}
		text, err := os.ReadFile(trace)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if !ours.MatchString(line) && !strings.Contains(line, "ENOENT") {
				t.Errorf("a program or a connection too many: %s", line)
			}
		}
	}
	if n := contacted.Load(); n > 0 {
		t.Errorf("an address in the key file was contacted %d times", n)
	}
	if _, err := os.Stat(touched); err == nil {
		t.Error("something in the key file was run")
	}
	if n := asked.Load(); n == 0 || n > 3*int32(len(slots)) {
		t.Errorf("the services of this machine were asked %d times", n)
	}
	// What is no sealed object, and no reference to an entry, is not shown to the TPM or the keyring at all.
	if n := tpmAsked.Load() + busAsked.Load(); n != 0 {
		t.Errorf("the TPM and the keyring were asked %d times", n)
	}
}
