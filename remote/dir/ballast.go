package dir

import (
	"errors"
	"syscall"
)

// ballastName is the file that holds space back.
const ballastName = ".ballast"

// Reserve holds size bytes of the disk back, until Release or until a writer locks the store the next time. What is
// reserved already stays as it is.
func (s *Store) Reserve(size int64) error {
	f, err := s.fs.Create(ballastName)
	if errors.Is(err, syscall.EEXIST) {
		return nil
	}
	if err == nil {
		err = errors.Join(f.Allocate(size), f.Close())
		if err != nil {
			err = errors.Join(err, s.fs.Remove(ballastName))
		}
	}
	return fail("reserve space as", ballastName, err, true)
}

// Release gives back what was reserved, if anything.
func (s *Store) Release() error {
	err := s.fs.Remove(ballastName)
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return fail("release", ballastName, err, true)
}
