package remote

import (
	"errors"
	"io/fs"
	"strings"

	"envfs/blockcrypt"
)

// ErrName is returned for what is not an object's name.
var ErrName = errors.New("not an object's name")

// CheckName accepts the names of objects: those of the strict grammar (blockcrypt.ParseName), and those below audit/
// and damaged/, whose components are letters, digits, '-', '_' and '.', without a leading dot. So no name leaves the
// place where a store keeps its objects.
func CheckName(name string) error {
	for _, prefix := range []string{"audit/", "damaged/"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			return checkPlain(rest)
		}
	}
	if _, err := blockcrypt.ParseName(name); err != nil {
		return ErrName
	}
	return nil
}

// MaxDepth bounds the components of names below audit/ and damaged/.
const MaxDepth = 8

func checkPlain(rest string) error {
	parts := strings.Split(rest, "/")
	if len(parts) > MaxDepth {
		return ErrName
	}
	for _, part := range parts {
		if part == "" || len(part) > 255 || part[0] == '.' {
			return ErrName
		}
		for _, c := range []byte(part) {
			switch {
			case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
			default:
				return ErrName
			}
		}
	}
	return nil
}

// CheckReadName accepts what CheckName does, and the copies of root and envfs.json that sync tools leave beside them
// ("root.sync-conflict-...", "root (conflicted copy ...)"): one component in the store's own directory.
func CheckReadName(name string) error {
	beside := strings.HasPrefix(name, "root") || strings.HasPrefix(name, "envfs")
	if beside && len(name) <= 255 && !strings.ContainsAny(name, "/\x00") {
		return nil
	}
	return CheckName(name)
}

// IsReplaced reports whether name is one of the two that Replace is for.
func IsReplaced(name string) bool {
	return name == blockcrypt.RootName || name == blockcrypt.KeyCopyName
}

// CheckPrefix refuses prefixes by which List could leave the store.
func CheckPrefix(prefix string) error {
	i := strings.LastIndexByte(prefix, '/')
	if i < 0 {
		return nil
	}
	start := prefix[:i]
	if start == "." || !fs.ValidPath(start) || strings.ContainsRune(start, 0) || strings.Count(start, "/") >= MaxDepth {
		return ErrName
	}
	return nil
}
