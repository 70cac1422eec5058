package keystore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"

	"envfs/blockcrypt"
)

func slotID(v *Vault, n int) blockcrypt.ID { return v.File().Slots()[n].ID }

func TestAddSlot(t *testing.T) {
	a, b := pass("a"), keyFile(t, 1)
	v1 := create1(t, a)
	v2 := held(t)(v1.AddSlot(t.Context(), rand.Reader, testTime, b))
	if v2.File().Generation() != 2 || v2.File().Fingerprint() != v1.File().Fingerprint() || v2.Newest() != 1 {
		t.Error("adding a slot rotated keys")
	}
	same(t, v2, v1)
	opens(t, v2, a)
	opens(t, v2, b)
	if v2.OpenedBy().ID != slotID(v1, 0) {
		t.Error("adding a slot changed the opener")
	}
	opens(t, v1, a) // the old file is as it was
}

func TestRemoveSlotShutsOut(t *testing.T) {
	a, b, c := pass("a"), keyFile(t, 1), keyFile(t, 2)
	v1 := create1(t, a, b, c)
	v2 := held(t)(v1.RemoveSlot(rand.Reader, testTime, slotID(v1, 1), false))
	if v2.Newest() != 2 || v2.File().Fingerprint() == v1.File().Fingerprint() {
		t.Fatal("removing a slot rotated nothing")
	}
	if !bytes.Equal(kek(t, v2, 1), kek(t, v1, 1)) {
		t.Error("the KEK of epoch 1 changed")
	}
	opens(t, v2, a)
	opened := opens(t, v2, c)
	if !opened.NeedsRenewal() || v2.NeedsRenewal() {
		t.Error("want c to need a renewal, and not a, which removed b")
	}
	got, err := unlock(v2.Bytes(), b)
	wantErr(t, got, err, ErrWrongKey)

	// What b still has: the old file with its root key, whose slots it may put into the new file.
	for n := range 2 {
		forged := v2.file.doc.clone()
		forged.Slots[n] = v1.file.doc.Slots[1]
		got, err := unlock(reseal(t, v1, forged), b)
		wantErr(t, got, err, ErrAltered)
	}

	// After renewal nothing names the old root key, and it leaves the keyring.
	v3 := held(t)(opened.RenewPayload(rand.Reader, testTime))
	if v3.File().Fingerprint() != v2.File().Fingerprint() || v3.NeedsRenewal() || len(v3.earlier) != 0 || len(v2.earlier) != 1 {
		t.Errorf("after renewal %d earlier root keys, before %d", len(v3.earlier), len(v2.earlier))
	}
	opens(t, v3, a)
	opens(t, v3, c)
}

// reseal makes a file of doc with MAC under the root key of v, as somebody who knows that key could.
func reseal(t *testing.T, v *Vault, doc document) []byte {
	t.Helper()
	body, err := doc.encode()
	if err != nil {
		t.Fatal(err)
	}
	return appendTrailer(body, doc.ids().mac(v.rootKey, body))
}

func TestRemoveSlotRefusals(t *testing.T) {
	a, b := pass("a"), keyFile(t, 1)
	v := create1(t, a, b)
	got, err := v.RemoveSlot(rand.Reader, testTime, slotID(v, 0), false)
	wantErr(t, got, err, ErrOpeningSlot)
	got, err = v.RemoveSlot(rand.Reader, testTime, blockcrypt.ID{9}, true)
	wantErr(t, got, err, ErrUnknownSlot)
	v2 := held(t)(v.RemoveSlot(rand.Reader, testTime, slotID(v, 0), true))
	if !v2.OpenedBy().ID.IsZero() || v2.NeedsRenewal() || v2.w != nil {
		t.Errorf("opened by %v after the opener's removal", v2.OpenedBy())
	}
	opens(t, v2, b)
	got, err = v2.RemoveSlot(rand.Reader, testTime, slotID(v2, 0), true)
	wantErr(t, got, err, ErrLastSlot)
	v3 := held(t)(v2.Rotate(rand.Reader, testTime)) // works without an opener
	opens(t, v3, b)
}

func TestReplaceSlot(t *testing.T) {
	a, b, c := pass("a"), keyFile(t, 1), pass("c")
	v1 := create1(t, a, b)
	v2 := held(t)(v1.ReplaceSlot(t.Context(), rand.Reader, testTime, slotID(v1, 0), c))
	if v2.OpenedBy().ID != slotID(v2, 0) || slotID(v2, 0) == slotID(v1, 0) || v2.Newest() != 2 {
		t.Error("want the new slot to have opened the vault")
	}
	opens(t, v2, b)
	opens(t, v2, c)
	got, err := unlock(v2.Bytes(), a)
	wantErr(t, got, err, ErrWrongKey)
	v3 := held(t)(v2.ReplaceSlot(t.Context(), rand.Reader, testTime, slotID(v2, 1), a))
	opens(t, v3, a)
	opens(t, v3, c)
	if v3.OpenedBy().ID != slotID(v2, 0) {
		t.Error("replacing another slot changed the opener")
	}
}

// Several holders, of whom one rotates often while the others stay away.
func TestOldHoldersOpenAfterRotations(t *testing.T) {
	a, b, c := keyFile(t, 1), keyFile(t, 2), keyFile(t, 3)
	v := create1(t, a, b, c)
	for range 3 {
		v = held(t)(v.Rotate(rand.Reader, testTime))
	}
	v = held(t)(opens(t, v, b).RenewPayload(rand.Reader, testTime)) // b names the fourth root key
	v = held(t)(v.Rotate(rand.Reader, testTime))
	v = held(t)(opens(t, v, a).Rotate(rand.Reader, testTime))
	if len(v.earlier) != 2 { // c names the first, b the fifth
		t.Errorf("%d earlier root keys, want 2", len(v.earlier))
	}
	if v.Newest() != 6 || v.File().Generation() != 7 {
		t.Errorf("epoch %d in generation %d", v.Newest(), v.File().Generation())
	}
	for _, s := range []NewSlot{a, b, c} {
		opens(t, v, s)
	}
}

// A root key that somebody sealed to a slot's public half, who does not know the root key that the slot names.
func TestForgedSuccessor(t *testing.T) {
	a, b := keyFile(t, 1), keyFile(t, 2)
	v := create1(t, a, b)
	forge := func(known [][]byte) []byte {
		d := &draft{rnd: rand.Reader, doc: v.file.doc.clone()}
		d.doc.Generation = 9
		if err := d.rotate(); err != nil {
			t.Fatal(err)
		}
		d.ring.earlier = known
		i := d.doc.ids()
		fp := i.fingerprint(d.rootKey)
		d.doc.RootKey = hexText(fp)
		for n := range d.doc.Slots {
			var err error
			if d.doc.Slots[n].SealedRootKey, err = i.sealRootKey(&d.doc.Slots[n], 9, fp, d.rootKey); err != nil {
				t.Fatal(err)
			}
		}
		var err error
		d.doc.Keyring, err = seal(rand.Reader, i.keyringKey(d.rootKey, 9), d.ring.encode(), i.keyringAAD(9))
		if err != nil {
			t.Fatal(err)
		}
		body, err := d.doc.encode()
		if err != nil {
			t.Fatal(err)
		}
		return appendTrailer(body, i.mac(d.rootKey, body))
	}
	got, err := unlock(forge(nil), a)
	wantErr(t, got, err, ErrAltered)
	got, err = unlock(forge([][]byte{make([]byte, 32)}), a)
	wantErr(t, got, err, ErrAltered)
	// Who knows the root key that the slot names can make a successor, as a former holder can: only what a client
	// remembers tells that one, once it has seen a newer root key.
	forged := held(t)(unlock(forge([][]byte{v.rootKey}), a))
	v2 := held(t)(v.Rotate(rand.Reader, testTime))
	if !forged.Follows(v.File().Fingerprint(), 1) || forged.Follows(v2.File().Fingerprint(), 2) {
		t.Error("the forged successor follows what it cannot, or not what it can")
	}
	// The same with the old root key itself in a file of a high generation, in which a's old payload vouches for it.
	old := v.file.doc.clone()
	old.Generation = 99
	i := old.ids()
	old.Keyring, err = seal(rand.Reader, i.keyringKey(v.rootKey, 99), (&keyring{epochs: []uint32{1}, keks: v.keks}).encode(), i.keyringAAD(99))
	if err != nil {
		t.Fatal(err)
	}
	replayed := held(t)(unlock(reseal(t, v, old), a))
	if replayed.Follows(v2.File().Fingerprint(), 2) {
		t.Error("the old root key follows its successor")
	}
}

func TestFollows(t *testing.T) {
	a, b := keyFile(t, 1), keyFile(t, 2)
	v1 := create1(t, a, b)
	v2 := held(t)(v1.Rotate(rand.Reader, testTime))
	v3 := held(t)(opens(t, v2, b).RenewPayload(rand.Reader, testTime))
	fp1, fp2 := v1.File().Fingerprint(), v2.File().Fingerprint()
	if !v2.Follows(fp2, 2) || !v2.Follows(fp1, 1) {
		t.Error("a: want the new root key to follow the old")
	}
	if !opens(t, v2, b).Follows(fp1, 1) {
		t.Error("b: want the keyring to prove it")
	}
	if len(v3.earlier) != 0 || !opens(t, v3, b).Follows(fp1, 1) || !opens(t, v3, a).Follows(fp1, 1) {
		t.Error("want the renewed payload to prove it to a client that was pinned before")
	}
	if v1.Follows(fp2, 2) || v3.Follows(Fingerprint{1}, 3) {
		t.Error("follows what it cannot")
	}
}

func TestRetire(t *testing.T) {
	a := keyFile(t, 1)
	v := create1(t, a)
	for range 3 {
		v = held(t)(v.Rotate(rand.Reader, testTime))
	}
	v2 := held(t)(v.Retire(rand.Reader, testTime, 1, 3))
	if got := v2.Epochs(); fmt.Sprint(got) != "[2 4]" {
		t.Errorf("epochs %v", got)
	}
	opens(t, v2, a)
	if _, err := v2.KEK(3); !errors.Is(err, ErrUnknownEpoch) {
		t.Errorf("KEK of a retired epoch: %v", err)
	}
	if !bytes.Equal(kek(t, v2, 2), kek(t, v, 2)) || !bytes.Equal(kek(t, v2, 4), kek(t, v, 4)) {
		t.Error("KEKs are mixed up")
	}
	got, err := v.Retire(rand.Reader, testTime, 4)
	if err == nil {
		got.Close()
		t.Error("the newest epoch was retired")
	}
	got, err = v.Retire(rand.Reader, testTime, 5)
	wantErr(t, got, err, ErrUnknownEpoch)
}

func TestLimits(t *testing.T) {
	v := create1(t, keyFile(t, 0))
	for n := 1; n < MaxSlots; n++ {
		v = held(t)(v.AddSlot(t.Context(), rand.Reader, testTime, keyFile(t, byte(n))))
	}
	got, err := v.AddSlot(t.Context(), rand.Reader, testTime, keyFile(t, 99))
	wantErr(t, got, err, ErrTooManySlots)
	// The largest file: all slots, all epochs, an earlier root key for each slot.
	d := &draft{rnd: rand.Reader, doc: v.file.doc.clone(), opener: v.opener, w: v.w, rootKey: v.rootKey,
		ring: keyring{v.epochs, v.keks, v.earlier}}
	defer d.wipe()
	for len(d.ring.epochs) < MaxEpochs {
		if err := d.rotate(); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.rotate(); !errors.Is(err, ErrTooManyEpochs) {
		t.Errorf("rotation beyond the last epoch: %v", err)
	}
	for n := range d.doc.Slots {
		d.doc.Slots[n].Label = string(bytes.Repeat([]byte{'<'}, MaxLabel))
	}
	d.doc.Slots[0] = v.file.doc.Slots[0]
	if err := d.renew(); err != nil {
		t.Fatal(err)
	}
	big := held(t)(d.finish())
	t.Logf("largest file: %d bytes", len(big.Bytes()))
	opens(t, big, keyFile(t, 0))
}

func TestSlotRefusals(t *testing.T) {
	v := create1(t, keyFile(t, 0))
	derive := new(quick)
	p := Passphrase([]byte("x"), derive)
	dear := KDFParams{MemoryKiB: maxKDFMemory, Passes: maxKDFPasses, Parallelism: 1}
	for name, s := range map[string]NewSlot{
		"no provider":     {Kind: KindPassphrase},
		"other kind":      {Kind: KindKeyFile, Provider: p},
		"label too long":  {Label: string(make([]byte, MaxLabel+1)), Provider: p},
		"label control":   {Label: "a\nb", Provider: p},
		"label not UTF-8": {Label: "\xff", Provider: p},
		"low memory":      {Provider: p, KDF: KDFParams{minKDFMemory - 1, 3, 4}},
		"low passes":      {Provider: p, KDF: KDFParams{minKDFMemory, 2, 4}},
		"no lanes":        {Provider: p, KDF: KDFParams{minKDFMemory, 3, 0}},
		"high memory":     {Provider: p, KDF: KDFParams{maxKDFMemory + 1, 3, 4}},
		"high passes":     {Provider: p, KDF: KDFParams{minKDFMemory, maxKDFPasses + 1, 4}},
		"many lanes":      {Provider: p, KDF: KDFParams{minKDFMemory, 3, maxKDFLanes + 1}},
		"empty":           {Provider: Passphrase(nil, derive), KDF: lowKDF},
		"cost of none":    {Provider: keyFile(t, 1).Provider, KDF: lowKDF},
	} {
		got, err := v.AddSlot(t.Context(), rand.Reader, testTime, s)
		if err == nil {
			got.Close()
			t.Errorf("%s: accepted", name)
		}
	}
	if n := derive.calls.Load(); n != 0 {
		t.Errorf("%d derivations for refused slots", n)
	}
	v = held(t)(v.AddSlot(t.Context(), rand.Reader, testTime, NewSlot{Provider: p, KDF: dear}))
	got, err := v.AddSlot(t.Context(), rand.Reader, testTime, NewSlot{Provider: p, KDF: lowKDF})
	wantErr(t, got, err, ErrInvalid)
	v = held(t)(v.ReplaceSlot(t.Context(), rand.Reader, testTime, slotID(v, 1), NewSlot{Provider: p, KDF: dear}))
	opens(t, v, keyFile(t, 0))
}

func TestClose(t *testing.T) {
	v := create1(t, keyFile(t, 0))
	v.Close()
	v.Close()
	if _, err := v.KEK(1); !errors.Is(err, ErrClosed) {
		t.Errorf("KEK: %v", err)
	}
	got, err := v.Rotate(rand.Reader, testTime)
	wantErr(t, got, err, ErrClosed)
	if v.Locked() != nil || !v.Follows(v.File().Fingerprint(), 1) {
		t.Error("what needs no key does not work after Close")
	}
}

func TestCancelled(t *testing.T) {
	v := create1(t, pass("a"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	got, err := v.File().Unlock(ctx, []Provider{pass("a").Provider})
	wantErr(t, got, err, context.Canceled)
}
