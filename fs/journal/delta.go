package journal

import (
	"errors"
	"fmt"
	"strings"

	"envfs/blockcrypt"
)

// Kind is the kind of a Delta.
type Kind uint8

// The kinds of deltas.
const (
	SetEntry  Kind = 1 + iota // directory ID holds Entry, under the name in it
	DelEntry                  // directory ID does not hold Name
	Where                     // directory ID lies in directory Parent under Name
	SetKeys                   // file ID has exactly these Keys
	SetRuns                   // blocks of file ID lie where Runs say
	SetExtent                 // file ID has this Extent in its table
	Drop                      // Entry was the last name of the file or directory ID
)

// Delta is one value that a batch sets. It is absolute, never an operation, so that applying it twice changes nothing.
// Fields that its kind does not name are zero.
type Delta struct {
	Kind   Kind
	ID     blockcrypt.ID           // of the directory or file
	Parent blockcrypt.ID           // Where: the directory that holds ID
	Name   string                  // DelEntry, Where: 1 to 255 bytes
	Entry  *blockcrypt.Entry       // SetEntry, Drop
	Keys   []blockcrypt.WrappedDEK // SetKeys
	Runs   []blockcrypt.Run        // SetRuns; in a RunJournal run Slot is the index of the content in its batch, Count 1
	Extent *blockcrypt.ExtentInfo  // SetExtent
}

// Batch is what is committed at once. At most blockcrypt.MaxBatch bytes of it can be sealed.
type Batch struct {
	Deltas   []Delta
	Contents [][]byte // 1 to blockcrypt.BlockSize bytes each, sealed one by one
	Durable  uint64   // number of the last batch known durable, with all it names, when this one was sealed
}

const (
	maxBlocks   = 1 << 52 // of a file
	maxWrap     = 256     // bytes of a wrapped data key
	maxContents = 1 << 16 // in one batch; with BlockSize this is beyond MaxBatch
)

// check reports what of b cannot be carried.
func (b *Batch) check() error {
	if len(b.Contents) > maxContents {
		return fmt.Errorf("%d contents in one batch", len(b.Contents))
	}
	for i, c := range b.Contents {
		if len(c) == 0 || len(c) > blockcrypt.BlockSize {
			return fmt.Errorf("content %d has %d bytes", i, len(c))
		}
	}
	for i := range b.Deltas {
		if err := b.Deltas[i].check(len(b.Contents)); err != nil {
			return fmt.Errorf("delta %d: %w", i, err)
		}
	}
	return nil
}

// check reports what of d cannot be carried by a batch with that many contents.
func (d *Delta) check(contents int) error {
	switch d.Kind {
	case SetEntry, Drop:
		if d.Entry == nil {
			return errors.New("no entry")
		}
		return d.Entry.Check()
	case DelEntry, Where:
		return checkName(d.Name)
	case SetKeys:
		for i := range d.Keys {
			if n := len(d.Keys[i].Wrap); n == 0 || n > maxWrap {
				return fmt.Errorf("wrapped key of %d bytes", n)
			}
		}
	case SetRuns:
		for _, r := range d.Runs {
			if err := checkRun(r, contents); err != nil {
				return err
			}
		}
	case SetExtent:
		if d.Extent == nil {
			return errors.New("no extent")
		}
	default:
		return fmt.Errorf("unknown kind %d", d.Kind)
	}
	return nil
}

func checkName(s string) error {
	if len(s) == 0 || len(s) > blockcrypt.MaxFileName || strings.IndexByte(s, 0) >= 0 || strings.IndexByte(s, '/') >= 0 {
		return errors.New("name that no file can have")
	}
	return nil
}

func checkRun(r blockcrypt.Run, contents int) error {
	if r.Count == 0 || r.Start >= maxBlocks || r.Count > maxBlocks-r.Start {
		return fmt.Errorf("run of %d blocks from %d", r.Count, r.Start)
	}
	switch r.Kind {
	case blockcrypt.RunHole:
		if r.Extent != 0 || r.Slot != 0 {
			return errors.New("hole with a place")
		}
	case blockcrypt.RunExtent:
	case blockcrypt.RunJournal:
		if r.Count != 1 || r.Extent != 0 || uint64(r.Slot) >= uint64(contents) {
			return errors.New("run of no content of the batch")
		}
	default:
		return fmt.Errorf("run of kind %d", r.Kind)
	}
	return nil
}
