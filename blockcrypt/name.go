package blockcrypt

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Kind is the kind of an object on the store.
type Kind uint8

// The kinds of objects, with the form of their names. <v> is <birth>-<r>; numbers are decimal without leading zeros.
const (
	KindInvalid Kind = iota
	KindRoot         // root
	KindKeyCopy      // envfs.json
	KindKeyFile      // keys/<gen>-<r>
	KindOldRoot      // roots/<seq>-<r>
	KindSegment      // journal/<term>-<seq>-<r>
	KindFold         // folds/<seq>-<r>
	KindIndex        // dirs/<2>/<dir id>.d<v>: a directory's index or its shard table
	KindShard        // dirs/<2>/<dir id>.s<v>-<extra>: one shard
	KindList         // dirs/<2>/<dir id>.l<v>-<extra>: other lists
	KindHeader       // files/<2>/<file id>.h<v>
	KindExtent       // files/<2>/<file id>.x<v>-<extra>
	KindMapPage      // files/<2>/<file id>.m<v>-<extra>: pages of a block map or of an extent table
)

// Extra is 88 random bits that tell apart the objects of one kind, owner and version (extents, shards, lists, pages).
type Extra [11]byte

// IsZero reports whether x is unset.
func (x Extra) IsZero() bool { return x == Extra{} }

// The two names that are not write-once.
const (
	RootName    = "root"
	KeyCopyName = "envfs.json"
)

// Name is the parsed name of an object. Which fields count depends on Kind.
type Name struct {
	Kind  Kind
	ID    ID     // owner, for what lies under dirs/ and files/
	Term  uint64 // KindSegment
	Seq   uint64 // generation, sequence, or birth
	R     R
	Extra Extra // KindShard, KindList, KindExtent, KindMapPage
}

var errName = errors.New("no object of a vault has such a name")

// suffix letters of the kinds below dirs/ and files/.
func (k Kind) place() (dir string, letter byte, extra bool) {
	switch k {
	case KindIndex:
		return "dirs/", 'd', false
	case KindShard:
		return "dirs/", 's', true
	case KindList:
		return "dirs/", 'l', true
	case KindHeader:
		return "files/", 'h', false
	case KindExtent:
		return "files/", 'x', true
	case KindMapPage:
		return "files/", 'm', true
	}
	return "", 0, false
}

// String returns the object's full name, in its one canonical spelling.
func (n Name) String() string {
	var buf [longestName]byte
	return string(n.append(buf[:0]))
}

// longestName is the length of the longest name of an object.
const longestName = len("files/") + 2 + 1 + maxBase32 + 2 + 20 + 1 + 21 + 1 + 18

// append appends the object's full name to b.
func (n *Name) append(b []byte) []byte {
	version := func(b []byte) []byte {
		b = append(strconv.AppendUint(b, n.Seq, 10), '-')
		return base32Lower.AppendEncode(b, n.R[:])
	}
	switch n.Kind {
	case KindRoot:
		return append(b, RootName...)
	case KindKeyCopy:
		return append(b, KeyCopyName...)
	case KindKeyFile:
		return version(append(b, "keys/"...))
	case KindOldRoot:
		return version(append(b, "roots/"...))
	case KindFold:
		return version(append(b, "folds/"...))
	case KindSegment:
		b = strconv.AppendUint(append(b, "journal/"...), n.Term, 10)
		return version(append(b, '-'))
	}
	dir, letter, extra := n.Kind.place()
	if dir == "" {
		return b
	}
	var text [maxBase32]byte
	id := base32Lower.AppendEncode(text[:0], n.ID[:])
	b = append(append(b, dir...), id[:2]...)
	b = append(append(append(b, '/'), id...), '.', letter)
	if b = version(b); extra {
		b = base32Lower.AppendEncode(append(b, '-'), n.Extra[:])
	}
	return b
}

// ParseName parses an object's full name by the strict grammar: it accepts exactly what [Name.String] returns, so no
// accepted name leaves the store's directory or is the path prefix of another.
func ParseName(s string) (Name, error) {
	n, err := parseName(s)
	var buf [longestName]byte
	if err != nil || string(n.append(buf[:0])) != s {
		return Name{}, fmt.Errorf("parse object name %q: %w", s, errName)
	}
	return n, nil
}

func parseName(s string) (n Name, err error) {
	dir, rest, ok := strings.Cut(s, "/")
	if !ok {
		switch s {
		case RootName:
			return Name{Kind: KindRoot}, nil
		case KeyCopyName:
			return Name{Kind: KindKeyCopy}, nil
		}
		return n, errName
	}
	switch dir {
	case "keys":
		n.Kind = KindKeyFile
	case "roots":
		n.Kind = KindOldRoot
	case "folds":
		n.Kind = KindFold
	case "journal":
		n.Kind = KindSegment
		var term string
		if term, rest, ok = strings.Cut(rest, "-"); !ok {
			return n, errName
		}
		if n.Term, err = strconv.ParseUint(term, 10, 64); err != nil {
			return n, errName
		}
	case "dirs", "files":
		_, file, _ := strings.Cut(rest, "/")
		id, tail, ok := strings.Cut(file, ".")
		if !ok || len(tail) < 2 {
			return n, errName
		}
		if n.ID, err = ParseID(id); err != nil {
			return n, err
		}
		for k := KindIndex; k <= KindMapPage; k++ {
			if d, letter, _ := k.place(); d[:len(d)-1] == dir && letter == tail[0] {
				n.Kind = k
			}
		}
		rest = tail[1:]
	}
	if n.Kind == KindInvalid {
		return n, errName
	}
	seq, rest, _ := strings.Cut(rest, "-")
	if n.Seq, err = strconv.ParseUint(seq, 10, 64); err != nil {
		return n, errName
	}
	if _, _, extra := n.Kind.place(); extra {
		var x string
		rest, x, _ = strings.Cut(rest, "-")
		if err := decodeBase32(n.Extra[:], x); err != nil {
			return n, err
		}
	}
	return n, decodeBase32(n.R[:], rest)
}

// checkName reports whether s is the full name of an object of that kind (KindInvalid: of any kind).
func checkName(s string, kind Kind) error {
	n, err := ParseName(s)
	if err != nil {
		return err
	}
	if kind != KindInvalid && n.Kind != kind {
		return fmt.Errorf("object %s is of another kind", s)
	}
	return nil
}
