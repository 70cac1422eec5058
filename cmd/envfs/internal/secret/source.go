package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/spf13/pflag"
)

// ErrInsecure refuses a file with a secret that others can read.
var ErrInsecure = errors.New("others can read it")

// Source is where the user says that secrets come from.
type Source struct {
	PassFile string
	PassCmd  string
	KeyFile  string
	Recovery bool     // ask for a recovery code
	Keys     []string // URIs of master keys that others hold
	Token             // for master keys in PKCS#11 tokens

	Identities []string // files with age identities
	TPM        string   // device of this machine's TPM; empty: the usual one

	// WaitOpen is how long providers that are away are waited for.
	WaitOpen time.Duration
}

// Flags declares the flags of s. With prefix "new-" they are those of a slot to be made.
func (s *Source) Flags(f *pflag.FlagSet, prefix string) {
	which := ""
	if prefix != "" {
		which = "new "
	}
	f.StringVar(&s.PassFile, prefix+"passfile", "", "read the "+which+"passphrase from `FILE`")
	f.StringVar(&s.PassCmd, prefix+"passcmd", "", "read the "+which+"passphrase from what `COMMAND` (run by sh) prints")
	f.StringVar(&s.KeyFile, prefix+"keyfile", "", "use the 32-byte key in `FILE`")
}

// KeyFlag declares the flag for master keys that others hold.
func (s *Source) KeyFlag(f *pflag.FlagSet, prefix string) {
	f.StringArrayVar(&s.Keys, prefix+"key", nil, "use the master key that `URI` names, such as awskms://alias/NAME, age1..., tpm: or auto")
	if prefix == "" { // one TPM, one module and one PIN serve both the old and the new
		f.StringVar(&s.TPM, "tpm", "", "the TPM is at `DEVICE` (default: ENVFS_TPM, or /dev/tpmrm0)")
		s.Token.Flags(f)
	}
}

// IdentityFlag declares the flag for age identities.
func (s *Source) IdentityFlag(f *pflag.FlagSet) {
	f.StringArrayVar(&s.Identities, "identity", nil, "use the age identity in `FILE`")
}

// OpeningFlags declares the flags of s that only opening a vault has: --recovery, which asks for a recovery code, and
// --wait-open.
func (s *Source) OpeningFlags(f *pflag.FlagSet) {
	s.KeyFlag(f, "")
	s.IdentityFlag(f)
	f.BoolVar(&s.Recovery, "recovery", false, "ask for the recovery code instead of the passphrase")
	f.DurationVar(&s.WaitOpen, "wait-open", 0, "wait for `DURATION`, such as 5m, for a KMS that is away, as while a machine starts")
}

// Given reports whether the user named any source.
func (s *Source) Given() bool { return s.Local() || s.Asks() }

// Asks reports whether the user named a provider to ask.
func (s *Source) Asks() bool { return len(s.Keys) > 0 || len(s.Identities) > 0 }

// Local reports whether the user named a source that is here.
func (s *Source) Local() bool {
	return s.PassFile != "" || s.PassCmd != "" || s.KeyFile != "" || s.Recovery
}

// Read reads the secrets from the files and commands that were named.
func (s *Source) Read(ctx context.Context) (b Bundle, err error) {
	defer func() {
		if err != nil {
			b.Wipe()
		}
	}()
	if s.PassFile != "" && s.PassCmd != "" {
		return b, errors.New("read passphrase: --passfile and --passcmd exclude each other")
	}
	if s.KeyFile != "" {
		if b.KeyFile, err = ReadPrivate(ctx, s.KeyFile, 1024); err != nil {
			return b, fmt.Errorf("read key file: %w", err)
		}
	}
	if s.PassFile != "" {
		text, err := ReadPrivate(ctx, s.PassFile, maxPassphrase+2)
		if err != nil {
			return b, fmt.Errorf("read passphrase: %w", err)
		}
		if b.Passphrase, err = passphrase(text); err != nil {
			return b, fmt.Errorf("read passphrase from %s: %w", s.PassFile, err)
		}
	}
	if s.PassCmd != "" {
		text, err := output(ctx, s.PassCmd)
		if err != nil {
			return b, fmt.Errorf("run --passcmd: %w", err)
		}
		if b.Passphrase, err = passphrase(text); err != nil {
			return b, fmt.Errorf("read passphrase from --passcmd: %w", err)
		}
	}
	return b, nil
}

// passphrase takes the end of the line off text and refuses what is no passphrase.
func passphrase(text []byte) ([]byte, error) {
	text = bytes.TrimSuffix(text, []byte("\n"))
	text = bytes.TrimSuffix(text, []byte("\r"))
	switch {
	case len(text) == 0:
		return nil, errors.New("it is empty")
	case len(text) > maxPassphrase:
		return nil, fmt.Errorf("it is longer than %d bytes", maxPassphrase)
	case bytes.ContainsRune(text, '\n'):
		return nil, errors.New("it has several lines")
	}
	return text, nil
}

// ReadPrivate reads a file of at most limit bytes that only its owner can read. What is no regular file (a pipe, say)
// has no readers to ask about, and may have nothing to say before ctx ends.
func ReadPrivate(ctx context.Context, name string, limit int64) ([]byte, error) {
	return await(ctx, func() ([]byte, error) { return readOwn(name, limit) })
}

func readOwn(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		return nil, fmt.Errorf("%s: is a directory", name)
	}
	if st.Mode().IsRegular() && st.Mode().Perm()&0o077 != 0 {
		return nil, &InsecureError{Name: name, Mode: st.Mode().Perm()}
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: longer than %d bytes: use it as a passphrase", name, limit)
	}
	return data, nil
}

// InsecureError names the file with a secret that others can read.
type InsecureError struct {
	Name string
	Mode os.FileMode
}

func (e *InsecureError) Error() string {
	return fmt.Sprintf("%s (mode %04o): %v", e.Name, e.Mode, ErrInsecure)
}

func (e *InsecureError) Unwrap() error { return ErrInsecure }

// output runs a command line, with settings added to its environment, and returns what it prints.
func output(ctx context.Context, line string, settings ...string) ([]byte, error) {
	var text limited
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Env = append(os.Environ(), settings...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, &text, os.Stderr
	cmd.WaitDelay = time.Second // children of the command may hold its output open
	err := cmd.Run()
	if text.over {
		return nil, fmt.Errorf("it printed more than %d bytes", maxPassphrase)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return text.data, err
}

// limited keeps what is written up to the bound of a passphrase, and refuses more.
type limited struct {
	data []byte
	over bool
}

func (l *limited) Write(p []byte) (int, error) {
	if len(l.data)+len(p) > maxPassphrase+2 {
		l.over = true
		return 0, io.ErrShortWrite
	}
	l.data = append(l.data, p...)
	return len(p), nil
}
