// Package keystore keeps what opens a vault: the key file with its slots, the root key and the keyring.
//
//	provider -> W --opens--> slot --> root key --seals--> keyring {key epoch: KEK}
//
// A [Provider] yields one 32-byte secret W for a slot. W opens the slot's payload, which holds the private half of the
// slot's HPKE key pair (RFC 9180, KEM 0x647a: ML-KEM-768 with X25519) and the root key as it was when the payload was
// written. A root key that somebody rotated later is reached through the slot's HPKE key pair. The root key opens the
// keyring, which holds the key-encryption keys (KEKs) and the earlier root keys that some payload still names.
//
// Every change makes a new key file of the next generation and leaves the old one as it was; to store it and to commit
// it is the caller's work. docs/FORMAT-keyfile.md describes the bytes.
package keystore
