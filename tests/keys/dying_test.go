package keys

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"envfs/tests/command"
)

// deadly are the signals that write a core file, if one is written. The Go runtime tells of each what all threads do.
var deadly = []unix.Signal{unix.SIGABRT, unix.SIGSEGV, unix.SIGQUIT}

// dumping is a command to run another with as who wants to see it die.
const dumping = `ulimit -c unlimited && exec "$0" "$@"`

// loud is the environment of that.
var loud = []string{"GOTRACEBACK=crash"}

// cores returns the core files at a process's place, which the kernel names by its pattern.
func cores(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "core*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// proc is a process that is about to be killed.
type proc struct {
	t    *testing.T
	cmd  *exec.Cmd
	dir  string
	out  io.Reader
	talk *bytes.Buffer
}

// start starts a program in an empty directory, with all signs of its death asked for.
func start(t *testing.T, env []string, program string, args ...string) *proc {
	t.Helper()
	p := &proc{t: t, dir: t.TempDir(), talk: new(bytes.Buffer)}
	p.cmd = exec.Command("sh", append([]string{"-c", dumping, program}, args...)...)
	p.cmd.Dir, p.cmd.Env, p.cmd.Stderr = p.dir, append(env, loud...), p.talk
	stdin, err := p.cmd.StdinPipe() // stays open
	if err != nil {
		t.Fatal(err)
	}
	if p.out, err = p.cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = p.cmd.Process.Kill() // if the test has ended early
	})
	return p
}

// reads waits until the program has written something; it holds what it needs for that then.
func (p *proc) reads() {
	p.t.Helper()
	if _, err := io.ReadFull(p.out, make([]byte, 1)); err != nil {
		p.t.Fatalf("%v: %s", err, p.talk)
	}
}

// forbidsCores waits until the program has forbidden core files.
func (p *proc) forbidsCores() {
	p.t.Helper()
	limits := fmt.Sprintf("/proc/%d/limits", p.cmd.Process.Pid)
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(limits)
		if err != nil {
			p.t.Fatal(err)
		}
		if coreLimit(text) == "0 0" {
			return
		}
		if time.Since(began) > 30*time.Second {
			p.t.Fatalf("core files may be written: %s", text)
		}
	}
}

// coreLimit returns the soft and the hard limit of core files in /proc/PID/limits.
func coreLimit(limits []byte) string {
	for line := range strings.Lines(string(limits)) {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok {
			return strings.Join(strings.Fields(rest)[:2], " ")
		}
	}
	return ""
}

// dies kills the program, which leaves no core file; it returns what it has said.
func (p *proc) dies(sig unix.Signal) []byte {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
	_ = p.cmd.Wait()
	if st, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || st.CoreDump() || !st.Signaled() && st.ExitStatus() == 0 {
		p.t.Errorf("ended by %v: %v", sig, p.cmd.ProcessState)
	}
	if found := cores(p.t, p.dir); found != nil {
		p.t.Errorf("%v leaves %q", sig, found)
	}
	return p.talk.Bytes()
}

// A process that forbids nothing leaves a core file where these tests look for it.
func TestCoresAreSeen(t *testing.T) {
	p := start(t, os.Environ(), "cat")
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) { // until it is cat
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.cmd.Process.Pid))
		if err != nil || time.Since(began) > 30*time.Second {
			t.Fatal(name, err)
		}
		if string(name) == "cat\n" {
			break
		}
	}
	if err := p.cmd.Process.Signal(unix.SIGABRT); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait()
	if st, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !st.CoreDump() || cores(t, p.dir) == nil {
		t.Errorf("no core file of cat is seen: %v, %q", p.cmd.ProcessState, cores(t, p.dir))
	}
}

// A daemon that dies of a signal with its vault open leaves no core file, and what it writes to its log then tells no
// secret: passphrase, key file, root key, key-encryption keys, data keys.
func TestDaemonDiesWithItsSecrets(t *testing.T) {
	home := t.TempDir()
	wrapped := filepath.Join(home, "envfs")
	script := fmt.Sprintf("#!/bin/sh\nulimit -c unlimited\nexec %s \"$@\"\n", envfs)
	if err := os.WriteFile(wrapped, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	v, err := command.New(wrapped, filepath.Join(home, "store"), home, loud...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Discard() })
	keyText, err := os.ReadFile(filepath.Join(home, "key"))
	if err != nil {
		t.Fatal(err)
	}
	key := hexKey(t, keyText)
	pass, passFile := passphrase(t, home)
	run(t, v, v.Keyed("key", "add", v.Store, "--new-passfile", passFile, "--kdf-memory", "64")...)
	if err := v.Mount(); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if err := os.WriteFile(filepath.Join(v.Point, fmt.Sprint("file", i)), bytes.Repeat([]byte("text"), 1+i*10_000), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Unmount(); err != nil {
		t.Fatal(err)
	}
	for _, sig := range deadly {
		for _, way := range [][]string{{"--keyfile", filepath.Join(home, "key")}, {"--passfile", passFile}} {
			t.Run(fmt.Sprint(sig, " ", way[0]), func(t *testing.T) {
				s := make(secrets)
				s.add("the key file", key)
				s.add("the passphrase", []byte(pass))
				s.dataKeys(t, v.Store, key)
				before, err := v.Log()
				if err != nil {
					t.Fatal(err)
				}
				run(t, v, append([]string{"mount", v.Store, v.Point}, way...)...)
				st, err := v.Status()
				if err != nil {
					t.Fatal(err)
				}
				for i := range 5 { // so that data keys and extents' keys are in use
					if _, err := os.ReadFile(filepath.Join(v.Point, fmt.Sprint("file", i))); err != nil {
						t.Fatal(err)
					}
				}
				limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", st.PID))
				if err != nil || coreLimit(limits) != "0 0" {
					t.Errorf("limits of the daemon: %v: %s", err, limits)
				}
				for k := range locked(t, st.PID) {
					s.add("a key from the daemon's locked memory", k[:])
				}
				cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", st.PID))
				if err != nil {
					t.Fatal(err)
				}
				there := len(cores(t, cwd))
				kill(t, st.PID, sig)
				if n := len(cores(t, cwd)); n != there {
					t.Errorf("%d core files in %s, were %d", n, cwd, there)
				}
				if err := v.Discard(); err != nil {
					t.Fatal(err)
				}
				log, err := v.Log()
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(log[len(before):], "goroutine ") {
					t.Errorf("the daemon has not told how it died: %s", log[len(before):])
				}
				s.notIn(t, "the log", []byte(log))
			})
		}
	}
}

// kill sends a signal and waits until the process is gone.
func kill(t *testing.T, pid int, sig unix.Signal) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 60_000); n != 1 {
		t.Fatalf("process %d is still there: %v", pid, err)
	}
}

// So it is with the command itself, when it has opened a vault.
func TestCommandDiesWithItsSecrets(t *testing.T) {
	v := newVault(t)
	if err := v.Mount(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(v.Point, "large"), bytes.Repeat([]byte("text"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := v.Unmount(); err != nil {
		t.Fatal(err)
	}
	keyText, err := os.ReadFile(filepath.Join(v.Home, "key"))
	if err != nil {
		t.Fatal(err)
	}
	key := hexKey(t, keyText)
	pass, passFile := passphrase(t, v.Home)
	run(t, v, v.Keyed("key", "add", v.Store, "--new-passfile", passFile, "--kdf-memory", "64")...)
	for _, sig := range deadly {
		for _, way := range [][]string{{"--keyfile", filepath.Join(v.Home, "key")}, {"--passfile", passFile}} {
			s := make(secrets)
			s.add("the key file", key)
			s.add("the passphrase", []byte(pass))
			s.dataKeys(t, v.Store, key)
			p := start(t, v.Env(), v.Binary, append([]string{"cat", v.Store, "large"}, way...)...)
			p.reads() // the rest does not fit into the pipe
			p.forbidsCores()
			for k := range locked(t, p.cmd.Process.Pid) {
				s.add("a key from the command's locked memory", k[:])
			}
			said := p.dies(sig)
			if !bytes.Contains(said, []byte("goroutine ")) {
				t.Errorf("%v: the command has not told how it died: %s", sig, said)
			}
			s.notIn(t, fmt.Sprint("what the command says at ", sig), said)
		}
	}
}

// The child that derives a key from a passphrase has it in its memory; it may be killed, too, and the command says so.
func TestDerivationDiesWithItsPassphrase(t *testing.T) {
	v := newVault(t)
	pass, passFile := passphrase(t, v.Home)
	run(t, v, v.Keyed("key", "add", v.Store, "--new-passfile", passFile, "--kdf-memory", "256", "--kdf-passes", "8")...)
	s := make(secrets)
	s.add("the passphrase", []byte(pass))
	for _, sig := range deadly {
		p := start(t, v.Env(), v.Binary, "key", "test", v.Store, "--passfile", passFile)
		child := p.child()
		if limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", child)); err != nil || coreLimit(limits) != "0 0" {
			t.Errorf("limits of the child: %v: %s", err, limits)
		}
		kill(t, child, sig)
		if err := p.cmd.Wait(); err == nil {
			t.Errorf("%v: the slot opens although its child was killed", sig)
		}
		if found := cores(t, p.dir); found != nil {
			t.Errorf("%v leaves %q", sig, found)
		}
		s.notIn(t, fmt.Sprint("what the command says when its child dies of ", sig), p.talk.Bytes())
	}
}

// child waits until the program has a child that runs the same program, and returns its number.
func (p *proc) child() int {
	p.t.Helper()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.cmd.Process.Pid))
		if err != nil || time.Since(began) > 30*time.Second {
			p.t.Fatalf("no child: %v: %s", err, p.talk)
		}
		for _, thread := range threads {
			text, _ := os.ReadFile(thread) // it may have ended
			var pid int
			if _, err := fmt.Sscan(string(text), &pid); err != nil {
				continue
			}
			if args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && bytes.Contains(args, []byte("\x00kdf\x00")) {
				return pid
			}
		}
	}
}

// And with the KMS, whose key is that which its state is sealed under, and with the helper that loads modules of tokens.
func TestServersDieWithoutCores(t *testing.T) {
	home := t.TempDir()
	v := &command.Vault{Binary: envfs, Home: home}
	keyFile := filepath.Join(home, "key")
	run(t, v, "key", "generate", keyFile)
	keyText, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	s := make(secrets)
	s.add("the key file", hexKey(t, keyText))
	kms, socket := filepath.Join(home, "kms"), filepath.Join(home, "kms.sock")
	run(t, v, "kms", "init", kms, "--keyfile", keyFile, "--access-out", filepath.Join(home, "access"))
	run(t, v, "kms", "key", "create", kms, "--alias", "app", "--keyfile", keyFile)
	helper := filepath.Join(home, "envfs-pkcs11")
	if out, err := exec.Command("go", "build", "-o", helper, "envfs/cmd/envfs-pkcs11").CombinedOutput(); err != nil {
		t.Fatalf("build the helper: %v: %s", err, out)
	}
	conf := filepath.Join(home, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+home+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, sig := range deadly {
		p := start(t, v.Env(), v.Binary, "kms", "serve", kms, "--keyfile", keyFile, "--listen", "127.0.0.1:0", "--socket", socket)
		serves(t, socket, p.talk)
		p.forbidsCores()
		s.notIn(t, fmt.Sprint("what the KMS says at ", sig), p.dies(sig))
		if err := os.RemoveAll(socket); err != nil {
			t.Fatal(err)
		}

		p = start(t, append(v.Env(), "SOFTHSM2_CONF="+conf), helper, "/usr/lib/softhsm/libsofthsm2.so")
		p.forbidsCores()
		p.dies(sig)
	}
}

// serves waits until a KMS answers at its socket.
func serves(t *testing.T, socket string, talk *bytes.Buffer) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("unix", socket)
		if err == nil {
			c.Close()
			return
		}
		if time.Since(began) > 30*time.Second {
			t.Fatalf("the KMS does not serve: %s", talk)
		}
	}
}

// Who is not root has no access to the memory of the command's processes, not even of its own.
func TestProcessesAreRoots(t *testing.T) {
	const nobody = 65534
	home := t.TempDir()
	keyFile := filepath.Join(home, "key")
	v := &command.Vault{Binary: envfs, Home: home}
	run(t, v, "key", "generate", keyFile)
	kms, socket := filepath.Join(home, "kms"), filepath.Join(home, "kms.sock")
	run(t, v, "kms", "init", kms, "--keyfile", keyFile, "--access-out", filepath.Join(home, "access"))
	as := os.Geteuid()
	cmd := exec.Command(envfs, "kms", "serve", kms, "--keyfile", keyFile, "--listen", "127.0.0.1:0", "--socket", socket)
	var talk bytes.Buffer
	cmd.Stderr = &talk
	other := exec.Command("sleep", "600")
	if as == 0 {
		as = nobody
		if err := os.Chmod(filepath.Dir(home), 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("chown", "-R", fmt.Sprint(nobody), home).CombinedOutput(); err != nil {
			t.Fatalf("chown: %v: %s", err, out)
		}
		for _, c := range []*exec.Cmd{cmd, other} {
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		}
	}
	cmd.Env = v.Env()
	for _, c := range []*exec.Cmd{cmd, other} {
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = c.Process.Kill()
			_ = c.Wait()
		}()
	}
	owner := func(c *exec.Cmd) int {
		var st unix.Stat_t
		if err := unix.Stat(fmt.Sprintf("/proc/%d/environ", c.Process.Pid), &st); err != nil {
			t.Fatal(err)
		}
		return int(st.Uid)
	}
	serves(t, socket, &talk)
	if owner(cmd) != 0 {
		t.Error("a process of envfs can be looked into")
	}
	if owner(other) != as {
		t.Errorf("any process's files belong to user %d here: this test shows nothing", owner(other))
	}
}
