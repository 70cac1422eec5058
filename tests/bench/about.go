package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"envfs/tests/bench/lab"
)

// about says on what was measured.
func (b *bench) about(ctx context.Context) string {
	var uts unix.Utsname
	_ = unix.Uname(&uts) // fails for a bad address only
	parts := []string{"Linux " + unix.ByteSliceToString(uts.Release[:]), fmt.Sprintf("%d cores", runtime.NumCPU())}
	if name := lab.FSType(b.places.disk); name != "" {
		parts = append(parts, name+" on the disk")
	}
	if version, _, _ := strings.Cut(lab.CommandLine(ctx, lab.GocryptfsName, "-version"), ";"); version != "" {
		parts = append(parts, version)
	}
	rounds := fmt.Sprintf("medians of %d rounds (lowest to highest)", b.Rounds)
	if b.Rounds == 1 {
		rounds = "one round"
	}
	parts = append(parts, rounds, "ratios above 1 are in favour of envfs")
	if b.KeepCaches {
		parts = append(parts, "page cache not dropped for cold steps")
	}
	return strings.Join(parts, ", ")
}
