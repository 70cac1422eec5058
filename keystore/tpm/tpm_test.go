package tpm

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"envfs/blockcrypt"
	"envfs/keystore"
	"envfs/keystore/providertest"
)

// emulator is swtpm, a whole TPM as a program.
type emulator struct {
	t      *testing.T
	state  string // directory of what it keeps
	device string // socket
	cmd    *exec.Cmd
}

func start(t *testing.T) *emulator {
	t.Helper()
	dir := t.TempDir()
	e := &emulator{t: t, state: filepath.Join(dir, "state"), device: filepath.Join(dir, "sock")}
	if err := os.Mkdir(e.state, 0o700); err != nil {
		t.Fatal(err)
	}
	e.on()
	t.Cleanup(e.off)
	return e
}

// on starts it, as a machine that is switched on does its TPM, and returns when it listens.
func (e *emulator) on() {
	e.t.Helper()
	e.cmd = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+e.state, "--server", "type=unixio,path="+e.device,
		"--flags", "not-need-init,startup-clear")
	if err := e.cmd.Start(); err != nil {
		e.t.Fatalf("%v: install swtpm (scripts/deps.sh)", err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("unix", e.device)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			e.t.Fatalf("swtpm does not listen: %v", err)
		}
	}
}

func (e *emulator) off() {
	_ = e.cmd.Process.Kill()
	_ = e.cmd.Wait()
	_ = os.Remove(e.device)
}

// extend changes a PCR, as another boot loader would.
func (e *emulator) extend(pcr uint32) {
	e.t.Helper()
	c, err := dial(e.t.Context(), e.device)
	if err != nil {
		e.t.Fatal(err)
	}
	defer c.Close()
	_, err = tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256,
			Digest: bytes.Repeat([]byte{7}, 32)}}},
	}.Execute(c)
	if err != nil {
		e.t.Fatal(err)
	}
}

func TestProvider(t *testing.T) {
	for name, pcrs := range map[string]PCRs{"plain": 0, "PCRs": 1<<0 | 1<<7} {
		t.Run(name, func(t *testing.T) {
			mine, theirs := start(t), start(t)
			dir := t.TempDir()
			deaf, err := net.Listen("unix", filepath.Join(dir, "deaf"))
			if err != nil {
				t.Fatal(err)
			}
			defer deaf.Close() // who connects waits for ever
			providertest.Run(t, providertest.Service{
				Open:  func(*testing.T) keystore.Wrapper { return New(mine.device, pcrs) },
				Other: func(*testing.T) keystore.Wrapper { return New(theirs.device, pcrs) },
				Away:  func(*testing.T) keystore.Wrapper { return New(filepath.Join(dir, "nothing"), pcrs) },
				Slow:  func(*testing.T) keystore.Wrapper { return New(filepath.Join(dir, "deaf"), pcrs) },
				Replies: func(t *testing.T, body []byte) keystore.Wrapper {
					return New(replying(t, body), pcrs)
				},
				Forbidden: func(*testing.T) keystore.Wrapper { return New(theirs.device, pcrs) },
			})
		})
	}
}

// replying returns a socket at which each command is answered with body.
func replying(t *testing.T, body []byte) string {
	t.Helper()
	device := filepath.Join(t.TempDir(), "sock")
	l, err := net.Listen("unix", device)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := c.Read(make([]byte, 4096)); err == nil {
					_, _ = c.Write(body)
				}
			}()
		}
	}()
	return device
}

// wrapped returns a slot that p has sealed, and its W.
func wrapped(t *testing.T, p *Provider) (keystore.SlotInfo, []byte) {
	t.Helper()
	s := keystore.SlotInfo{Vault: blockcrypt.ID{1}, Kind: Kind}
	w, data, err := p.Wrap(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	s.Provider = data
	return s, w
}

// A machine that starts again still opens the slot, as long as its PCRs come out the same.
func TestPCRs(t *testing.T) {
	e := start(t)
	bound, plain := New(e.device, 1<<4|1<<7), New(e.device, 0)
	s, w := wrapped(t, bound)
	free, _ := wrapped(t, plain)
	e.off()
	if _, err := bound.Secret(t.Context(), s); !errors.Is(err, keystore.ErrAway) {
		t.Errorf("while it is off: %v", err)
	}
	e.on()
	if got, err := plain.Secret(t.Context(), s); err != nil || !bytes.Equal(got, w) { // what the slot is bound to counts
		t.Errorf("after it was switched on: %v", err)
	}
	e.extend(5)
	if _, err := bound.Secret(t.Context(), s); err != nil {
		t.Errorf("another PCR: %v", err)
	}
	e.extend(7)
	if _, err := bound.Secret(t.Context(), s); !errors.Is(err, keystore.ErrRefused) || !strings.Contains(err.Error(), "PCRs have other values") {
		t.Errorf("after a PCR has changed: %v", err)
	}
	if _, err := plain.Secret(t.Context(), free); err != nil {
		t.Errorf("a slot without PCRs: %v", err)
	}
	if d, err := plain.Describe(t.Context(), s); err != nil || !strings.HasSuffix(d.Name, "pcrs=4,7") {
		t.Errorf("describe: %+v, %v", d, err)
	}
	// A slot that says it is bound to other PCRs, or to none, does not open so.
	b, err := decodeBlob(s.Provider.Wrapped)
	if err != nil {
		t.Fatal(err)
	}
	for _, pcrs := range []PCRs{0, 1 << 4, 1 << 16} {
		b.pcrs = pcrs
		s.Provider.Wrapped = b.encode()
		if _, err := plain.Secret(t.Context(), s); !errors.Is(err, keystore.ErrRefused) {
			t.Errorf("as if bound to %q: %v", pcrs, err)
		}
	}
}

// A TPM that was cleared is another one, whatever it says of itself.
func TestCleared(t *testing.T) {
	e := start(t)
	s, _ := wrapped(t, New(e.device, 0))
	c, err := dial(t.Context(), e.device)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth(nil)}}.Execute(c)
	c.Close()
	if err != nil {
		t.Fatal(err)
	}
	p := New(e.device, 0)
	if _, err := p.Secret(t.Context(), s); !errors.Is(err, keystore.ErrRefused) || !strings.Contains(err.Error(), "another TPM") {
		t.Errorf("after it was cleared: %v", err)
	}
	if d, err := p.Describe(t.Context(), s); err != nil || d.State == "enabled" {
		t.Errorf("describe: %+v, %v", d, err)
	}
}

// W is not in what goes over the wire, and failures leave nothing behind in a TPM that has room for three objects.
func TestOnTheWire(t *testing.T) {
	e := start(t)
	var wire bytes.Buffer
	device := filepath.Join(t.TempDir(), "tap")
	l, err := net.Listen("unix", device)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 12 {
			c, err := l.Accept()
			if err != nil {
				return
			}
			tap(c, e.device, &wire)
		}
	}()
	p := New(device, 1<<7)
	s, w := wrapped(t, p)
	for range 5 {
		got, err := p.Secret(t.Context(), s)
		if err != nil || !bytes.Equal(got, w) {
			t.Fatal(err)
		}
		broken := s
		broken.Vault = blockcrypt.ID{2}
		if _, err := p.Secret(t.Context(), broken); !errors.Is(err, keystore.ErrRefused) {
			t.Fatalf("for another vault: %v", err)
		}
	}
	l.Close()
	<-done
	if wire.Len() == 0 || bytes.Contains(wire.Bytes(), w) {
		t.Errorf("W is in %d bytes that went over the wire", wire.Len())
	}
}

// tap passes commands and replies on and notes them.
func tap(c net.Conn, device string, wire *bytes.Buffer) {
	defer c.Close()
	to, err := net.Dial("unix", device)
	if err != nil {
		return
	}
	defer to.Close()
	buf := make([]byte, 8192)
	for {
		for _, way := range [2][2]net.Conn{{c, to}, {to, c}} {
			n, err := way[0].Read(buf)
			if err != nil {
				return
			}
			wire.Write(buf[:n])
			if _, err := way[1].Write(buf[:n]); err != nil {
				return
			}
		}
	}
}

func TestParse(t *testing.T) {
	for uri, want := range map[string]string{"tpm:": "", "tpm:pcrs=0,7": "0,7", "tpm:pcrs=7,0,7": "0,7", "tpm:pcrs=23": "23"} {
		if got, err := Parse(uri); err != nil || got.String() != want {
			t.Errorf("%s: %s, %v", uri, got, err)
		}
	}
	for _, uri := range []string{"tpm", "tpm:pcrs=", "tpm:pcrs=24", "tpm:pcrs=-1", "tpm:pcrs=1,,2", "tpm:/dev/tpm9", "tpm:device=x", "tpm:pcrs=1&device=x"} {
		if got, err := Parse(uri); err == nil {
			t.Errorf("%s: %s", uri, got)
		}
	}
}

// Whatever a slot keeps, it is read without a panic and only in its one spelling.
func FuzzBlob(f *testing.F) {
	f.Add((&blob{pcrs: 1, private: []byte{1}, public: []byte{2}}).encode())
	f.Add([]byte{1, 0, 0, 0, 0, 255, 255, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		if b, err := decodeBlob(data); err == nil && !bytes.Equal(b.encode(), data) {
			t.Errorf("%x is %x in its own spelling", data, b.encode())
		}
	})
}
