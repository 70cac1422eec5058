// Package remote declares what envfs asks of the place where a vault's objects lie. remote/dir keeps them in a local
// directory; remote/remotetest is the suite that every store passes.
package remote

import (
	"context"
	"errors"
)

// Errors that callers act on; stores wrap them.
var (
	ErrNotExist = errors.New("object does not exist")
	ErrExist    = errors.New("object exists already")
	ErrChanged  = errors.New("object was changed by somebody else")
	ErrNoSpace  = errors.New("no space left on the store")
	ErrReadOnly = errors.New("store is read-only")
	ErrInUse    = errors.New("store is in use by another process")

	// ErrNotObject says that what lies under a name is no object that was asked for: it is larger than may be, or something
	// else than a file.
	ErrNotObject = errors.New("not what it should be")

	ErrUnsupported = errors.New("not supported by the store")
)

// Info describes one object.
type Info struct {
	Name string
	Size int64
}

// Space is a store's capacity in bytes.
type Space struct {
	Total, Free, Available uint64 // Available: for this user
	Files, FreeFiles       uint64
}

// Store holds a vault's objects under their full names (blockcrypt.Name). All objects but root and envfs.json are
// written once. All methods may be called concurrently. Errors wrap the sentinels above, and name the object.
type Store interface {
	// ReadAt reads len(p) bytes of the object from offset off. Like io.ReaderAt it returns io.EOF with a short count
	// at the object's end, and never (n < len(p), nil).
	ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error)

	// Get returns the whole object, or ErrNotObject if it is larger than limit bytes.
	Get(ctx context.Context, name string, limit int64) ([]byte, error)

	// Size returns the object's length in bytes.
	Size(ctx context.Context, name string) (int64, error)

	// Put makes a new object; ErrExist if there is one of that name. It is durable (content and name) after the next
	// Sync. A Put that failed or was cut off by a crash may leave a torn object.
	Put(ctx context.Context, name string, data []byte) error

	// Replace puts a new content in the place of object name atomically and durably, if its content still is old (nil:
	// if there is none); else ErrChanged. content is called once, with the identity that the new object will have on this
	// store (see Identity). Only root and envfs.json are ever replaced. After ErrNoSpace and errors of content the old
	// content is there; after any other error it is unknown whether the old or the new one is.
	Replace(ctx context.Context, name string, old []byte, content func(identity []byte) ([]byte, error)) error

	// Delete removes objects; those that do not exist are no error. It need not be durable.
	Delete(ctx context.Context, names ...string) error

	// List calls fn for each object whose name has the prefix, in no certain order, until fn returns an error, which
	// List then returns. What is no object's name (blockcrypt.ParseName) is passed on too: callers decide.
	List(ctx context.Context, prefix string, fn func(Info) error) error

	// Sync makes durable what was Put since, and the names of all that was Put or Created since.
	Sync(ctx context.Context) error

	// Identity tells this very copy of a vault from a copy of it: an opaque value that changes when the objects are
	// copied elsewhere, read from the root object as it lies there now.
	Identity(ctx context.Context) ([]byte, error)

	// Space returns the store's capacity.
	Space(ctx context.Context) (Space, error)

	// Location returns the store's address as the user would give it; the same store always has the same.
	Location() string

	// Close releases the store and its lock.
	Close() error
}

// Local is a Store whose objects can grow, and that can be locked for one writer.
type Local interface {
	Store

	// Lock takes the store for this process, or returns ErrInUse. Close releases it.
	Lock() error

	// Create makes a new, empty object that grows by appending; ErrExist if there is one of that name. Its name is
	// durable after the next Store.Sync, its content after File.Sync.
	Create(ctx context.Context, name string) (File, error)

	// Settle makes the objects durable as they lie there now, with their names, and drops them from memory, so that
	// what is read next is what the disk holds. Objects that do not exist are passed over.
	Settle(ctx context.Context, names []string) error
}

// Shared is a Store that others see, with a place of this machine's own in front of it. What is made by Local's Create lies
// there until it is published; the Store's methods that read see it as if it were in the shared store.
type Shared interface {
	Store

	// Local returns the place in front. Its Sync and Settle wait for nothing that is shared.
	Local() Local

	// PutLater is Put, but is done by the next Sync at the latest, which then returns its error.
	PutLater(ctx context.Context, name string, data []byte) error

	// Publish puts objects that were made by Create into the shared store: their first Size bytes, which are durable here
	// and do not change. When it returns nil all of them are there, durably. Those that are there already are passed over,
	// so that a Publish that was cut off can be repeated; for one object Size is to be the same then.
	Publish(ctx context.Context, objects []Info) error

	// Release gives up the copies here of objects that were published. They must not be needed to publish them again.
	Release(ctx context.Context, names []string) error

	// Unpublished returns the objects of which there are copies here.
	Unpublished(ctx context.Context) ([]Info, error)
}

// Bounded is a Shared that bounds how much waits in front of it.
type Bounded interface {
	Shared

	// Admit returns when n bytes more may wait in front: at once, or when enough was published. ErrNoSpace: the shared
	// store has been away, or has refused what was to be published, for as long as is to be waited for it. It may be called with no lock that publishing needs.
	Admit(ctx context.Context, n int64) error

	// Await returns what work returns, which needs the shared store; but ErrNoSpace once that has been away for as long as
	// is to be waited for it. The work goes on then.
	Await(ctx context.Context, work <-chan error) error
}

// Ahead is a Store whose objects are far away, so that it pays to ask for them before they are needed.
type Ahead interface {
	// Ahead begins to fetch whole objects, none of which is ever replaced, and returns at once. It takes on as many as
	// there is room for, from the first on, and says how many; of those that are here already nothing is fetched. What
	// cannot be fetched is left out: who needs it then learns why. Size may be 0 where it is not known, but for extents.
	Ahead(objects []Info) int
}

// Viewer is a Store that holds some objects in memory for a while.
type Viewer interface {
	// View returns n bytes of an object from off without copying them, if they are in memory or on the way there; else not
	// ok: they are to be read. The bytes must not be changed, and release is to be called once they are not looked at any
	// more.
	View(ctx context.Context, name string, off int64, n int) (p []byte, release func(), ok bool)
}

// Reserver is a Local that can hold back space of its disk, to be given back when the disk is full.
type Reserver interface {
	// Reserve holds size bytes back, until Release or until a writer locks the store the next time.
	Reserve(size int64) error

	// Release gives back what was reserved, if anything.
	Release() error
}

// File is an object that grows. Append and Sync may be called concurrently with each other and with reads, Append not
// with itself.
type File interface {
	// Append writes p at the end with one system call. After an error the file's end is unknown: close it, go on in a
	// new one.
	Append(p []byte) error

	// Reserve makes sure that the object can grow to length bytes without the store running out of space; it does not
	// change the object. ErrNoSpace: there is not so much. ErrUnsupported: the store cannot promise that. Not concurrently
	// with Append.
	Reserve(length int64) error

	// Sync makes what Append has finished durable (fdatasync). After an error nothing appended since the last
	// successful Sync may be relied on, whatever a later Sync returns.
	Sync() error

	// Close releases the descriptor, and gives back what was reserved and not used; it makes nothing durable.
	Close() error
}
