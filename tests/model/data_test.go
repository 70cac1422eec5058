package model

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// opMmapWrite changes a part of a file through a shared mapping, and reads it back by the mapping and by read(2).
func opMmapWrite(g *generator) op {
	i := g.file()
	if i < 0 {
		return op{}
	}
	page := g.rnd.Int64N(20) * 4096
	at := g.rnd.IntN(4096)
	data := pattern(g.step, g.rnd.IntN(8000)+1)
	sync := g.rnd.IntN(2) == 0
	return op{name: fmt.Sprintf("change %d bytes of file %d at %d by mmap", len(data), i, page+int64(at)), do: func(s *side) outcome {
		var st unix.Stat_t
		if err := unix.Fstat(s.files[i], &st); err != nil {
			return failed(err)
		}
		n := min(st.Size-page-int64(at), int64(len(data))) // beyond the end there is nothing to touch
		if n <= 0 {
			return outcome{n: -1}
		}
		r, err := child.do(s.files[i], mapping{Page: page, At: at, Data: data[:n], Sync: sync})
		if err != nil {
			return failed(err)
		}
		if r.Errno != 0 {
			return failed(r.Errno)
		}
		return outcome{n: n, data: fmt.Sprint(r.Same) + string(r.Seen)}
	}}
}

// opSeek looks for data and holes. Where they are is the file system's affair, but what it calls a hole must read as
// zeros, and beyond the end there is neither.
func opSeek(g *generator) op {
	i := g.file()
	if i < 0 {
		return op{}
	}
	off := g.size()
	return op{name: fmt.Sprintf("look for data and holes in file %d from %d", i, off), do: func(s *side) outcome {
		return seekData(s.files[i], off)
	}}
}

func seekData(fd int, off int64) outcome {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return failed(err)
	}
	_, errHole := unix.Seek(fd, off, unix.SEEK_HOLE)
	if off >= st.Size {
		_, errData := unix.Seek(fd, off, unix.SEEK_DATA)
		return outcome{data: fmt.Sprintf("beyond the end: %v, %v", errHole, errData)}
	}
	if errHole != nil {
		return failed(errHole)
	}
	content, err := readAll(fd, 0)
	if err != nil {
		return failed(err)
	}
	for off < st.Size {
		data, err := unix.Seek(fd, off, unix.SEEK_DATA)
		if err == unix.ENXIO { // a hole up to the end
			data = st.Size
		} else if err != nil {
			return failed(err)
		}
		if data < off || data > st.Size || !isZero(content[off:data]) {
			return outcome{data: fmt.Sprintf("a hole from %d to %d in a file of %d bytes is none", off, data, st.Size)}
		}
		if data == st.Size {
			break
		}
		if off, err = unix.Seek(fd, data, unix.SEEK_HOLE); err != nil {
			return failed(err)
		}
		if off <= data || off > st.Size {
			return outcome{data: fmt.Sprintf("data from %d to %d in a file of %d bytes", data, off, st.Size)}
		}
	}
	return outcome{data: "holes are zeros"}
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
