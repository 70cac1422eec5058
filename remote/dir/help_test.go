package dir_test

import (
	"context"
	"testing"

	"envfs/blockcrypt"
	"envfs/remote"
	"envfs/remote/dir"
)

// object returns the name of a header, another for each n.
func object(n int) string {
	id := blockcrypt.ID{byte(n), byte(n >> 8), byte(n >> 16), 1}
	return blockcrypt.Name{Kind: blockcrypt.KindHeader, ID: id, Seq: uint64(n)}.String()
}

// segment returns the name of a journal segment, another for each n.
func segment(n int) string {
	return blockcrypt.Name{Kind: blockcrypt.KindSegment, Term: 1, Seq: uint64(n)}.String()
}

func openDir(t testing.TB, path string, opts dir.Options) *dir.Store {
	t.Helper()
	s, err := dir.Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func put(t testing.TB, s remote.Store, name, data string) {
	t.Helper()
	if err := s.Put(context.Background(), name, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

func list(t testing.TB, s remote.Store, prefix string) (names []string) {
	t.Helper()
	if err := s.List(context.Background(), prefix, func(i remote.Info) error {
		names = append(names, i.Name)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return names
}
