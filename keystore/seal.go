package keystore

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"envfs/blockcrypt"
)

// What a key file seals, it seals with AES-256-GCM under keys of one use, whatever the vault's suite is: HPKE needs it
// anyway, and one cipher is enough for who reads a key file with other software.
const (
	nonceSize    = 12
	aeadOverhead = nonceSize + 16

	seedSize          = 32                                  // private half of a slot's HPKE key pair
	payloadSize       = seedSize + blockcrypt.KeySize       // seed, root key
	publicKeySize     = 1184 + 32                           // ML-KEM-768, X25519
	sealedRootKeySize = 1088 + 32 + blockcrypt.KeySize + 16 // encapsulated key, ciphertext, tag
)

// The ciphers of RFC 9180 in a slot: KEM 0x647a (ML-KEM-768 with X25519), HKDF-SHA-256, AES-256-GCM, base mode.
func kem() hpke.KEM { return hpke.MLKEM768X25519() }

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// seal returns nonce, ciphertext and tag.
func seal(rnd io.Reader, key, plaintext, aad []byte) ([]byte, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, nonceSize, aeadOverhead+len(plaintext))
	if _, err := io.ReadFull(rnd, nonce); err != nil {
		return nil, err
	}
	return aead.Seal(nonce, nonce, plaintext, aad), nil
}

// open is the inverse of seal.
func open(key, sealed, aad []byte) ([]byte, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	if len(sealed) < aeadOverhead {
		return nil, errors.New("too short")
	}
	return aead.Open(nil, sealed[:nonceSize], sealed[nonceSize:], aad)
}

// ids are the vault's and the domain's, which enter every derivation.
type ids struct{ vault, domain blockcrypt.ID }

func (d *document) ids() ids { return ids{blockcrypt.ID(d.Vault), blockcrypt.ID(d.Domain)} }

func (i ids) fingerprint(rootKey []byte) Fingerprint {
	return Fingerprint(blockcrypt.Derive(rootKey, nil, len(Fingerprint{}), "fp", i.vault[:], i.domain[:]))
}

// mac returns the MAC over the body of a key file.
func (i ids) mac(rootKey, body []byte) (sum [sha256.Size]byte) {
	key := blockcrypt.Derive(rootKey, nil, blockcrypt.KeySize, "keyfile", i.vault[:], i.domain[:])
	defer clear(key)
	h := hmac.New(sha256.New, key)
	h.Write(body)
	h.Sum(sum[:0])
	return sum
}

func (i ids) keyringKey(rootKey []byte, gen uint64) []byte {
	return blockcrypt.Derive(rootKey, nil, blockcrypt.KeySize, "keyring", i.vault[:], i.domain[:], blockcrypt.U64(gen))
}

func (i ids) keyringAAD(gen uint64) []byte {
	return blockcrypt.Context("keyring", i.vault[:], i.domain[:], blockcrypt.U64(gen))
}

// rootKeyInfo is HPKE's info: a sealed root key fits its slot in its generation of the key file only.
func (i ids) rootKeyInfo(slot blockcrypt.ID, gen uint64, fp Fingerprint) []byte {
	return blockcrypt.Context("rootkey", i.vault[:], i.domain[:], slot[:], blockcrypt.U64(gen), fp[:])
}

func (i ids) sealRootKey(s *slotDocument, gen uint64, fp Fingerprint, rootKey []byte) ([]byte, error) {
	pub, err := kem().NewPublicKey(s.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	return hpke.Seal(pub, hpke.HKDFSHA256(), hpke.AES256GCM(), i.rootKeyInfo(blockcrypt.ID(s.ID), gen, fp), rootKey)
}

func (i ids) openRootKey(s *slotDocument, gen uint64, fp Fingerprint, seed []byte) ([]byte, error) {
	priv, err := kem().NewPrivateKey(seed)
	if err != nil {
		return nil, err
	}
	return hpke.Open(priv, hpke.HKDFSHA256(), hpke.AES256GCM(), i.rootKeyInfo(blockcrypt.ID(s.ID), gen, fp), s.SealedRootKey)
}

// slotKeys derives a slot's payload key and commitment from W. The caller wipes the key.
func (i ids) slotKeys(w []byte, s *slotDocument) (key []byte, commitment [32]byte) {
	b := blockcrypt.Derive(w, s.Salt[:], 2*blockcrypt.KeySize, "slot", i.vault[:], i.domain[:], s.ID[:])
	copy(commitment[:], b[blockcrypt.KeySize:])
	return b[:blockcrypt.KeySize], commitment
}

// payloadAAD covers all of a slot but what it seals, and but what its provider wrapped: that may be wrapped anew by who
// does not know W, and with another one the commitment does not fit.
func (i ids) payloadAAD(s *slotDocument) []byte {
	var kdf []byte
	if s.KDF != nil {
		kdf = append(kdf, s.KDF.Salt[:]...)
		kdf = binary.BigEndian.AppendUint32(kdf, s.KDF.MemoryKiB)
		kdf = binary.BigEndian.AppendUint32(kdf, s.KDF.Passes)
		kdf = append(kdf, s.KDF.Parallelism)
	}
	parts := [][]byte{i.vault[:], i.domain[:], s.ID[:], []byte(s.Kind), []byte(s.Label), []byte(s.Created.String()), kdf,
		s.Salt[:], s.Commitment[:], s.PublicKey, s.RootKey[:], blockcrypt.U64(s.Renewed)}
	if s.Provider != nil {
		parts = append(parts, []byte(s.Provider.Key))
	}
	return blockcrypt.Context("slot", parts...)
}

// payload is what a slot's W opens.
type payload struct {
	seed    []byte
	rootKey []byte // the one in use when the payload was sealed
}

func (p *payload) wipe() {
	clear(p.seed)
	clear(p.rootKey)
}

// sealPayload draws a new salt and seals p under w in generation gen, with its commitment and the fingerprint of its
// root key.
func (i ids) sealPayload(rnd io.Reader, w []byte, s *slotDocument, gen uint64, p payload) error {
	if _, err := io.ReadFull(rnd, s.Salt[:]); err != nil {
		return err
	}
	key, commitment := i.slotKeys(w, s)
	defer clear(key)
	s.Commitment = commitment
	s.Renewed = gen
	s.RootKey = hexText(i.fingerprint(p.rootKey))
	plain := append(append(make([]byte, 0, payloadSize), p.seed...), p.rootKey...)
	defer clear(plain)
	var err error
	s.Payload, err = seal(rnd, key, plain, i.payloadAAD(s))
	return err
}

var errCommitment = errors.New("w does not fit the slot's commitment")

// openPayload opens a slot with w. It returns errCommitment if w is not the slot's, and [ErrAltered] if it is but the
// slot is not as it was sealed.
func (i ids) openPayload(w []byte, s *slotDocument) (payload, error) {
	key, commitment := i.slotKeys(w, s)
	defer clear(key)
	if subtle.ConstantTimeCompare(commitment[:], s.Commitment[:]) != 1 {
		return payload{}, errCommitment
	}
	b, err := open(key, s.Payload, i.payloadAAD(s))
	if err != nil || len(b) != payloadSize {
		return payload{}, fmt.Errorf("slot %s: %w", blockcrypt.ID(s.ID), ErrAltered)
	}
	p := payload{seed: b[:seedSize:seedSize], rootKey: b[seedSize:]}
	if i.fingerprint(p.rootKey) != Fingerprint(s.RootKey) {
		p.wipe()
		return payload{}, fmt.Errorf("slot %s: root key: %w", blockcrypt.ID(s.ID), ErrAltered)
	}
	return p, nil
}
