package survival_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/client"
)

// TestKillInTheMiddleOfOutputs kills the server and then the node while a job's
// outputs go, one by one, into a folder that has files already. Nobody is left to
// ask for the rest, and the next server shows all of them.
func TestKillInTheMiddleOfOutputs(t *testing.T) {
	t.Parallel()
	const files = 1500
	w := newWorld(t)
	w.cluster("main", 0, 1, "PT1H")
	submit := func(name, command string) {
		t.Helper()
		j := w.spec("main", command)
		j.Properties.Outputs = map[string]client.Output{"kept": {Type: "uri_folder", URI: "azureml://datastores/workspaceblobstore/paths/kept/"}}
		if _, err := w.c.Jobs().Create(t.Context(), name, j); err != nil {
			t.Fatal(err)
		}
	}
	submit("first", "echo first > ${{outputs.kept}}/first.txt")
	w.awaitStatus("first", "Completed")

	submit("many", fmt.Sprintf("seq -f ${{outputs.kept}}/%%g.txt %d | xargs touch; echo made", files))
	shown := func() int {
		found, _ := filepath.Glob(filepath.Join(w.Dir, "blobs", "blobs", "azureml-blobstore-*.d", "kept.d", "*.b"))
		return len(found) - 1
	}
	for end := time.Now().Add(patience); shown() < 1; pause(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no output shows; the server says\n%s", w.LogTail(20))
		}
	}
	agents := w.Agents()
	w.Kill()
	for _, pid := range agents {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Errorf("kill the agent: %v", err)
		}
	}
	half := shown()
	t.Logf("%d of %d files were there when the server was killed", half, files)
	w.Start()
	if n := shown(); n != files { // before any node could have come
		t.Errorf("%d of %d files are there after the next start, %d before", n, files, half)
	}
	left, err := os.ReadDir(filepath.Join(w.Dir, "blobs", "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range left {
		if strings.HasPrefix(d.Name(), "%24settling") {
			t.Errorf("%s is left", d.Name())
		}
	}
}
