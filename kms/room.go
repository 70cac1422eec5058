package kms

import (
	"crypto/rand"
	"errors"

	"envfs/keystore/arena"
)

// roomKeys is how many backing keys one arena holds.
const roomKeys = 1024

// room is where backing keys lie in memory: arenas, of which there are as many as are needed. It is not safe for concurrent
// use, but keys may be used concurrently.
type room struct{ arenas []*arena.Arena }

// alloc returns a place for a key.
func (r *room) alloc() (*arena.Key, error) {
	for i := len(r.arenas) - 1; i >= 0; i-- {
		k, err := r.arenas[i].Alloc()
		if !errors.Is(err, arena.ErrFull) {
			return k, err
		}
	}
	a, err := arena.New(roomKeys)
	if err != nil {
		return nil, err
	}
	r.arenas = append(r.arenas, a)
	return a.Alloc()
}

// random returns a new random key.
func (r *room) random() (*arena.Key, error) {
	k, err := r.alloc()
	if err == nil {
		rand.Read(k.Bytes())
	}
	return k, err
}

// hold returns a key with the given bytes.
func (r *room) hold(b []byte) (*arena.Key, error) {
	k, err := r.alloc()
	if err == nil {
		copy(k.Bytes(), b)
	}
	return k, err
}

// locked returns why keys may reach the swap space or a dump, or nil.
func (r *room) locked() error {
	for _, a := range r.arenas {
		if err := a.Locked(); err != nil {
			return err
		}
	}
	return nil
}

// close wipes all keys.
func (r *room) close() {
	for _, a := range r.arenas {
		a.Close()
	}
}
