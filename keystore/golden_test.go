package keystore

import (
	"bytes"
	"context"
	"encoding/hex"
	"flag"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata anew")

const (
	goldenFile       = "testdata/golden.json"
	goldenPassphrase = "correct horse battery staple"
	goldenSeed       = "envfs golden key file, version 0"
	goldenKEK1       = "2ccad061b98882e71e8f0914149b5c8e6df949c35c2093e6277144e9f546eb69"
	goldenKEK2       = "66f628be7131c0c8e458128fa747e3cab2be1ca4b6d95c61a3ef84364488445c"
)

// goldenSlots are a key file (bytes 0 to 31), a passphrase and a recovery code (256 zero bits).
func goldenSlots(t *testing.T) []NewSlot {
	key := make([]byte, 32)
	for i := range key {
		key[i] = byte(i)
	}
	file, err := KeyFile(key)
	if err != nil {
		t.Fatal(err)
	}
	recovery, err := Recovery([]byte(encodeRecovery([32]byte{})))
	if err != nil {
		t.Fatal(err)
	}
	return []NewSlot{
		{Label: "backup server", Provider: file},
		{Label: "Ada", Provider: Passphrase([]byte(goldenPassphrase), InProcess()), KDF: lowKDF},
		{Label: "in the safe", Provider: recovery},
	}
}

// makeGolden makes generation 1, and generation 2 in which the first slot rotated the keys, so that the other two name
// the first root key and are opened by HPKE.
func makeGolden(t *testing.T) *Vault {
	rnd := rand.NewChaCha8([32]byte([]byte(goldenSeed)))
	v := held(t)(Create(rnd, testTime, DefaultParams(SuiteAESGCM), goldenSlots(t)))
	return held(t)(v.Rotate(rnd, testTime.Add(24*time.Hour)))
}

// A key file that was written once opens for ever, and is made again from the same randomness but for what HPKE draws.
func TestGolden(t *testing.T) {
	made := makeGolden(t)
	if *update {
		if err := os.WriteFile(goldenFile, made.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
		t.Logf("KEK 1 %x", kek(t, made, 1))
		t.Logf("KEK 2 %x", kek(t, made, 2))
		t.Logf("root key %x", made.rootKey)
		t.Logf("fingerprint %s", made.File().Fingerprint())
	}
	data, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range goldenSlots(t) {
		v := held(t)(f.Unlock(context.Background(), []Provider{s.Provider}))
		if hex.EncodeToString(kek(t, v, 1)) != goldenKEK1 || hex.EncodeToString(kek(t, v, 2)) != goldenKEK2 {
			t.Errorf("slot %d: KEKs %x, %x", i, kek(t, v, 1), kek(t, v, 2))
		}
		if v.NeedsRenewal() != (i > 0) {
			t.Errorf("slot %d needs renewal: %v", i, v.NeedsRenewal())
		}
	}
	doc := made.file.doc.clone()
	for i := range doc.Slots {
		doc.Slots[i].SealedRootKey = f.doc.Slots[i].SealedRootKey
	}
	if body, err := doc.encode(); err != nil || !bytes.Equal(body, f.body) {
		t.Errorf("the same randomness makes another key file (%v)", err)
	}
}

// The worked example of the format's description is that of the golden file.
func TestGoldenInDocs(t *testing.T) {
	doc, err := os.ReadFile("../docs/FORMAT-keyfile.md")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	v := held(t)(unlock(data, goldenSlots(t)[0]))
	s := &v.file.doc.Slots[0]
	i := v.file.doc.ids()
	key, commitment := i.slotKeys(v.w, s)
	p, err := i.openPayload(v.w, s)
	if err != nil {
		t.Fatal(err)
	}
	recovery, err := goldenSlots(t)[2].Provider.Secret(t.Context(), SlotInfo{})
	if err != nil {
		t.Fatal(err)
	}
	fp := v.File().Fingerprint()
	for name, b := range map[string][]byte{
		"V": i.vault[:], "slot id": s.ID[:], "k": key, "c": commitment[:], "seed": p.seed, "root key": p.rootKey, "fingerprint": fp[:],
		"mac": v.file.mac[:], "keyring key": i.keyringKey(p.rootKey, 2), "KEK 1": kek(t, v, 1), "KEK 2": kek(t, v, 2), "W of slot 3": recovery,
	} {
		if !bytes.Contains(doc, []byte(hex.EncodeToString(b))) {
			t.Errorf("%s is not in the description: %x", name, b)
		}
	}
}
