package keystore

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"testing"

	"envfs/blockcrypt"
)

// withStrangersKey returns a key file whose second slot comes with a public key of somebody else's, and hashes that fit.
func withStrangersKey(t *testing.T, f *File) *File {
	t.Helper()
	var doc document
	if err := json.Unmarshal(f.body, &doc); err != nil {
		t.Fatal(err)
	}
	seed := make([]byte, blockcrypt.KeySize)
	rand.Read(seed)
	key, err := kem().NewPrivateKey(seed)
	if err != nil {
		t.Fatal(err)
	}
	doc.Slots[1].PublicKey = key.PublicKey().Bytes()
	body, err := doc.encode()
	if err != nil {
		t.Fatal(err)
	}
	forged, err := Parse(rehash(f, body))
	if err != nil {
		t.Fatal(err)
	}
	return forged
}

// A backup lies where others can write. What they make of it must not have the new root key sealed to them.
func TestRestoreForged(t *testing.T) {
	one, two := keyFile(t, 1), keyFile(t, 2)
	v := create1(t, one, two)
	old := v.File()
	v = held(t)(opens(t, v, one).Rotate(rand.Reader, testTime))
	if _, err := v.RestoreSlots(rand.Reader, testTime, withStrangersKey(t, old), nil); !errors.Is(err, ErrAltered) {
		t.Fatalf("a forged backup is restored: %v", err)
	}
	next := held(t)(v.RestoreSlots(rand.Reader, testTime, old, nil))
	opens(t, next, one)
	opens(t, next, two)
}

// A backup whose root key nobody has any more proves nothing, unless a key that opens it is given.
func TestRestoreUnproven(t *testing.T) {
	one, two := keyFile(t, 1), keyFile(t, 2)
	v := create1(t, one, two)
	old := held(t)(v.Rotate(rand.Reader, testTime))
	v = old
	for _, s := range []NewSlot{one, two, one, two} { // each lets go of the root key that it knew
		v = held(t)(opens(t, v, s).Rotate(rand.Reader, testTime))
	}
	if next, err := v.RestoreSlots(rand.Reader, testTime, old.File(), nil); err == nil || !errors.Is(err, ErrUnproven) {
		t.Fatalf("restored: %v, %v", next, err)
	}
	next := held(t)(v.RestoreSlots(rand.Reader, testTime, old.File(), opens(t, old, two)))
	opens(t, next, one)
	opens(t, next, two)
}

// A backup that somebody has changed, or of which that cannot be told, brings back no slots: the root key would be
// sealed to them.
func TestRestoreSlotsOfForgedBackup(t *testing.T) {
	a, b, c := keyFile(t, 1), keyFile(t, 2), keyFile(t, 3)
	v := create1(t, a, b)
	saved := v.File()
	next := held(t)(v.RestoreSlots(rand.Reader, testTime, saved, nil))
	opens(t, next, a)
	opens(t, next, b)

	stranger := create1(t, c)
	forged := saved.doc.clone()
	forged.Slots[1].PublicKey = stranger.file.doc.Slots[0].PublicKey // whose private half the stranger has
	f, err := Parse(reseal(t, stranger, forged))
	if err != nil {
		t.Fatal(err)
	}
	got, err := v.RestoreSlots(rand.Reader, testTime, f, nil)
	wantErr(t, got, err, ErrAltered)

	// Once nobody's payload names the older root key any more, only who opens the older file can tell.
	v2 := held(t)(v.RemoveSlot(rand.Reader, testTime, slotID(v, 1), false))
	got, err = v2.RestoreSlots(rand.Reader, testTime, saved, nil)
	wantErr(t, got, err, ErrUnproven)
	next = held(t)(v2.RestoreSlots(rand.Reader, testTime, saved, v))
	opens(t, next, b)
}
