package tamper

import (
	"crypto/rand"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"envfs/blockcrypt"
	"envfs/fs"
	"envfs/keystore"
	"envfs/keystore/pin"
)

// rollback is an attack that nothing on the store gives away.
type rollback struct {
	name  string
	seen  moment              // what the client saw last
	do    func(i *intruder)   // what it finds then
	after func(*fixture) tree // what it reads then, without a pin
	want  error               // with a pin
}

func rollbacks() []rollback {
	return []rollback{
		{name: "put back root and its whole tree", seen: closed, want: fs.ErrSetBack,
			after: func(f *fixture) tree { return f.first.tree },
			do: func(i *intruder) {
				for _, name := range i.names("") {
					if _, ok := i.first.objects[name]; !ok {
						i.remove(name)
					}
				}
				for name, data := range i.first.objects {
					i.write(name, data)
				}
			}},
		{name: "put back the whole vault", seen: closed, want: fs.ErrSetBack,
			after: func(f *fixture) tree { return f.first.tree },
			do:    func(i *intruder) { i.putBack(i.first.snapshot) }},
		{name: "cut the journal's tail, or delete its last segment", seen: begun, want: fs.ErrSetBack,
			after: func(f *fixture) tree { return f.second.tree },
			do:    func(i *intruder) { i.remove(i.names("journal/")...) }},
		{name: "a removed holder forges a successor of the root key", seen: rotated, want: fs.ErrOtherVault,
			after: func(f *fixture) tree { return f.shared.tree },
			do:    func(i *intruder) { i.forgeVault() }},
	}
}

// forgeVault puts the vault back to when the removed holder had a slot, under a key file of a later generation that the
// removed holder makes, and a root that names it.
func (i *intruder) forgeVault() {
	i.t.Helper()
	newest := i.now.rootObj.Seq
	gen := i.unlock(i.t).File().Generation()
	i.putBack(i.shared.snapshot)
	keys := i.former
	for keys.File().Generation() <= gen {
		next, err := keys.AddSlot(i.t.Context(), rand.Reader, time.Now(), keystore.NewSlot{Label: "mine", Provider: i.other})
		must(i.t, err)
		i.t.Cleanup(next.Close)
		keys = next
	}
	root := *i.shared.rootObj
	root.Terms = slices.Clone(root.Terms)
	r, err := blockcrypt.NewR(rand.Reader, root.R.Tag())
	must(i.t, err)
	root.KeyFile = blockcrypt.ObjRef{Name: keys.Name(r).String(), Hash: blockcrypt.Sum(keys.Bytes())}
	i.write(root.KeyFile.Name, keys.Bytes())
	i.write("envfs.json", keys.Bytes())
	root.Seq = newest + 10
	i.sealRoot(&root)
}

// testRollbacks makes each attack that only what a client remembers gives away, without and with it.
func testRollbacks(t *testing.T, f *fixture) {
	for _, a := range rollbacks() {
		t.Run(slug(a.name), func(t *testing.T) {
			r := newReader(t, f)
			s := a.seen(f)
			s.restore(t, r.Store)
			a.do(&intruder{t: t, dir: r.Store, fixture: f, now: s})
			log := new(logBuffer)

			v, err := r.open(t, fs.Options{ReadOnly: true, Log: log.logger()})
			must(t, err)
			r.mounted(t, v, log, true, func(root string) { make(harm).equal(t, a.after(f).compare(t, root)) })
			if res, err := v.Check(t.Context(), fs.CheckOptions{}, func(fs.Finding) {}); err != nil || res.Damaged > 0 {
				t.Errorf("without a pin check finds %d damages: %v", res.Damaged, err)
			}
			must(t, v.Close(t.Context()))
			before := list(t, r.Store)

			r.stateDir = t.TempDir()
			setPin(t, r, s)
			v, err = r.open(t, fs.Options{Log: log.logger()})
			refused(t, "writing", v, err, a.want)
			before.unchanged(t, r.Store)
			v, err = r.open(t, fs.Options{ReadOnly: true, Log: log.logger()})
			if a.want == fs.ErrOtherVault {
				refused(t, "reading", v, err, a.want)
				return
			}
			must(t, err)
			must(t, v.Close(t.Context()))
			if !strings.Contains(log.String(), "opened at an older moment") {
				t.Errorf("looking at it with a pin says nothing:\n%s", log.String())
			}
			v, err = r.open(t, fs.Options{AcceptOlder: true, Log: log.logger()})
			must(t, err)
			must(t, v.Close(t.Context()))
			v, err = r.open(t, fs.Options{Log: log.logger()})
			must(t, err)
			must(t, v.Close(t.Context()))
		})
	}
}

// setPin remembers a state as a client that mounted it does: its newest root, and the journal's last batch.
func setPin(t *testing.T, r *reader, s *state) {
	t.Helper()
	file, err := keystore.Parse(s.objects["envfs.json"])
	must(t, err)
	root, err := blockcrypt.ParseRootPrefix(s.objects["root"])
	must(t, err)
	p := pin.Pin{RootKey: file.Fingerprint(), Generation: file.Generation(), RootSeq: root.Seq, RootHash: blockcrypt.Sum(s.objects["root"])}
	for name, data := range s.objects {
		if !strings.HasPrefix(name, "journal/") {
			continue
		}
		at := batches(data)
		if len(at) < 2 {
			continue
		}
		last, err := blockcrypt.ParseFrame(data[at[len(at)-2]:])
		must(t, err)
		p.Durable.Batch = max(p.Durable.Batch, last.Number)
	}
	pins, err := pin.Load(r.stateDir, file.VaultID())
	must(t, err)
	must(t, pins.Set(r.Store, p))
}

// testForgedBlock: who knew a data key can forge blocks of extents of that time. It is a limit, and stays one that is
// known.
func testForgedBlock(t *testing.T, f *fixture) {
	r := newReader(t, f)
	s := f.rotated
	s.restore(t, r.Store)
	i := &intruder{t: t, dir: r.Store, fixture: f, now: s}
	o := s.of("Zq-extents")
	dek, err := s.vault.UnwrapDEK(f.former, o.id, o.deks[0])
	must(t, err)
	name, slot := place(s, "Zq-extents", 17)
	var c *blockcrypt.BlockCipher
	for k := range o.extents {
		if o.extents[k] == name {
			c, err = s.vault.NewExtentCipher(&dek, o.id, o.infos[k].Generation)
			must(t, err)
		}
	}
	block := make([]byte, pageSize)
	copy(block, "forged")
	i.edit(name, func(b []byte) []byte {
		copy(slotOf(b, slot), c.Seal(nil, make([]byte, 12), block, uint32(slot), 17))
		return b
	})
	log := new(logBuffer)
	v, err := r.open(t, fs.Options{ReadOnly: true, Log: log.logger()})
	must(t, err)
	r.mounted(t, v, log, true, func(root string) {
		data, err := os.ReadFile(root + "/Zq-extents")
		must(t, err)
		if string(data[17*pageSize:][:6]) != "forged" {
			t.Error("the forged block was noticed: docs/THREATS.md says it is not")
		}
	})
	must(t, v.Close(t.Context()))

	// What was written since the removal is out of reach.
	small := s.of("Zq-small")
	at := slices.IndexFunc(small.deks, func(w blockcrypt.WrappedDEK) bool { return w.Number == small.head.InlineDEK })
	if _, err := s.vault.UnwrapDEK(f.former, small.id, small.deks[at]); err == nil || small.deks[at].Epoch != 2 {
		t.Errorf("the removed holder opens a data key of epoch %d: %v", small.deks[at].Epoch, err)
	}
}
