package survival_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/testkit"
)

// held is a command that prints its process, and ends once the test lets it.
func held(name string) string {
	return `echo "begin $$"; until [ -e go-` + name + ` ]; do sleep 0.1; done; echo "end $$"`
}

// let lets a held command end.
func (w *world) let(name string) {
	w.t.Helper()
	dirs, err := filepath.Glob(filepath.Join(w.Dir, "nodes/*/attempts/*/work"))
	if err != nil || len(dirs) == 0 {
		w.t.Fatalf("no attempt has a folder (%v)", err)
	}
	for _, d := range dirs {
		if err := os.WriteFile(filepath.Join(d, "go-"+name), nil, 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) ebb(args ...string) testkit.Result {
	w.t.Helper()
	r := w.Ebb(w.t.Context(), args...)
	if r.Code != 0 {
		w.t.Fatalf("ebb %s: code %d\n%s%s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return r
}

// failed is how a job failed.
func (w *world) failed(name string) client.Problem {
	w.t.Helper()
	w.awaitStatus(name, "Failed")
	if e := w.job(name).Properties.Error; e != nil {
		return *e
	}
	return client.Problem{}
}

// An older state is put back under living nodes. What both sides know goes on; what
// the older one does not know is unharmed, shown, and counted; nothing runs twice.
func TestRestore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cluster("cpu", 0, 4, "PT300S")
	w.cluster("one", 0, 1, "PT300S")
	w.submit("cpu", "known", held("known"))
	w.submit("cpu", "silent", `echo "begin $$"; until [ -e go-more ]; do sleep 0.1; done; echo "more $$"; until [ -e go-silent ]; do sleep 0.1; done`)
	w.submit("one", "holder", held("holder"))
	w.awaitLog("known", "begin")
	w.awaitLog("silent", "begin")
	w.awaitLog("holder", "begin")
	w.submit("one", "waiter", held("waiter")) // behind holder, on the same node

	copied := filepath.Join(t.TempDir(), "copy")
	w.ebb("backup", copied, "--data", w.Dir)
	if r := w.Ebb(t.Context(), "restore", copied, "--data", w.Dir, "--replace"); r.Code == 0 || !strings.Contains(r.Stderr, "another server") {
		t.Fatalf("a restore under a running server: %+v", r)
	}

	w.submit("cpu", "later", held("later"))
	w.awaitLog("later", "begin")
	w.let("more")
	w.awaitLog("silent", "more") // the copy has not
	w.let("holder")
	w.awaitStatus("holder", "Completed")
	w.awaitLog("waiter", "begin")
	shims := w.Shims()
	if len(shims) != 4 {
		t.Fatalf("%d shims live, want those of known, silent, later and waiter: %v", len(shims), shims)
	}

	w.Kill()
	if r := w.Ebb(t.Context(), "restore", copied, "--data", w.Dir); r.Code == 0 || !strings.Contains(r.Stderr, "--replace") {
		t.Fatalf("a restore over data, unasked: %+v", r)
	}
	w.ebb("restore", copied, "--data", w.Dir, "--replace")
	w.Start()
	w.c = w.Client()

	// What both know.
	w.until("known is taken up again", func() bool { return w.status("known") == "Running" })
	for name, words := range map[string]string{"holder": "is not known", "waiter": "quarantined"} {
		if e := w.failed(name); e.Code != "LostByRestore" || !strings.Contains(e.Message, words) {
			t.Errorf("%s failed with %+v, want LostByRestore and %q", name, e, words)
		}
	}
	if _, err := w.c.Jobs().Get(t.Context(), "later"); !client.IsNotFound(err) {
		t.Errorf("the older state knows a later job (%v)", err)
	}

	// What only one knows.
	var aside []client.Quarantined
	w.until("two nodes are quarantined", func() bool {
		var err error
		aside, err = w.c.Quarantine(t.Context())
		return err == nil && len(aside) == 2
	})
	for _, q := range aside {
		if !q.Alive || len(q.Attempts) != 1 || !strings.Contains(q.Why, q.Attempts[0]) || shims[q.Attempts[0]] == 0 {
			t.Errorf("quarantined: %+v", q)
		}
	}
	if r := w.ebb("status"); !strings.Contains(r.Stdout, aside[0].Node) || !strings.Contains(r.Stdout, "ebb quarantine end") {
		t.Errorf("the status does not show them:\n%s", r.Stdout)
	}
	if r := w.ebb("compute", "nodes", "one"); !strings.Contains(r.Stderr, "quarantined") {
		t.Errorf("the nodes of a cluster do not show its own: %+v", r)
	}

	// New work goes to new nodes, while the old goes on.
	w.submit("cpu", "after", "echo here")
	w.submit("one", "anew", "echo here")
	w.awaitStatus("after", "Completed")
	w.awaitStatus("anew", "Completed")
	if now := w.Shims(); !maps.Equal(now, shims) {
		t.Errorf("shims %v live, want the same as before, %v", now, shims)
	}
	w.let("known")
	w.awaitStatus("known", "Completed")
	w.let("silent")
	w.awaitStatus("silent", "Completed")
	log := w.log("silent")
	if _, pid, _ := strings.Cut(firstLine(log), " "); log != "begin "+pid+"\nmore "+pid+"\n" {
		t.Errorf("the log of silent is not whole: %q", log)
	}
	log = w.log("known")
	if _, pid, _ := strings.Cut(firstLine(log), " "); log != "begin "+pid+"\nend "+pid+"\n" {
		t.Errorf("known did not run once, whole: %q", log)
	}

	// A restart does not forget whom it does not know.
	w.Stop()
	w.Start()
	w.c = w.Client()
	w.until("they are quarantined still", func() bool {
		again, err := w.c.Quarantine(t.Context())
		return err == nil && slices.EqualFunc(again, aside, func(a, b client.Quarantined) bool { return a.Node == b.Node })
	})

	// The way out.
	if r := w.Ebb(t.Context(), "quarantine", "end", "nobody"); r.Code != 3 || !strings.Contains(r.Stderr, aside[0].Node) {
		t.Errorf("to end what is not quarantined: %+v", r)
	}
	for _, q := range aside {
		w.ebb("quarantine", "end", q.Node)
		if _, ok := w.Shims()[q.Attempts[0]]; ok {
			t.Errorf("%s lives after the end of its node", q.Attempts[0])
		}
	}
	r := w.ebb("quarantine", "list", "-o", "json")
	var left []any
	if err := json.Unmarshal([]byte(r.Stdout), &left); err != nil || len(left) != 0 {
		t.Errorf("left in quarantine: %s", r.Stdout)
	}
}
