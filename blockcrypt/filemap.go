package blockcrypt

// BlockSize is the size of a block's plaintext in bytes: the AEAD unit of a file's content.
const BlockSize = 4096

// RunKind tells where the blocks of a run lie.
type RunKind uint8

// The places of blocks.
const (
	RunHole    RunKind = 0 // nowhere: reads as zeros
	RunExtent  RunKind = 1 // in an extent of the file
	RunHeader  RunKind = 2 // in the file's header (base only; Slot is the index of the inline block)
	RunJournal RunKind = 3 // in a journal segment (deltas in memory only; never in a header or page)
)

// Run says where Count blocks from block Start lie. For RunExtent they are slots Slot, Slot+1, ... of the file's extent
// number Extent. For RunJournal, Count is 1 and Extent, Slot are the caller's own handle.
type Run struct {
	Start  uint64
	Count  uint64
	Kind   RunKind
	Extent uint32
	Slot   uint32
}

// ExtentInfo is one line of a file's extent table.
type ExtentInfo struct {
	Number     uint32  // file-local
	Ver        Version // with Extra and the file's id: the object's name
	Extra      Extra
	Generation [16]byte // random; the extent's key is derived from it
	DEK        uint32   // number of the DEK
	Slots      uint32   // blocks that were appended
	Live       uint32   // blocks that the map names; 0 is death
	CRC32C     uint32   // Castagnoli, of the object's first Length bytes
	Length     uint64   // bytes
}

// Header is the content of a file's header object apart from its clear prefix.
type Header struct {
	Entry     Entry        // last known entry: attributes, name; serves repair
	Parent    ID           // last known directory
	Xattrs    []Xattr      // if Entry.Apart is not zero
	Runs      []Run        // the whole of a small map; then MapTop is zero
	MapTop    PageRef      // top page of a large map
	MapHeight uint8        // 0: MapTop is a leaf
	Extents   []ExtentInfo // the whole of a small extent table; then ExtTop is zero
	ExtTop    PageRef
	ExtHeight uint8
	NextExt   uint32   // number for the next extent
	InlineGen [16]byte // random per writing of inline blocks; zero if there are none
	InlineDEK uint32
	InlineLen []uint32 // plaintext length of each inline block, 1 to BlockSize; index = Run.Slot

	// Rest keeps the fields of newer formats: sealed CBOR items by their keys. Who rewrites a header hands it on.
	Rest map[uint64][]byte
}
