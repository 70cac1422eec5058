package fusefs

import (
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"envfs/blockcrypt"
)

func TestAttrChange(t *testing.T) {
	in := &fuse.SetAttrIn{}
	in.Valid = fuse.FATTR_CTIME | fuse.FATTR_LOCKOWNER
	if _, any := attrChange(in, blockcrypt.TypeRegular); any {
		t.Error("a change of nothing that is kept is a change")
	}
	in.Valid = fuse.FATTR_SIZE | fuse.FATTR_FH
	in.Size = 1 << 40
	if s, any := attrChange(in, blockcrypt.TypeRegular); !any || s.Size == nil || *s.Size != 1<<40 || s.KillPriv || s.Mode != nil {
		t.Errorf("truncate: %+v", s)
	}
	in.Valid |= fuse.FATTR_KILL_SUIDGID
	if s, _ := attrChange(in, blockcrypt.TypeRegular); !s.KillPriv {
		t.Error("truncate by a plain user keeps privilege bits")
	}
	in.Valid, in.Uid = fuse.FATTR_UID, 7
	if s, _ := attrChange(in, blockcrypt.TypeRegular); s.UID == nil || *s.UID != 7 || s.GID != nil || !s.KillPriv {
		t.Errorf("chown of a file: %+v", s)
	}
	if s, _ := attrChange(in, blockcrypt.TypeDirectory); s.KillPriv {
		t.Error("chown of a directory takes its setgid bit")
	}
	in.Valid, in.Mode = fuse.FATTR_MODE, syscall.S_IFREG|0o4755
	if s, _ := attrChange(in, blockcrypt.TypeRegular); s.Mode == nil || *s.Mode != 0o4755 {
		t.Errorf("chmod: %+v", s)
	}
	in.Valid = fuse.FATTR_ATIME | fuse.FATTR_ATIME_NOW | fuse.FATTR_MTIME
	in.Mtime, in.Mtimensec = ^uint64(0), 5 // one second before the epoch
	s, _ := attrChange(in, blockcrypt.TypeRegular)
	if !s.AtimeNow || s.Atime != nil || s.Mtime == nil || s.Mtime.Sec != -1 || s.Mtime.Nsec != 5 {
		t.Errorf("utimensat: %+v", s)
	}
}
