package keystore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os/exec"

	"golang.org/x/sys/unix"

	"envfs/keystore/arena"
)

// A request to the child: magic, then big-endian u32 KiB, u32 passes, u8 lanes, u16 length of the salt, u32 length of
// the passphrase, salt, passphrase. The reply is W.
const (
	kdfMagic      = "envfskd0"
	kdfHeaderSize = len(kdfMagic) + 4 + 4 + 1 + 2 + 4
)

type childProcess struct {
	argv0 string
	args  []string
}

// ChildProcess returns a Deriver that runs argv0 with args for each derivation, so that Argon2's memory goes with the
// child. The child must call [ServeKDF] with its standard input and output; passphrase and W cross these pipes only.
// Its environment is empty.
func ChildProcess(argv0 string, args ...string) Deriver { return childProcess{argv0, args} }

func (c childProcess) Argon2id(ctx context.Context, pass, salt []byte, memKiB, passes uint32, par uint8) (w [32]byte, err error) {
	if err := (KDFParams{memKiB, passes, par}).check(); err != nil {
		return w, err
	}
	if len(salt) > kdfSaltSize || len(pass) > maxPass {
		return w, errors.New("derive key: passphrase or salt too long")
	}
	req := make([]byte, 0, kdfHeaderSize+len(salt)+len(pass))
	req = append(req, kdfMagic...)
	req = binary.BigEndian.AppendUint32(req, memKiB)
	req = binary.BigEndian.AppendUint32(req, passes)
	req = append(req, par)
	req = binary.BigEndian.AppendUint16(req, uint16(len(salt)))
	req = binary.BigEndian.AppendUint32(req, uint32(len(pass)))
	req = append(req, salt...)
	req = append(req, pass...)
	defer clear(req)

	reply := bounded{buf: make([]byte, 0, len(w)+1)}
	talk := bounded{buf: make([]byte, 0, 512)}
	cmd := exec.CommandContext(ctx, c.argv0, c.args...)
	cmd.Env = []string{"GOTRACEBACK=none"}
	cmd.Stdin = bytes.NewReader(req)
	cmd.Stdout = &reply
	cmd.Stderr = &talk
	err = cmd.Run()
	defer clear(reply.buf[:cap(reply.buf)])
	if ctx.Err() != nil {
		return w, ctx.Err()
	}
	if err != nil {
		if said := bytes.TrimSpace(talk.buf); len(said) > 0 {
			return w, fmt.Errorf("derive key in a child process with %d MiB: %w: %q", memKiB>>10, err, said)
		}
		return w, fmt.Errorf("derive key in a child process with %d MiB: %w", memKiB>>10, err)
	}
	if len(reply.buf) != len(w) {
		return w, fmt.Errorf("derive key in a child process: reply of %d bytes", len(reply.buf))
	}
	copy(w[:], reply.buf)
	return w, nil
}

// bounded keeps what fits into its buffer, which it never moves, and swallows the rest.
type bounded struct{ buf []byte }

func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), cap(b.buf)-len(b.buf))
	b.buf = append(b.buf, p[:n]...)
	return len(p), nil
}

// ServeKDF is the child's side of [ChildProcess]: it forbids core dumps and gaining privileges, reads one request from
// in, derives, writes W to out and returns. The process should then end.
func ServeKDF(in io.Reader, out io.Writer) error {
	if err := arena.NoDumps(); err != nil {
		return fmt.Errorf("derive key: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("derive key: no new privileges: %w", err)
	}
	return serveKDF(in, out)
}

func serveKDF(in io.Reader, out io.Writer) error {
	var head [kdfHeaderSize]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return fmt.Errorf("derive key: read request: %w", err)
	}
	if string(head[:len(kdfMagic)]) != kdfMagic {
		return errors.New("derive key: not a request")
	}
	h := head[len(kdfMagic):]
	p := KDFParams{binary.BigEndian.Uint32(h), binary.BigEndian.Uint32(h[4:]), h[8]}
	salt, pass := int(binary.BigEndian.Uint16(h[9:])), int64(binary.BigEndian.Uint32(h[11:]))
	if salt > kdfSaltSize || pass > maxPass {
		return errors.New("derive key: passphrase or salt too long")
	}
	body := make([]byte, salt+int(pass))
	defer clear(body)
	if _, err := io.ReadFull(in, body); err != nil {
		return fmt.Errorf("derive key: read request: %w", err)
	}
	w, err := InProcess().Argon2id(context.Background(), body[salt:], body[:salt], p.MemoryKiB, p.Passes, p.Parallelism)
	if err != nil {
		return fmt.Errorf("derive key: %w", err)
	}
	defer clear(w[:])
	if _, err := out.Write(w[:]); err != nil {
		return fmt.Errorf("derive key: write reply: %w", err)
	}
	return nil
}
