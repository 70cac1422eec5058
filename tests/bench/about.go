package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// about says on what was measured.
func (b *bench) about(ctx context.Context) string {
	var uts unix.Utsname
	_ = unix.Uname(&uts) // fails for a bad address only
	parts := []string{"Linux " + unix.ByteSliceToString(uts.Release[:]), fmt.Sprintf("%d cores", runtime.NumCPU())}
	if name := fsType(b.places.disk); name != "" {
		parts = append(parts, name+" on the disk")
	}
	if version, _, _ := strings.Cut(commandLine(ctx, gocryptfsName, "-version"), ";"); version != "" {
		parts = append(parts, version)
	}
	rounds := fmt.Sprintf("medians of %d rounds (lowest to highest)", b.rounds)
	if b.rounds == 1 {
		rounds = "one round"
	}
	parts = append(parts, rounds, "ratios above 1 are in favour of envfs")
	if b.keepCaches {
		parts = append(parts, "page cache not dropped for cold steps")
	}
	return strings.Join(parts, ", ")
}

// fsType returns the type of the file system on which a directory lies, "" if it cannot be told.
func fsType(dir string) string {
	var st unix.Stat_t
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || unix.Stat(dir, &st) != nil {
		return ""
	}
	dev := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	for line := range strings.Lines(string(text)) {
		before, after, _ := strings.Cut(line, " - ")
		if fields := strings.Fields(before); len(fields) > 2 && fields[2] == dev {
			name, _, _ := strings.Cut(after, " ")
			return name
		}
	}
	return ""
}

// commandLine returns the first line that a program says, "" if it cannot be run.
func commandLine(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}
