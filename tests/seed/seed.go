// Package seed gives random tests their seed, so that a failure can be repeated.
package seed

import (
	"testing"
	"time"
)

// Of returns the seed that the flag of that name has given, another one each time if it is 0, and tells it.
func Of(t testing.TB, flag string, given uint64) uint64 {
	t.Helper()
	if given == 0 {
		given = uint64(time.Now().UnixNano())
	}
	t.Logf("-%s=%d", flag, given)
	return given
}
