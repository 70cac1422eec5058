package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const suffix = ".log"

// segment is one file of a log.
type segment struct {
	path  string
	first uint64 // number of its first line
}

func segmentName(first uint64) string { return fmt.Sprintf("%020d%s", first, suffix) }

// segments returns the files of the log in dir in their order.
func segments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []segment
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), suffix)
		first, err := strconv.ParseUint(digits, 10, 64)
		if ok && err == nil && e.Name() == segmentName(first) {
			all = append(all, segment{filepath.Join(dir, e.Name()), first})
		}
	}
	slices.SortFunc(all, func(a, b segment) int { return strings.Compare(a.path, b.path) })
	return all, nil
}

// errTorn says that the last line of a segment has no end.
var errTorn = errors.New("a line without its end")

// lines calls f with each line of a segment, without its newline, and the offset behind it. It returns the number of bytes
// behind the last whole line with [errTorn], or what f returns.
func (s *segment) lines(f func(text []byte, end int64) error) (torn int, err error) {
	file, err := os.Open(s.path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	r := bufio.NewReaderSize(file, maxLine)
	var end int64
	for {
		text, err := r.ReadSlice('\n')
		switch {
		case err == io.EOF && len(text) == 0:
			return 0, nil
		case err == io.EOF:
			return len(text), errTorn
		case errors.Is(err, bufio.ErrBufferFull):
			// No line is that long. It is read on as several, none of which is one.
		case err != nil:
			return 0, err
		}
		end += int64(len(text))
		if err := f(bytes.TrimSuffix(text, []byte("\n")), end); err != nil {
			return 0, err
		}
	}
}
