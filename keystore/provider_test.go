package keystore

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestKeyFileForms(t *testing.T) {
	key := make([]byte, 32)
	rand.Read(key)
	std, short := base64.StdEncoding.EncodeToString(key), base64.RawStdEncoding.EncodeToString(key)
	for _, text := range []string{string(key), hex.EncodeToString(key), strings.ToUpper(hex.EncodeToString(key)), std, short} {
		ends := []string{"", "\n", "\r\n"}
		if text == string(key) {
			ends = ends[:1]
		}
		for _, end := range ends {
			p, err := KeyFile([]byte(text + end))
			if err != nil {
				t.Errorf("%q: %v", text+end, err)
				continue
			}
			if w, err := p.Secret(t.Context(), SlotInfo{}); err != nil || !bytes.Equal(w, key) {
				t.Errorf("%q: another key (%v)", text+end, err)
			}
		}
	}
	hexa := hex.EncodeToString(key)
	for _, text := range []string{
		"", "secret", string(key[:31]), string(key) + "\n", hexa[:63], hexa + "0", hexa + "\n\n", " " + hexa, "g" + hexa[1:], std + "=",
		short[:42] + "\n", std[:10] + "\n" + std[11:], strings.Repeat("A", 44), strings.Repeat("/", 43),
	} {
		_, err := KeyFile([]byte(text))
		if err == nil || !strings.Contains(err.Error(), "use it as a passphrase") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzKeyFile(f *testing.F) {
	f.Add([]byte(strings.Repeat("ab", 32) + "\n"))
	f.Add([]byte(base64.StdEncoding.EncodeToString(make([]byte, 32))))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := KeyFile(data)
		if err != nil {
			return
		}
		w, err := p.Secret(t.Context(), SlotInfo{})
		if err != nil || len(w) != 32 {
			t.Fatalf("W of %d bytes, %v", len(w), err)
		}
		text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
		forms := []string{string(w), hex.EncodeToString(w), base64.StdEncoding.EncodeToString(w), base64.RawStdEncoding.EncodeToString(w)}
		if string(data) != string(w) && !slices.Contains(forms[2:], text) && strings.ToLower(text) != forms[1] {
			t.Fatalf("%q was read as another key", data)
		}
	})
}

// BIP-39's own test vectors (English, 256 bits).
func TestRecoveryVectors(t *testing.T) {
	for entropy, want := range map[string]string{
		strings.Repeat("00", 32): strings.Repeat("abandon ", 23) + "art",
		strings.Repeat("7f", 32): strings.Repeat("legal winner thank year wave sausage worth useful ", 2) + "legal winner thank year wave sausage worth title",
		strings.Repeat("ff", 32): strings.Repeat("zoo ", 23) + "vote",
		"68a79eaca2324873eacc50cb9c6eca8cc68ea5d936f98787c60c7ebc74e6ce7c": "hamster diagram private dutch cause delay private meat slide toddler razor book happy fancy gospel tennis maple dilemma loan word shrug inflict delay length",
	} {
		secret, err := hex.DecodeString(entropy)
		if err != nil {
			t.Fatal(err)
		}
		code := encodeRecovery([32]byte(secret))
		if got := strings.ReplaceAll(code, "-", " "); got != want {
			t.Errorf("%s: %q, want %q", entropy, got, want)
		}
		for _, form := range []string{code, want, strings.ToUpper(want), "\n " + strings.ReplaceAll(want, " ", " -\t\n") + " ", abbreviate(want)} {
			if got, err := decodedRecovery(form); err != nil || !bytes.Equal(got[:], secret) {
				t.Errorf("%q: %x, %v", form, got, err)
			}
		}
	}
}

func decodedRecovery(code string) ([32]byte, error) {
	var secret [33]byte
	err := decodeRecovery(secret[:], []byte(code))
	return [32]byte(secret[:32]), err
}

func abbreviate(code string) string {
	list := strings.Fields(code)
	for i, w := range list {
		list[i] = w[:min(4, len(w))]
	}
	return strings.Join(list, " ")
}

func TestWordList(t *testing.T) {
	list := words()
	if len(list) != wordListSize || !slices.IsSorted(list) {
		t.Fatalf("%d words, sorted %v", len(list), slices.IsSorted(list))
	}
	for i := 1; i < len(list); i++ {
		if a, b := list[i-1], list[i]; a[:min(4, len(a))] == b[:min(4, len(b))] {
			t.Errorf("%q and %q begin alike", a, b)
		}
	}
}

func TestRecoveryErrors(t *testing.T) {
	code, err := NewRecoveryCode(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	list := strings.FieldsFunc(code, func(r rune) bool { return r == ' ' || r == '-' })
	try := func(edit func(w []string) []string) string {
		t.Helper()
		if _, err := Recovery([]byte(strings.Join(edit(slices.Clone(list)), " "))); err != nil {
			return err.Error()
		}
		return ""
	}
	if got := try(func(w []string) []string { w[6] = "qwertz"; return w }); got != "recovery code: word 7 is not in the list" {
		t.Error(got)
	}
	if got := try(func(w []string) []string { return w[1:] }); got != "recovery code: 23 words, want 24" {
		t.Error(got)
	}
	if got := try(func(w []string) []string { return append(w, "zoo") }); got != "recovery code: 25 words, want 24" {
		t.Error(got)
	}
	if _, err := Recovery([]byte(strings.Repeat("zoo ", 500))); err == nil {
		t.Error("2000 characters accepted")
	}
	// One of 256 single mistakes passes an 8-bit sum; the commitment is there for those.
	missed := 0
	for _, other := range words() {
		if try(func(w []string) []string { w[0] = other; return w }) == "" {
			missed++
		}
	}
	if missed < 1 || missed > 32 {
		t.Errorf("%d of %d first words pass the sum", missed, wordListSize)
	}
}

func FuzzRecovery(f *testing.F) {
	f.Add(strings.Repeat("abandon ", 23) + "art")
	f.Fuzz(func(t *testing.T, code string) {
		secret, err := decodedRecovery(code)
		if err != nil {
			return
		}
		if again, err := decodedRecovery(encodeRecovery(secret)); err != nil || again != secret {
			t.Errorf("%q does not come back", code)
		}
	})
}

func TestChildProcess(t *testing.T) {
	salt := bytes.Repeat([]byte{5}, 32)
	child := ChildProcess(os.Args[0], kdfVerb)
	got, err := child.Argon2id(t.Context(), []byte("correct horse"), salt, minKDFMemory, minKDFPasses, 4)
	if err != nil {
		t.Fatal(err)
	}
	want, err := InProcess().Argon2id(t.Context(), []byte("correct horse"), salt, minKDFMemory, minKDFPasses, 4)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Error("child and parent derive different keys")
	}
	if _, err := child.Argon2id(t.Context(), []byte("x"), salt, minKDFMemory, 1, 4); !errors.Is(err, ErrInvalid) {
		t.Errorf("one pass: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := child.Argon2id(ctx, []byte("x"), salt, minKDFMemory, 3, 4); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := ChildProcess(filepath.Join(t.TempDir(), "missing")).Argon2id(t.Context(), []byte("x"), salt, minKDFMemory, 3, 4); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such program: %v", err)
	}
	if _, err := ChildProcess("/bin/true").Argon2id(t.Context(), []byte("x"), salt, minKDFMemory, 3, 4); err == nil {
		t.Error("a child that says nothing was believed")
	}
}

// A child that fails is no wrong key.
func TestUnlockFailingChild(t *testing.T) {
	v := create1(t, pass("a"))
	got, err := v.File().Unlock(t.Context(), []Provider{Passphrase([]byte("a"), ChildProcess("/bin/false"))})
	if errors.Is(err, ErrWrongKey) {
		t.Error("a failing child counts as a wrong key")
	}
	wantErr(t, got, err, ErrNoSlot)
}

func TestServeKDFRefuses(t *testing.T) {
	req := func(mem, passes uint32, par byte, salt uint16, pass uint32) []byte {
		b := append([]byte(kdfMagic), byte(mem>>24), byte(mem>>16), byte(mem>>8), byte(mem))
		b = append(b, byte(passes>>24), byte(passes>>16), byte(passes>>8), byte(passes), par, byte(salt>>8), byte(salt))
		b = append(b, byte(pass>>24), byte(pass>>16), byte(pass>>8), byte(pass))
		return append(b, make([]byte, min(1<<17, int(salt)+int(pass)))...)
	}
	for name, b := range map[string][]byte{
		"empty": nil, "magic": make([]byte, 64), "memory": req(1<<32-1, 3, 4, 32, 4), "passes": req(1<<16, 1<<31, 4, 32, 4),
		"lanes": req(1<<16, 3, 0, 32, 4), "salt": req(1<<16, 3, 4, 33, 4), "pass": req(1<<16, 3, 4, 32, 1<<32-1), "short": req(1<<16, 3, 4, 32, 9)[:40],
	} {
		var out bytes.Buffer
		if err := serveKDF(bytes.NewReader(b), &out); err == nil || out.Len() > 0 {
			t.Errorf("%s: %v, %d bytes", name, err, out.Len())
		}
	}
}

func TestKDFFor(t *testing.T) {
	for _, c := range []struct {
		total   uint64
		want    uint32
		lowered bool
	}{{64 << 30, 256 << 10, false}, {2 << 30, 256 << 10, false}, {1 << 30, 128 << 10, true}, {512 << 20, 64 << 10, true}, {64 << 20, 64 << 10, true}} {
		p, lowered := kdfFor(c.total)
		if p.MemoryKiB != c.want || lowered != c.lowered || p.Passes != 3 || p.Parallelism != 4 || p.check() != nil {
			t.Errorf("%d MiB: %+v, %v", c.total>>20, p, lowered)
		}
	}
}

// Printing a provider tells nothing.
func TestProvidersHideSecrets(t *testing.T) {
	const secret = "0123456789abcdef0123456789abcdef"
	p, err := KeyFile([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []Provider{p, Passphrase([]byte(secret), InProcess())} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
			s := fmt.Sprintf(verb, p)
			if strings.Contains(s, secret) || strings.Contains(s, hex.EncodeToString([]byte(secret))) || strings.Contains(s, "48 49 50") {
				t.Errorf("%s prints %q", verb, s)
			}
		}
	}
}

// A provider holds no copy of what it was made from: once that is wiped, nothing is left to be found in memory.
func TestProvidersHoldNoCopy(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	code := []byte(encodeRecovery([32]byte(key)))
	hexa := []byte(hex.EncodeToString(key))
	for name, secret := range map[string][]byte{"key": key, "hexadecimal": hexa, "recovery": code} {
		make := KeyFile
		if name == "recovery" {
			make = Recovery
		}
		p, err := make(secret)
		if err != nil {
			t.Fatal(err)
		}
		before, err := p.Secret(t.Context(), SlotInfo{})
		if err != nil {
			t.Fatal(err)
		}
		clear(secret)
		if after, err := p.Secret(t.Context(), SlotInfo{}); err == nil && bytes.Equal(before, after) {
			t.Errorf("%s: the provider still knows it", name)
		}
	}
}
