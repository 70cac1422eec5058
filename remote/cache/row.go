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

	"golang.org/x/sys/unix"
)

// row is a file: count pages from key on, and how many bytes it has with their checksums.
type row struct {
	key   pageKey
	count int64
	size  int64
}

// stride is how far pages are from each other in a row's file. Only the last one may be shorter.
const stride = pageSize + checksumSize

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

// limit returns how long a row's file is at most.
func (r row) limit() int64 {
	if r.key.number == wholeObject {
		return maxWhole + checksumSize
	}
	return r.count * stride
}

// readPage reads a page of a row's file.
func readPage(path string, r row, number int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	at := (number - r.key.number) * stride
	n := r.size - at
	if number != wholeObject {
		n = min(n, stride)
	}
	if n < checksumSize {
		return nil, io.ErrUnexpectedEOF
	}
	data := make([]byte, n)
	if _, err := f.ReadAt(data, at); err != nil {
		return nil, err
	}
	data, sum := data[:n-checksumSize:n-checksumSize], data[n-checksumSize:]
	if crc32.Checksum(data, castagnoli) != binary.BigEndian.Uint32(sum) {
		return nil, errDecayed
	}
	return data, nil
}

const (
	// checksumSize is how many bytes follow each page.
	checksumSize = 4
	// maxRow bounds the pages of a row.
	maxRow = 2 * runPages
)

// tempSuffix is how the names of files end that are being written.
const tempSuffix = ".tmp"

var errDecayed = errors.New("page decayed")

// writeRow writes a row's file.
func writeRow(path string, data []byte, length int) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	sums := make([]byte, 0, maxRow*checksumSize)
	parts := make([][]byte, 0, 2*maxRow)
	total := 0
	for first := true; first || len(data) > 0; first = false {
		page := data[:min(length, len(data))]
		data = data[len(page):]
		sums = binary.BigEndian.AppendUint32(sums, crc32.Checksum(page, castagnoli))
		parts = append(parts, page, sums[len(sums)-checksumSize:])
		total += len(page) + checksumSize
	}
	n, err := unix.Writev(int(f.Fd()), parts)
	if err == nil && n < total {
		err = io.ErrShortWrite
	}
	return errors.Join(err, f.Close())
}
