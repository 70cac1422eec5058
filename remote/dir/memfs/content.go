package memfs

import (
	"io"
	"slices"
	"sort"
)

// content is what a file holds: pieces in order that do not overlap, zeros between them. A piece's bytes never change,
// so that copies of a content share them.
type content struct {
	pieces []piece
	size   int64
}

type piece struct {
	off  int64
	data []byte
}

func (p piece) end() int64 { return p.off + int64(len(p.data)) }

// share returns a copy of c that later changes of c leave alone.
func (c content) share() content {
	return content{pieces: slices.Clip(c.pieces), size: c.size}
}

// after returns the index of the first piece that ends after off.
func (c *content) after(off int64) int {
	return sort.Search(len(c.pieces), func(i int) bool { return c.pieces[i].end() > off })
}

// write puts data at off, and keeps it.
func (c *content) write(off int64, data []byte) {
	if len(data) == 0 {
		return
	}
	p := piece{off: off, data: data}
	c.size = max(c.size, p.end())
	i := c.after(off)
	if i == len(c.pieces) {
		c.pieces = append(c.pieces, p)
		return
	}
	middle := make([]piece, 0, 3)
	if left := c.pieces[i]; left.off < off {
		middle = append(middle, piece{off: left.off, data: left.data[:off-left.off]})
	}
	middle = append(middle, p)
	j := i
	for j < len(c.pieces) && c.pieces[j].off < p.end() {
		j++
	}
	if j > i {
		if right := c.pieces[j-1]; right.end() > p.end() {
			middle = append(middle, piece{off: p.end(), data: right.data[p.end()-right.off:]})
		}
	}
	c.pieces = slices.Concat(c.pieces[:i], middle, c.pieces[j:])
}

// truncate sets the size.
func (c *content) truncate(size int64) {
	if size < c.size {
		i := c.after(size)
		kept := slices.Clip(c.pieces[:i])
		if i < len(c.pieces) && c.pieces[i].off < size {
			kept = append(kept, piece{off: c.pieces[i].off, data: c.pieces[i].data[:size-c.pieces[i].off]})
		}
		c.pieces = kept
	}
	c.size = size
}

// readAt is io.ReaderAt.
func (c *content) readAt(p []byte, off int64) (int, error) {
	if off >= c.size {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	var err error
	if int64(len(p)) > c.size-off {
		p, err = p[:c.size-off], io.EOF
	}
	clear(p)
	for i := c.after(off); i < len(c.pieces) && c.pieces[i].off < off+int64(len(p)); i++ {
		from := c.pieces[i]
		if from.off < off {
			copy(p, from.data[off-from.off:])
		} else {
			copy(p[from.off-off:], from.data)
		}
	}
	return len(p), err
}
