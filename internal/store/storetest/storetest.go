package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// epoch is when these tests take place.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 678_000, time.UTC)

// Run checks every promise on stores that open makes, empty and each its own.
func Run(t *testing.T, open func(t *testing.T) Store) {
	for name, check := range map[string]func(t *testing.T, s Store){
		"what is written is read back as it was":                 rowsComeBack,
		"a condition that does not hold changes nothing":         conditionsHold,
		"conditions look at the rows before the commit":          conditionsLookBack,
		"revisions grow, and a row has that of its commit":       revisionsGrow,
		"a row that is not there is not found":                   absentIsNotFound,
		"lists are ordered, filtered and paged":                  listsAreOrdered,
		"paging is stable while rows come and go":                pagingIsStable,
		"a token that is not ours is refused":                    foreignTokens,
		"the view has the commit when it is acknowledged":        viewFollows,
		"a run enters the view with its first status":            runsEnterWithStatus,
		"a run leaves the view with its final status":            runsLeave,
		"what is folded stays as it was when its writer goes on": viewIsOurs,
		"hot rows wake, documents do not":                        wakes,
		"every history gives what the model gives":               nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if check == nil {
				agreesWithModel(t, open)
				return
			}
			check(t, open(t))
		})
	}
}

func doc(kind row.Kind, id, parent, sort string) row.Document {
	return row.Document{
		Kind: kind, ID: id, Parent: parent, Sort: sort, Body: []byte(`{"id":"` + id + `"}`),
		Created: epoch, Modified: epoch.Add(time.Minute), By: "someone",
	}
}

func commit(t testing.TB, s Store, changes ...row.Change) int64 {
	t.Helper()
	rev, err := s.Commit(t.Context(), changes...)
	if err != nil {
		t.Fatalf("Commit(%+v): %v", changes, err)
	}
	return rev
}

func rowsComeBack(t *testing.T, s Store) {
	rows := []row.Row{
		doc(row.Job, "/w/jobs/a", "/w", "2026"),
		row.Document{Kind: row.Datum, ID: "bare", Body: []byte("1")},
		row.Document{Kind: row.Event, ID: "odd \x01'\"; -- é", Parent: "p", Body: []byte(`{"x":"é\u0000"}`), Created: epoch},
		fleet.Cluster{ID: "/c", Name: "C", Workspace: "/w", Size: fleet.Size{Name: "STANDARD_NC6", MemoryGiB: 56.5, GPUs: 1}, Max: 4, IdleAfter: 90 * time.Second, Generation: 7, Created: epoch},
		fleet.Status{ID: "/c", Provisioning: operation.Creating, Allocation: fleet.Resizing, Since: epoch, Errors: []fleet.Problem{{Code: "a", Message: "b"}}},
		fleet.Node{ID: "n-1", Cluster: "/c", Number: 1, State: fleet.Launching, Since: epoch},
		queue.Run{ID: "r", Name: "R", Workspace: "/w", Cluster: "/c", Nodes: 2, Priority: -1, Submitted: epoch, TimeLimit: time.Hour},
		queue.Status{ID: "r", State: queue.Queued, Since: epoch, Failure: queue.Failure{Code: "x", ExitCode: 3}},
		queue.Attempt{ID: "r.1", Run: "r", N: 1, Fence: 1 << 60, Phase: queue.Placed, Members: []queue.Member{{Node: "n-1", Phase: queue.Placed, Exit: queue.Exit{Code: 9, Ended: epoch}}}},
		operation.Operation{ID: "o", Target: "/c", Status: operation.InProgress, Started: epoch},
	}
	var changes []row.Change
	for _, r := range rows {
		changes = append(changes, row.Put(r))
	}
	rev := commit(t, s, changes...)
	for _, want := range rows {
		got, err := s.Get(t.Context(), want.Key())
		if err != nil || !reflect.DeepEqual(got.Row, want) || got.Rev != rev {
			t.Errorf("Get(%v) = %+v, %v; want %+v at %d", want.Key(), got, err, want, rev)
		}
		parent, _ := want.Index()
		page, err := s.List(t.Context(), row.Query{Kind: want.Key().Kind, Parent: parent, Prefix: want.Key().ID})
		if err != nil || len(page.Records) != 1 || !reflect.DeepEqual(page.Records[0].Row, want) {
			t.Errorf("List(%v) = %+v, %v; want only %+v", want.Key(), page, err, want)
		}
	}
}

func conditionsHold(t *testing.T, s Store) {
	there, gone := doc(row.Job, "there", "", ""), doc(row.Job, "gone", "", "")
	rev := commit(t, s, row.Put(there))
	other := doc(row.Job, "other", "", "")
	for name, tt := range map[string]struct {
		change row.Change
		holds  bool
	}{
		"create over a row":           {row.Create(there), false},
		"update of another revision":  {row.Update(there, rev+1), false},
		"update of what is not there": {row.Update(gone, rev), false},
		"put that must exist":         {row.Change{Put: gone, If: row.Condition{Exists: true}}, false},
		"drop of another revision":    {row.Change{Drop: there.Key(), If: row.Condition{Rev: rev + 1}}, false},
		"drop that must exist":        {row.Change{Drop: gone.Key(), If: row.Condition{Exists: true}}, false},
		"need of what is not there":   {row.Need(gone.Key()), false},
		"need of another revision":    {row.Same(there.Key(), rev+1), false},
		"need of what is there":       {row.Need(there.Key()), true},
		"need of its revision":        {row.Same(there.Key(), rev), true},
		"plain drop of nothing":       {row.Drop(gone.Key()), true},
	} {
		_, err := s.Commit(t.Context(), row.Put(other), tt.change)
		if tt.holds {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			commit(t, s, row.Drop(other.Key()))
			if got, err := s.Get(t.Context(), there.Key()); err != nil || got.Rev != rev {
				t.Errorf("%s: the row that was only looked at is now %+v, %v", name, got, err)
			}
			continue
		}
		f, _ := errors.AsType[*fault.Error](err)
		if f == nil || f.Kind != fault.Precondition || (f.Target != "there" && f.Target != "gone") {
			t.Errorf("%s: %v, want a fault.Precondition about the row", name, err)
		}
		if _, err := s.Get(t.Context(), other.Key()); !errors.Is(err, fault.NotFound) {
			t.Errorf("%s: the change beside it was written", name)
		}
		if got, err := s.Get(t.Context(), there.Key()); err != nil || got.Rev != rev {
			t.Errorf("%s: the row is now %+v, %v", name, got, err)
		}
	}
	next := commit(t, s, row.Update(there, rev))
	commit(t, s, row.Change{Drop: there.Key(), If: row.Condition{Rev: next}})
	commit(t, s, row.Create(there))
}

func conditionsLookBack(t *testing.T, s Store) {
	a := doc(row.Job, "a", "", "")
	commit(t, s, row.Create(a), row.Create(a)) // neither was there before
	if _, err := s.Commit(t.Context(), row.Drop(a.Key()), row.Create(a)); !errors.Is(err, fault.Precondition) {
		t.Errorf("drop and create: %v, want a fault.Precondition", err)
	}
}

func revisionsGrow(t *testing.T, s Store) {
	var last int64
	for i := range 5 {
		d := doc(row.Job, fmt.Sprint(i), "", "")
		rev := commit(t, s, row.Put(d), row.Put(doc(row.Job, "same", "", "")))
		if rev <= last {
			t.Fatalf("revision %d after %d", rev, last)
		}
		last = rev
		if got, _ := s.Get(t.Context(), d.Key()); got.Rev != rev {
			t.Errorf("row has revision %d, its commit %d", got.Rev, rev)
		}
	}
	if rev := commit(t, s); rev != last {
		t.Errorf("an empty commit returned revision %d, want the last one, %d", rev, last)
	}
}

func absentIsNotFound(t *testing.T, s Store) {
	commit(t, s, row.Put(doc(row.Job, "a", "", "")))
	for _, k := range []row.Key{{Kind: row.Job, ID: "A"}, {Kind: row.Task, ID: "a"}, {Kind: row.Job, ID: ""}} {
		if _, err := s.Get(t.Context(), k); !errors.Is(err, fault.NotFound) {
			t.Errorf("Get(%v): %v, want a fault.NotFound", k, err)
		}
	}
	commit(t, s, row.Drop(row.Key{Kind: row.Job, ID: "a"}))
	if _, err := s.Get(t.Context(), row.Key{Kind: row.Job, ID: "a"}); !errors.Is(err, fault.NotFound) {
		t.Errorf("Get after Drop: %v, want a fault.NotFound", err)
	}
}

// all reads every page, limit rows at a time.
func all(t testing.TB, s Store, q row.Query) string {
	t.Helper()
	var ids []string
	for {
		page, err := s.List(t.Context(), q)
		if err != nil {
			t.Fatalf("List(%+v): %v", q, err)
		}
		if q.Limit > 0 && len(page.Records) > q.Limit {
			t.Fatalf("List(%+v) gave %d rows", q, len(page.Records))
		}
		for _, r := range page.Records {
			ids = append(ids, r.Row.Key().ID)
		}
		if page.Next == "" {
			return strings.Join(ids, " ")
		}
		q.After = page.Next
	}
}

func listsAreOrdered(t *testing.T, s Store) {
	commit(t, s,
		row.Put(doc(row.Job, "a", "p", "3")), row.Put(doc(row.Job, "b", "p", "1")), row.Put(doc(row.Job, "c", "p", "1")),
		row.Put(doc(row.Job, "ca", "q", "2")), row.Put(doc(row.Job, "d", "", "0")), row.Put(doc(row.Task, "e", "p", "1")))
	for name, tt := range map[string]struct {
		q    row.Query
		want string
	}{
		"by sort, then id":           {row.Query{Kind: row.Job, Parent: "p"}, "b c a"},
		"last first":                 {row.Query{Kind: row.Job, Parent: "p", Desc: true}, "a c b"},
		"every parent":               {row.Query{Kind: row.Job}, "d b c ca a"},
		"with a prefix":              {row.Query{Kind: row.Job, Prefix: "c"}, "c ca"},
		"with a prefix and a parent": {row.Query{Kind: row.Job, Prefix: "c", Parent: "q"}, "ca"},
		"of an unknown parent":       {row.Query{Kind: row.Job, Parent: "x"}, ""},
		"some by their ids":          {row.Query{Kind: row.Job, IDs: []string{"a", "x", "b", "e"}}, "b a"},
		"none by their ids":          {row.Query{Kind: row.Job, IDs: []string{}}, ""},
		"by ids, of a parent":        {row.Query{Kind: row.Job, IDs: []string{"ca", "a"}, Parent: "q"}, "ca"},
	} {
		for _, limit := range []int{0, 1, 2, 3} {
			tt.q.Limit = limit
			if got := all(t, s, tt.q); got != tt.want {
				t.Errorf("%s, %d at a time: %q, want %q", name, limit, got, tt.want)
			}
		}
	}
}

func pagingIsStable(t *testing.T, s Store) {
	var changes []row.Change
	for i := range 10 {
		changes = append(changes, row.Put(doc(row.Job, fmt.Sprint("id", i), "p", fmt.Sprint(i))))
	}
	commit(t, s, changes...)
	first, err := s.List(t.Context(), row.Query{Kind: row.Job, Parent: "p", Limit: 4})
	if err != nil {
		t.Fatal(err)
	}
	// Before the place, at it (the last row seen goes away), and after it.
	commit(t, s, row.Put(doc(row.Job, "before", "p", "0")), row.Drop(row.Key{Kind: row.Job, ID: "id3"}), row.Put(doc(row.Job, "after", "p", "8")))
	got := all(t, s, row.Query{Kind: row.Job, Parent: "p", Limit: 4, After: first.Next})
	if want := "id4 id5 id6 id7 after id8 id9"; got != want {
		t.Errorf("the pages after the first have %q, want %q", got, want)
	}
}

func foreignTokens(t *testing.T, s Store) {
	commit(t, s, row.Put(doc(row.Job, "a", "", "")))
	for _, token := range []string{"x", "%", "1000", "' OR 1=1"} {
		if _, err := s.List(t.Context(), row.Query{Kind: row.Job, After: token}); !errors.Is(err, fault.Invalid) {
			t.Errorf("List after %q: %v, want a fault.Invalid", token, err)
		}
	}
}

func run(id string) row.Change {
	return row.Create(queue.Run{ID: id, Cluster: "/c", Submitted: epoch})
}

func status(id string, s queue.State) row.Change {
	return row.Put(queue.Status{ID: id, State: s, Since: epoch})
}

func viewFollows(t *testing.T, s Store) {
	before := s.View()
	commit(t, s, row.Create(fleet.Cluster{ID: "/c", Max: 3}), run("r"), status("r", queue.Queued))
	if c, ok := s.View().Cluster("/c"); !ok || c.Max != 3 || s.View().RunCount("/c") != 1 {
		t.Errorf("the view has cluster %+v %v and %d runs", c, ok, s.View().RunCount("/c"))
	}
	if _, ok := before.Cluster("/c"); ok {
		t.Error("an old view changed")
	}
	if _, err := s.Commit(t.Context(), row.Put(fleet.Cluster{ID: "/d"}), row.Create(fleet.Cluster{ID: "/c"})); err == nil {
		t.Fatal("a cluster was created twice")
	}
	if _, ok := s.View().Cluster("/d"); ok {
		t.Error("the view has part of a commit that was refused")
	}
}

func runsEnterWithStatus(t *testing.T, s Store) {
	commit(t, s, run("r"))
	if _, ok := s.View().Run("r"); ok {
		t.Error("a run without a status is in the view")
	}
	commit(t, s, status("r", queue.Queued))
	if _, ok := s.View().Run("r"); !ok {
		t.Error("a run that was there before its status is not in the view")
	}
}

func runsLeave(t *testing.T, s Store) {
	commit(t, s, run("r"), status("r", queue.Queued))
	commit(t, s, status("r", queue.Canceled))
	commit(t, s, row.Put(queue.Run{ID: "r", Cluster: "/c", Cancel: true})) // too late
	if _, ok := s.View().Run("r"); ok || s.View().RunCount("/c") != 0 {
		t.Error("an ended run is in the view")
	}
	if _, ok := s.View().RunStatus("r"); ok {
		t.Error("a final status is in the view")
	}
	if rec, err := s.Get(t.Context(), row.Key{Kind: row.Run, ID: "r"}); err != nil || !rec.Row.(queue.Run).Cancel {
		t.Errorf("the row of an ended run: %+v, %v", rec, err)
	}
}

func viewIsOurs(t *testing.T, s Store) {
	commit(t, s, row.Put(fleet.Status{ID: "/c", Target: 1}))
	v := s.View()
	commit(t, s, row.Put(fleet.Status{ID: "/c", Target: 2}))
	if st, _ := v.ClusterStatus("/c"); st.Target != 1 {
		t.Errorf("an old view has target %d, want 1", st.Target)
	}
}

func wakes(t *testing.T, s Store) {
	woken := func() bool {
		select {
		case <-s.Changed():
			return true
		default:
			return false
		}
	}
	commit(t, s, row.Put(doc(row.Job, "a", "", "")))
	if woken() {
		t.Error("a document woke the loop")
	}
	commit(t, s, row.Put(fleet.Cluster{ID: "/c"}))
	commit(t, s, row.Drop(row.Key{Kind: row.Cluster, ID: "/c"}))
	if !woken() {
		t.Error("a cluster did not wake the loop")
	}
	if woken() {
		t.Error("two signals wait; one is enough")
	}
}

// agreesWithModel drives the store and a model through the same random history.
func agreesWithModel(t *testing.T, open func(t *testing.T) Store) {
	for seed := range 3 {
		s, m := open(t), NewModel()
		gen := rapid.SliceOfN(rapid.Custom(drawCommit), 80, 80).Example(seed + 1)
		for step, changes := range gen {
			revS, errS := s.Commit(t.Context(), changes...)
			revM, errM := m.Commit(t.Context(), changes...)
			if revS != revM || (errS == nil) != (errM == nil) || (errS != nil && fault.KindOf(errS) != fault.KindOf(errM)) {
				t.Fatalf("seed %d, step %d: Commit(%+v) = %d, %v; the model %d, %v", seed, step, changes, revS, errS, revM, errM)
			}
			if diff := pool.Differ(s.View(), m.View()); diff != "" {
				t.Fatalf("seed %d, step %d: after %+v: %s", seed, step, changes, diff)
			}
			if diff := pool.Differ(m.View(), m.Rebuild()); diff != "" {
				t.Fatalf("seed %d, step %d: folded and rebuilt: %s", seed, step, diff)
			}
		}
		compareRows(t, s, m)
	}
}

func compareRows(t *testing.T, s Store, m *Model) {
	t.Helper()
	for _, kind := range []row.Kind{row.Job, row.Run, row.RunStatus, row.Cluster, row.Node} {
		for _, q := range []row.Query{{Kind: kind, Limit: 2}, {Kind: kind, Parent: "/c1", Limit: 3, Desc: true}} {
			if got, want := all(t, s, q), all(t, m, q); got != want {
				t.Errorf("List(%+v) = %q, want %q", q, got, want)
			}
		}
	}
	for k, want := range m.rows {
		if got, err := s.Get(context.Background(), k); err != nil || got.Rev != want.Rev {
			t.Errorf("Get(%v) = %+v, %v; want revision %d", k, got, err, want.Rev)
		}
	}
}

func drawCommit(t *rapid.T) []row.Change {
	return rapid.SliceOfN(rapid.Custom(drawChange), 1, 4).Draw(t, "changes")
}

func drawChange(t *rapid.T) row.Change {
	n := rapid.IntRange(0, 3).Draw(t, "n")
	cluster := fmt.Sprint("/c", n%2)
	rows := []row.Row{
		doc(row.Job, fmt.Sprint("job", n), cluster, fmt.Sprint(n%3)),
		fleet.Cluster{ID: cluster, Max: n},
		fleet.Node{ID: fmt.Sprint("n", n), Cluster: cluster, Number: int64(n)},
		queue.Run{ID: fmt.Sprint("r", n), Cluster: cluster, Priority: n % 2, Submitted: epoch},
		queue.Status{ID: fmt.Sprint("r", n), State: queue.Queued},
		queue.Status{ID: fmt.Sprint("r", n), State: queue.Failed},
	}
	r := rapid.SampledFrom(rows).Draw(t, "row")
	cond := rapid.SampledFrom([]row.Condition{{}, {}, {}, {}, {Absent: true}, {Exists: true}, {Rev: int64(n)}}).Draw(t, "condition")
	switch rapid.IntRange(0, 5).Draw(t, "verb") {
	case 0:
		return row.Change{Drop: r.Key(), If: cond}
	case 1:
		return row.Change{Drop: r.Key(), If: cond, Only: true}
	}
	return row.Change{Put: r, If: cond}
}
