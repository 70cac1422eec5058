package programs

import (
	"path/filepath"
	"testing"
)

// fio writes blocks that carry checksums, reads them back and compares; again after mounting again.
func TestFio(t *testing.T) {
	v := mount(t)
	dir := filepath.Join(v.Point, "fio")
	runIn(t, v.Point, "mkdir", dir)
	base := []string{"--directory=" + dir, "--verify=crc32c", "--verify_fatal=1", "--randseed=7", "--size=12m", "--output-format=terse",
		"--name=sequential", "--rw=write", "--bs=128k", "--ioengine=psync",
		"--name=random", "--rw=randwrite", "--bs=4k", "--ioengine=psync", "--end_fsync=1",
		"--name=odd", "--rw=randwrite", "--bsrange=512-40k", "--bs_unaligned=1", "--ioengine=psync", "--verify_interval=512",
		"--name=mapped", "--rw=randwrite", "--bs=4k", "--ioengine=mmap",
		"--name=direct", "--rw=randwrite", "--bs=16k", "--direct=1", "--ioengine=libaio", "--iodepth=8",
	}
	runIn(t, dir, "fio", append([]string{"--do_verify=1"}, base...)...)
	must(t, v.Remount())
	runIn(t, dir, "fio", append([]string{"--verify_only=1"}, base...)...)
}
