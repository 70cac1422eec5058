package remotetest

import (
	"bytes"
	"errors"
	"io"

	"envfs/blockcrypt"
	"envfs/remote"
)

type localTest struct {
	name string
	fn   func(x *localSubject)
}

// localSubject is a Local under test.
type localSubject struct {
	*subject
	local remote.Local
}

func (x *localSubject) create(name string) remote.File {
	x.Helper()
	f, err := x.local.Create(x.ctx, name)
	x.ok("create", err)
	x.Cleanup(func() { _ = f.Close() }) // many tests close it themselves
	return f
}

func (x *localSubject) segment() string { return x.name(blockcrypt.KindSegment) }

func (x *localSubject) openLocal() remote.Local { return x.open().(remote.Local) }

var localTests = []localTest{
	{"Create/append", func(x *localSubject) {
		name := x.segment()
		f := x.create(name)
		x.has(x, name, nil)
		var want []byte
		for _, n := range []int{0, 1, 100, 4096, 0, 1 << 20, 3<<20 + 1, 7} {
			p := x.bytes(n)
			x.ok("append", f.Append(p))
			want = append(want, p...)
			clear(p) // the file does not keep it
			x.has(x, name, want)
		}
		x.has(x.open(), name, want)
		x.ok("sync", f.Sync())
		x.ok("sync of the store", x.Sync(x.ctx))
		x.ok("close", f.Close())
		x.has(x, name, want)
	}},
	{"Reserve", func(x *localSubject) {
		name := x.segment()
		f := x.create(name)
		x.ok("append", f.Append([]byte("one")))
		for _, n := range []int64{1 << 20, 0, 2 << 20, 1 << 20} {
			if err := f.Reserve(n); err != nil {
				x.is("reserve", err, remote.ErrUnsupported)
			}
			x.has(x, name, []byte("one"))
		}
		x.ok("append", f.Append([]byte("two")))
		x.ok("sync", f.Sync())
		x.ok("close", f.Close())
		x.has(x, name, []byte("onetwo"))
		x.has(x.open(), name, []byte("onetwo"))
	}},
	{"Create/existing", func(x *localSubject) {
		name := x.segment()
		f := x.create(name)
		x.ok("append", f.Append([]byte("kept")))
		_, err := x.local.Create(x.ctx, name)
		x.is("create again", err, remote.ErrExist)
		_, err = x.openLocal().Create(x.ctx, name)
		x.is("create by another handle", err, remote.ErrExist)
		x.is("put", x.Put(x.ctx, name, nil), remote.ErrExist)
		other, data := x.object(10)
		_, err = x.local.Create(x.ctx, other)
		x.is("create what was put", err, remote.ErrExist)
		x.has(x, name, []byte("kept"))
		x.has(x, other, data)
	}},
	{"Create/names are checked", func(x *localSubject) {
		for _, name := range []string{"", "..", "../x", "journal", "journal/x", "journal/../root"} {
			if _, err := x.local.Create(x.ctx, name); err == nil {
				x.Errorf("create %q: no error", name)
			}
		}
	}},
	{"Create/one of many wins", func(x *localSubject) {
		name := x.segment()
		won := race(16, func(i int) bool {
			f, err := x.local.Create(x.ctx, name)
			if err != nil {
				x.is("create", err, remote.ErrExist)
				return false
			}
			if err := errors.Join(f.Append([]byte{byte(i)}), f.Close()); err != nil {
				x.Error(err)
			}
			return true
		})
		if len(won) != 1 {
			x.Fatalf("%d of 16 have made it", len(won))
		}
		x.has(x, name, []byte{byte(won[0])})
	}},
	{"Append and Sync and reads at once", func(x *localSubject) {
		name := x.segment()
		f := x.create(name)
		const total = 300
		chunk := bytes.Repeat([]byte("envfs"), 100)
		race(4, func(i int) bool {
			for n := range total {
				var err error
				switch i {
				case 0:
					err = f.Append(chunk)
				case 1:
					err = f.Sync()
				case 2:
					p := make([]byte, len(chunk))
					got, readErr := x.ReadAt(x.ctx, name, p, int64(n*len(chunk)))
					if readErr != io.EOF {
						err = readErr
					}
					if !bytes.Equal(p[:got], chunk[:got]) {
						err = errors.New("other bytes")
					}
				case 3:
					err = x.Sync(x.ctx)
				}
				if err != nil {
					x.Error(err)
					return false
				}
			}
			return true
		})
		x.has(x, name, bytes.Repeat(chunk, total))
	}},
	{"Close ends a file", func(x *localSubject) {
		f := x.create(x.segment())
		x.ok("close", f.Close())
		if f.Append([]byte("x")) == nil {
			x.Error("append after close: no error")
		}
	}},
	{"Delete of what grows", func(x *localSubject) {
		name := x.segment()
		f := x.create(name)
		x.ok("append", f.Append([]byte("x")))
		x.ok("delete", x.Delete(x.ctx, name))
		x.lacks(x, name)
		x.ok("append", f.Append([]byte("x")))
	}},
	{"Lock", func(x *localSubject) {
		other := x.openLocal()
		x.ok("lock", x.local.Lock())
		x.ok("lock what one has", x.local.Lock())
		x.is("lock what another has", other.Lock(), remote.ErrInUse)
		name, data := x.object(10)
		x.has(other, name, data) // who reads needs no lock
		x.ok("close another", x.openLocal().Close())
		x.is("lock what another still has", other.Lock(), remote.ErrInUse)
		x.ok("close", x.local.Close())
		x.ok("lock what is free", other.Lock())
	}},
	{"Lock/one of many wins", func(x *localSubject) {
		var handles [8]remote.Local
		for i := range handles {
			handles[i] = x.openLocal()
		}
		won := race(len(handles), func(i int) bool {
			err := handles[i].Lock()
			if err != nil {
				x.is("lock", err, remote.ErrInUse)
			}
			return err == nil
		})
		if len(won) != 1 {
			x.Errorf("%d of %d have it", len(won), len(handles))
		}
	}},
	{"Settle", func(x *localSubject) {
		x.ok("settle nothing", x.local.Settle(x.ctx, nil))
		name := x.segment()
		f := x.create(name)
		want := x.bytes(10_000)
		x.ok("append", f.Append(want))
		put, data := x.object(5000)
		names := []string{x.segment(), name, put, x.header(), x.name(blockcrypt.KindIndex)} // three are not there
		x.ok("settle", x.local.Settle(x.ctx, names))
		x.has(x, name, want)
		other := x.openLocal()
		x.ok("settle by another handle", other.Settle(x.ctx, names))
		x.has(other, name, want)
		x.has(other, put, data)
		x.ok("append after settling", f.Append([]byte("x")))
		x.has(x, name, append(want, 'x'))
	}},
	{"Settle/many", func(x *localSubject) {
		var names []string
		for range 200 {
			name, _ := x.object(10)
			names = append(names, name)
		}
		x.ok("settle", x.local.Settle(x.ctx, names))
	}},
	{"Settle/names are checked", func(x *localSubject) {
		if x.local.Settle(x.ctx, []string{"../x"}) == nil {
			x.Error("no error")
		}
	}},
}
