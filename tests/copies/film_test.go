package copies

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"envfs/fs"
	"envfs/keystore"
	"envfs/remote"
	"envfs/remote/dir"
)

// frame is a vault at one moment of its life.
type frame struct {
	objects map[string]string // what lay on the store, by name; never changed
	at      int               // the last moment of its history
	folded  int               // the last moment of which a fold was done
}

// film is a vault at many moments of its life.
type film struct {
	frames []frame
	*history
	seen   map[string]string // contents that frames share
	synced int               // the frame of the last sync
	end    time.Time
}

func newFilm(h *history) *film { return &film{history: h, seen: make(map[string]string)} }

// shoot adds a frame.
func (fm *film) shoot(b *bench, path string) {
	f := frame{objects: objects(b.t, path), at: len(fm.moments) - 1}
	for name, data := range f.objects {
		if same, ok := fm.seen[name]; ok && same == data {
			f.objects[name] = same
		} else {
			fm.seen[name] = data
		}
	}
	if n := len(fm.frames); n > 0 {
		f.folded = fm.frames[n-1].folded
	}
	fm.frames = append(fm.frames, f)
}

// first returns the frame in which an object lies on the store for the first time.
func (fm *film) first(name string) int {
	return slices.IndexFunc(fm.frames, func(f frame) bool { _, ok := f.objects[name]; return ok })
}

// camera is a store that shoots a frame after whatever changes its objects.
type camera struct {
	*dir.Store
	shoot func()
}

func (c *camera) Put(ctx context.Context, name string, data []byte) error {
	defer c.shoot()
	return c.Store.Put(ctx, name, data)
}

func (c *camera) Create(ctx context.Context, name string) (remote.File, error) {
	defer c.shoot()
	return c.Store.Create(ctx, name)
}

func (c *camera) Replace(ctx context.Context, name string, old []byte, content func([]byte) ([]byte, error)) error {
	defer c.shoot()
	return c.Store.Replace(ctx, name, old, content)
}

func (c *camera) Delete(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := c.Store.Delete(ctx, name); err != nil {
			return err
		}
		c.shoot()
	}
	return nil
}

// film lets a vault live through a few mounts.
func (b *bench) film(rnd *rand.Rand) *film {
	path, h := b.origin()
	fm := newFilm(h)
	b.play(fm, path, rnd, "alpha", 2+rnd.IntN(3))
	return fm
}

// play goes on with the film of the vault at path, for a number of mounts that end properly or not: with folds, changes
// of keys, power cuts.
func (b *bench) play(fm *film, path string, rnd *rand.Rand, host string, mounts int) {
	b.watch = func(st *dir.Store) remote.Store {
		return &camera{st, func() { fm.shoot(b, path) }}
	}
	defer func() { b.watch = nil }()
	folded := func() {
		fm.shoot(b, path)
		f := &fm.frames[len(fm.frames)-1]
		f.folded, fm.synced = f.at, len(fm.frames)-1
	}
	folded()
	for round := range mounts {
		b.clock.advance(time.Minute)
		o := machine(host)
		o.Takeover = true
		m := b.mustOpen(path, o, fm.history)
		fm.synced = len(fm.frames) - 1
		for i := range rnd.IntN(7) {
			b.clock.advance(time.Minute)
			name := fmt.Sprintf("%s-%d-%d-%d", host, b.clock.Now().Unix()%100_000, round, i)
			switch rnd.IntN(9) {
			case 0:
				must(b.t, m.f.Sync(ctx))
				fm.synced = len(fm.frames) - 1
			case 1, 2:
				m.fold()
				folded()
			case 3:
				m.write("/shared", pattern(45_000, name))
			case 4:
				if rnd.IntN(3) == 0 {
					must(b.t, m.f.ChangeKeys(ctx, []func(*keystore.Vault) (*keystore.Vault, error){b.rotate, b.addSlot}[rnd.IntN(2)]))
					fm.synced = len(fm.frames) - 1
				}
			case 5:
				if m.now["/second/renamed"] == "" {
					continue // a power cut came between the two
				}
				m.rename("/second/renamed", "/second/"+name)
				m.rename("/second/"+name, "/second/renamed")
			default:
				m.work(name)
				m.remove("/" + name + "/small")
				if rnd.IntN(2) == 0 {
					m.write("/"+name+"/late", pattern(20_000, name))
				}
			}
			fm.shoot(b, path)
		}
		if rnd.IntN(3) > 0 {
			m.close()
			folded()
			continue
		}
		m.kill()
		fm.shoot(b, path)
		if rnd.IntN(2) == 0 {
			b.powerCut(fm, path, rnd)
		}
	}
	fm.end = b.clock.Now()
}

// powerCut takes away from what grows some of what was not synced, as the loss of power may.
func (b *bench) powerCut(fm *film, path string, rnd *rand.Rand) {
	old := fm.frames[fm.synced].objects
	last := fm.frames[len(fm.frames)-1].objects
	for _, name := range sortedKeys(last) {
		if !strings.HasPrefix(name, "journal/") && !strings.Contains(name, ".x") || rnd.IntN(2) == 0 {
			continue
		}
		if grown := len(last[name]) - len(old[name]); grown > 0 {
			must(b.t, os.Truncate(filepath.Join(path, name), int64(len(old[name])+rnd.IntN(grown))))
		}
	}
	m := b.mustOpen(path, fs.Options{ReadOnly: true}, fm.history)
	*fm.history = *m.back()
	m.kill()
	fm.shoot(b, path)
}

// from returns a history that goes on from what a mount shows.
func (m *mount) from() *history {
	m.t.Helper()
	t, err := read(m.f)
	must(m.t, err)
	h := newHistory()
	h.now, h.sum = t, t.digest()
	h.moment()
	return h
}

// back returns a history that has gone back to what a mount shows.
func (m *mount) back() *history {
	now := m.from()
	now.moments = maps.Clone(m.moments)
	now.moment()
	return now
}

func (b *bench) addSlot(old *keystore.Vault) (*keystore.Vault, error) {
	p, err := keystore.KeyFile(pattern(32, "another"))
	if err != nil {
		return nil, err
	}
	if len(old.File().Slots()) > 4 {
		return b.rotate(old)
	}
	b.keys.forget(old)
	return old.AddSlot(ctx, b.rand, b.clock.Now(), keystore.NewSlot{Label: "another", Provider: p})
}
