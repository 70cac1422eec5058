package fs

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"envfs/blockcrypt"
)

const (
	xattrCapability = "security.capability"
	xattrACLPrefix  = "system."

	// xattrSELinux is what coreutils asks of each file, unless it hears once that the file system has no labels.
	xattrSELinux = "security.selinux"

	xattrCreate  = 1 // XATTR_CREATE
	xattrReplace = 2 // XATTR_REPLACE

	maxXattrName = 255
)

// xattrs returns all extended attributes of a file, wherever they lie.
func (f *FS) xattrs(ino *Inode, e *blockcrypt.Entry) ([]blockcrypt.Xattr, error) {
	if e.Apart == 0 {
		return e.Xattrs, nil
	}
	if ino.self != nil {
		ix, err := f.baseIndex(ino.self)
		if err != nil || ix == nil {
			return nil, err
		}
		return ix.Xattrs, nil
	}
	hd, err := f.headerOf(e)
	if err != nil || hd == nil {
		return nil, err
	}
	return hd.head.Xattrs, nil
}

// headerOf returns the header that an entry names, nil if none.
func (f *FS) headerOf(e *blockcrypt.Entry) (*header, error) {
	if e.Head.IsZero() {
		return nil, nil
	}
	if v := f.cache.get(e.Head.Hash); v != nil {
		return cast[*header](v)
	}
	return nil, headerMiss(e.ID, e.Head)
}

// GetXattr returns an extended attribute.
func (f *FS) GetXattr(ctx context.Context, ino *Inode, name string) (value []byte, err error) {
	if strings.HasPrefix(name, xattrACLPrefix) {
		return nil, ErrUnsupported
	}
	err = f.view(ctx, func() error {
		e, err := f.entry(ino)
		if err != nil {
			return err
		}
		xs, err := f.xattrs(ino, e)
		if err != nil {
			return err
		}
		i, ok := findXattr(xs, name)
		if !ok && name == xattrSELinux {
			return ErrUnsupported
		}
		if !ok {
			return ErrNoXattr
		}
		value = xs[i].Value
		return nil
	})
	return value, err
}

// ListXattr returns the names of a file's extended attributes.
func (f *FS) ListXattr(ctx context.Context, ino *Inode) (names []string, err error) {
	err = f.view(ctx, func() error {
		e, err := f.entry(ino)
		if err != nil {
			return err
		}
		xs, err := f.xattrs(ino, e)
		names = names[:0]
		for _, x := range xs {
			names = append(names, x.Name)
		}
		return err
	})
	return names, err
}

// SetXattr makes or replaces an extended attribute; flags are those of setxattr(2).
func (f *FS) SetXattr(ctx context.Context, ino *Inode, name string, value []byte, flags uint32) error {
	switch {
	case strings.HasPrefix(name, xattrACLPrefix):
		return ErrUnsupported
	case name == "" || len(name) > maxXattrName:
		return ErrRange
	case len(value) > blockcrypt.MaxXattrs:
		return ErrXattrSpace
	}
	return f.editXattrs(ctx, ino, func(xs []blockcrypt.Xattr) ([]blockcrypt.Xattr, error) {
		i, ok := findXattr(xs, name)
		x := blockcrypt.Xattr{Name: name, Value: append([]byte{}, value...)}
		switch {
		case ok && flags&xattrCreate != 0:
			return nil, ErrExist
		case !ok && flags&xattrReplace != 0:
			return nil, ErrNoXattr
		case ok:
			xs = slices.Clone(xs)
			xs[i] = x
		default:
			xs = slices.Insert(slices.Clone(xs), i, x)
		}
		return xs, nil
	})
}

// RemoveXattr removes an extended attribute.
func (f *FS) RemoveXattr(ctx context.Context, ino *Inode, name string) error {
	if strings.HasPrefix(name, xattrACLPrefix) {
		return ErrUnsupported
	}
	return f.editXattrs(ctx, ino, func(xs []blockcrypt.Xattr) ([]blockcrypt.Xattr, error) {
		i, ok := findXattr(xs, name)
		if !ok {
			return nil, ErrNoXattr
		}
		return slices.Delete(slices.Clone(xs), i, i+1), nil
	})
}

func (f *FS) editXattrs(ctx context.Context, ino *Inode, edit func([]blockcrypt.Xattr) ([]blockcrypt.Xattr, error)) error {
	now := f.now()
	return f.change(ctx, func() error {
		e, err := f.editable(ino)
		if err != nil {
			return err
		}
		xs, err := f.xattrs(ino, e)
		if err != nil {
			return err
		}
		if xs, err = edit(xs); err != nil {
			return err
		}
		limit := blockcrypt.MaxXattrs
		if ino.typ == blockcrypt.TypeSymlink { // has no header and no index to put them
			limit = blockcrypt.MaxInlineXattrs
		}
		if xattrSize(xs) > limit {
			return fmt.Errorf("set extended attribute of %s: %w", label(ino.id), ErrXattrSpace)
		}
		e.Xattrs, e.Apart = xs, 0
		e.Attr.Ctime = now
		f.save(ino, e)
		return nil
	})
}

func findXattr(xs []blockcrypt.Xattr, name string) (int, bool) {
	return slices.BinarySearchFunc(xs, name, func(x blockcrypt.Xattr, n string) int { return strings.Compare(x.Name, n) })
}
