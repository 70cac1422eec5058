// Package boot runs what the units for systemd say, with the environment that systemd would give, as far as that can be
// done without systemd itself.
package boot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"envfs/kms/kmstest"
	"envfs/tests/command"
)

var envfs string

func TestMain(m *testing.M) { os.Exit(command.Main(m, &envfs)) }

// unit is a service as its file says.
type unit struct {
	t    *testing.T
	text string
	env  map[string]string // of EnvironmentFile=
	home string
	more []string // environment besides
}

// newUnit reads a unit's file.
func newUnit(t *testing.T, name string) *unit {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "systemd", name))
	if err != nil {
		t.Fatal(err)
	}
	return &unit{t: t, text: string(text), home: t.TempDir(), env: make(map[string]string)}
}

// setting returns what the unit says for a key.
func (u *unit) setting(key string) string {
	u.t.Helper()
	for line := range strings.Lines(u.text) {
		if value, ok := strings.CutPrefix(line, key+"="); ok {
			return strings.TrimSpace(value)
		}
	}
	u.t.Fatalf("the unit does not say %s=", key)
	return ""
}

// words splits a command line as systemd.service(5) does for the forms that the unit uses: $NAME alone is split at spaces,
// ${NAME} is one word.
func (u *unit) words(line string) []string {
	var words []string
	for _, w := range strings.Fields(line) {
		if name, ok := strings.CutPrefix(w, "${"); ok {
			words = append(words, u.env[strings.TrimSuffix(name, "}")])
		} else if name, ok := strings.CutPrefix(w, "$"); ok {
			words = append(words, strings.Fields(u.env[name])...)
		} else {
			words = append(words, w)
		}
	}
	if words[0] != "/usr/local/bin/envfs" {
		u.t.Fatalf("the unit runs %s", words[0])
	}
	words[0] = envfs
	return words
}

func (u *unit) command(ctx context.Context, key string) *exec.Cmd {
	words := u.words(u.setting(key))
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + u.home, "XDG_RUNTIME_DIR=" + u.home}, u.more...)
	for name, value := range u.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Stderr = u.t.Output()
	return cmd
}

// start runs the service until it says that it is ready. stop ends it as systemd would, and returns how it ended.
func (u *unit) start() (stop func() error, err error) {
	u.t.Helper()
	socket := filepath.Join(u.home, "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		u.t.Fatal(err)
	}
	defer os.Remove(socket)
	defer l.Close()
	u.more = append(u.more, "NOTIFY_SOCKET="+socket)
	cmd := u.command(context.Background(), "ExecStart")
	if err := cmd.Start(); err != nil {
		u.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ready := make(chan string, 1)
	go func() {
		buf := make([]byte, 100)
		n, err := l.Read(buf)
		if err == nil {
			ready <- string(buf[:n])
		}
	}()
	select {
	case text := <-ready:
		if text != "READY=1" {
			u.t.Errorf("the service tells %q", text)
		}
	case err := <-ended:
		return nil, fmt.Errorf("the service ended before it was ready: %w", err)
	case <-time.After(2 * time.Minute):
		_ = cmd.Process.Kill()
		u.t.Fatal("the service is not ready after two minutes")
	}
	return func() error {
		if err := u.command(context.Background(), "ExecStop").Run(); err != nil {
			return fmt.Errorf("stop: %w", err)
		}
		return <-ended
	}, nil
}

// works writes and reads a file in the mount.
func (u *unit) works() {
	u.t.Helper()
	name := filepath.Join(u.env["MOUNTPOINT"], "file")
	if err := os.WriteFile(name, []byte("text"), 0o644); err != nil {
		u.t.Fatal(err)
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != "text" {
		u.t.Errorf("read %q, %v", got, err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(name, &st); err != nil || st.Type != unix.FUSE_SUPER_MAGIC {
		u.t.Errorf("nothing is mounted: %v", err)
	}
}

// newMount returns the unit of a mount for a vault whose slots init makes with flags.
func newMount(t *testing.T, env map[string]string, flags ...string) *unit {
	t.Helper()
	u := newUnit(t, "envfs@.service")
	u.env["STORE"], u.env["MOUNTPOINT"] = filepath.Join(u.home, "store"), filepath.Join(u.home, "mount")
	for name, value := range env {
		u.env[name] = value
	}
	if err := os.Mkdir(u.env["MOUNTPOINT"], 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(envfs, append([]string{"init", "--no-recovery", u.env["STORE"]}, flags...)...)
	cmd.Env = append(os.Environ(), "HOME="+u.home)
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("init: %v: %s", err, out)
	}
	return u
}

// A server opens its vault by a key service when it boots, with nobody there.
func TestKMS(t *testing.T) {
	k := kmstest.Start(t)
	key := k.Key()
	u := newMount(t, k.Env(k.Admin), "--key", "awskms://"+key)
	u.env["OPTIONS"] = "--key awskms://" + key + " --allow-other"
	for range 2 {
		stop, err := u.start()
		if err != nil {
			t.Fatal(err)
		}
		u.works()
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
	k.Do("DisableKey", map[string]string{"KeyId": key}, nil)
	_, err := u.start()
	if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 12 {
		t.Errorf("with a key that is disabled: %v", err)
	}
	if !strings.Contains(" "+u.setting("RestartPreventExitStatus")+" ", " 12 ") {
		t.Error("systemd would try that again for ever")
	}
}

// The key service starts later than the vault that needs it.
func TestKMSComesLater(t *testing.T) {
	k := kmstest.Start(t)
	key := k.Key()
	u := newMount(t, k.Env(k.Admin), "--key", "awskms://"+key)
	front, later := newFront(t)
	u.env["AWS_ENDPOINT_URL_KMS"] = "https://" + front
	u.env["OPTIONS"] = "--key awskms://" + key
	go later(strings.TrimPrefix(k.URL, "https://"))
	stop, err := u.start()
	if err != nil {
		t.Fatal(err)
	}
	u.works()
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// A key file that systemd passes on.
func TestCredential(t *testing.T) {
	credentials := t.TempDir()
	name := filepath.Join(credentials, "envfs.keyfile")
	if err := os.WriteFile(name, []byte(strings.Repeat("k", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	u := newMount(t, nil, "--keyfile", name)
	u.more = append(u.more, "CREDENTIALS_DIRECTORY="+credentials)
	stop, err := u.start()
	if err != nil {
		t.Fatal(err)
	}
	u.works()
	if err := stop(); err != nil {
		t.Error(err)
	}
	u.more = []string{"CREDENTIALS_DIRECTORY=" + t.TempDir()}
	_, err = u.start()
	if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 1 {
		t.Errorf("without a credential, and nobody to be asked: %v", err)
	}
}

// systemd itself finds nothing wrong with the units.
func TestVerify(t *testing.T) {
	for _, name := range []string{"envfs@.service", "envfs-kms.service"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), "/usr/local/bin/envfs", envfs)), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("systemd-analyze", "verify", "--man=no", file).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
}
