package remotetest

import (
	"bytes"
	"errors"
	"io"

	"envfs/blockcrypt"
	"envfs/remote"
)

var readTests = []storeTest{
	{"ReadAt/ranges", func(x *subject) {
		name, data := x.object(10_000)
		for _, c := range []struct {
			off  int64
			n    int
			want int
			err  error
		}{
			{0, 0, 0, nil},
			{0, 1, 1, nil},
			{0, 10_000, 10_000, nil},
			{4095, 2, 2, nil},
			{5000, 5000, 5000, nil},
			{9999, 1, 1, nil},
			{0, 10_001, 10_000, io.EOF},
			{9999, 2, 1, io.EOF},
			{5000, 9000, 5000, io.EOF},
			{10_000, 1, 0, io.EOF},
			{10_001, 1, 0, io.EOF},
			{1 << 40, 100, 0, io.EOF},
		} {
			p := make([]byte, c.n)
			n, err := x.ReadAt(x.ctx, name, p, c.off)
			if n != c.want || err != c.err {
				x.Errorf("read %d at %d: %d, %v, want %d, %v", c.n, c.off, n, err, c.want, c.err)
			} else if n > 0 && !bytes.Equal(p[:n], data[c.off:c.off+int64(n)]) {
				x.Errorf("read %d at %d: other bytes", c.n, c.off)
			}
		}
		if _, err := x.ReadAt(x.ctx, name, make([]byte, 1), -1); err == nil || err == io.EOF {
			x.Errorf("read before the beginning: %v", err)
		}
	}},
	{"ReadAt/empty object", func(x *subject) {
		name, _ := x.object(0)
		if n, err := x.ReadAt(x.ctx, name, make([]byte, 1), 0); n != 0 || err != io.EOF {
			x.Errorf("read: %d, %v, want 0, io.EOF", n, err)
		}
	}},
	{"ReadAt/more objects than descriptors are kept", func(x *subject) {
		const count = 600
		names := make([]string, count)
		for i := range names {
			names[i] = x.header()
			x.put(names[i], []byte{byte(i), byte(i >> 8)})
		}
		for range 3 * count {
			i := x.rng.IntN(count)
			p := make([]byte, 2)
			if n, err := x.ReadAt(x.ctx, names[i], p, 0); n != 2 || err != nil || int(p[0])+int(p[1])<<8 != i {
				x.Fatalf("object %d: %v, %v", i, p[:n], err)
			}
		}
	}},
	{"Get/limit", func(x *subject) {
		name, data := x.object(1000)
		for _, limit := range []int64{1000, 1001, 1 << 40} {
			got, err := x.Get(x.ctx, name, limit)
			if err != nil || !bytes.Equal(got, data) {
				x.Errorf("get with limit %d: %d bytes, %v", limit, len(got), err)
			}
		}
		for _, limit := range []int64{0, 999} {
			if got, err := x.Get(x.ctx, name, limit); !errors.Is(err, remote.ErrNotObject) || got != nil {
				x.Errorf("get with limit %d: %d bytes, %v", limit, len(got), err)
			}
		}
	}},
	{"absent objects do not exist", func(x *subject) {
		for k := blockcrypt.KindRoot; k <= blockcrypt.KindMapPage; k++ {
			x.lacks(x, x.name(k))
		}
		x.object(1)
		x.lacks(x, x.header()) // beside one that exists
	}},
	{"errors name the object", func(x *subject) {
		name := x.header()
		_, err := x.Get(x.ctx, name, 1)
		if err == nil || !bytes.Contains([]byte(err.Error()), []byte(name)) {
			x.Errorf("get: %v", err)
		}
	}},
	{"names that leave the store are refused", func(x *subject) {
		x.object(1)
		for _, name := range []string{
			"", ".", "..", "/", "../root", "/etc/passwd", "files", "files/", "files/../root", "files//x", "keys/1",
			"Root/x", "root/x", "audit/../root", "audit/", "damaged/.x", "damaged/x/../../y", "audit/a\x00b", "root\x00",
			x.header() + "/x", x.header() + "x", "./" + x.header(),
		} {
			_, err := x.Get(x.ctx, name, 1<<20)
			if err == nil {
				x.Errorf("get %q: no error", name)
			}
			if err := x.Put(x.ctx, name, nil); err == nil {
				x.Errorf("put %q: no error", name)
			}
			if err := x.Delete(x.ctx, name); err == nil {
				x.Errorf("delete %q: no error", name)
			}
			if err := x.Replace(x.ctx, name, nil, same(nil)); err == nil {
				x.Errorf("replace %q: no error", name)
			}
		}
		for _, prefix := range []string{"../", "./", "/", "/etc/", "files/../../", "files//"} {
			if err := x.List(x.ctx, prefix, func(i remote.Info) error {
				x.Errorf("list %q: %v", prefix, i)
				return nil
			}); err == nil {
				x.Errorf("list %q: no error", prefix)
			}
		}
	}},
}
