package cache

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// row is a file: count pages from key on, and how many bytes it has with their checksums.
type row struct {
	key   pageKey
	count int64
	size  int64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func parseRowPath(path string) (r row, ok bool) {
	object, numbers, found := strings.Cut(filepath.Base(path), "-")
	b, err := hex.DecodeString(object)
	if !found || err != nil || len(b) != len(r.key.object) {
		return r, false
	}
	r.key.object = nameHash(b)
	number, count, many := strings.Cut(numbers, "+")
	if r.key.number, err = strconv.ParseInt(number, 10, 64); err != nil || r.key.number < wholeObject {
		return r, false
	}
	r.count = 1
	if many {
		r.count, err = strconv.ParseInt(count, 10, 64)
	}
	return r, err == nil && r.count > 0 && r.count <= maxRow && (r.count == 1 || r.key.number != wholeObject)
}

// end returns the number of the page after it.
func (r row) end() int64 { return r.key.number + r.count }

// sums returns how long its checksums are together.
func (r row) sums() int64 {
	if r.key.object.sealed() {
		return 0
	}
	return r.count * checksumSize
}

// bytes returns how long its pages are together.
func (r row) bytes() int64 { return r.size - r.sums() }

// plausible reports whether a file of its size can hold it.
func (r row) plausible() bool {
	if r.key.number == wholeObject {
		return r.bytes() >= 0 && r.bytes() <= maxWhole
	}
	return r.bytes() > (r.count-1)*pageSize && r.bytes() <= r.count*pageSize
}

// place returns where a page lies in the row's file.
func (r row) place(number int64) (at, length int64) {
	if number == wholeObject {
		return 0, r.bytes()
	}
	at = (number - r.key.number) * pageSize
	return at, min(r.bytes()-at, pageSize)
}

// readPage reads a page of a row's file.
func readPage(path string, r row, number int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	at, n := r.place(number)
	data := make([]byte, n, n+checksumSize)
	if r.sums() == 0 {
		_, err = f.ReadAt(data, at)
		return data, err
	}
	sum := data[n : n+checksumSize]
	if r.count == 1 {
		_, err = f.ReadAt(data[:n+checksumSize], at)
	} else if _, err = f.ReadAt(data, at); err == nil {
		_, err = f.ReadAt(sum, r.bytes()+at/pageSize*checksumSize)
	}
	if err != nil {
		return nil, err
	}
	if crc32.Checksum(data, castagnoli) != binary.BigEndian.Uint32(sum) {
		return nil, errDecayed
	}
	return data[:n:n], nil
}

// readPart copies a page of a row's file into dst, from within the page on. Where there is a checksum all of the page has to
// be read.
func readPart(path string, r row, number int64, dst []byte, within int) (n, length int, err error) {
	if r.sums() > 0 {
		data, err := readPage(path, r, number)
		return copy(dst, data[min(within, len(data)):]), len(data), err
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = f.Close() }()
	at, size := r.place(number)
	length = int(size)
	n, err = f.ReadAt(dst[:min(len(dst), max(0, length-within))], at+int64(within))
	return n, length, err
}

const (
	// checksumSize is how many bytes a page's checksum has.
	checksumSize = 4
	// maxRow bounds the pages of a row.
	maxRow = 2 * runPages
)

// tempSuffix is how the names of files end that are being written.
const tempSuffix = ".tmp"

var errDecayed = errors.New("page decayed")

// sumsOf returns the checksums of pages of length bytes, of which the last may be shorter.
func sumsOf(data []byte, length int) []byte {
	sums := make([]byte, 0, maxRow*checksumSize)
	for first := true; first || len(data) > 0; first = false {
		n := min(length, len(data))
		sums = binary.BigEndian.AppendUint32(sums, crc32.Checksum(data[:n], castagnoli))
		data = data[n:]
	}
	return sums
}

// writeRow writes a row's file: the pages, and after them the checksum of each, if any. Direct: past the kernel's page cache if
// the file system can do that.
func writeRow(path string, data, sums []byte, direct bool) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	n := 0
	if direct {
		n = writeDirect(int(f.Fd()), data)
	}
	total := len(data) - n + len(sums)
	n, err = unix.Pwritev(int(f.Fd()), [][]byte{data[n:], sums}, int64(n))
	if err == nil && n < total {
		err = io.ErrShortWrite
	}
	return errors.Join(err, f.Close())
}

// directUnit is what places in memory and in a file must be multiples of for O_DIRECT, in bytes (open(2)).
const directUnit = 4096

// writeDirect writes the beginning of data to a file past the page cache, and returns how much that was. Copying into that
// cache costs more than all else that is done with data, and what is read again is in the kernel's cache as plaintext.
func writeDirect(fd int, data []byte) int {
	whole := data[:len(data)/directUnit*directUnit]
	if len(whole) == 0 || uintptr(unsafe.Pointer(unsafe.SliceData(whole)))%directUnit != 0 {
		return 0
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return 0
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags|unix.O_DIRECT); err != nil {
		return 0 // as on tmpfs
	}
	n, err := unix.Pwrite(fd, whole, 0)
	if err != nil || n%directUnit != 0 {
		n = 0 // written again
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags); err != nil {
		return 0
	}
	return n
}
