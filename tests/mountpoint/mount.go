package mountpoint

import (
	"context"
	"log/slog"
	"testing"

	"envfs/fs"
	"envfs/fs/fusefs"
)

// Options of [Vault.Mount].
type Options struct {
	FS   fs.Options
	FUSE fusefs.Options
}

// Mount is a mounted vault.
type Mount struct {
	Dir    string // where it is mounted
	FS     *fs.FS
	Server *fusefs.Server
}

// Mount opens the vault and mounts it. It is unmounted and closed when the test ends, if it still is mounted then.
func (v *Vault) Mount(t testing.TB, o Options) *Mount {
	t.Helper()
	if o.FUSE.Log == nil {
		o.FUSE.Log = Log(t)
	}
	o.FUSE.ReadOnly = o.FUSE.ReadOnly || o.FS.ReadOnly || o.FS.RootName != ""
	m := &Mount{Dir: t.TempDir(), FS: v.Open(t, o.FS)}
	var err error
	if m.Server, err = fusefs.Mount(m.FS, m.Dir, o.FUSE); err != nil {
		_ = m.FS.Close(t.Context()) // the first error tells more
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if m.FS == nil {
			return
		}
		if err := m.Server.Unmount(); err != nil {
			t.Error(err)
			_ = m.Server.Detach() // the first error tells more
		}
		if err := m.FS.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return m
}

// Unmount unmounts and closes the vault; a file that is still open is an error.
func (m *Mount) Unmount(t testing.TB) {
	t.Helper()
	if err := m.Server.Unmount(); err != nil {
		t.Fatal(err)
	}
	f := m.FS
	m.FS = nil
	if err := f.Close(context.Background()); err != nil {
		t.Fatalf("close the vault: %v", err)
	}
}

// Log returns a logger that writes to the test's log.
func Log(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}
