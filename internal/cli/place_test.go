package cli_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// Whichever command it is, a slip in -w, -g or --subscription is told by what
// there is, the nearest first.
func TestEveryCommandSaysWhichPlacesThereAre(t *testing.T) {
	t.Parallel()
	s := testkit.Serve(t)
	ebb := func(line ...string) testkit.Result {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		return s.Ebb(ctx, line...)
	}
	if r := ebb("workspace", "create", "--name", "team-a"); r.Code != 0 {
		t.Fatal(r.Stderr)
	}
	for _, line := range []string{
		"compute list", "compute show c", "compute create c", "compute nodes c", "compute delete c -y", "compute update c --max-instances 2",
		"job list", "job show j", "job create --compute c --command ls", "job create --compute c --command ls --environment azureml:e@latest",
		"job cancel j", "job stream j", "job download j", "job exec j -- ls", "job archive j",
		"environment list", "environment show e", "data create -n d -t uri_file -p " + filepath.Join(here, "place_test.go"), "model show m", "code list",
		"datastore list", "datastore show d", "workspace show", "status", "size list", "usage",
		"ml computetarget list", "ml computetarget create amlcompute -n c -s Standard_DS3_v2 --max-nodes 1", "ml computetarget show -n c",
	} {
		for flag, want := range map[string]string{
			"-w team-b": "no workspace named team-b (group ebb); there are: team-a (group ebb), main (group ebb)",
			"-g ebbs":   "no resource group named ebbs; there are: ebb",
			"--subscription 00000000-0000-0000-0000-000000000009": "no subscription named 00000000-0000-0000-0000-000000000009; there are: ",
		} {
			line := append(strings.Fields(flag), strings.Fields(line)...)
			if r := ebb(line...); r.Code != 3 || !strings.Contains(r.Stderr, "ERROR: "+want) {
				t.Errorf("ebb %s: exit %d, %s\nwant 3 and %s", strings.Join(line, " "), r.Code, r.Stderr, want)
			}
		}
	}
	for line, want := range map[string]string{
		"workspace show --name team-b": "no workspace named team-b (group ebb); there are: team-a",
		"workspace list -g ebbs":       "no resource group named ebbs; there are: ebb",
		"compute show c -w team-a":     "no cluster named c; there is none yet",
	} {
		if r := ebb(strings.Fields(line)...); r.Code != 3 || !strings.Contains(r.Stderr, want) {
			t.Errorf("ebb %s: exit %d, %s\nwant 3 and %s", line, r.Code, r.Stderr, want)
		}
	}
	for line, want := range map[string]string{"compute list -w te": "team-a\n:4\n", "compute list -g e": "ebb\n:4\n"} {
		if r := ebb(append([]string{"__complete"}, strings.Fields(line)...)...); r.Stdout != want {
			t.Errorf("completion of %s: %q, want %q", line, r.Stdout, want)
		}
	}
}
