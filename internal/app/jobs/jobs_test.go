package jobs_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/app/apptest"
	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/gang"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

const wsID = "/subscriptions/0/resourceGroups/ebb/providers/Microsoft.MachineLearningServices/workspaces/Main"

var me = access.Principal{ID: "oid", Name: "me", Kind: access.Application}

// world is a workspace with two clusters, one of them on its way out.
type world struct {
	*testing.T
	s     *jobs.Service
	store *apptest.Store
	ws    jobs.Workspace

	mu  sync.Mutex
	now time.Time
	ids int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, store: &apptest.Store{}, now: time.Date(2026, 11, 23, 1, 0, 0, 0, time.UTC)}
	w.s = w.service()
	key := strings.ToLower(wsID)
	w.commit(row.Put(row.Document{Kind: row.Workspace, ID: key, Body: []byte(`{"tenant":"t","resource":{"id":"` + wsID + `","name":"Main","location":"West US 2","properties":{"workspaceId":"22222222-2222-2222-2222-222222222222"}}}`)}))
	for name, c := range map[string]fleet.Cluster{"cpu": {Max: 2}, "gone": {Max: 2, Deleting: true}, "apart": {Max: 2, Isolated: true}, "wide": {Max: 101}} {
		c.ID, c.Name, c.Workspace = key+"/computes/"+name, name, key
		w.commit(row.Put(c), row.Put(fleet.Status{ID: c.ID}))
	}
	ws, err := w.s.Workspace(t.Context(), me, strings.ToUpper(wsID))
	if err != nil {
		t.Fatal(err)
	}
	w.ws = ws
	return w
}

// service is a service on the world's store, as after a restart.
func (w *world) service() *jobs.Service {
	return &jobs.Service{Store: w.store, Now: w.clock, NewID: w.id}
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(time.Millisecond)
	return w.now
}

func (w *world) id() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ids++
	return fmt.Sprintf("00000000-0000-4000-8000-%012d", w.ids)
}

func (w *world) commit(changes ...row.Change) {
	w.Helper()
	if _, err := w.store.Commit(w.Context(), changes...); err != nil {
		w.Fatal(err)
	}
}

func (w *world) submit(name string) *jobs.Job {
	w.Helper()
	j, _, err := w.s.Submit(w.Context(), me, w.ws, jobs.Submission{Name: name, Experiment: "x", Target: "cpu", Command: "true"})
	if err != nil {
		w.Fatal(err)
	}
	return j
}

func (w *world) get(name string) *jobs.Job {
	w.Helper()
	j, err := w.s.Get(w.Context(), me, w.ws, name)
	if err != nil {
		w.Fatal(err)
	}
	return j
}

// move is control: it gives a run another status.
func (w *world) move(j *jobs.Job, to queue.State) {
	st := j.Status
	st.State = to
	w.commit(row.Put(st))
}

func TestSubmit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	commits := 0
	w.store.Before = func([]row.Change) error { commits++; return nil }
	in := jobs.Submission{Name: "j1", Experiment: "x", Target: "CPU", Command: "echo hi", Variables: map[string]string{"A": "1"}, TimeLimit: time.Minute,
		Environment: queue.Environment{Pip: []string{"numpy"}}}
	j, created, err := w.s.Submit(t.Context(), me, w.ws, in)
	if err != nil || !created {
		t.Fatalf("Submit: created %v, %v", created, err)
	}
	if commits != 1 {
		t.Errorf("%d commits for one submit, want 1", commits)
	}
	if j.State() != queue.Queued || j.Number != 1 || j.DisplayName != "j1" || j.Creator.Name != "me" || j.Root != "j1" {
		t.Errorf("got state %s, number %d, display name %q, creator %q, root %q", j.State(), j.Number, j.DisplayName, j.Creator.Name, j.Root)
	}
	run := w.store.Rows(row.Run)[0].(queue.Run)
	if run.ID != j.Run || run.Cluster != strings.ToLower(wsID)+"/computes/cpu" || run.TimeLimit != time.Minute || run.Nodes != 1 || run.Document != j.ID {
		t.Errorf("run row: %+v", run)
	}
	var task queue.Task
	rec, err := w.store.Get(t.Context(), row.Key{Kind: row.Task, ID: j.Run})
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(rec.Row.(row.Document).Body, &task); err != nil {
		t.Fatal(err)
	}
	if task.Command != "echo hi" || task.Variables["A"] != "1" || !slices.Equal(task.Environment.Pip, []string{"numpy"}) || task.Experiment != "x" || task.TimeLimit != time.Minute {
		t.Errorf("task: %+v", task)
	}
	if again, created, err := w.s.Submit(t.Context(), me, w.ws, in); err != nil || created || again.Run != j.Run {
		t.Errorf("the same again: %v, created %v", err, created)
	}
	if n := len(w.store.Rows(row.Run)); n != 1 {
		t.Errorf("%d runs, want 1", n)
	}
	in.Command = "echo ho"
	if _, _, err := w.s.Submit(t.Context(), me, w.ws, in); !errors.Is(err, fault.Conflict) {
		t.Errorf("other work under the name: %v, want a conflict", err)
	}
}

func TestSubmitRefuses(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	for i := range 51 {
		many[fmt.Sprint(i)] = "v"
	}
	base := func(change func(*jobs.Submission)) jobs.Submission {
		in := jobs.Submission{Name: "j", Experiment: "x", Target: "cpu", Command: "true"}
		change(&in)
		return in
	}
	for name, c := range map[string]struct {
		in   jobs.Submission
		kind fault.Kind
		says string
	}{
		"an unknown compute, and says what there is": {base(func(s *jobs.Submission) { s.Target = "nope" }), fault.Invalid, "cpu"},
		"a compute that is being deleted":            {base(func(s *jobs.Submission) { s.Target = "gone" }), fault.Invalid, "deleted"},
		"no compute":                                 {base(func(s *jobs.Submission) { s.Target = "" }), fault.Invalid, "cpu"},
		"a compute of another workspace": {base(func(s *jobs.Submission) {
			s.Target = "/subscriptions/1/resourceGroups/g/providers/M.M/workspaces/w/computes/cpu"
		}), fault.Invalid, "Main"},
		"the user's own machine":                 {base(func(s *jobs.Submission) { s.Target = "local" }), fault.Unsupported, "local"},
		"a distribution that is not built":       {base(func(s *jobs.Submission) { s.Distributed = "Ray" }), fault.Unsupported, "Ray"},
		"more nodes than processes":              {base(func(s *jobs.Submission) { s.Distributed, s.Nodes, s.Workers = "TensorFlow", 2, 1 }), fault.Invalid, "nothing to do"},
		"two nodes that do not reach each other": {base(func(s *jobs.Submission) { s.Nodes, s.Target = 2, "apart" }), fault.Invalid, "isolatedNetwork"},
		"two nodes of a cluster above 100":       {base(func(s *jobs.Submission) { s.Nodes, s.Target = 2, "wide" }), fault.Invalid, "above 100"},
		"more nodes than the cluster may have":   {base(func(s *jobs.Submission) { s.Nodes = 3 }), fault.Invalid, "at most 2"},
		"nothing to run":                         {base(func(s *jobs.Submission) { s.Command = "" }), fault.Invalid, "nothing to run"},
		"a name with a slash":                    {base(func(s *jobs.Submission) { s.Name = "a/b" }), fault.Invalid, "job id"},
		"a name that is too long":                {base(func(s *jobs.Submission) { s.Name = strings.Repeat("a", 256) }), fault.Invalid, "255"},
		"51 tags":                                {base(func(s *jobs.Submission) { s.Tags = many }), fault.Invalid, "51 tags"},
		"51 properties":                          {base(func(s *jobs.Submission) { s.Properties = many }), fault.Invalid, "properties"},
		"a tag name of 101 characters":           {base(func(s *jobs.Submission) { s.Tags = map[string]string{strings.Repeat("k", 101): ""} }), fault.Invalid, "100"},
		"a tag value of 1001 characters":         {base(func(s *jobs.Submission) { s.Tags = map[string]string{"k": strings.Repeat("v", 1001)} }), fault.Invalid, "1000"},
		"a display name of 257 characters":       {base(func(s *jobs.Submission) { s.DisplayName = strings.Repeat("d", 257) }), fault.Invalid, "256"},
		"a variable whose name holds =":          {base(func(s *jobs.Submission) { s.Variables = map[string]string{"A=B": ""} }), fault.Invalid, "A=B"},
		"a NUL in the command":                   {base(func(s *jobs.Submission) { s.Command = "a\x00b" }), fault.Invalid, "NUL"},
		"code that is not there":                 {base(func(s *jobs.Submission) { s.Code = "5" }), fault.Invalid, "snapshot"},
		"a parent that is not there":             {base(func(s *jobs.Submission) { s.Parent = "p" }), fault.NotFound, "p"},
		"an experiment name with a space":        {base(func(s *jobs.Submission) { s.Experiment = "a b" }), fault.Invalid, "experiment"},
		"a command longer than the kernel takes": {base(func(s *jobs.Submission) { s.Command = strings.Repeat("a", 100_001) }), fault.Invalid, "100000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			_, _, err := w.s.Submit(t.Context(), me, w.ws, c.in)
			if fault.KindOf(err) != c.kind || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("Submit = %v, want %s with %q", err, c.kind, c.says)
			}
			for _, k := range []row.Kind{row.Job, row.Run, row.RunStatus, row.Task, row.Experiment, row.Event} {
				if n := len(w.store.Rows(k)); n != 0 {
					t.Errorf("%d %s rows were written", n, k)
				}
			}
		})
	}
}

func TestRunNumbersAreOneToN(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			if _, _, err := w.s.Submit(t.Context(), me, w.ws, jobs.Submission{Name: fmt.Sprint("j", i), Experiment: "x", Target: "cpu", Command: "true"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	seen := map[int]bool{}
	list, _, err := w.s.List(t.Context(), me, w.ws, jobs.Query{Top: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range list {
		if seen[j.Number] {
			t.Errorf("number %d was given twice", j.Number)
		}
		seen[j.Number] = true
	}
	if len(list) != 32 || len(w.store.Rows(row.Experiment)) != 2 {
		t.Fatalf("%d runs and %d experiment rows, want 32 and 2", len(list), len(w.store.Rows(row.Experiment)))
	}
	last := slices.MaxFunc(list, func(a, b *jobs.Job) int { return a.Number - b.Number }).Number
	w.s = w.service() // a restart
	if got := w.submit("after").Number; got != last+1 {
		t.Errorf("number after a restart: %d, want %d", got, last+1)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	j := w.submit("j")
	for range 2 {
		got, err := w.s.Cancel(t.Context(), me, w.ws, "J", "")
		if err != nil || got.State() != queue.CancelRequested {
			t.Fatalf("Cancel = %v, %v", got, err)
		}
	}
	run := w.store.Rows(row.Run)[0].(queue.Run)
	if !run.Cancel || !strings.Contains(run.CancelWhy, "me") {
		t.Errorf("run row: %+v", run)
	}
	w.move(j, queue.Canceled)
	if got, err := w.s.Cancel(t.Context(), me, w.ws, "j", ""); err != nil || got.State() != queue.Canceled {
		t.Errorf("cancel of an ended run: %v, %v", got, err)
	}
	if _, err := w.s.Cancel(t.Context(), me, w.ws, "nope", ""); !errors.Is(err, fault.NotFound) {
		t.Errorf("cancel of a missing run: %v", err)
	}
}

func TestInteractiveRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	j, err := w.s.Patch(t.Context(), me, w.ws, "i", jobs.Patch{Experiment: "x", Properties: map[string]string{"p": "1"}})
	if err != nil || j.State() != queue.NotStarted || j.Kind != jobs.Interactive {
		t.Fatalf("Patch = %+v, %v", j, err)
	}
	tell := func(name string) queue.State {
		t.Helper()
		if err := w.s.Tell(t.Context(), me, w.ws, "i", jobs.Happening{Name: name, Code: "C", Message: "why"}); err != nil {
			t.Fatal(err)
		}
		return w.get("i").State()
	}
	for _, step := range []struct {
		event string
		want  queue.State
	}{{"Heartbeat", queue.NotStarted}, {"Start", queue.Running}, {"Start", queue.Running}, {"Error", queue.Running}, {"Failed", queue.Failed}, {"Completed", queue.Failed}} {
		if got := tell(step.event); got != step.want {
			t.Errorf("after %s: %s, want %s", step.event, got, step.want)
		}
	}
	got := w.get("i").Status
	if got.Failure.Code != "C" || got.Failure.Message != "why" || got.Started.IsZero() || got.Ended.IsZero() {
		t.Errorf("status: %+v", got)
	}
	if len(w.store.Rows(row.Run)) != 0 {
		t.Error("a run without a cluster got a place in the queue")
	}
}

func TestManagedRunsAreMovedByControlOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	j := w.submit("j")
	w.move(j, queue.Running)
	inside := access.Principal{ID: "r", Kind: access.RunIdentity, Run: j.Run, Scope: strings.ToLower(wsID)}
	if err := w.s.Tell(t.Context(), inside, w.ws, "j", jobs.Happening{Name: "Completed"}); err != nil {
		t.Fatal(err)
	}
	got := w.get("j")
	if got.State() != queue.Running || got.Reported == nil || got.Reported.State != queue.Completed {
		t.Errorf("state %s, reported %+v", got.State(), got.Reported)
	}
}

func TestTagsAndProperties(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.submit("j")
	name := "shown"
	if _, err := w.s.Patch(t.Context(), me, w.ws, "j", jobs.Patch{Tags: map[string]string{"a": "1", "b": "2"}, Properties: map[string]string{"p": "1"}, DisplayName: &name}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.s.Patch(t.Context(), me, w.ws, "j", jobs.Patch{Tags: map[string]string{"a": "3"}, Properties: map[string]string{"p": "1"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.s.Patch(t.Context(), me, w.ws, "j", jobs.Patch{Properties: map[string]string{"p": "2"}}); !errors.Is(err, fault.Invalid) {
		t.Errorf("a property was changed: %v", err)
	}
	j, err := w.s.RemoveTags(t.Context(), me, w.ws, "j", []string{"b", "none"})
	if err != nil || len(j.Tags) != 1 || j.Tags["a"] != "3" || j.Properties["p"] != "1" || j.DisplayName != "shown" {
		t.Errorf("got %v, %v, %q, %v", j.Tags, j.Properties, j.DisplayName, err)
	}
}

func TestPatchesRaceWithoutLoss(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.submit("j")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if _, err := w.s.Patch(t.Context(), me, w.ws, "j", jobs.Patch{Tags: map[string]string{fmt.Sprint(i): "v"}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := len(w.get("j").Tags); got != 8 {
		t.Errorf("%d tags are left of 8", got)
	}
}

func TestRunTokenWritesOnlyItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	own := w.submit("own")
	w.submit("other")
	p := access.Principal{ID: "r", Kind: access.RunIdentity, Run: own.Run, Scope: strings.ToLower(wsID)}
	if _, err := w.s.Patch(t.Context(), p, w.ws, "child", jobs.Patch{Experiment: "x", Parent: "own"}); err != nil {
		t.Fatalf("create a child: %v", err)
	}
	if _, err := w.s.Patch(t.Context(), p, w.ws, "grandchild", jobs.Patch{Experiment: "x", Parent: "child"}); err != nil {
		t.Fatalf("create a grandchild: %v", err)
	}
	for _, name := range []string{"own", "child", "grandchild"} {
		if err := w.s.Append(t.Context(), p, w.ws, name, []jobs.Batch{{Metric: jobs.Metric{Name: "m"}, Values: values("1")}}); err != nil {
			t.Errorf("log to %s: %v", name, err)
		}
	}
	calls := map[string]func() error{
		"tag another run": func() error {
			_, err := w.s.Patch(t.Context(), p, w.ws, "other", jobs.Patch{Tags: map[string]string{"a": "b"}})
			return err
		},
		"cancel another run": func() error { _, err := w.s.Cancel(t.Context(), p, w.ws, "other", ""); return err },
		"log to another run": func() error {
			return w.s.Append(t.Context(), p, w.ws, "other", []jobs.Batch{{Metric: jobs.Metric{Name: "m"}}})
		},
		"end another run": func() error { return w.s.Tell(t.Context(), p, w.ws, "other", jobs.Happening{Name: "Failed"}) },
		"delete itself":   func() error { _, err := w.s.Delete(t.Context(), p, w.ws, "own"); return err },
		"submit": func() error {
			_, _, err := w.s.Submit(t.Context(), p, w.ws, jobs.Submission{Target: "cpu", Command: "x"})
			return err
		},
		"make a root run": func() error {
			_, err := w.s.Patch(t.Context(), p, w.ws, "root", jobs.Patch{Experiment: "x"})
			return err
		},
		"adopt another's run": func() error {
			_, err := w.s.Patch(t.Context(), p, w.ws, "kid", jobs.Patch{Experiment: "x", Parent: "other"})
			return err
		},
		"make an experiment": func() error { _, err := w.s.CreateExperiment(t.Context(), p, w.ws, "y"); return err },
	}
	for what, call := range calls {
		if err := call(); !errors.Is(err, fault.Forbidden) {
			t.Errorf("%s: %v, want forbidden", what, err)
		}
	}
	p.Scope = "/subscriptions/1"
	if _, err := w.s.Workspace(t.Context(), p, wsID); !errors.Is(err, fault.NotFound) {
		t.Errorf("another workspace: %v", err)
	}
	if other := w.get("other"); len(other.Tags) != 0 || other.Run == own.Run {
		t.Errorf("other run was changed: %+v", other)
	}
}

func TestListFilters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	done := w.submit("done")
	w.move(done, queue.Completed)
	w.submit("waits")
	if _, err := w.s.Patch(t.Context(), me, w.ws, "child", jobs.Patch{Experiment: "x", Parent: "done", Tags: map[string]string{"my key": "a value", "k": "v"},
		Properties: map[string]string{"azureml.runsource": "hyperdrive"}, TypeV2: json.RawMessage(`{"orchestrator":"External","traits":["unspecified"]}`)}); err != nil {
		t.Fatal(err)
	}
	for filter, want := range map[string]string{
		"":                      "child waits done",
		"(ParentRunId eq null)": "waits done",
		"ParentRunId eq done":   "child",
		"(Status eq Completed)": "done",
		"(Status eq 'completed') or (Status eq Queued)":                          "waits done",
		"(ParentRunId eq null) and (Status ne Completed)":                        "waits",
		"(Tags/my key eq a value)":                                               "child",
		"(Tags/k ne null or Tags/k eq null)":                                     "child",
		"(Tags/none ne null or Tags/none eq null)":                               "",
		"(RunType eq hyperdrive or Properties/azureml.runsource eq hyperdrive)":  "child",
		"(RunTypeV2/Orchestrator eq External)":                                   "child",
		"(RunTypeV2/Traits/unspecified ne null) or (RunTypeV2/Traits/x eq null)": "child",
		"RootRunId eq done and RunId ne done":                                    "child",
		"not (RunId eq done)":                                                    "child waits",
		"(CreatedUtc ge 2026-11-23 00:00:00)":                                    "child waits done",
		"(CreatedUtc lt 2026-11-23T00:00:00Z)":                                   "",
		"(Target eq cpu)":                                                        "waits done",
		"((RunId eq done) or (RunId eq waits)) and (ParentRunId eq null)":        "waits done",
		"StartTimeUtc eq null":                                                   "child waits done",
	} {
		list, next, err := w.s.List(t.Context(), me, w.ws, jobs.Query{Filter: filter})
		if err != nil || next != "" {
			t.Errorf("%q: %v, next %q", filter, err, next)
		}
		var got []string
		for _, j := range list {
			got = append(got, j.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q lists %v, want %s", filter, got, want)
		}
	}
	for _, bad := range []string{"Status", "nonsense eq 1", "(Status eq Completed", "CreatedUtc ge yesterday", strings.Repeat("(", 100) + "a eq b" + strings.Repeat(")", 100), strings.Repeat("a", 20000)} {
		if _, _, err := w.s.List(t.Context(), me, w.ws, jobs.Query{Filter: bad}); !errors.Is(err, fault.Invalid) {
			t.Errorf("%.40q: %v, want invalid", bad, err)
		}
	}
}

func TestListPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 130 {
		w.submit(fmt.Sprintf("j%03d", i))
	}
	for _, top := range []int{1, 7, 50, 129, 130, 1000} {
		var got []string
		for after := ""; ; {
			list, next, err := w.s.List(t.Context(), me, w.ws, jobs.Query{Top: top, After: after, Oldest: true, Filter: "RunId ne j005"})
			if err != nil {
				t.Fatal(err)
			}
			if len(list) > top {
				t.Fatalf("a page of %d has %d", top, len(list))
			}
			for _, j := range list {
				got = append(got, j.Name)
			}
			if after = next; after == "" {
				break
			}
		}
		if len(got) != 129 || !slices.IsSorted(got) || slices.Contains(got, "j005") {
			t.Errorf("pages of %d: %d runs, sorted %v", top, len(got), slices.IsSorted(got))
		}
	}
}

func values(list ...string) []json.RawMessage {
	out := make([]json.RawMessage, len(list))
	for i, v := range list {
		out[i] = json.RawMessage(fmt.Sprintf(`{"metricId":"id%s","createdUtc":"2026-11-23T01:00:00Z","data":{"m":%s}}`, v, v))
	}
	return out
}

func TestMetricsComeInTheOrderOfLogging(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.submit("j")
	for _, second := range []int{2, 1, 3} { // SDK v1 sends from several threads
		b := jobs.Batch{Metric: jobs.Metric{Name: "m"}, Values: []json.RawMessage{
			json.RawMessage(fmt.Sprintf(`{"metricId":"id%d","createdUtc":"2026-11-23T01:00:0%d.5Z","data":{"m":%d}}`, second, second, second)),
		}}
		if err := w.s.Append(t.Context(), me, w.ws, "j", []jobs.Batch{b}); err != nil {
			t.Fatal(err)
		}
	}
	b, _, err := w.s.Values(t.Context(), w.ws, "j", "m", "", time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range b.Values {
		if want := fmt.Sprintf(`{"m":%d}`, i+1); !strings.Contains(string(v), want) {
			t.Errorf("value %d is %s, want %s", i, v, want)
		}
	}
	if len(b.Values) != 3 {
		t.Errorf("%d values, want 3", len(b.Values))
	}
}

func TestMetricsKeepTheirOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.submit("j")
	batch := func(name string, list ...string) jobs.Batch {
		return jobs.Batch{Metric: jobs.Metric{Name: name, Columns: map[string]string{name: "double"}, Properties: json.RawMessage(`{"uxMetricType":"azureml.v1.scalar"}`)}, Values: values(list...)}
	}
	var want []string
	for i := range 70 {
		var list []string
		for k := range 100 {
			list = append(list, fmt.Sprint(i*100+k))
		}
		want = append(want, list...)
		for range 2 { // the client repeats what it got no answer to
			if err := w.s.Append(t.Context(), me, w.ws, "j", []jobs.Batch{batch("m", list...), batch("M", list[0])}); err != nil {
				t.Fatal(err)
			}
		}
	}
	var got []string
	pages := 0
	for after := ""; ; pages++ {
		b, next, err := w.s.Values(t.Context(), w.ws, "j", "m", after, time.Time{}, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range b.Values {
			var one struct{ Data map[string]json.Number }
			if err := json.Unmarshal(v, &one); err != nil {
				t.Fatal(err)
			}
			got = append(got, one.Data["m"].String())
		}
		if after = next; after == "" {
			break
		}
	}
	if !slices.Equal(got, want) || pages != 1 {
		t.Errorf("%d values came back on %d pages, in order %v; %d were logged", len(got), pages+1, slices.Equal(got, want), len(want))
	}
	names, _, err := w.s.Metrics(t.Context(), w.ws, "j", "")
	if err != nil || len(names) != 2 || names[0].Name != "m" || names[1].Name != "M" {
		t.Errorf("names: %+v, %v", names, err)
	}
	if _, _, err := w.s.Values(t.Context(), w.ws, "j", "none", "", time.Time{}, time.Time{}); !errors.Is(err, fault.NotFound) {
		t.Errorf("a metric that is not there: %v", err)
	}
	late := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	if b, _, err := w.s.Values(t.Context(), w.ws, "j", "M", "", late, time.Time{}); err != nil || len(b.Values) != 0 {
		t.Errorf("values after %v: %d, %v", late, len(b.Values), err)
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	j := w.submit("j")
	if _, err := w.s.Delete(t.Context(), me, w.ws, "j"); !errors.Is(err, fault.Conflict) {
		t.Errorf("delete of a queued job: %v", err)
	}
	if err := w.s.Append(t.Context(), me, w.ws, "j", []jobs.Batch{{Metric: jobs.Metric{Name: "m"}, Values: values("1")}}); err != nil {
		t.Fatal(err)
	}
	w.move(j, queue.Failed)
	files := &assets.Service{Store: w.store, Now: time.Now, NewID: func() string { return "event" }}
	if err := files.Record(t.Context(), me, assets.Place{ID: w.ws.ID, GUID: w.ws.GUID}, j.Container(), "outputs/model", "outputs/log"); err != nil {
		t.Fatal(err)
	}
	if removed, err := w.s.Delete(t.Context(), me, w.ws, "j"); err != nil || !removed {
		t.Fatalf("Delete = %v, %v", removed, err)
	}
	for _, k := range []row.Kind{row.Job, row.Run, row.RunStatus, row.Task, row.Metric, row.Artifact} {
		if n := len(w.store.Rows(k)); n != 0 {
			t.Errorf("%d %s rows are left", n, k)
		}
	}
	if removed, err := w.s.Delete(t.Context(), me, w.ws, "j"); err != nil || removed {
		t.Errorf("delete of what is gone: %v, %v", removed, err)
	}
}

func TestExperiments(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, err := w.s.CreateExperiment(t.Context(), me, w.ws, "a")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := w.s.CreateExperiment(t.Context(), me, w.ws, "A"); err != nil || b.ID != a.ID {
		t.Errorf("made again: %+v, %v", b, err)
	}
	yes := true
	if _, err := w.s.UpdateExperiment(t.Context(), me, w.ws, a.ID, jobs.ExperimentChange{Tags: map[string]string{"k": "v"}, Archive: &yes}); err != nil {
		t.Fatal(err)
	}
	for view, want := range map[jobs.View]int{jobs.ActiveOnly: 0, jobs.ArchivedOnly: 1, jobs.All: 1} {
		if list, _, err := w.s.Experiments(t.Context(), w.ws, view, "(name eq a) and (Tags/k eq v)", 0, ""); err != nil || len(list) != want {
			t.Errorf("%s: %d experiments, %v", view, len(list), err)
		}
	}
	if list, _, err := w.s.Experiments(t.Context(), w.ws, jobs.All, "(Tags/none eq v)", 0, ""); err != nil || len(list) != 0 {
		t.Errorf("by a tag that none has: %d experiments, %v", len(list), err)
	}
	w.submit("j") // in experiment x
	x, err := w.s.Experiment(t.Context(), w.ws, "x")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.s.DeleteExperiment(t.Context(), me, w.ws, x.ID); !errors.Is(err, fault.Conflict) {
		t.Errorf("delete of one with runs: %v", err)
	}
	if err := w.s.DeleteExperiment(t.Context(), me, w.ws, a.ID); err != nil {
		t.Error(err)
	}
	if _, err := w.s.ExperimentByID(t.Context(), w.ws, a.ID); !errors.Is(err, fault.NotFound) {
		t.Errorf("after its delete: %v", err)
	}
}

// TestOneProcessOfADistribution submits what a job is anyway, with and without
// the user's own words for where it finds itself.
func TestOneProcessOfADistribution(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in   jobs.Submission
		want map[string]string
	}{
		"mpi": {jobs.Submission{Distributed: "IntelMpi", Processes: 1, Variables: map[string]string{"A": "1"}},
			map[string]string{"A": "1", "OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "0", "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}},
		"pytorch": {jobs.Submission{Distributed: "PyTorch", Variables: map[string]string{"MASTER_PORT": "29500"}},
			map[string]string{"RANK": "0", "LOCAL_RANK": "0", "NODE_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}},
		"tensorflow": {jobs.Submission{Distributed: "TensorFlow"},
			map[string]string{"TF_CONFIG": fmt.Sprintf(`{"cluster":{"worker":["127.0.0.1:%d"]},"environment":"cloud","task":{"type":"worker","index":0}}`, gang.Port("j", 0))}},
		"several are told by their nodes": {jobs.Submission{Distributed: "nccl", Processes: 2}, nil},
		"none":                            {jobs.Submission{}, nil},
	} {
		w := newWorld(t)
		c.in.Name, c.in.Target, c.in.Command = "j", "cpu", "true"
		if got := w.task(c.in).Variables; !maps.Equal(got, c.want) {
			t.Errorf("%s: the process is told %v, want %v", name, got, c.want)
		}
	}
	w := newWorld(t)
	seen := map[string]bool{}
	for _, name := range []string{"j1", "j2"} {
		v := w.task(jobs.Submission{Name: name, Target: "cpu", Command: "true", Distributed: "nccl", Processes: 1}).Variables["MASTER_PORT"]
		if n, err := strconv.Atoi(v); err != nil || n < 6105 || n > 32767 || seen[v] {
			t.Errorf("%s waits on port %q, like %v; jobs share a machine", name, v, seen)
		}
		seen[v] = true
	}
}

// TestGangs: all that wait for a run know how many it is, and who leads.
func TestGangs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in      jobs.Submission
		want    gang.Spread
		leaders int
	}{
		"mpi":                 {jobs.Submission{Nodes: 2, Distributed: "IntelMpi", Processes: 3}, gang.Spread{Kind: gang.MPI, PerNode: 3}, 1},
		"pytorch":             {jobs.Submission{Nodes: 2, Distributed: "Gloo", Processes: 1}, gang.Spread{Kind: gang.PyTorch, PerNode: 1}, 0},
		"parameter servers":   {jobs.Submission{Nodes: 2, Distributed: "ParameterServer", Workers: 1, Servers: 1}, gang.Spread{Kind: gang.TensorFlow, Workers: 1, Servers: 1}, 1},
		"no distribution":     {jobs.Submission{Nodes: 2}, gang.Spread{}, 0},
		"several on one node": {jobs.Submission{Distributed: "PyTorch", Processes: 4}, gang.Spread{Kind: gang.PyTorch, PerNode: 4}, 0},
	} {
		w := newWorld(t)
		c.in.Name, c.in.Target, c.in.Command = "j", "cpu", "true"
		if got := w.task(c.in).Spread; got != c.want {
			t.Errorf("%s: the node is told %+v, want %+v", name, got, c.want)
		}
		run := w.store.Rows(row.Run)[0].(queue.Run)
		if run.Nodes != max(c.in.Nodes, 1) || run.Leaders != c.leaders {
			t.Errorf("%s: the queue has %d nodes of which %d lead", name, run.Nodes, run.Leaders)
		}
	}
}

// task submits, and returns what the node will read.
func (w *world) task(in jobs.Submission) (task queue.Task) {
	w.Helper()
	j, _, err := w.s.Submit(w.Context(), me, w.ws, in)
	if err != nil {
		w.Fatal(err)
	}
	rec, err := w.store.Get(w.Context(), row.Key{Kind: row.Task, ID: j.Run})
	if err != nil {
		w.Fatal(err)
	}
	if err := json.Unmarshal(rec.Row.(row.Document).Body, &task); err != nil {
		w.Fatal(err)
	}
	return task
}
