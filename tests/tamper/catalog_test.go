package tamper

import (
	"testing"

	"envfs/blockcrypt"
	"envfs/keystore"
)

// objectsOf are the objects that a file or directory has on the store, by their names.
type objectsOf struct {
	id      blockcrypt.ID
	entry   blockcrypt.Entry
	header  string
	extents []string // in the order of their numbers
	infos   []blockcrypt.ExtentInfo
	maps    []string // pages of the block map
	tables  []string // pages of the extent table
	index   string
	shards  []string
	inShard map[string][]string // shard: the names that it holds
	deks    []blockcrypt.WrappedDEK
	head    *blockcrypt.Header
}

// catalog tells which objects the files of a vault have. It is written with blockcrypt alone: what package fs believes
// is what is tested.
type catalog struct {
	t       testing.TB
	vault   blockcrypt.Vault
	keys    blockcrypt.KEKs
	bytes   map[string][]byte // the store's objects
	rootObj *blockcrypt.Root
	fold    *blockcrypt.FoldRecord
	paths   map[string]*objectsOf // "" is the top
	byID    map[blockcrypt.ID]*objectsOf
}

func newCatalog(t testing.TB, keys *keystore.Vault, objects map[string][]byte) *catalog {
	t.Helper()
	c := &catalog{t: t, keys: keys, bytes: objects, paths: make(map[string]*objectsOf), byID: make(map[blockcrypt.ID]*objectsOf)}
	c.vault = blockcrypt.Vault{Suite: blockcrypt.AES256GCM, ID: keys.File().VaultID()}
	var err error
	c.rootObj, err = c.vault.OpenRoot(keys, objects["root"])
	must(t, err)
	c.fold, err = c.vault.OpenFold(keys, c.rootObj.Fold.Name, objects[c.rootObj.Fold.Name])
	must(t, err)
	c.dir(&c.rootObj.Dirs[1], "(links)")
	c.dir(&c.rootObj.Dirs[0], "")
	return c
}

func (c *catalog) dir(e *blockcrypt.Entry, path string) {
	c.t.Helper()
	o := &objectsOf{id: e.ID, entry: *e}
	c.paths[path], c.byID[e.ID] = o, o
	if e.Head.IsZero() {
		return
	}
	o.index = blockcrypt.Name{Kind: blockcrypt.KindIndex, ID: e.ID, Seq: e.Head.Version.Birth, R: e.Head.Version.R}.String()
	ix, err := blockcrypt.DecodeIndex(c.body(blockcrypt.KindIndex, o.index))
	must(c.t, err)
	if ix.Leaf != nil {
		c.shard(ix.Leaf, path)
	}
	o.inShard = make(map[string][]string)
	for _, ref := range ix.Shards {
		name := pageName(blockcrypt.KindShard, e.ID, ref.Ref)
		s, err := blockcrypt.DecodeShard(c.body(blockcrypt.KindShard, name))
		must(c.t, err)
		o.shards = append(o.shards, name)
		o.inShard[name] = c.shard(s, path)
	}
}

func (c *catalog) shard(s *blockcrypt.Shard, dir string) (names []string) {
	c.t.Helper()
	for i := range s.Len() {
		e, err := s.Entry(i)
		must(c.t, err)
		path := e.Name
		if dir != "" {
			path = dir + "/" + path
		}
		names = append(names, path)
		switch e.Type {
		case blockcrypt.TypeDirectory:
			c.dir(&e, path)
		case blockcrypt.TypeRegular:
			c.file(&e, path)
		case blockcrypt.TypeLinkRef:
			c.paths[path] = c.byID[e.ID]
		default:
			c.paths[path] = &objectsOf{id: e.ID, entry: e}
		}
	}
	return names
}

func (c *catalog) file(e *blockcrypt.Entry, path string) {
	c.t.Helper()
	o := &objectsOf{id: e.ID, entry: *e}
	c.paths[path], c.byID[e.ID] = o, o
	if e.Head.IsZero() {
		return
	}
	o.header = blockcrypt.Name{Kind: blockcrypt.KindHeader, ID: e.ID, Seq: e.Head.Version.Birth, R: e.Head.Version.R}.String()
	var err error
	o.deks, o.head, _, err = c.vault.OpenHeader(c.keys, o.header, e.ID, c.bytes[o.header])
	must(c.t, err)
	c.extents(o, o.head.Extents)
	c.page(o, o.head.MapTop, &o.maps)
	c.page(o, o.head.ExtTop, &o.tables)
}

func (c *catalog) extents(o *objectsOf, infos []blockcrypt.ExtentInfo) {
	for _, x := range infos {
		o.extents = append(o.extents, blockcrypt.Name{Kind: blockcrypt.KindExtent, ID: o.id, Seq: x.Ver.Birth, R: x.Ver.R, Extra: x.Extra}.String())
		o.infos = append(o.infos, x)
	}
}

// page visits a page and those below it: leaves of the two kinds, and nodes.
func (c *catalog) page(o *objectsOf, ref blockcrypt.PageRef, list *[]string) {
	c.t.Helper()
	if ref.IsZero() {
		return
	}
	name := pageName(blockcrypt.KindMapPage, o.id, ref)
	*list = append(*list, name)
	body := c.body(blockcrypt.KindMapPage, name)
	if _, infos, err := blockcrypt.DecodeExtentPage(body); err == nil {
		c.extents(o, infos)
	}
	if _, _, children, err := blockcrypt.DecodeNodePage(body); err == nil {
		for _, ch := range children {
			c.page(o, ch.Ref, list)
		}
	}
}

func pageName(kind blockcrypt.Kind, id blockcrypt.ID, ref blockcrypt.PageRef) string {
	return blockcrypt.Name{Kind: kind, ID: id, Seq: ref.Ver.Birth, R: ref.Ver.R, Extra: ref.Extra}.String()
}

func (c *catalog) body(kind blockcrypt.Kind, name string) []byte {
	c.t.Helper()
	body, _, err := c.vault.OpenObject(c.keys, kind, name, c.bytes[name])
	if err != nil {
		c.t.Fatalf("open %s: %v", name, err)
	}
	return body
}

// of returns the objects of a path.
func (c *catalog) of(path string) *objectsOf {
	c.t.Helper()
	o := c.paths[path]
	if o == nil {
		c.t.Fatalf("no path %q", path)
	}
	return o
}
