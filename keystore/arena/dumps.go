package arena

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// NoDumps makes this process write no core dumps, and keeps others than root from reading its memory (prctl(2)
// PR_SET_DUMPABLE 0). The process's files under /proc then belong to root.
func NoDumps() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid core dumps: prctl: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core dumps: setrlimit: %w", err)
	}
	return nil
}
