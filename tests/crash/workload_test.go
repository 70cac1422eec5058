package crash

import (
	"errors"
	"fmt"
	"time"
)

// workGit does what git does: objects are written to temporary files, synced now and then, and renamed into place; refs
// are replaced by rename; at times the objects are packed into one file and deleted.
func workGit(s *session, size int) error {
	for _, d := range []string{"/objects", "/refs", "/objects/pack"} {
		if err := s.mkdir(d); err != nil {
			return err
		}
	}
	notes := 0
	s.aside = func() error {
		notes++
		return s.put(fmt.Sprintf("/note%d", notes%5), s.bytes(s.size()), s.rng.IntN(2) == 0)
	}
	var loose []string
	for i := range size {
		tmp := fmt.Sprintf("/objects/tmp_%d", i)
		fan := fmt.Sprintf("/objects/%x", s.rng.IntN(6))
		if !s.tree.has(fan) {
			if err := s.mkdir(fan); err != nil {
				return err
			}
		}
		path := fmt.Sprintf("%s/%d", fan, i)
		err := s.put(tmp, s.bytes(1+s.rng.IntN(6000)), s.rng.IntN(3) == 0)
		if err == nil {
			err = s.rename(tmp, path)
		}
		if err == nil && s.rng.IntN(3) == 0 {
			err = s.put("/refs/main.lock", fmt.Appendf(nil, "%s\n", path), s.rng.IntN(2) == 0)
			if err == nil {
				err = s.rename("/refs/main.lock", "/refs/main")
			}
		}
		if err != nil {
			return err
		}
		if loose = append(loose, path); len(loose) >= 25 {
			if err := s.pack(loose, i); err != nil {
				return err
			}
			loose = nil
		}
		if i%17 == 16 {
			if err := s.draw(events); err != nil {
				return err
			}
		}
	}
	return s.finish()
}

// pack replaces loose objects by one file.
func (s *session) pack(loose []string, number int) error {
	var all []byte
	for _, path := range loose {
		all = append(all, s.tree.at(path).data.bytes()...)
	}
	tmp := "/objects/pack/tmp"
	if err := s.put(tmp, all, true); err != nil {
		return err
	}
	if err := s.rename(tmp, fmt.Sprintf("/objects/pack/%d", number)); err != nil {
		return err
	}
	for _, path := range loose {
		if err := s.unlink(path); err != nil {
			return err
		}
	}
	return nil
}

// workSmall makes many small files, folds, deletes them, and lets the grace pass, so that objects really go.
func workSmall(s *session, size int) error {
	var made []string
	for i := range size {
		if i%40 == 0 {
			if err := s.mkdir(fmt.Sprintf("/d%d", i/40)); err != nil {
				return err
			}
		}
		path := fmt.Sprintf("/d%d/f%d", i/40, i)
		n := 1 + s.rng.IntN(3000)
		if s.rng.IntN(4) == 0 { // larger than an extent
			n = 20_000 + s.rng.IntN(60_000)
		}
		if err := s.put(path, s.bytes(n), s.rng.IntN(20) == 0); err != nil {
			return err
		}
		made = append(made, path)
		for s.rng.IntN(5) < 3 && len(made) > 10 {
			k := s.rng.IntN(len(made))
			var err error
			if s.rng.IntN(3) == 0 {
				err = s.put(made[k], s.bytes(1+s.rng.IntN(50_000)), false)
			} else {
				err = s.unlink(made[k])
				made = append(made[:k], made[k+1:]...)
			}
			if err != nil {
				return err
			}
		}
		if s.rng.IntN(12) == 0 {
			if err := errors.Join(s.pass(time.Duration(s.rng.IntN(30))*time.Hour), s.fold()); err != nil {
				return err
			}
		}
		if s.rng.IntN(60) == 0 {
			if err := errors.Join(s.draw(events), s.verify()); err != nil {
				return err
			}
		}
	}
	return s.finish()
}
