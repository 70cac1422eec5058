package store

import (
	"fmt"
	"runtime/debug"
)

// guard returns what f returns, or [ErrDamaged] if the file is not what bbolt takes it for: bbolt panics over pages
// that contradict each other, and reading behind the end of a file that was cut is a fault.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, r)
		}
	}()
	return f()
}
