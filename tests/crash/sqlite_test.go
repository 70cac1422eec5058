package crash

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A database of pages, each of which holds the number of the transaction that wrote it last. Transactions go by a
// rollback journal as SQLite's do, which is deleted, cut to nothing or overwritten at the commit.
const (
	database = "/db"
	rollback = "/db-journal"
	dbPages  = 40
)

func dbPage(s *session, number, transaction int) []byte {
	p := s.bytes(pageSize)
	binary.BigEndian.PutUint32(p, uint32(number))
	binary.BigEndian.PutUint32(p[4:], uint32(transaction))
	return p
}

// workSQLite does transactions on a database, with a note of each commit.
func workSQLite(s *session, size int) error {
	db, err := s.create(database)
	if err != nil {
		return err
	}
	for i := range dbPages {
		if err := s.write(db, int64(i)*pageSize, dbPage(s, i, 0)); err != nil {
			return err
		}
	}
	s.hist.commits = map[uint64]bool{s.tree.at(database).data.sum(): true}
	if err := errors.Join(s.fsync(db), s.close(db)); err != nil {
		return err
	}
	for n := 1; n <= size; n++ {
		if err := s.transaction(n); err != nil {
			return err
		}
		if n%9 == 8 {
			if err := s.draw(events); err != nil {
				return err
			}
		}
	}
	return s.finish()
}

// transaction changes a few pages.
func (s *session) transaction(number int) error {
	pages := s.rng.Perm(dbPages)[:1+s.rng.IntN(6)]
	old := s.tree.at(database).data.bytes()
	log := binary.BigEndian.AppendUint32(nil, uint32(len(pages)))
	for _, p := range pages {
		log = binary.BigEndian.AppendUint32(log, uint32(p))
		log = append(log, old[p*pageSize:(p+1)*pageSize]...)
	}
	var j *handle
	var err error
	if s.tree.has(rollback) {
		j, err = s.openFile(rollback)
	} else {
		j, err = s.create(rollback)
	}
	if err != nil {
		return err
	}
	db, err := s.openFile(database)
	if err != nil {
		return err
	}
	steps := []func() error{
		func() error { return s.write(j, 4, log[4:]) },
		func() error { return s.fsync(j) },
		func() error { return s.write(j, 0, log[:4]) }, // the header makes it count
		func() error { return s.fsync(j) },
	}
	for _, p := range pages {
		steps = append(steps, func() error { return s.write(db, int64(p)*pageSize, dbPage(s, p, number)) })
	}
	steps = append(steps, func() error { return s.fsync(db) })
	switch s.rng.IntN(3) {
	case 0:
		steps = append(steps, func() error { return s.unlink(rollback) })
	case 1:
		steps = append(steps, func() error { return s.truncate(rollback, 0) })
	default:
		steps = append(steps, func() error { return s.write(j, 0, make([]byte, 4)) })
	}
	steps = append(steps, func() error { return s.fsync(db) })
	if s.rng.IntN(4) == 0 { // the reader of another process folds in between
		at := s.rng.IntN(len(steps))
		steps = append(steps[:at], append([]func() error{func() error { return s.fold() }}, steps[at:]...)...)
	}
	for _, do := range steps {
		if err := do(); err != nil {
			return err
		}
	}
	s.hist.commits[s.tree.at(database).data.sum()] = true
	return errors.Join(s.close(j), s.close(db))
}

// checkDatabase rolls back what has to be and checks that every page is of one committed state: that is what
// ordered writes are for.
func checkDatabase(t *tree, h *history) error {
	if !t.has(database) {
		return nil
	}
	db := t.at(database).data.bytes()
	if len(db) < dbPages*pageSize {
		return nil // was being made
	}
	if t.has(rollback) {
		log := t.at(rollback).data.bytes()
		if len(log) >= 4 {
			n := int(binary.BigEndian.Uint32(log))
			log = log[4:]
			if n > dbPages || len(log) < n*(4+pageSize) {
				return fmt.Errorf("rollback journal counts %d pages and has %d bytes", n, len(log))
			}
			for range n {
				p := int(binary.BigEndian.Uint32(log))
				copy(db[p*pageSize:(p+1)*pageSize], log[4:4+pageSize])
				log = log[4+pageSize:]
			}
		}
	}
	if !h.commits[readContent(db).sum()] {
		return errors.New("the database, rolled back, is at no committed state")
	}
	return nil
}
