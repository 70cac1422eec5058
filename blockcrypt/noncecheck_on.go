//go:build noncecheck

package blockcrypt

import (
	"crypto/sha256"
	"fmt"
	"sync"
)

// nonceGuard remembers, in test builds, every nonce under every key, and panics when one comes twice.
type nonceGuard struct{ key [16]byte }

type keyNonce struct {
	key   [16]byte
	nonce [nonceSize]byte
}

var seenNonces struct {
	sync.Mutex
	m map[keyNonce]struct{}
}

func newNonceGuard(key []byte) nonceGuard {
	sum := sha256.Sum256(append([]byte("nonce guard"), key...))
	return nonceGuard{[16]byte(sum[:])}
}

func (g nonceGuard) check(nonce []byte) {
	kn := keyNonce{g.key, [nonceSize]byte(nonce)}
	seenNonces.Lock()
	defer seenNonces.Unlock()
	if _, ok := seenNonces.m[kn]; ok {
		panic(fmt.Sprintf("blockcrypt: nonce %x sealed twice under the key with fingerprint %x", nonce, g.key))
	}
	if seenNonces.m == nil {
		seenNonces.m = make(map[keyNonce]struct{})
	}
	seenNonces.m[kn] = struct{}{}
}

// forgetNonces lets a test seal the same bytes twice on purpose.
func forgetNonces() {
	seenNonces.Lock()
	defer seenNonces.Unlock()
	clear(seenNonces.m)
}

const nonceChecked = true
