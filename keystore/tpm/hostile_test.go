package tpm

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"envfs/blockcrypt"
	"envfs/keystore"
)

// between is somebody between CPU and TPM, who alters one reply.
type between struct {
	real   string // the TPM's socket
	device string
	alter  func(n int, reply []byte) []byte
}

func (b *between) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		b.pass(c)
	}
}

// pass lets one connection through, until a reply was altered or it ends.
func (b *between) pass(c net.Conn) {
	defer c.Close()
	chip, err := net.Dial("unix", b.real)
	if err != nil {
		return
	}
	defer chip.Close()
	for n := 0; ; n++ {
		command, err := message(c)
		if err != nil {
			return
		}
		if _, err := chip.Write(command); err != nil {
			return
		}
		reply, err := message(chip)
		if err != nil {
			return
		}
		altered := b.alter(n, bytes.Clone(reply))
		if _, err := c.Write(altered); err != nil || len(altered) != len(reply) {
			return
		}
	}
}

// message reads a command or a reply: 2 bytes of tag, 4 of length (TPM 2.0 Library, part 1, 18).
func message(r io.Reader) ([]byte, error) {
	head := make([]byte, 6)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	rest := make([]byte, max(binary.BigEndian.Uint32(head[2:]), 6)-6)
	_, err := io.ReadFull(r, rest)
	return append(head, rest...), err
}

// What a TPM answers, or somebody on the wires, is never a crash and never another secret.
func TestAlteredReplies(t *testing.T) {
	e := start(t)
	p := New(e.device, 0)
	s := keystore.SlotInfo{Vault: blockcrypt.ID{1}, ID: blockcrypt.ID{2}, Kind: Kind}
	want, data, err := p.Wrap(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	s.Provider = data
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	var round atomic.Int32
	b := &between{real: e.device, device: filepath.Join(t.TempDir(), "sock")}
	b.alter = func(n int, reply []byte) []byte {
		if n != int(round.Load()%8) {
			return reply
		}
		at := rnd.IntN(len(reply))
		switch round.Load() / 8 % 5 {
		case 0:
			reply[at] ^= 1 << rnd.IntN(8)
		case 1:
			reply[at] = 0xff
		case 2:
			reply = reply[:at]
		case 3:
			reply = append(reply, bytes.Repeat([]byte{0xff}, 5000)...)
		case 4:
			for i := 10; i < len(reply); i++ {
				reply[i] = byte(rnd.Uint32())
			}
		}
		return reply
	}
	l, err := net.Listen("unix", b.device)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go b.serve(l)
	victim := New(b.device, 0)
	for ; round.Load() < 240; round.Add(1) {
		e.off() // what was loaded when a reply was lost stays loaded: here is no resource manager
		e.on()
		got, err := victim.Secret(t.Context(), s)
		if err == nil && !bytes.Equal(got, want) {
			t.Fatalf("round %d: another secret", round.Load())
		}
	}
	e.off()
	e.on()
	if got, err := p.Secret(t.Context(), s); err != nil || !bytes.Equal(got, want) {
		t.Errorf("after all that: %v", err)
	}
}

// A name of a device that is none is an error.
func TestOddDevices(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, device := range []string{"", "/", dir, file, filepath.Join(dir, "none"), "/dev/null", "/dev/zero", "/dev/full", "/dev/urandom", "a\x00b"} {
		if err := New(device, 0).Check(t.Context()); err == nil {
			t.Errorf("%q is a TPM", device)
		}
	}
}
