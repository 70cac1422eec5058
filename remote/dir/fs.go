package dir

import (
	"io"
	"io/fs"
	"time"

	"envfs/remote"
)

// FS is what a Store asks of the file system, seen from the store's directory: names are slash-separated, relative and
// clean; "" is the directory itself. Symbolic links are never followed. Errors match the system's error numbers by
// errors.Is. All methods may be called concurrently.
//
// What is durable is what POSIX promises: a file's content after File.Sync or File.Datasync, a name after SyncDir of the
// directory that holds it.
type FS interface {
	// Open opens a regular file for reading.
	Open(name string) (File, error)

	// ReadFile returns the whole content of a regular file of at most limit bytes (EFBIG).
	ReadFile(name string, limit int64) ([]byte, error)

	// Create makes a new file (O_EXCL, mode 0600), open for writing.
	Create(name string) (File, error)

	// Mkdir makes a directory (mode 0700).
	Mkdir(name string) error

	// Rename moves oldname atomically into the place of newname.
	Rename(oldname, newname string) error

	// Link gives a file the further name newname, which must not exist (EEXIST). Where the file system has no hard
	// links it moves the file, so that afterwards oldname may or may not be there.
	Link(oldname, newname string) error

	// Remove removes a file or an empty directory.
	Remove(name string) error

	// ReadDir returns what lies in the directory, in no certain order. Inode, Dev and Birth may be missing.
	ReadDir(name string) ([]Stat, error)

	// Stat describes what lies at name, also if that is a symbolic link.
	Stat(name string) (Stat, error)

	// SyncDir makes the directory's names durable (fsync).
	SyncDir(name string) error

	// CanSyncFS reports whether SyncFS makes everything on the file system durable and reports failed writes.
	CanSyncFS() bool

	// SyncFS makes everything on the file system durable (syncfs).
	SyncFS() error

	// Space returns the file system's capacity.
	Space() (remote.Space, error)

	// UUID returns what identifies the file system, across reboots too: at most 32 bytes.
	UUID() ([]byte, error)

	// Lock takes the directory for the caller alone (flock) until the result is closed; EWOULDBLOCK if another has it.
	Lock() (io.Closer, error)
}

// File is an open file of an FS. Its methods may be called concurrently.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer

	// Truncate sets the file's length.
	Truncate(size int64) error

	// Allocate makes sure that the disk has room for the file's first size bytes (fallocate), which read as zeros.
	Allocate(size int64) error

	// Preallocate makes sure that the disk has room for the file to grow to size bytes; its length stays
	// (FALLOC_FL_KEEP_SIZE). Truncate gives back what lies beyond the length. EOPNOTSUPP where the file system cannot.
	Preallocate(size int64) error

	// Stat describes the file; its Name is empty.
	Stat() (Stat, error)

	// Sync makes the file's content and attributes durable (fsync).
	Sync() error

	// Datasync makes the file's content and length durable (fdatasync).
	Datasync() error

	// Writeback begins to write a range to the disk; it neither waits nor promises anything.
	Writeback(off, n int64)

	// DropCache forgets what memory holds of the file's synced content.
	DropCache() error
}

// Stat describes a file or directory.
type Stat struct {
	Name  string // last component; set by FS.ReadDir only
	Mode  fs.FileMode
	Size  int64
	Dev   uint64 // file system's number until the next reboot
	Inode uint64
	Birth time.Time // when the inode was made; zero where the file system does not tell
}
