package fs

import (
	"context"
	"fmt"
	"slices"

	"envfs/blockcrypt"
)

// Bounds of shards, in names.
const (
	maxShard  = 1024 // more are split
	fillShard = 512  // what a split fills
)

// foldDir writes the index of the directory e and of all below it that the layer has changed, children first, and puts
// the new reference into e.
func (fo *folding) foldDir(ctx context.Context, e *blockcrypt.Entry) error {
	dd := fo.layer.dirs[e.ID]
	apart := xattrSize(e.Xattrs) > blockcrypt.MaxInlineXattrs
	if dd == nil && !apart && !fo.renew.touches(e.ID) {
		return nil
	}
	var base blockcrypt.Index
	if !e.Head.IsZero() {
		ix, err := fo.f.indexOf(ctx, e.ID, e.Head)
		if err != nil {
			return err
		}
		base = *ix
	}
	changed, err := fo.children(ctx, e, dd)
	if err != nil {
		return err
	}
	if fo.renew.touches(e.ID) {
		if changed, err = fo.renewBelow(ctx, e.ID, &base, changed); err != nil {
			return err
		}
	}
	next := blockcrypt.Index{Salt: e.Salt}
	if e.Apart != 0 {
		next.Xattrs = base.Xattrs
	}
	if apart {
		next.Xattrs, e.Apart, e.Xattrs = e.Xattrs, xattrFlags(e.Xattrs), nil
	}
	if err := fo.mergeNames(ctx, e.ID, &base, &next, changed); err != nil {
		return err
	}
	body, err := blockcrypt.EncodeIndex(&next)
	if err != nil {
		return fmt.Errorf("encode index: %w", err)
	}
	ref, err := fo.put(ctx, blockcrypt.Name{Kind: blockcrypt.KindIndex, ID: e.ID}, body)
	if err != nil {
		return err
	}
	fo.buryHead(blockcrypt.KindIndex, e.ID, e.Head)
	e.Head = blockcrypt.Ref{Version: ref.Ver, Hash: ref.Hash}
	fo.setHead(e.ID, head{ref: e.Head, names: next.Names})
	return nil
}

// children returns what the layer says about the names of a directory, in their order, after folding what they stand
// for. Tombstones have nil entries. What was given up is left out.
func (fo *folding) children(ctx context.Context, e *blockcrypt.Entry, dd *dirDelta) ([]dirent, error) {
	if dd == nil {
		return nil, nil
	}
	items := make([]dirent, 0, dd.names.Len())
	dd.names.Ascend(func(item dirent) bool {
		items = append(items, item)
		return true
	})
	kept := items[:0]
	for _, item := range items {
		if item.entry == nil {
			kept = append(kept, item)
			continue
		}
		c := *item.entry
		up, err := fo.attempt(e.ID, item, func() error {
			switch c.Type {
			case blockcrypt.TypeDirectory:
				return fo.foldDir(ctx, &c)
			case blockcrypt.TypeRegular:
				return fo.foldFile(ctx, e.ID, &c)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if !up {
			kept = append(kept, dirent{item.h, item.name, &c})
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return kept, nil
}

// mergeNames makes next hold the names of base with the changes. Shards without a change stay as they are.
func (fo *folding) mergeNames(ctx context.Context, id blockcrypt.ID, base, next *blockcrypt.Index, changed []dirent) error {
	if base.Shards == nil {
		var old []blockcrypt.Entry
		if base.Leaf != nil {
			var err error
			if old, err = shardEntries(base.Leaf); err != nil {
				return err
			}
		}
		return fo.writeNames(ctx, id, next, mergeEntries(&next.Salt, old, changed))
	}
	var whole []blockcrypt.Entry // if all fit into the index
	total := 0
	for i, s := range base.Shards {
		end := ^uint64(0)
		if i+1 < len(base.Shards) {
			end = base.Shards[i+1].From
		}
		n := len(changed)
		if i+1 < len(base.Shards) {
			n, _ = slices.BinarySearchFunc(changed, end, func(d dirent, h uint64) int {
				if d.h < h {
					return -1
				}
				return 1
			})
		}
		mine := changed[:n]
		changed = changed[n:]
		if len(mine) == 0 && !(fo.renew.touches(id) && fo.renew.old(s.Ref.Ver)) {
			next.Shards = append(next.Shards, s)
			total += int(s.Names)
			continue
		}
		old, err := fo.shardNames(ctx, id, s.Ref)
		if err != nil {
			return err
		}
		entries := mergeEntries(&next.Salt, old, mine)
		total += len(entries)
		fo.buryPage(blockcrypt.KindShard, id, s.Ref)
		if err := fo.writeShards(ctx, id, next, s.From, entries); err != nil {
			return err
		}
	}
	if total > maxShard/2 {
		if len(next.Shards) > 0 {
			next.Shards[0].From = 0
		}
		next.Names = uint32(total)
		return nil
	}
	for _, s := range next.Shards {
		old, err := fo.shardNames(ctx, id, s.Ref)
		if err != nil {
			return err
		}
		whole = append(whole, old...)
		fo.retract(id, s.Ref)
	}
	next.Shards = nil
	return fo.writeNames(ctx, id, next, whole)
}

// retract takes back a shard: one of the base dies, one of this fold is deleted unnamed.
func (fo *folding) retract(id blockcrypt.ID, ref blockcrypt.PageRef) {
	fo.buryPage(blockcrypt.KindShard, id, ref)
}

func (fo *folding) shardNames(ctx context.Context, id blockcrypt.ID, ref blockcrypt.PageRef) ([]blockcrypt.Entry, error) {
	return fo.f.shardNames(ctx, id, ref)
}

// shardNames returns the entries of a shard.
func (f *FS) shardNames(ctx context.Context, id blockcrypt.ID, ref blockcrypt.PageRef) ([]blockcrypt.Entry, error) {
	v, err := f.object(ctx, pageMiss(blockcrypt.KindShard, id, ref))
	if err != nil {
		return nil, err
	}
	sh, err := cast[*blockcrypt.Shard](v)
	if err != nil {
		return nil, err
	}
	return shardEntries(sh)
}

func shardEntries(sh *blockcrypt.Shard) ([]blockcrypt.Entry, error) {
	entries := make([]blockcrypt.Entry, 0, sh.Len())
	for i := range sh.Len() {
		e, err := sh.Entry(i)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// mergeEntries lays changes over sorted entries.
func mergeEntries(salt *[16]byte, old []blockcrypt.Entry, changed []dirent) []blockcrypt.Entry {
	out := make([]blockcrypt.Entry, 0, len(old)+len(changed))
	hasher := blockcrypt.NewNameHasher(salt)
	for _, e := range old {
		at := dirent{h: hasher.Hash(e.Name), name: e.Name}
		for len(changed) > 0 && direntLess(changed[0], at) {
			out = appendDirent(out, changed[0])
			changed = changed[1:]
		}
		if len(changed) > 0 && !direntLess(at, changed[0]) {
			out = appendDirent(out, changed[0])
			changed = changed[1:]
			continue
		}
		out = append(out, e)
	}
	for _, item := range changed {
		out = appendDirent(out, item)
	}
	return out
}

func appendDirent(out []blockcrypt.Entry, item dirent) []blockcrypt.Entry {
	if item.entry == nil {
		return out
	}
	return append(out, *item.entry)
}

// writeNames puts all names of a directory into the index itself, or into shards if they are many.
func (fo *folding) writeNames(ctx context.Context, id blockcrypt.ID, next *blockcrypt.Index, entries []blockcrypt.Entry) error {
	next.Names = uint32(len(entries))
	if len(entries) > maxShard {
		return fo.writeShards(ctx, id, next, 0, entries)
	}
	body, err := blockcrypt.EncodeShard(&next.Salt, entries)
	if err != nil {
		return fmt.Errorf("encode names: %w", err)
	}
	next.Leaf, err = blockcrypt.DecodeShard(body)
	return err
}

// writeShards appends shards for the entries, the first of which takes in hashes from on.
func (fo *folding) writeShards(ctx context.Context, id blockcrypt.ID, next *blockcrypt.Index, from uint64, entries []blockcrypt.Entry) error {
	for len(entries) > 0 {
		n := len(entries)
		if n > maxShard {
			n = fillShard
			// Equal hashes stay together.
			for n < len(entries) && blockcrypt.NameHash(&next.Salt, entries[n].Name) == blockcrypt.NameHash(&next.Salt, entries[n-1].Name) {
				n++
			}
		}
		body, err := blockcrypt.EncodeShard(&next.Salt, entries[:n])
		if err != nil {
			return fmt.Errorf("encode shard: %w", err)
		}
		ref, err := fo.put(ctx, blockcrypt.Name{Kind: blockcrypt.KindShard, ID: id}, body)
		if err != nil {
			return err
		}
		next.Shards = append(next.Shards, blockcrypt.ShardRef{From: from, Names: uint32(n), Ref: ref})
		if entries = entries[n:]; len(entries) > 0 {
			from = blockcrypt.NameHash(&next.Salt, entries[0].Name)
		}
	}
	return nil
}

// xattrFlags tells which special extended attributes there are.
func xattrFlags(xs []blockcrypt.Xattr) (flags blockcrypt.XattrFlags) {
	for _, x := range xs {
		switch x.Name {
		case "system.posix_acl_access":
			flags |= blockcrypt.XattrAccessACL
		case "system.posix_acl_default":
			flags |= blockcrypt.XattrDefaultACL
		case xattrCapability:
			flags |= blockcrypt.XattrCapability
		default:
			flags |= blockcrypt.XattrOther
		}
	}
	return flags
}
