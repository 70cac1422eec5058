package keystore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"unsafe"
)

// Every byte, by accident: the plain hash tells it.
func TestFlipEveryByte(t *testing.T) {
	v := create1(t, keyFile(t, 1), pass("a"))
	data := bytes.Clone(v.Bytes())
	for i := range data {
		for _, flip := range []byte{1, 0x20, 0x80} {
			data[i] ^= flip
			if _, err := Parse(data); err == nil {
				t.Fatalf("byte %d (%q) with %#x flipped: accepted", i, data[i]^flip, flip)
			} else if !errors.Is(err, ErrDecayed) && !errors.Is(err, ErrNotKeyFile) && !errors.Is(err, ErrNewerVersion) {
				t.Fatalf("byte %d with %#x flipped: %v", i, flip, err)
			}
			data[i] ^= flip
		}
	}
	for n := range len(data) {
		if _, err := Parse(data[:n]); err == nil {
			t.Fatalf("cut to %d bytes: accepted", n)
		}
	}
	if _, err := Parse(append(bytes.Clone(data), '\n')); err == nil {
		t.Error("a byte more: accepted")
	}
	for at, want := range map[int]error{300: ErrDecayed, len(data) - 3: ErrDecayed, len(data) - 100: ErrDecayed} {
		data[at] ^= 2
		if _, err := Parse(data); !errors.Is(err, want) {
			t.Errorf("byte %d flipped: %v, want %v", at, err, want)
		}
		data[at] ^= 2
	}
}

// rehash gives a body the trailer with the MAC of f and a plain hash that fits, as somebody without a key can.
func rehash(f *File, body []byte) []byte { return appendTrailer(body, f.mac) }

// leaves calls fn with a pointer to each field of doc that holds data.
func leaves(v reflect.Value, path string, fn func(path string, v reflect.Value)) {
	switch {
	case v.Type() == reflect.TypeFor[timeText]():
		fn(path, v)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			leaves(v.Field(i), path+"."+v.Type().Field(i).Name, fn)
		}
	case v.Kind() == reflect.Pointer:
		if !v.IsNil() {
			leaves(v.Elem(), path, fn)
		}
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		for i := range v.Len() {
			leaves(v.Index(i), fmt.Sprintf("%s[%d]", path, i), fn)
		}
	default:
		fn(path, v)
	}
}

// Every field, on purpose: whatever passes Parse fails with the right key.
func TestAlterEveryField(t *testing.T) {
	slots := []NewSlot{keyFile(t, 1), pass("a"), {Provider: newBox("box")}}
	v := create1(t, slots...)
	body := v.file.body
	var paths int
	var doc document
	if err := json.Unmarshal(body, &doc); err != nil {
		t.Fatal(err)
	}
	leaves(reflect.ValueOf(&doc), "", func(path string, field reflect.Value) {
		paths++
		old := reflect.New(field.Type()).Elem()
		old.Set(field)
		switch x := field.Addr().Interface().(type) {
		case *string:
			*x = strings.ReplaceAll(*x+"x", "keyfilex", KindRecovery)
		case *timeText:
			x.Time = x.AddDate(0, 0, 1)
		case *[]byte:
			*x = bytes.Clone(*x)
			(*x)[len(*x)/2] ^= 1
		case *hexText:
			x[3] ^= 1
		case *idText:
			x[3] ^= 1
		default:
			field.SetUint(field.Uint() + 1)
		}
		changed, err := doc.encode()
		if err != nil {
			t.Fatal(err)
		}
		field.Set(old)
		if bytes.Equal(changed, body) {
			t.Fatalf("%s: not changed", path)
		}
		f, err := Parse(rehash(v.file, changed))
		if err != nil {
			return
		}
		for _, s := range slots {
			got, err := f.Unlock(context.Background(), []Provider{s.Provider})
			if err == nil {
				got.Close()
				t.Errorf("%s altered: opens", path)
			} else if !errors.Is(err, ErrAltered) && !errors.Is(err, ErrWrongKey) && !errors.Is(err, ErrNoSlot) {
				t.Errorf("%s altered: %v", path, err)
			}
		}
	})
	if paths < 30 {
		t.Errorf("only %d fields were altered", paths)
	}
}

// Spellings that a lenient reader would take for the same file.
func TestStrictJSON(t *testing.T) {
	v := create1(t, keyFile(t, 1))
	body := string(v.file.body)
	for name, changed := range map[string]string{
		"unknown field":   strings.Replace(body, `"vault"`, "\"endpoint\": \"https://example.org\",\n  \"vault\"", 1),
		"repeated field":  strings.Replace(body, `"suite": 1`, "\"suite\": 2,\n  \"suite\": 1", 1),
		"case":            strings.Replace(body, `"suite"`, `"Suite"`, 1),
		"missing field":   strings.Replace(body, "  \"suite\": 1,\n", "", 1),
		"order":           strings.Replace(strings.Replace(body, `"suite": 1,`, "", 1), `"vault"`, `"suite": 1, "vault"`, 1),
		"trailing value":  body + "{}\n",
		"trailing space":  body + " ",
		"no newline":      strings.TrimSuffix(body, "\n"),
		"spaces":          strings.Replace(body, ": 1", ":  1", 1),
		"number spelling": strings.Replace(body, `"suite": 1`, `"suite": 1.0`, 1),
		"time zone":       strings.ReplaceAll(body, "03:02:01Z", "04:02:01+01:00"),
		"no slots":        body[:strings.Index(body, `"slots": [`)] + "\"slots\": [],\n" + body[strings.Index(body, `  "keyring"`):],
		"hex case":        strings.Replace(body, v.File().Fingerprint().String(), strings.ToUpper(v.File().Fingerprint().String()), 1),
		"null":            strings.Replace(body, `"suite": 1`, `"suite": null`, 1),
	} {
		if changed == body {
			t.Fatalf("%s: not changed", name)
		}
		if _, err := Parse(rehash(v.file, []byte(changed))); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for version, want := range map[string]error{"1": ErrNewerVersion, "4294967296": ErrNewerVersion, "-1": ErrNotKeyFile} {
		changed := strings.Replace(body, `"version": 0`, `"version": `+version, 1)
		if _, err := Parse(rehash(v.file, []byte(changed))); !errors.Is(err, want) {
			t.Errorf("version %s: %v", version, err)
		}
		if want == ErrNewerVersion {
			if _, err := Parse([]byte(changed + "another trailer\n")); !errors.Is(err, want) {
				t.Errorf("version %s with an unknown last line: %v", version, err)
			}
		}
	}
	if _, err := Parse(nil); !errors.Is(err, ErrNotKeyFile) {
		t.Errorf("nothing: %v", err)
	}
	if _, err := Parse(make([]byte, MaxSize+1)); !errors.Is(err, ErrNotKeyFile) {
		t.Errorf("too long: %v", err)
	}
}

// Costs of a hostile file are refused before any is paid.
func TestHostileCosts(t *testing.T) {
	v := create1(t, pass("a"))
	one := v.file.doc.Slots[0]
	for name, edit := range map[string]func(d *document){
		"memory":      func(d *document) { d.Slots[0].KDF.MemoryKiB = 1<<32 - 1 },
		"passes":      func(d *document) { d.Slots[0].KDF.Passes = 1<<32 - 1 },
		"lanes":       func(d *document) { d.Slots[0].KDF.Parallelism = 255 },
		"no lanes":    func(d *document) { d.Slots[0].KDF.Parallelism = 0 },
		"no passes":   func(d *document) { d.Slots[0].KDF.Passes = 0 },
		"low memory":  func(d *document) { d.Slots[0].KDF.MemoryKiB = 8 },
		"no kdf":      func(d *document) { d.Slots[0].KDF = nil },
		"kdf of none": func(d *document) { d.Slots[0].Kind = KindKeyFile },
		"sum": func(d *document) {
			for n := range MaxSlots - 1 {
				s := one
				s.ID[0] += byte(n + 1)
				s.KDF = &kdfDocument{MemoryKiB: maxKDFMemory, Passes: 3, Parallelism: 1}
				d.Slots = append(d.Slots, s)
			}
		},
		"same id": func(d *document) { d.Slots = append(d.Slots, one) },
		"slots": func(d *document) {
			for n := range MaxSlots {
				s := one
				s.ID[0] += byte(n + 1)
				s.Kind, s.KDF = KindKeyFile, nil
				d.Slots = append(d.Slots, s)
			}
		},
	} {
		doc := v.file.doc.clone()
		kdf := *one.KDF
		doc.Slots[0].KDF = &kdf
		edit(&doc)
		body, err := doc.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(rehash(v.file, body)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Nothing of the keys stays readable where they were.
func TestCloseWipesKeys(t *testing.T) {
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	v := create1(t, keyFile(t, 1))
	type place struct {
		at   int64
		want []byte
	}
	var places []place
	for _, key := range [][]byte{v.rootKey, v.w, v.keks[0]} {
		p := place{int64(uintptr(unsafe.Pointer(&key[0]))), bytes.Clone(key)}
		got := make([]byte, len(key))
		if _, err := mem.ReadAt(got, p.at); err != nil || !bytes.Equal(got, key) {
			t.Fatalf("the test cannot read its own memory: %v", err)
		}
		places = append(places, p)
	}
	v.Close()
	for _, p := range places {
		got := make([]byte, len(p.want))
		if _, err := mem.ReadAt(got, p.at); err == nil && bytes.Equal(got, p.want) {
			t.Error("a key is still there after Close")
		}
	}
}

func FuzzParse(f *testing.F) {
	v := create1(f, keyFile(f, 1), pass("a"))
	f.Add(v.Bytes())
	f.Add(v.Bytes()[:200])
	f.Add([]byte(`{"format":"envfs","version":7}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, b := range [][]byte{data, appendTrailer(data, [32]byte{1})} {
			file, err := Parse(b)
			if err != nil {
				continue
			}
			if len(file.Slots()) == 0 || file.VaultID().IsZero() {
				t.Error("accepted without slots or id")
			}
		}
	})
}
