package remotetest

import (
	"errors"
	"slices"

	"envfs/blockcrypt"
	"envfs/remote"
)

var listTests = []storeTest{
	{"List/empty", func(x *subject) {
		for _, prefix := range []string{"", "files/", "journal/1", "root"} {
			if got := x.names(x, prefix); len(got) != 0 {
				x.Errorf("list %q: %q", prefix, got)
			}
		}
	}},
	{"List/prefixes", func(x *subject) {
		x.ok("make root", x.Replace(x.ctx, "root", nil, same([]byte("1"))))
		x.ok("make envfs.json", x.Replace(x.ctx, "envfs.json", nil, same([]byte("12"))))
		want := []remote.Info{{Name: "root", Size: 1}, {Name: "envfs.json", Size: 2}}
		for k := blockcrypt.KindKeyFile; k <= blockcrypt.KindMapPage; k++ {
			for range 5 {
				i := remote.Info{Name: x.name(k), Size: int64(x.rng.IntN(100))}
				x.put(i.Name, x.bytes(int(i.Size)))
				want = append(want, i)
			}
		}
		prefixes := []string{"", "r", "ro", "root", "roots", "roots/", "files", "files/", "file", "envfs.json", "e", "no", "no/", "files/no/", "rootx"}
		for _, i := range want {
			for range 3 {
				prefixes = append(prefixes, i.Name[:x.rng.IntN(len(i.Name)+1)])
			}
			prefixes = append(prefixes, i.Name)
		}
		for _, prefix := range prefixes {
			var expect []remote.Info
			for _, i := range want {
				if len(i.Name) >= len(prefix) && i.Name[:len(prefix)] == prefix {
					expect = append(expect, i)
				}
			}
			got := x.list(x, prefix)
			slices.SortFunc(expect, func(a, b remote.Info) int {
				if a.Name < b.Name {
					return -1
				}
				return 1
			})
			if !slices.Equal(got, expect) {
				x.Errorf("list %q: %v, want %v", prefix, got, expect)
			}
		}
	}},
	{"List/stops at the callback's error", func(x *subject) {
		for range 10 {
			x.object(0)
		}
		// Also one that could be mistaken for the store's own.
		for _, enough := range []error{errors.New("enough"), remote.ErrNotExist} {
			calls := 0
			err := x.List(x.ctx, "", func(remote.Info) error {
				calls++
				if calls == 3 {
					return enough
				}
				return nil
			})
			if err != enough || calls != 3 {
				x.Errorf("%d calls, error %v, want %v itself after 3", calls, err, enough)
			}
		}
	}},
	{"List/the callback may use the store", func(x *subject) {
		for range 30 {
			x.object(0)
		}
		x.ok("list", x.List(x.ctx, "files/", func(i remote.Info) error {
			if err := x.Put(x.ctx, x.name(blockcrypt.KindIndex), nil); err != nil {
				return err
			}
			return x.Delete(x.ctx, i.Name)
		}))
		if got := x.names(x, "files/"); len(got) != 0 {
			x.Errorf("%d are left", len(got))
		}
	}},
}
