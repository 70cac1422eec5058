package kms

import (
	"encoding/json"
	"errors"
	"fmt"

	"envfs/kms/audit"
	"envfs/kms/store"
)

// note is kept in the store with a change until its line is in the audit log: if a crash comes between, the line is
// written at the next start. So there is no change without its line.
type note struct {
	Head  uint64       `json:"head"` // the log's last line when the change was made
	Entry *audit.Entry `json:"entry"`
}

// commit makes a change durable with put, then shows it to other calls with show. Who uses keys waits from then on
// until the change is in the log: [Service.settle] must follow, whatever happens. The caller holds s.change, and not
// s.mu.
func (s *Service) commit(c *Call, put func(tx *store.Tx) error, show func()) error {
	s.notesMu.Lock()
	obsolete := s.obsolete
	s.obsolete = nil
	s.notesMu.Unlock()
	err := s.store.Update(func(tx *store.Tx) error {
		for _, id := range obsolete {
			if err := tx.Delete(tableNotes, id); err != nil {
				return err
			}
		}
		if err := putJSON(tx, tableNotes, c.ID, note{s.audit.Head().Seq, c.entry(okResult)}); err != nil {
			return err
		}
		return put(tx)
	})
	if err != nil {
		s.logged(obsolete...)
		return internal(fmt.Errorf("%s: %w", c.Action, err))
	}
	s.uses.Lock()
	c.changed = true
	s.mu.Lock()
	defer s.mu.Unlock()
	show()
	return nil
}

// settle ends a call that may have changed something.
func (s *Service) settle(c *Call) {
	if c.changed {
		s.uses.Unlock()
	}
}

// record puts a call's line into the log.
func (s *Service) record(c *Call, result string) error {
	if err := s.audit.Append(c.entry(result)); err != nil {
		return err
	}
	if c.changed {
		s.logged(c.ID)
	}
	return nil
}

// logged says that changes are in the log.
func (s *Service) logged(ids ...string) {
	s.notesMu.Lock()
	defer s.notesMu.Unlock()
	s.obsolete = append(s.obsolete, ids...)
}

// recall writes the lines that a crash has kept from the log.
func (s *Service) recall() error {
	notes := map[string]note{}
	err := s.store.Each(tableNotes, func(id string, value []byte) error {
		var n note
		if err := json.Unmarshal(value, &n); err != nil || n.Entry == nil {
			return errors.Join(store.ErrDamaged, err)
		}
		notes[id] = n
		return nil
	})
	if err != nil {
		return fmt.Errorf("read notes: %w", err)
	}
	var late []*audit.Entry
	for id, n := range notes {
		has, err := s.audit.Has(n.Head+1, id)
		if err != nil {
			return err
		}
		if !has {
			n.Entry.Late = true
			late = append(late, n.Entry)
		}
		s.logged(id)
	}
	for _, e := range late {
		if err := s.audit.Append(e); err != nil {
			return err
		}
	}
	return nil
}
