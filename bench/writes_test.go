package bench_test

import (
	"fmt"
	"os/exec"
	"regexp"
	"testing"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// commits is what one line of the store's own benchmark says.
var commits = regexp.MustCompile(`BenchmarkCommit/callers=(\d+)\S*\s.*?([\d.]+) commits/s\s+([\d.]+) fdatasyncs/s\s+([\d.]+) ratio`)

// writes takes acknowledged commits of the store beside the fdatasyncs that the
// same disk does in the same run. The store is the server's own room, so its own
// benchmark is run.
func writes(t *testing.T) []line {
	cmd := exec.CommandContext(t.Context(), "go", "test", "-run", "^$", "-bench", "Commit", "-benchtime", "2s", "./internal/store")
	cmd.Dir = testkit.Root()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	goals := map[string]string{"1": "≥ 0.6 ×", "64": "≥ 4 ×"}
	var table []line
	for _, m := range commits.FindAllStringSubmatch(string(out), -1) {
		callers := m[1]
		table = append(table, line{fmt.Sprintf("durable writes, callers: %s", callers), m[2] + " /s", "fdatasync " + m[3] + " /s", m[4] + " ×", goals[callers]})
	}
	if len(table) != len(goals) {
		t.Fatalf("%d lines were understood:\n%s", len(table), out)
	}
	return table
}
