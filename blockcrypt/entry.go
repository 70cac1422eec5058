package blockcrypt

// FileType is the kind of file that an index entry stands for.
type FileType uint8

// The file types of format version 0. LinkRef is one of several names of a file whose entry lies in the hidden
// directory of its domain.
const (
	TypeRegular   FileType = 1
	TypeDirectory FileType = 2
	TypeSymlink   FileType = 3
	TypeLinkRef   FileType = 4
)

// Time is a point in time: seconds since the Unix epoch and nanoseconds (0 to 999,999,999).
type Time struct {
	Sec  int64
	Nsec uint32
}

// Attr are a file's POSIX attributes.
type Attr struct {
	Mode  uint32 // permission bits, setuid, setgid, sticky: 07777
	UID   uint32
	GID   uint32
	Nlink uint32 // of directories: unused, see Entry.Subdirs
	Size  uint64 // regular: bytes; symlink: length of the target; directory: unused
	Atime Time
	Mtime Time
	Ctime Time
	Btime Time // creation
}

// Xattr is one extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// XattrFlags tell, of an entry whose extended attributes lie elsewhere (Entry.XattrsApart), which special ones there are.
type XattrFlags uint8

// The flags.
const (
	XattrAccessACL  XattrFlags = 1 << iota // system.posix_acl_access
	XattrDefaultACL                        // system.posix_acl_default
	XattrCapability                        // security.capability
	XattrOther
)

// MaxInlineXattrs is the total of names and values, in bytes, up to which extended attributes lie in the index entry.
const MaxInlineXattrs = 512

// MaxXattrs is the largest total of names and values of one file, in bytes.
const MaxXattrs = 64 << 10

// Entry is one name in a directory's index. It is authoritative; a header's copy may lag and serves repair.
// Strings hold arbitrary bytes without NUL or slash (Name) or NUL (Target): they are encoded as byte strings.
type Entry struct {
	Name   string     // 1 to 255 bytes
	Type   FileType   //
	Target FileType   // LinkRef: the type of the file referred to
	ID     ID         // of the file or directory
	Attr   Attr       // LinkRef: zero
	Head   Ref        // regular: its header; directory: its index; zero as long as no fold has written one
	Link   string     // symlink: its target, 1 to 4095 bytes
	Xattrs []Xattr    // sorted by name; at most MaxInlineXattrs unless this is a journal delta or a symlink
	Apart  XattrFlags // not zero: the extended attributes lie in the header (regular) or the index (directory)

	// Regular files: how many extents it has in the tree that Head belongs to, so that removing a file without any
	// does not read its header.
	Extents uint32

	// Directories.
	Salt    [16]byte // key of the order of names (NameHash)
	Names   uint32   // number of names
	Subdirs uint32   // how many of them are directories
}

// WrappedDEK is one data key of a file, wrapped under the KEK of an epoch.
type WrappedDEK struct {
	Number uint32   // 1, 2, ... ; extents and inline bytes name theirs
	Born   uint32   // key epoch in which it was made: whoever held a slot then may know it
	Epoch  uint32   // key epoch of the KEK
	Commit [32]byte // DEK commitment
	Wrap   []byte   // nonce || ciphertext || tag
}

// PageRef refers to one of several objects of one kind and owner: a shard, a map page.
type PageRef struct {
	Ver   Version
	Extra Extra
	Hash  Hash
}

// IsZero reports whether r refers to nothing.
func (r PageRef) IsZero() bool { return r == PageRef{} }
