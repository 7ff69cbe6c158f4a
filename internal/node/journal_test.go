package node_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/ebb-compute/ebb/internal/node"
)

// Whatever dies and whenever: an attempt whose folder may have been used is in
// the journal, or cannot be made again, until it is dropped. Folders are not
// synced, so a power cut takes some that were made and brings back some that were
// dropped; it cuts the write that is under way short.
func TestTheJournalOutlivesPowerCuts(t *testing.T) {
	t.Parallel()
	const seeds = 60
	for seed := range uint64(seeds) {
		if err := cutPower(t.TempDir(), rand.New(rand.NewPCG(seed, 7))); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func cutPower(dir string, r *rand.Rand) error {
	j, m, _, err := node.OpenLedger(dir)
	if err != nil {
		return err
	}
	used := map[string]bool{} // started, and not known to be dropped
	for n := range 30 {
		switch id := fmt.Sprintf("run%d.1", n); r.IntN(4) {
		case 0, 1:
			m.Revision++
			if err := j.Take(id, m); err != nil {
				return err
			}
			if r.IntN(5) == 0 {
				break // it dies here
			}
			if err := j.Make(id); err != nil {
				return err
			}
			used[id] = true
			if err := j.Make(id); !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("a second folder for %s: %v", id, err)
			}
			if r.IntN(2) == 0 {
				j.Deliver(id)
			}
		case 2: // all go
			m.Revision++
			m.Floor = m.Revision
			if err := j.Save(m); err != nil {
				return err
			}
			for id := range maps.Clone(used) {
				delete(used, id)
				if err := j.Drop(id); err != nil {
					return err
				}
			}
		case 3:
			if err := spoil(dir, r); err != nil {
				return err
			}
		}
		if r.IntN(3) > 0 {
			continue
		}
		var taken map[string]bool
		var found node.Memory
		if j, found, taken, err = node.OpenLedger(dir); err != nil {
			return err
		}
		if found != m {
			return fmt.Errorf("remembers %+v, want %+v", found, m)
		}
		for id := range used {
			if _, ok := taken[id]; !ok {
				return fmt.Errorf("%s was used, and is forgotten", id)
			}
		}
		for id := range taken {
			used[id] = true // it counts as such from now on
			if _, err := os.Stat(filepath.Join(dir, "attempts", id)); err != nil {
				return fmt.Errorf("no folder to sweep: %w", err)
			}
		}
	}
	return nil
}

// spoil does what a power cut may do to folders, and to the slot being written.
func spoil(dir string, r *rand.Rand) error {
	attempts := filepath.Join(dir, "attempts")
	entries, err := os.ReadDir(attempts)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if r.IntN(2) == 0 {
			if err := os.RemoveAll(filepath.Join(attempts, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.MkdirAll(filepath.Join(attempts, fmt.Sprintf("back%d.1", r.IntN(3)), "work"), 0o755); err != nil {
		return err
	}
	path := filepath.Join(dir, "memory")
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	slot := node.OlderSlot(b)
	for range r.IntN(40) {
		b[slot+r.IntN(120)] = byte(r.Uint32())
	}
	return os.WriteFile(path, b, 0o600)
}
