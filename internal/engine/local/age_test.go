package local_test

import (
	"os"
	"path/filepath"
	"testing"
)

// A server that was upgraded lists what the older one launched: the file is the one
// that agents of version 1 read.
func TestNodeOfVersion1IsListed(t *testing.T) {
	t.Parallel()
	e, _ := open(t)
	b, err := os.ReadFile(filepath.Join("..", "..", "node", "testdata", "v1", "node.json"))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(e.Dir, "cpu-3f2a-7")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "node.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := e.List(t.Context())
	if err != nil || len(all) != 1 || all[0].Node != "cpu-3f2a-7" || all[0].Size.VCPUs != 13 || all[0].Epoch != 0 || all[0].Installation == "" {
		t.Errorf("listed %+v, %v", all, err)
	}
}
