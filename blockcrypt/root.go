package blockcrypt

import (
	"errors"
	"fmt"
	"io"
)

// MaxRoot is the largest root object in bytes.
const MaxRoot = 64 << 10

// MaxRootTerms is how many terms fit into the root itself.
const MaxRootTerms = 128

// ObjRef refers to any object by its full name and the SHA-256 of the whole of it. The zero ObjRef refers to nothing.
type ObjRef struct {
	Name string
	Hash Hash
}

// IsZero reports whether r refers to nothing.
func (r ObjRef) IsZero() bool { return r == ObjRef{} }

// RootPrefix is what a root tells without a key. Opening the root authenticates it.
type RootPrefix struct {
	Seq          uint64 // one higher with each root
	R            R      // of the attempt that made it
	Time         Time
	Epoch        uint32 // key epoch: the newest of KeyFile
	KeyFile      ObjRef // the vault's key file
	Fold         ObjRef // the last fold record
	FirstSegment string // the first live journal segment, or empty
}

// Name returns the name under which this root is kept in roots/.
func (p *RootPrefix) Name() Name { return Name{Kind: KindOldRoot, Seq: p.Seq, R: p.R} }

// Term is one writing mount, as the root remembers it.
type Term struct {
	Number      uint64
	Tag         Tag
	Host        string // at most 255 bytes
	User        string // at most 255 bytes
	StateID     ID     // which state directory
	Began       Time
	LastBatch   uint64 // number of its last batch that root knows
	LastHash    Hash   // that batch's hash
	LastFold    uint64
	LastRootSeq uint64
	LastRootR   R
	Closed      bool // it ended by a clean unmount
	Slot        ID   // of the key file, by which the vault was opened; zero: not known
}

// SegmentRef is a live journal segment as far as root vouches for it.
type SegmentRef struct {
	Name    string
	Length  uint64 // bytes
	EndHash Hash   // hash of its last batch
}

// IsZero reports whether r refers to nothing.
func (r SegmentRef) IsZero() bool { return r == SegmentRef{} }

// The names of the three directories that a root holds, in the order of Root.Dirs.
const (
	DirTop      = "top"      // what users see
	DirLinks    = "links"    // files of several names
	DirNameless = "nameless" // files without a name
)

// Root is the one object that is replaced; it names all the rest.
type Root struct {
	RootPrefix
	Terms       []Term     // of its line, at most MaxRootTerms
	Cut         uint64     // number of the last folded batch
	CutHash     Hash       // its hash
	First, Last SegmentRef // live journal segments; zero if there are none
	Segments    uint32     // how many live segments there are
	Dirs        [3]Entry   // TypeDirectory, named DirTop, DirLinks, DirNameless
	Predecessor ObjRef     // newest older root in roots/; zero in the first
	Identity    []byte     // of the store, see remote.Store; at most 1024 bytes
	LastFold    uint64
	Purged      uint64 // all that died up to this fold is deleted
	Bytes       uint64 // total length of live objects
	Objects     uint64 // number of live objects

	// Epochs says with which fold each key epoch began, rising; at most MaxRootEpochs, of which the newest is
	// RootPrefix.Epoch.
	Epochs []EpochStart
}

// EpochStart is a key epoch and the first fold of its time: what was born by that fold or later, and before the next
// epoch's, is sealed under it.
type EpochStart struct {
	Epoch uint32
	Fold  uint64
	Began Time
}

// MaxRootEpochs is how many key epochs a root remembers the beginnings of.
const MaxRootEpochs = 64

// SealRoot returns the root object. kek is the KEK of r.Epoch. The result is at most MaxRoot bytes; a root that would be
// longer is an error.
func (v Vault) SealRoot(rnd io.Reader, kek []byte, r *Root) ([]byte, error) {
	data, err := v.sealRoot(rnd, kek, r)
	if err != nil {
		return nil, fmt.Errorf("seal root %d: %w", r.Seq, err)
	}
	return data, nil
}

func (v Vault) sealRoot(rnd io.Reader, kek []byte, r *Root) ([]byte, error) {
	if err := v.Suite.check(); err != nil {
		return nil, err
	}
	body, err := encodeRoot(r)
	if err != nil {
		return nil, err
	}
	if !r.newestBegan() {
		return nil, errors.New("the newest key epoch has no beginning")
	}
	prefix, err := v.appendRootPrefix(nil, &r.RootPrefix, paddedLen(len(body)))
	if err != nil {
		return nil, err
	}
	if n := len(prefix) + RecordOverhead + paddedLen(len(body)); n > MaxRoot {
		return nil, fmt.Errorf("%d bytes are more than the %d that a root may have", n, MaxRoot)
	}
	s, err := v.rootSealer(kek, &r.RootPrefix)
	if err != nil {
		return nil, err
	}
	return s.sealPadded(prefix, rnd, body, Context("root", prefix))
}

// rootSealer returns the AEAD of one root. Its key comes from sequence and r instead of the name, so that root and its
// copy in roots/ are the same bytes.
func (v Vault) rootSealer(kek []byte, p *RootPrefix) (sealer, error) {
	return newSealer(Derive(kek, nil, KeySize, "root",
		[]byte{byte(v.Suite)}, v.ID[:], U32(p.Epoch), U64(p.Seq), p.R[:]))
}

// OpenRoot opens what SealRoot made. That it lies under the name it should is for the caller to check.
func (v Vault) OpenRoot(keks KEKs, data []byte) (*Root, error) {
	r := new(Root)
	if err := v.openRoot(keks, data, r); err != nil {
		return nil, fmt.Errorf("open root: %w", err)
	}
	return r, nil
}

func (v Vault) openRoot(keks KEKs, data []byte, r *Root) error {
	if err := v.Suite.check(); err != nil {
		return err
	}
	p, suite, size, padded, err := parseRootPrefix(data)
	if err != nil {
		return err
	}
	if suite != v.Suite {
		return damaged("other cipher suite")
	}
	if len(data) != size+RecordOverhead+padded || len(data) > MaxRoot {
		return damaged("length")
	}
	kek, err := findKEK(keks, p.Epoch)
	if err != nil {
		return err
	}
	s, err := v.rootSealer(kek, &p)
	if err != nil {
		return err
	}
	body, err := s.openPadded(data[size:], Context("root", data[:size]))
	if err != nil {
		return err
	}
	r.RootPrefix = p
	if err := decodeRoot(body, r); err != nil {
		return err
	}
	if !r.newestBegan() {
		return damaged("beginnings of key epochs")
	}
	return nil
}

// newestBegan reports whether the last beginning of a key epoch is that of the root's own.
func (r *Root) newestBegan() bool { return r.Epochs[len(r.Epochs)-1].Epoch == r.Epoch }

// ParseRootPrefix returns what a root tells without a key; nothing of it is authenticated.
func ParseRootPrefix(data []byte) (RootPrefix, error) {
	p, _, size, padded, err := parseRootPrefix(data)
	if err == nil && len(data) != size+RecordOverhead+padded {
		err = damaged("length")
	}
	if err != nil {
		return RootPrefix{}, fmt.Errorf("parse root: %w", err)
	}
	return p, nil
}
