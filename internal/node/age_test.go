package node

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ebb-compute/ebb/internal/node/shim"
	"github.com/ebb-compute/ebb/internal/nodeproto/wiretest"
)

// What an agent of version 1 left is read by the agent that takes its place: a
// job of three weeks outlives upgrades.
func TestFolderOfVersion1(t *testing.T) {
	t.Parallel()
	const from = "testdata/v1/"
	c := wiretest.Golden[Config](t, from+"node.json")
	if c.Size.VCPUs != 13 || c.Size.GPUs != 15 || len(c.GPUs) != 1 {
		t.Errorf("the node is another now: %+v", c)
	}
	wiretest.Golden[Server](t, from+"server.json")
	end := wiretest.Golden[ending](t, from+"end.json")

	line, err := os.ReadFile(from + "memory-slot.json")
	if err != nil {
		t.Fatal(err)
	}
	wiretest.Text[kept](t, "a slot of the memory", line)
	added, err := os.ReadFile(from + "memory-slot-epoch.json") // since restores
	if err != nil {
		t.Fatal(err)
	}
	wiretest.Text[kept](t, "a slot with epochs", added)
	const held, delivered = "6f1c1c1e-0000-4000-8000-000000000002.1", "6f1c1c1e-0000-4000-8000-000000000001.1"
	j := journal{dir: t.TempDir()}
	b := make([]byte, 2*slotSize)
	copy(b[slotSize:], line) // the other slot was being written when it died
	if err := os.WriteFile(filepath.Join(j.dir, "memory"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{held, delivered} {
		if err := os.MkdirAll(j.path(id), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	record, err := os.ReadFile(from + "end.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(j.path(held), "end.json"), record, 0o600); err != nil {
		t.Fatal(err)
	}
	memory, entries, ends, err := j.read()
	if err != nil {
		t.Fatal(err)
	}
	if want := (Memory{Term: 3, Revision: 4, Floor: 1767323045000000005}); memory != want {
		t.Errorf("it remembers %+v, want %+v", memory, want)
	}
	if len(entries) != 2 || entries[0] != (entry{delivered, 1767323045000000009, 10, true, 0}) || entries[1] != (entry{Attempt: held, Fence: 1767323045000000009}) {
		t.Errorf("it has taken %+v", entries)
	}
	if got := ends[held]; got != end {
		t.Errorf("it ended as %+v, want %+v", got, end)
	}
	if st, err := shim.Look(j.path(delivered)); err != nil || st.Phase != shim.None {
		t.Errorf("a folder without a lock: %+v, %v", st, err)
	}
}
