package early_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Packages are initialised in the order of their paths, as far as what they
// import allows. One that comes late in that order, and that a shim does not
// need, would let some thirty others that are nothing to it go first.
func TestAShimWaitsForNoLatePackage(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, late := range []string{"path/filepath", "net/url", "regexp", "text/template", "math/big", "net"} {
		if slices.Contains(strings.Fields(string(out)), late) {
			t.Errorf("a shim imports %s, and begins later for it", late)
		}
	}
}
