package pin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"envfs/blockcrypt"
)

// OthersAt returns the vaults but the given one that were seen at a location, as the files in the directory dir say. A
// file that is unreadable is an error, as [Load] tells it.
func OthersAt(dir, location string, vault blockcrypt.ID) ([]blockcrypt.ID, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for pins at %s: %w", location, err)
	}
	var others []blockcrypt.ID
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		id, err := blockcrypt.ParseID(name)
		if !ok || err != nil || id == vault {
			continue
		}
		p, err := Load(dir, id)
		if err != nil {
			return nil, err
		}
		if _, seen := p.At(location); seen {
			others = append(others, id)
		}
	}
	return others, nil
}

// Forget removes the pin of a location, if there is one: another vault was made there.
func (p *Pins) Forget(location string) error {
	err := p.update(func() error {
		delete(p.at, location)
		return nil
	})
	if err != nil {
		return fmt.Errorf("forget a pin of vault %s: %w", p.vault, err)
	}
	return nil
}
