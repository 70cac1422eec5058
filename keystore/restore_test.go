package keystore

import (
	"crypto/rand"
	"testing"
)

// A backup that somebody has changed, or of which that cannot be told, brings back no slots: the root key would be sealed to them.
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
	wantErr(t, got, err, ErrWrongKey)
	next = held(t)(v2.RestoreSlots(rand.Reader, testTime, saved, v))
	opens(t, next, b)
}
