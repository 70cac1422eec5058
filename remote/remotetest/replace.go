package remotetest

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"

	"envfs/remote"
)

var replaceTests = []storeTest{
	{"Replace", func(x *subject) {
		for _, name := range []string{"root", "envfs.json"} {
			one, two, empty := x.bytes(100), x.bytes(100), []byte{}
			x.is("replace what is not there", x.Replace(x.ctx, name, one, same(two)), remote.ErrChanged)
			x.is("replace what is not there", x.Replace(x.ctx, name, empty, same(two)), remote.ErrChanged)
			x.lacks(x, name)
			x.ok("make", x.Replace(x.ctx, name, nil, same(one)))
			x.has(x, name, one)
			x.is("make again", x.Replace(x.ctx, name, nil, same(two)), remote.ErrChanged)
			x.is("replace other", x.Replace(x.ctx, name, two, same(two)), remote.ErrChanged)
			x.is("replace shorter", x.Replace(x.ctx, name, one[:99], same(two)), remote.ErrChanged)
			x.is("replace longer", x.Replace(x.ctx, name, append(one[:100:100], 0), same(two)), remote.ErrChanged)
			x.has(x, name, one)
			x.ok("replace", x.Replace(x.ctx, name, one, same(two)))
			x.has(x, name, two)
			x.ok("replace by the same", x.Replace(x.ctx, name, two, same(two)))
			x.ok("replace by nothing", x.Replace(x.ctx, name, two, same(empty)))
			x.has(x, name, empty)
			x.is("make again", x.Replace(x.ctx, name, nil, same(two)), remote.ErrChanged)
			x.ok("replace nothing", x.Replace(x.ctx, name, empty, same(one)))
			x.has(x, name, one)
			x.has(x.open(), name, one)
		}
		if got := x.names(x, ""); len(got) != 2 {
			x.Errorf("listed %q", got)
		}
	}},
	{"Replace/error of the callback", func(x *subject) {
		sorry, old := errors.New("sorry"), []byte("old")
		no := func([]byte) ([]byte, error) { return nil, sorry }
		x.is("make", x.Replace(x.ctx, "root", nil, no), sorry)
		x.lacks(x, "root")
		x.ok("make", x.Replace(x.ctx, "root", nil, same(old)))
		x.is("replace", x.Replace(x.ctx, "root", old, no), sorry)
		x.has(x, "root", old)
		if got := x.names(x, ""); len(got) != 1 {
			x.Errorf("listed %q", got)
		}
	}},
	{"Replace/the callback is called once", func(x *subject) {
		calls := 0
		count := func([]byte) ([]byte, error) {
			calls++
			return []byte("new"), nil
		}
		x.ok("make", x.Replace(x.ctx, "root", nil, count))
		x.ok("replace", x.Replace(x.ctx, "root", []byte("new"), count))
		if calls != 2 {
			x.Errorf("called %d times by 2 replacements", calls)
		}
	}},
	{"Replace/one of many makes it", func(x *subject) {
		handles := [4]remote.Store{x, x, x.open(), x.open()}
		won := race(16, func(i int) bool {
			err := handles[i%4].Replace(x.ctx, "root", nil, same([]byte{byte(i)}))
			if err != nil {
				x.is("make", err, remote.ErrChanged)
			}
			return err == nil
		})
		if len(won) != 1 {
			x.Fatalf("%v of 16 have made it", won)
		}
		x.has(x, "root", []byte{byte(won[0])})
	}},
	{"Replace/one of many replaces it", func(x *subject) {
		old := []byte("old")
		x.ok("make", x.Replace(x.ctx, "root", nil, same(old)))
		won := race(16, func(i int) bool {
			err := x.Replace(x.ctx, "root", old, same([]byte{byte(i)}))
			if err != nil {
				x.is("replace", err, remote.ErrChanged)
			}
			return err == nil
		})
		if len(won) != 1 {
			x.Fatalf("%v of 16 have replaced it", won)
		}
		x.has(x, "root", []byte{byte(won[0])})
	}},
	{"Replace/readers see old or new", func(x *subject) {
		content := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 3000+i) }
		x.ok("make", x.Replace(x.ctx, "root", nil, same(content(0))))
		var done atomic.Bool
		var wg sync.WaitGroup
		for _, s := range []remote.Store{x, x.open()} {
			wg.Go(func() {
				for last := 0; !done.Load(); {
					got, err := s.Get(x.ctx, "root", 1<<20)
					if err != nil {
						x.Errorf("get: %v", err)
						return
					}
					i := len(got) - 3000
					if i < last || !bytes.Equal(got, content(i)) {
						x.Errorf("read a root of %d bytes that never was, or no more", len(got))
						return
					}
					last = i
				}
			})
		}
		for i := range 50 {
			x.ok("replace", x.Replace(x.ctx, "root", content(i), same(content(i+1))))
		}
		done.Store(true)
		wg.Wait()
	}},
	{"Identity", func(x *subject) {
		_, err := x.Identity(x.ctx)
		x.is("without a root", err, remote.ErrNotExist)
		var told []byte
		tell := func(id []byte) ([]byte, error) {
			told = bytes.Clone(id)
			return id, nil
		}
		x.ok("make", x.Replace(x.ctx, "root", nil, tell))
		first := told
		x.identity(x, told)
		x.identity(x.open(), told)
		x.ok("replace", x.Replace(x.ctx, "root", told, tell))
		x.identity(x, told)
		x.has(x, "root", told) // the content was made of it
		x.ok("envfs.json", x.Replace(x.ctx, "envfs.json", nil, same(first)))
		x.identity(x, told)
		if len(told) == 0 {
			x.Error("identity is empty")
		}
	}},
}

func (x *subject) identity(s remote.Store, want []byte) {
	x.Helper()
	got, err := s.Identity(x.ctx)
	x.ok("identity", err)
	if !bytes.Equal(got, want) {
		x.Errorf("identity %x, Replace told %x", got, want)
	}
}
