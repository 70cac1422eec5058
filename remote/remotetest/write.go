package remotetest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"envfs/blockcrypt"
	"envfs/remote"
)

var writeTests = []storeTest{
	{"Put/sizes", func(x *subject) {
		for _, n := range []int{0, 1, 511, 512, 4096, 4097, 1 << 20, 5<<20 + 3} {
			name, data := x.object(n)
			x.has(x, name, data)
		}
	}},
	{"Put/all kinds", func(x *subject) {
		for k := blockcrypt.KindKeyFile; k <= blockcrypt.KindMapPage; k++ {
			name, data := x.name(k), x.bytes(10)
			x.put(name, data)
			x.has(x, name, data)
		}
		for _, name := range []string{"audit/1-aaa", "damaged/journal.1-2", "damaged/2026/x_Y-1.z"} {
			x.put(name, []byte(name))
			x.has(x, name, []byte(name))
		}
	}},
	{"Put/existing", func(x *subject) {
		name, data := x.object(100)
		x.is("put again", x.Put(x.ctx, name, x.bytes(100)), remote.ErrExist)
		x.is("put the same again", x.Put(x.ctx, name, data), remote.ErrExist)
		x.is("put by another handle", x.open().Put(x.ctx, name, nil), remote.ErrExist)
		x.has(x, name, data)
	}},
	{"Put/does not keep the caller's bytes", func(x *subject) {
		name, data := x.object(5000)
		given := append([]byte(nil), data...)
		other := x.header()
		x.put(other, given)
		clear(given)
		x.ok("sync", x.Sync(x.ctx))
		x.has(x, other, data)
		x.has(x, name, data)
	}},
	{"Put/another handle sees it", func(x *subject) {
		name, data := x.object(100)
		x.has(x.open(), name, data)
	}},
	{"Put/one of many wins", func(x *subject) {
		name := x.header()
		winner := race(16, func(i int) bool {
			err := x.Put(x.ctx, name, []byte{byte(i)})
			if err != nil {
				x.is("put", err, remote.ErrExist)
			}
			return err == nil
		})
		if len(winner) != 1 {
			x.Fatalf("%d of 16 have put it", len(winner))
		}
		x.has(x, name, []byte{byte(winner[0])})
	}},
	{"Delete", func(x *subject) {
		name, _ := x.object(100)
		kept, data := x.object(100)
		if _, err := x.ReadAt(x.ctx, name, make([]byte, 1), 0); err != nil { // so that it is open
			x.Fatal(err)
		}
		x.ok("delete", x.Delete(x.ctx, name))
		x.lacks(x, name)
		x.lacks(x.open(), name)
		x.has(x, kept, data)
	}},
	{"Delete/absent", func(x *subject) {
		name, _ := x.object(1)
		last, _ := x.object(1)
		x.ok("delete nothing", x.Delete(x.ctx))
		x.ok("delete", x.Delete(x.ctx, x.header(), name, x.name(blockcrypt.KindSegment), name, last))
		x.lacks(x, name)
		x.lacks(x, last)
	}},
	{"Delete/many", func(x *subject) {
		var names []string
		for range 1500 { // more than a bucket deletes at once
			name, _ := x.object(0)
			names = append(names, name)
		}
		x.ok("delete", x.Delete(x.ctx, names...))
		if got := x.names(x, ""); len(got) != 0 {
			x.Errorf("%d are left", len(got))
		}
	}},
	{"Delete/before Sync", func(x *subject) {
		name, _ := x.object(1)
		x.ok("delete", x.Delete(x.ctx, name))
		x.ok("sync", x.Sync(x.ctx))
	}},
	{"Sync", func(x *subject) {
		x.ok("sync of nothing", x.Sync(x.ctx))
		objects := make(map[string][]byte)
		for range 200 {
			name, data := x.object(x.rng.IntN(100))
			objects[name] = data
		}
		x.ok("sync", x.Sync(x.ctx))
		x.ok("sync again", x.Sync(x.ctx))
		for name, data := range objects {
			x.has(x, name, data)
		}
	}},
	{"Put, Get, Delete, List and Sync at once", func(x *subject) {
		const workers = 8
		names := make([][]string, workers)
		for i := range names {
			for range 40 {
				names[i] = append(names[i], x.header())
			}
		}
		race(workers, func(i int) bool {
			for n, name := range names[i] {
				data := []byte(name)
				err := x.Put(x.ctx, name, data)
				if n%10 == 0 {
					err = errors.Join(err, x.Sync(x.ctx), x.List(x.ctx, "files/", func(remote.Info) error { return nil }))
				}
				got, getErr := x.Get(x.ctx, name, 1000)
				if err = errors.Join(err, getErr); err == nil && string(got) != name {
					err = errors.New("other bytes")
				}
				if n%2 == 1 {
					err = errors.Join(err, x.Delete(x.ctx, name))
				}
				if err != nil {
					x.Error(err)
					return false
				}
			}
			return true
		})
		if got, want := len(x.names(x, "")), workers*20; got != want {
			x.Errorf("%d objects are left, want %d", got, want)
		}
	}},
	{"cancelled", func(x *subject) {
		name, data := x.object(1)
		root := []byte("root")
		x.ok("replace", x.Replace(x.ctx, "root", nil, same(root)))
		ctx, cancel := context.WithCancel(x.ctx)
		cancel()
		_, getErr := x.Get(ctx, name, 1)
		_, readErr := x.ReadAt(ctx, name, make([]byte, 1), 0)
		_, sizeErr := x.Size(ctx, name)
		_, idErr := x.Identity(ctx)
		_, spaceErr := x.Space(ctx)
		x.is("get", getErr, context.Canceled)
		x.is("read", readErr, context.Canceled)
		x.is("size", sizeErr, context.Canceled)
		x.is("identity", idErr, context.Canceled)
		x.is("space", spaceErr, context.Canceled)
		x.is("put", x.Put(ctx, x.header(), nil), context.Canceled)
		x.is("delete", x.Delete(ctx, name), context.Canceled)
		x.is("list", x.List(ctx, "", func(remote.Info) error { return nil }), context.Canceled)
		x.is("replace", x.Replace(ctx, "root", root, same(nil)), context.Canceled)
		x.has(x, name, data)
		x.has(x, "root", root)
	}},
}

// race runs fn(0) to fn(n-1) at once and returns those that returned true.
func race(n int, fn func(i int) bool) (won []int) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	results := make([]atomic.Bool, n)
	for i := range n {
		wg.Go(func() {
			<-start
			results[i].Store(fn(i))
		})
	}
	close(start)
	wg.Wait()
	for i := range results {
		if results[i].Load() {
			won = append(won, i)
		}
	}
	return won
}
