package keystore

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"

	"envfs/blockcrypt"
)

// provider holds its secret in a closure, so that printing a provider shows none.
type provider struct {
	kind   string
	secret func(ctx context.Context, s SlotInfo) ([]byte, error)
}

func (p provider) Kind() string { return p.kind }

func (p provider) Secret(ctx context.Context, s SlotInfo) ([]byte, error) { return p.secret(ctx, s) }

var errEmptyPassphrase = errors.New("empty passphrase")

// Passphrase returns the provider of passphrase slots: W = Argon2id(pass, the slot's own salt and costs). The bytes are
// taken as they are. pass must stay as it is while the provider is in use; wiping it is the caller's work. An empty one
// yields an error.
func Passphrase(pass []byte, derive Deriver) Provider {
	return provider{KindPassphrase, func(ctx context.Context, s SlotInfo) ([]byte, error) {
		switch {
		case len(pass) == 0:
			return nil, errEmptyPassphrase
		case len(pass) > maxPass:
			return nil, errors.New("passphrase of more than 64 KiB")
		}
		if err := s.KDF.check(); err != nil {
			return nil, err
		}
		w, err := derive.Argon2id(ctx, pass, s.KDFSalt, s.KDF.MemoryKiB, s.KDF.Passes, s.KDF.Parallelism)
		if err != nil {
			return nil, err
		}
		defer clear(w[:])
		return bytes.Clone(w[:]), nil
	}}
}

var errKeyFile = errors.New("key file: neither 32 bytes nor 64 hexadecimal digits nor base64 of 32 bytes; use it as a passphrase")

// KeyFile returns the provider of keyfile slots: W is the key itself. key is the content of the file: exactly 32 bytes,
// or 64 hexadecimal digits, or standard base64 of 32 bytes with or without padding, the texts with at most one newline
// behind them. key must stay as it is while the provider is in use; wiping it is the caller's work.
func KeyFile(key []byte) (Provider, error) {
	return parsed(KindKeyFile, func() ([]byte, error) { return parseKey(key) })
}

// parsed returns a provider whose W is the same for every slot. It is parsed anew each time, so that no copy of it stays
// in memory that nobody wipes.
func parsed(kind string, parse func() ([]byte, error)) (Provider, error) {
	w, err := parse()
	clear(w)
	if err != nil {
		return nil, err
	}
	return provider{kind, func(context.Context, SlotInfo) ([]byte, error) { return parse() }}, nil
}

// parseKey returns W, which the caller wipes.
func parseKey(key []byte) ([]byte, error) {
	if len(key) == blockcrypt.KeySize {
		return bytes.Clone(key), nil
	}
	text, newline := bytes.CutSuffix(key, []byte("\n"))
	if newline {
		text = bytes.TrimSuffix(text, []byte("\r"))
	}
	var n int
	var err error
	w := make([]byte, blockcrypt.KeySize+1) // base64 of 44 characters may be 33 bytes
	switch len(text) {
	case 64:
		n, err = hex.Decode(w, text)
	case 44:
		n, err = decodeBase64(w, text, base64.StdEncoding)
	case 43:
		n, err = decodeBase64(w, text, base64.RawStdEncoding)
	default:
		return nil, errKeyFile
	}
	if err != nil || n != blockcrypt.KeySize {
		clear(w)
		return nil, errKeyFile // the decoder's error would quote a byte of the key
	}
	return w[:n], nil
}

// decodeBase64 refuses the newlines that encoding/base64 skips.
func decodeBase64(dst, src []byte, enc *base64.Encoding) (int, error) {
	if bytes.ContainsAny(src, "\r\n") {
		return 0, errKeyFile
	}
	return enc.Strict().Decode(dst, src)
}
