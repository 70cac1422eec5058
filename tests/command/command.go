// Package command runs the envfs command as users do, with its daemons in processes of their own, for tests of the
// whole system. It works as root and as a plain user who may open /dev/fuse.
package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Build builds the command into the directory dir and returns its path. It is called from within the module.
func Build(dir string) (string, error) {
	binary := filepath.Join(dir, "envfs")
	build := exec.Command("go", "build", "-o", binary, "envfs/cmd/envfs")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build envfs: %w\n%s", err, out)
	}
	return binary, nil
}

// Main runs the tests of m with the command at *binary, where it builds it, and returns the code to exit with.
func Main(m interface{ Run() int }, binary *string) int {
	dir, err := os.MkdirTemp("", "envfs")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Chmod(dir, 0o755) // other users run it, too
	}
	if err == nil {
		*binary, err = Build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// Vault is a vault whose only slot is a key file, and where it is mounted. Its methods must not be called concurrently.
type Vault struct {
	Binary string // the command
	Store  string
	Point  string
	Home   string   // of the user: its key file and envfs's state
	Extra  []string // further variables of the environment

	pid int // of the daemon, 0 if it is not mounted
}

// Result is how a run of the command ended.
type Result struct {
	Out, Talk string // what it wrote to standard output and to standard error
	Code      int
}

// New makes a vault in store, with its mount point, key file and state below home, which exists.
func New(binary, store, home string, extra ...string) (*Vault, error) {
	v := &Vault{Binary: binary, Store: store, Point: filepath.Join(home, "mnt"), Home: home, Extra: extra}
	if err := os.Mkdir(v.Point, 0o755); err != nil {
		return nil, err
	}
	if err := v.must("key", "generate", v.key()); err != nil {
		return nil, err
	}
	return v, v.must("init", store, "--keyfile", v.key())
}

// Elsewhere returns the same vault as another machine sees it, whose home is given.
func (v *Vault) Elsewhere(home string) (*Vault, error) {
	other := &Vault{Binary: v.Binary, Store: v.Store, Point: filepath.Join(home, "mnt"), Home: home, Extra: v.Extra}
	key, err := os.ReadFile(v.key())
	if err == nil {
		err = os.WriteFile(other.key(), key, 0o600)
	}
	return other, errors.Join(err, os.Mkdir(other.Point, 0o755))
}

func (v *Vault) key() string { return filepath.Join(v.Home, "key") }

// Env is the environment in which the command runs.
func (v *Vault) Env() []string {
	return append(append(os.Environ(), v.Extra...), "HOME="+v.Home, "XDG_STATE_HOME="+filepath.Join(v.Home, "state"), "XDG_RUNTIME_DIR="+v.Home,
		"XDG_CACHE_HOME="+filepath.Join(v.Home, "cache"))
}

// Run runs the command. An error is one of running it: a code other than 0 is none.
func (v *Vault) Run(args ...string) (Result, error) {
	var out, talk bytes.Buffer
	cmd := exec.Command(v.Binary, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = v.Env(), &out, &talk
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		err = nil
	}
	if err != nil {
		return Result{}, fmt.Errorf("run envfs %s: %w", args[0], err)
	}
	return Result{out.String(), talk.String(), cmd.ProcessState.ExitCode()}, nil
}

func (v *Vault) must(args ...string) error {
	r, err := v.Run(args...)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("envfs %s: exit code %d: %s", args[0], r.Code, r.Talk)
	}
	return err
}

// TryMount mounts the vault and returns how the command ended.
func (v *Vault) TryMount(flags ...string) (Result, error) {
	r, err := v.Run(append([]string{"mount", v.Store, v.Point, "--keyfile", v.key()}, flags...)...)
	if err != nil || r.Code != 0 {
		return r, err
	}
	st, err := v.Status()
	v.pid = st.PID
	return r, err
}

// Mount mounts the vault; as root with --allow-other.
func (v *Vault) Mount(flags ...string) error {
	if os.Geteuid() == 0 {
		flags = append(flags, "--allow-other")
	}
	r, err := v.TryMount(flags...)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("mount: exit code %d: %s", r.Code, r.Talk)
	}
	return err
}

// TryUnmount unmounts the vault and returns how the command ended.
func (v *Vault) TryUnmount(flags ...string) (Result, error) {
	r, err := v.Run(append([]string{"unmount", v.Point}, flags...)...)
	if err == nil && r.Code == 0 {
		v.pid = 0
	}
	return r, err
}

// Unmount unmounts the vault.
func (v *Vault) Unmount() error {
	r, err := v.TryUnmount()
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("unmount: exit code %d: %s", r.Code, r.Talk)
	}
	return err
}

// Remount unmounts and mounts the vault.
func (v *Vault) Remount(flags ...string) error {
	if err := v.Unmount(); err != nil {
		return err
	}
	return v.Mount(flags...)
}

// Kill kills the daemon with SIGKILL and returns when it is gone. The mount point stays, dead.
func (v *Vault) Kill() error {
	fd, err := unix.PidfdOpen(v.pid, 0)
	if errors.Is(err, unix.ESRCH) { // somebody else has killed it
		v.pid = 0
		return nil
	}
	if err != nil {
		return fmt.Errorf("kill daemon %d: %w", v.pid, err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		return fmt.Errorf("kill daemon %d: %w", v.pid, err)
	}
	if err := gone(fd, 5*time.Minute); err != nil {
		return fmt.Errorf("kill daemon %d: %w", v.pid, err)
	}
	v.pid = 0
	return nil
}

// PID returns the process id of the daemon, 0 if the vault is not mounted.
func (v *Vault) PID() int { return v.pid }

// gone returns when the process of a pidfd has ended.
func gone(fd int, within time.Duration) error {
	deadline := time.Now().Add(within)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("still there after %v", within)
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if n > 0 {
			return nil
		}
	}
}

// Status is what of `envfs status --json` tests look at.
type Status struct {
	Mountpoint string `json:"mountpoint"`
	PID        int    `json:"pid"`
	Folds      uint64 `json:"folds"`
	Errors     uint64 `json:"errors"`
	LastError  string `json:"last_error"`
	Stopped    string `json:"stopped"`
	Dead       bool   `json:"dead"`
}

// Status returns how the mount is.
func (v *Vault) Status() (Status, error) {
	r, err := v.Run("status", "--json")
	if err != nil {
		return Status{}, err
	}
	if r.Code != 0 {
		return Status{}, fmt.Errorf("status: exit code %d: %s", r.Code, r.Talk)
	}
	for d := json.NewDecoder(bytes.NewReader([]byte(r.Out))); d.More(); {
		var st Status
		if err := d.Decode(&st); err != nil {
			return st, fmt.Errorf("status: %w", err)
		}
		if st.Mountpoint == v.Point {
			return st, nil
		}
	}
	return Status{}, fmt.Errorf("status: nothing about %s: %s", v.Point, r.Out)
}

// Check has the whole vault read; what is damaged is an error.
func (v *Vault) Check() error { return v.must("check", v.Store, "--keyfile", v.key()) }

// Keyed appends what opens the vault to the arguments of a verb.
func (v *Vault) Keyed(args ...string) []string { return append(args, "--keyfile", v.key()) }

// Log returns what the daemons of the vault have logged.
func (v *Vault) Log() (string, error) {
	names, err := filepath.Glob(filepath.Join(v.Home, "state", "envfs", "log", "*"))
	if err != nil {
		return "", err
	}
	var all []byte
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		all = append(all, text...)
	}
	return string(all), nil
}

// Discard ends the daemon, if there still is one, and takes the mount away, dead or not.
func (v *Vault) Discard() error {
	var errs []error
	if v.pid != 0 {
		errs = append(errs, v.Kill())
	}
	// stat(2) would not tell: the kernel answers it from what it remembers of the mount point.
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || !bytes.Contains(mounts, []byte(" "+v.Point+" ")) {
		return errors.Join(append(errs, err)...)
	}
	if os.Geteuid() == 0 {
		return errors.Join(append(errs, unix.Unmount(v.Point, unix.MNT_DETACH))...)
	}
	return errors.Join(append(errs, exec.Command("fusermount3", "-u", "-z", v.Point).Run())...)
}
