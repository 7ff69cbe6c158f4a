package local_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ebb-compute/ebb/internal/engine/enginetest"
)

// A list names the attempts that a node has taken; what begins with a dot is being
// forgotten.
func TestListNamesAttempts(t *testing.T) {
	t.Parallel()
	e, _ := open(t)
	if err := e.Launch(t.Context(), enginetest.Spec("a-0")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"r1.1", "r2.1", ".gone-r3.1"} {
		if err := os.MkdirAll(filepath.Join(e.Dir, "a-0", "attempts", name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	all, err := e.List(t.Context())
	if err != nil || len(all) != 1 || !slices.Equal(all[0].Attempts, []string{"r1.1", "r2.1"}) {
		t.Errorf("listed %+v, %v", all, err)
	}
}
