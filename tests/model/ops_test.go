package model

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const maxOpen = 8

// generator draws operations. It knows the names that are there, from the plain side, so that most operations hit.
type generator struct {
	rnd   *rand.Rand
	names []string // of everything there was at the last look, relative to the root
	open  int      // files open
	step  uint64
}

// name returns a path: usually one that exists, else one that might.
func (g *generator) name() string {
	if len(g.names) > 0 && g.rnd.IntN(10) < 7 {
		return g.names[g.rnd.IntN(len(g.names))]
	}
	return g.newName()
}

// newName returns a path that may or may not exist.
func (g *generator) newName() string {
	base := string(rune('a' + g.rnd.IntN(8)))
	if g.rnd.IntN(20) == 0 {
		base = strings.Repeat(base, 200+g.rnd.IntN(60))
	}
	if len(g.names) > 0 && g.rnd.IntN(4) > 0 {
		parent := g.names[g.rnd.IntN(len(g.names))]
		if strings.Count(parent, "/") < 3 {
			return filepath.Join(parent, base)
		}
		return filepath.Join(filepath.Dir(parent), base)
	}
	return base
}

// file returns the place of an open file in the list, or -1.
func (g *generator) file() int {
	if g.open == 0 {
		return -1
	}
	return g.rnd.IntN(g.open)
}

// size returns a length or offset in bytes: near the sizes at which something changes, or far out.
func (g *generator) size() int64 {
	edges := []int64{0, 1, 4095, 4096, 4097, 16 << 10, 16<<10 + 1, 64 << 10, 1 << 20}
	switch g.rnd.IntN(10) {
	case 0, 1, 2:
		return edges[g.rnd.IntN(len(edges))]
	case 3:
		return g.rnd.Int64N(4 << 20)
	case 4, 5:
		return g.rnd.Int64N(300 << 10)
	default:
		return g.rnd.Int64N(20 << 10)
	}
}

var operations = []pick{
	{8, opOpen}, {6, opClose}, {14, opWrite}, {10, opRead}, {3, opAppend}, {5, opFtruncate}, {3, opTruncate},
	{4, opMmapWrite}, {3, opDirectRead}, {4, opSync}, {4, opSeek}, {3, opFstat}, {3, opFutimens},
	{8, opMkdir}, {3, opRmdir}, {6, opUnlink}, {8, opRename}, {5, opLink}, {4, opSymlink}, {3, opReadlink},
	{4, opChmod}, {3, opChown}, {4, opUtimens}, {5, opSetxattr}, {3, opGetxattr}, {2, opListxattr}, {2, opRemovexattr},
	{3, opReaddir}, {4, opStat}, {1, opStatfs}, {3, opCreate}, {3, opWriteFile},
}

var totalWeight = func() (sum int) {
	for _, p := range operations {
		sum += p.weight
	}
	return sum
}()

func (g *generator) next() op {
	for {
		g.step++
		n := g.rnd.IntN(totalWeight)
		for _, p := range operations {
			if n -= p.weight; n < 0 {
				if o := p.make(g); o.do != nil {
					return o
				}
				break
			}
		}
	}
}

func opOpen(g *generator) op {
	if g.open >= maxOpen {
		return op{}
	}
	flags := unix.O_RDWR | unix.O_CLOEXEC
	for _, f := range []int{unix.O_CREAT, unix.O_CREAT, unix.O_CREAT, unix.O_TRUNC, unix.O_EXCL, unix.O_APPEND, unix.O_NOFOLLOW} {
		if g.rnd.IntN(3) == 0 {
			flags |= f
		}
	}
	name := g.name()
	return op{name: fmt.Sprintf("open %s with flags %#x", name, flags), paths: []string{name, filepath.Dir(name)}, opens: true, do: func(s *side) outcome {
		fd, err := unix.Open(s.path(name), flags, 0o640)
		return outcome{err: err, n: int64(fd)}
	}}
}

func opClose(g *generator) op {
	i := g.file()
	if i < 0 {
		return op{}
	}
	g.open--
	return op{name: fmt.Sprintf("close file %d", i), do: func(s *side) outcome {
		err := unix.Close(s.files[i])
		s.files = slices.Delete(s.files, i, i+1)
		return failed(err)
	}}
}

func opCreate(g *generator) op {
	name := g.newName()
	mode := uint32(g.rnd.IntN(0o1000))
	return op{name: fmt.Sprintf("mknod %s %o", name, mode), paths: []string{name, filepath.Dir(name)}, do: func(s *side) outcome {
		return failed(unix.Mknod(s.path(name), unix.S_IFREG|mode, 0))
	}}
}

func opWriteFile(g *generator) op {
	name := g.newName()
	data := pattern(g.step, int(g.size()))
	return op{name: fmt.Sprintf("write file %s of %d bytes", name, len(data)), paths: []string{name, filepath.Dir(name)}, do: func(s *side) outcome {
		fd, err := unix.Open(s.path(name), unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o644)
		if err != nil {
			return failed(err)
		}
		n, err := unix.Write(fd, data)
		if e := unix.Close(fd); err == nil {
			err = e
		}
		return outcome{err: err, n: int64(n)}
	}}
}

func opWrite(g *generator) op {
	i := g.file()
	if i < 0 {
		return op{}
	}
	off, data := g.size(), pattern(g.step, int(g.size()))
	if g.rnd.IntN(50) == 0 {
		off += 40 << 20
	}
	return op{name: fmt.Sprintf("write %d bytes to file %d at %d", len(data), i, off), do: func(s *side) outcome {
		n, err := unix.Pwrite(s.files[i], data, off)
		return outcome{err: err, n: int64(n)}
	}}
}

func opAppend(g *generator) op {
	name := g.name()
	data := pattern(g.step, int(g.size()))
	return op{name: fmt.Sprintf("append %d bytes to %s", len(data), name), paths: []string{name}, do: func(s *side) outcome {
		fd, err := unix.Open(s.path(name), unix.O_WRONLY|unix.O_APPEND, 0)
		if err != nil {
			return failed(err)
		}
		defer unix.Close(fd)
		n, err := unix.Write(fd, data)
		return outcome{err: err, n: int64(n)}
	}}
}

func opRead(g *generator) op {
	i := g.file()
	if i < 0 {
		return op{}
	}
	off, size, drop := g.size(), g.size(), g.rnd.IntN(2) == 0
	return op{name: fmt.Sprintf("read %d bytes of file %d at %d", size, i, off), do: func(s *side) outcome {
		if drop && s.vault { // so that the kernel asks again
			if err := unix.Fadvise(s.files[i], 0, 0, unix.FADV_DONTNEED); err != nil {
				return failed(err)
			}
		}
		buf := make([]byte, size)
		n, err := unix.Pread(s.files[i], buf, off)
		return outcome{err: err, n: int64(n), data: string(buf[:max(n, 0)])}
	}}
}

// opDirectRead reads past the kernel's pages, except on the plain side, whose file system asks for alignment.
func opDirectRead(g *generator) op {
	name := g.name()
	off := g.size() &^ 511
	return op{name: fmt.Sprintf("read %s directly at %d", name, off), do: func(s *side) outcome {
		fd, err := unix.Open(s.path(name), unix.O_RDONLY, 0)
		if err != nil {
			return failed(err)
		}
		defer unix.Close(fd)
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return failed(err)
		}
		if s.vault && st.Mode&unix.S_IFMT == unix.S_IFREG {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_DIRECT); err != nil {
				return failed(err)
			}
		}
		data, err := readAll(fd, off)
		return outcome{err: err, data: string(data)}
	}}
}

func opFtruncate(g *generator) op {
	i := g.file()
	if i < 0 {
		return op{}
	}
	size := g.size()
	return op{name: fmt.Sprintf("truncate file %d to %d", i, size), do: func(s *side) outcome {
		return failed(unix.Ftruncate(s.files[i], size))
	}}
}

func opTruncate(g *generator) op {
	name, size := g.name(), g.size()
	return op{name: fmt.Sprintf("truncate %s to %d", name, size), paths: []string{name}, do: func(s *side) outcome {
		var before unix.Stat_t
		same := unix.Stat(s.path(name), &before) == nil && before.Size == size
		err := unix.Truncate(s.path(name), size)
		if err == nil && same && s.kernelTimes {
			err = unix.UtimesNanoAt(unix.AT_FDCWD, s.path(name), []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_NOW}}, 0)
		}
		return failed(err)
	}}
}

func opSync(g *generator) op {
	i := g.file()
	if i < 0 {
		return op{}
	}
	data := g.rnd.IntN(2) == 0
	return op{name: fmt.Sprintf("sync file %d", i), do: func(s *side) outcome {
		if data {
			return failed(unix.Fdatasync(s.files[i]))
		}
		return failed(unix.Fsync(s.files[i]))
	}}
}

func opFstat(g *generator) op {
	i := g.file()
	if i < 0 {
		return op{}
	}
	return op{name: fmt.Sprintf("fstat file %d", i), do: func(s *side) outcome {
		var st unix.Stat_t
		err := unix.Fstat(s.files[i], &st)
		return outcome{err: err, data: describe(&st)}
	}}
}

func opMkdir(g *generator) op {
	name, mode := g.newName(), uint32(0o700+g.rnd.IntN(0o100))
	return op{name: fmt.Sprintf("mkdir %s %o", name, mode), paths: []string{name, filepath.Dir(name)}, do: func(s *side) outcome {
		return failed(unix.Mkdir(s.path(name), mode))
	}}
}

func opRmdir(g *generator) op {
	name := g.name()
	return op{name: "rmdir " + name, paths: []string{name, filepath.Dir(name)}, do: func(s *side) outcome {
		return failed(unix.Rmdir(s.path(name)))
	}}
}

func opUnlink(g *generator) op {
	name := g.name()
	return op{name: "unlink " + name, paths: []string{name, filepath.Dir(name)}, do: func(s *side) outcome {
		return failed(unix.Unlink(s.path(name)))
	}}
}

func opRename(g *generator) op {
	from, to := g.name(), g.name()
	flags := uint(0)
	if g.rnd.IntN(4) == 0 {
		flags = unix.RENAME_NOREPLACE
	}
	return op{name: fmt.Sprintf("rename %s to %s, flags %d", from, to, flags), paths: []string{from, to, filepath.Dir(from), filepath.Dir(to)}, do: func(s *side) outcome {
		return failed(unix.Renameat2(unix.AT_FDCWD, s.path(from), unix.AT_FDCWD, s.path(to), flags))
	}}
}

func opLink(g *generator) op {
	from, to := g.name(), g.newName()
	return op{name: fmt.Sprintf("link %s to %s", from, to), paths: []string{from, to, filepath.Dir(to)}, do: func(s *side) outcome {
		return failed(unix.Link(s.path(from), s.path(to)))
	}}
}

func opSymlink(g *generator) op {
	name, target := g.newName(), filepath.Base(g.name())
	if g.rnd.IntN(10) == 0 {
		target = strings.Repeat("../x/", g.rnd.IntN(800)) + "t"
	}
	return op{name: fmt.Sprintf("symlink %s to %.40s", name, target), paths: []string{name, filepath.Dir(name)}, do: func(s *side) outcome {
		return failed(unix.Symlink(target, s.path(name)))
	}}
}

func opReadlink(g *generator) op {
	name := g.name()
	return op{name: "readlink " + name, do: func(s *side) outcome {
		buf := make([]byte, 5000)
		n, err := unix.Readlink(s.path(name), buf)
		return outcome{err: err, data: string(buf[:max(n, 0)])}
	}}
}

func opChmod(g *generator) op {
	name, mode := g.name(), uint32(g.rnd.IntN(0o10000))
	return op{name: fmt.Sprintf("chmod %s %o", name, mode), paths: []string{name}, do: func(s *side) outcome {
		return failed(unix.Chmod(s.path(name), mode))
	}}
}

func opChown(g *generator) op {
	name, uid, gid := g.name(), g.rnd.IntN(4)-1, g.rnd.IntN(4)-1
	if uid < 0 && gid < 0 { // changes nothing but privilege bits, of which the kernel does not tell a FUSE server
		uid = 0
	}
	return op{name: fmt.Sprintf("lchown %s %d:%d", name, uid, gid), paths: []string{name}, do: func(s *side) outcome {
		return failed(unix.Lchown(s.path(name), uid, gid))
	}}
}

// utimes draws times in the last century, which tree comparison can tell from those of changes.
func (g *generator) utimes() []unix.Timespec {
	ts := make([]unix.Timespec, 2)
	for i := range ts {
		ts[i] = unix.Timespec{Sec: g.rnd.Int64N(1e9) - 1e8, Nsec: g.rnd.Int64N(1e9)}
		switch g.rnd.IntN(8) {
		case 0:
			ts[i].Nsec = unix.UTIME_NOW
		case 1:
			ts[i].Nsec = unix.UTIME_OMIT
		}
	}
	return ts
}

func opUtimens(g *generator) op {
	name, ts := g.name(), g.utimes()
	return op{name: fmt.Sprintf("utimensat %s %v", name, ts), paths: []string{name}, do: func(s *side) outcome {
		return failed(unix.UtimesNanoAt(unix.AT_FDCWD, s.path(name), ts, unix.AT_SYMLINK_NOFOLLOW))
	}}
}

func opFutimens(g *generator) op {
	i := g.file()
	if i < 0 {
		return op{}
	}
	ts := g.utimes()
	return op{name: fmt.Sprintf("futimens file %d %v", i, ts), do: func(s *side) outcome {
		return failed(unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", s.files[i]), ts, 0))
	}}
}

func (g *generator) xattr() string { return "user." + string(rune('p'+g.rnd.IntN(3))) }

func opSetxattr(g *generator) op {
	name, attr, flags := g.name(), g.xattr(), g.rnd.IntN(3)
	value := pattern(g.step, g.rnd.IntN(300)*g.rnd.IntN(2))
	return op{name: fmt.Sprintf("setxattr %s %s, %d bytes, flags %d", name, attr, len(value), flags), paths: []string{name}, do: func(s *side) outcome {
		return failed(unix.Lsetxattr(s.path(name), attr, value, flags))
	}}
}

func opGetxattr(g *generator) op {
	name, attr := g.name(), g.xattr()
	size := []int{0, 10, 1000}[g.rnd.IntN(3)]
	return op{name: fmt.Sprintf("getxattr %s %s into %d bytes", name, attr, size), do: func(s *side) outcome {
		buf := make([]byte, size)
		n, err := unix.Lgetxattr(s.path(name), attr, buf)
		return outcome{err: err, n: int64(n), data: string(buf)}
	}}
}

func opListxattr(g *generator) op {
	name := g.name()
	return op{name: "listxattr " + name, do: func(s *side) outcome {
		names, err := listXattrs(s.path(name))
		slices.Sort(names)
		return outcome{err: err, data: strings.Join(names, " ")}
	}}
}

func opRemovexattr(g *generator) op {
	name, attr := g.name(), g.xattr()
	return op{name: fmt.Sprintf("removexattr %s %s", name, attr), paths: []string{name}, do: func(s *side) outcome {
		return failed(unix.Lremovexattr(s.path(name), attr))
	}}
}

func opStat(g *generator) op {
	name := g.name()
	return op{name: "stat " + name, do: func(s *side) outcome {
		var st unix.Stat_t
		if err := unix.Stat(s.path(name), &st); err != nil { // follows symbolic links
			return failed(err)
		}
		return outcome{data: describe(&st)}
	}}
}

func opStatfs(*generator) op {
	return op{name: "statfs", do: func(s *side) outcome {
		var st unix.Statfs_t
		if err := unix.Statfs(s.root, &st); err != nil {
			return failed(err)
		}
		plausible := st.Bsize > 0 && st.Blocks > 0 && st.Bfree <= st.Blocks && st.Bavail <= st.Bfree && st.Ffree <= st.Files
		return outcome{n: st.Namelen, data: fmt.Sprint(plausible)}
	}}
}

func opReaddir(g *generator) op {
	name := g.name()
	size := []int{512, 4096, 64 << 10}[g.rnd.IntN(3)]
	return op{name: "list " + name, do: func(s *side) outcome {
		names, err := list(s.path(name), size)
		slices.Sort(names)
		return outcome{err: err, n: int64(len(names)), data: strings.Join(names, "/")}
	}}
}
