package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// segmentSize is the size in bytes from which on a segment is not added to.
	segmentSize = 64 << 20
	// batchSize bounds what is written and synced at once, in bytes: what a crash can leave torn.
	batchSize = 1 << 20
)

// ErrClosed says that the log was closed.
var ErrClosed = errors.New("audit log is closed")

// Log is an open log. It is safe for concurrent use. Only one may be open for a directory at a time; who opens it sees
// to that.
type Log struct {
	dir  string
	wake chan struct{} // holds one token while there is something to write
	done chan struct{} // closed when the writer has ended

	mu      sync.Mutex
	waiting []*waiter
	head    Checkpoint // the last line on the disk
	broken  error      // why nothing can be written any more
	trouble error      // why the last attempt has failed
	closed  bool

	// of the writer alone
	file *os.File
	size int64
	buf  []byte
}

// waiter is an entry that waits to be on the disk.
type waiter struct {
	entry *Entry
	done  chan error
}

// Append adds a line and returns when it is on the disk. Calls that wait at the same time share one write and one sync.
// After an error the line is not in the log, unless the disk failed to sync: then the log takes nothing any more.
func (l *Log) Append(e *Entry) error {
	w := &waiter{e, make(chan error, 1)}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	l.waiting = append(l.waiting, w)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return <-w.done
}

// Head returns the checkpoint of the last line that is on the disk.
func (l *Log) Head() Checkpoint {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.head
	c.Time = time.Now()
	return c
}

// Trouble returns why the last line could not be written, or nil. It may be over (a full disk has space again), or for
// good.
func (l *Log) Trouble() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.trouble
}

// Close writes what waits and closes the log.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	close(l.wake)
	<-l.done
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

// run is the writer.
func (l *Log) run() {
	defer close(l.done)
	for range l.wake {
		l.flush()
	}
	l.flush()
}

// flush writes all that waits.
func (l *Log) flush() {
	for {
		l.mu.Lock()
		batch, broken := l.waiting, l.broken
		l.waiting = nil
		l.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		for len(batch) > 0 && broken == nil {
			var n int
			n, broken = l.write(batch)
			batch = batch[n:]
		}
		answer(batch, broken)
	}
}

func answer(batch []*waiter, err error) {
	for _, w := range batch {
		w.done <- err
	}
}

// write writes the first n of a batch, and answers them. broken says that the log is at its end.
func (l *Log) write(batch []*waiter) (n int, broken error) {
	next, first := l.head, l.head.Seq+1 // nobody else changes it
	l.buf = l.buf[:0]
	var written []*waiter
	for n < len(batch) && len(l.buf) < batchSize-maxLine {
		w := batch[n]
		n++
		w.entry.Seq = next.Seq + 1
		line, hash, err := appendLine(l.buf, next.Hash, w.entry)
		if err != nil {
			w.done <- fmt.Errorf("write audit log: %w", err)
			continue
		}
		l.buf, next.Hash, next.Seq = line, hash, next.Seq+1
		written = append(written, w)
	}
	err, broken := l.put(first)
	l.mu.Lock()
	if err == nil {
		l.head = next
	}
	l.broken, l.trouble = broken, err
	l.mu.Unlock()
	answer(written, err)
	return n, broken
}

// put puts buf on the disk. If that fails but all is as it was before, broken is nil.
func (l *Log) put(first uint64) (err, broken error) {
	if len(l.buf) == 0 {
		return nil, nil
	}
	if l.file == nil || l.size >= segmentSize {
		if err := l.begin(first); err != nil {
			return fmt.Errorf("write audit log: %w", err), nil
		}
	}
	if _, err := l.file.Write(l.buf); err != nil {
		err = fmt.Errorf("write audit log: %w", err)
		if terr := l.file.Truncate(l.size); terr != nil {
			return err, errors.Join(err, terr)
		}
		return err, nil
	}
	// What the disk holds after a failed sync nobody knows (fsync(2)), nor would a second one tell.
	if err := unix.Fdatasync(int(l.file.Fd())); err != nil {
		err = fmt.Errorf("sync audit log: %w", err)
		return err, err
	}
	l.size += int64(len(l.buf))
	return nil, nil
}

// begin begins a new segment.
func (l *Log) begin(first uint64) error {
	path := filepath.Join(l.dir, segmentName(first))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if err := syncDir(l.dir); err != nil {
		return errors.Join(err, f.Close())
	}
	if l.file != nil {
		if err := l.file.Close(); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	l.file, l.size = f, 0
	return nil
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
