package workspaces_test

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/app/apptest"
	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// forgotten counts the workspaces whose files were removed.
type forgotten map[string]int

func (f forgotten) Forget(_ context.Context, guid string) error {
	f[guid]++
	return nil
}

// furnish puts a cluster, a job and more into the seeded workspace.
func furnish(t *testing.T, st *apptest.Store, ws string) {
	t.Helper()
	doc := func(kind row.Kind, id, parent string) row.Change {
		return row.Put(row.Document{Kind: kind, ID: id, Parent: parent, Body: []byte(`{"run":"run-1"}`)})
	}
	if _, err := st.Commit(t.Context(),
		row.Put(fleet.Cluster{ID: ws + "/computes/c", Name: "c", Workspace: ws, Max: 1}), doc(row.Compute, ws+"/computes/c", ws),
		doc(row.Job, ws+"/jobs/j", ws), doc(row.Task, "run-1", ws), row.Put(queue.Run{ID: "run-1", Document: ws + "/jobs/j"}),
		row.Put(queue.Status{ID: "run-1", Document: ws + "/jobs/j", State: queue.Completed}), row.Put(queue.Attempt{ID: "run-1.1", Run: "run-1", Phase: queue.Ended}),
		doc(row.Environment, ws+"/environments/e/versions/1", ws+"/environments/e"), doc(row.Metric, ws+"/jobs/j/m", ws+"/jobs/j"),
		doc(row.Environment, strings.Replace(ws, "/ebb/", "/ebb2/", 1)+"/environments/e/versions/1", ""),
	); err != nil {
		t.Fatal(err)
	}
}

// TestDeleteGroup takes a group with a workspace through a deletion in which the
// server is killed at every commit.
func TestDeleteGroup(t *testing.T) {
	t.Parallel()
	s, st, c := seeded(t)
	files := forgotten{}
	s.Files = files
	group := "/subscriptions/" + c.SubscriptionID + "/resourcegroups/ebb"
	ws := strings.ToLower(group + "/providers/Microsoft.MachineLearningServices/workspaces/main")
	furnish(t, st, ws)
	owner := access.Principal{ID: c.ObjectID, Kind: access.Application}
	op, err := s.DeleteGroup(t.Context(), owner, c.SubscriptionID, "EBB")
	if err != nil || op.Status != operation.InProgress {
		t.Fatalf("DeleteGroup = %+v, %v", op, err)
	}

	killed := errors.New("killed")
	budget := 0 // commits until the next kill
	st.Before = func([]row.Change) error {
		if budget--; budget < 0 {
			return killed
		}
		return nil
	}
	lives, left := 0, true
	for ; left; lives++ {
		s = &workspaces.Service{Store: st, Now: s.Now, NewID: s.NewID, Log: s.Log, Files: files} // a new server
		budget = 1
		if left, err = s.Sweep(t.Context()); err != nil {
			if !errors.Is(err, killed) {
				t.Fatal(err)
			}
			left = true
		}
		rows := st.Rows(row.Cluster)
		if len(rows) == 1 && rows[0].(fleet.Cluster).Deleting { // control's part
			st.Before, budget = nil, 0
			if len(st.Rows(row.Job)) == 0 || len(st.Rows(row.Workspace)) == 0 {
				t.Error("something went before the cluster did")
			}
			if _, err := st.Commit(t.Context(), row.Drop(rows[0].Key()), row.Drop(row.Key{Kind: row.Compute, ID: ws + "/computes/c"})); err != nil {
				t.Fatal(err)
			}
			st.Before = func([]row.Change) error {
				if budget--; budget < 0 {
					return killed
				}
				return nil
			}
		}
		if lives > 50 {
			t.Fatal("no end in sight")
		}
	}
	if lives < 4 {
		t.Errorf("only %d lives were needed: the kills did not happen", lives)
	}
	for _, kind := range []row.Kind{row.ResourceGroup, row.Workspace, row.Compute, row.Job, row.Task, row.Run, row.RunStatus, row.Attempt, row.Metric} {
		if rows := st.Rows(kind); len(rows) != 0 {
			t.Errorf("%d rows of kind %s are left: %v", len(rows), kind, rows[0].Key())
		}
	}
	if n := len(st.Rows(row.Environment)); n != 1 {
		t.Errorf("%d environments are left, want that of another group", n)
	}
	if len(files) != 1 {
		t.Errorf("files of %d workspaces were removed", len(files))
	}
	if op, err = s.Operation(t.Context(), owner, c.SubscriptionID, op.ID); err != nil || op.Status != operation.Succeeded {
		t.Errorf("the operation is %+v, %v", op, err)
	}
}

// TestStrays: what is committed into a workspace after it went, by a request that
// was let in before, goes too; and another workspace of its name is left alone.
func TestStrays(t *testing.T) {
	t.Parallel()
	s, st, c := seeded(t)
	id := "/subscriptions/" + c.SubscriptionID + "/resourceGroups/ebb/providers/Microsoft.MachineLearningServices/workspaces/main"
	owner := access.Principal{ID: c.ObjectID, Kind: access.Application}
	remove := func() {
		if _, err := s.Delete(t.Context(), owner, workspaces.Request{ID: id}); err != nil {
			t.Fatal(err)
		}
		if left, err := s.Sweep(t.Context()); left || err != nil {
			t.Fatalf("Sweep() = %v, %v", left, err)
		}
	}
	strays := func() {
		if again, err := s.Strays(t.Context()); err != nil || !again {
			t.Fatalf("Strays() = %v, %v; want another look", again, err)
		}
	}
	remove()
	furnish(t, st, strings.ToLower(id))
	// The server was killed before it looked: another goes on.
	s = &workspaces.Service{Store: st, Now: s.Now, NewID: s.NewID}
	strays()
	rows := st.Rows(row.Cluster)
	if len(rows) != 1 || !rows[0].(fleet.Cluster).Deleting || len(st.Rows(row.Job)) != 0 || len(st.Rows(row.Compute)) != 1 {
		t.Fatalf("the stray cluster is %v", rows)
	}
	if _, err := st.Commit(t.Context(), row.Drop(rows[0].Key())); err != nil { // control's part
		t.Fatal(err)
	}
	strays()
	if len(st.Rows(row.Metric)) != 0 || len(st.Rows(row.Compute)) != 0 {
		t.Error("something of the stray rows is left")
	}
	if _, err := s.Put(t.Context(), owner, workspaces.Request{ID: id, Body: map[string]any{"location": "westus2"}}); err != nil {
		t.Fatal(err)
	}
	furnish(t, st, strings.ToLower(id))
	if again, err := s.Strays(t.Context()); again || err != nil {
		t.Errorf("Strays() = %v, %v with a new workspace there", again, err)
	}
	for _, r := range st.Rows(row.Datum) {
		if strings.HasPrefix(r.Key().ID, "departed/") {
			t.Errorf("%s is still looked at", r.Key().ID)
		}
	}
	if rows := st.Rows(row.Cluster); len(rows) != 1 || rows[0].(fleet.Cluster).Deleting {
		t.Errorf("the new workspace's cluster is %v", rows)
	}
}

// TestAWorkspaceIsNeverInNoGroup: a PUT that has seen its group alive is committed
// when the group is marked, or gone.
func TestAWorkspaceIsNeverInNoGroup(t *testing.T) {
	t.Parallel()
	for name, sweeps := range map[string]bool{"marked": false, "gone": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, st, c := seeded(t)
			owner := access.Principal{ID: c.ObjectID, Kind: access.Application}
			group := "/subscriptions/" + c.SubscriptionID + "/resourceGroups/late"
			if _, _, err := s.PutGroup(t.Context(), owner, c.SubscriptionID, "late", map[string]any{"location": "westus2"}); err != nil {
				t.Fatal(err)
			}
			st.Before = func(changes []row.Change) error {
				st.Before = nil
				if _, err := s.DeleteGroup(t.Context(), owner, c.SubscriptionID, "late"); err != nil {
					return err
				}
				if !sweeps {
					return nil
				}
				_, err := s.Sweep(t.Context())
				return err
			}
			id := group + "/providers/Microsoft.MachineLearningServices/workspaces/wide"
			_, err := s.Put(t.Context(), owner, workspaces.Request{ID: id, Body: map[string]any{"location": "westus2"}})
			want := fault.Conflict
			if sweeps {
				want = fault.NotFound
			}
			if fault.KindOf(err) != want {
				t.Errorf("Put into a group that is %s: %v, want %v", name, err, want)
			}
			if n := len(st.Rows(row.Workspace)); n != 1 {
				t.Errorf("%d workspaces, want the first one only", n)
			}
		})
	}
}

// TestEveryKindIsDeleted holds the lists of delete.go against package row.
func TestEveryKindIsDeleted(t *testing.T) {
	t.Parallel()
	f, err := parser.ParseFile(token.NewFileSet(), "../../core/row/row.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	listed := workspaces.ListedKinds()
	n := 0
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, spec := range g.Specs {
			v := spec.(*ast.ValueSpec)
			if len(v.Values) != 1 {
				continue
			}
			n++
			kind := row.Kind(strings.Trim(v.Values[0].(*ast.BasicLit).Value, `"`))
			if listed[kind] != 1 {
				t.Errorf("row.%s is in %d of the lists within and outside of delete.go; say whether it goes with its workspace", v.Names[0].Name, listed[kind])
			}
		}
	}
	if n < 20 {
		t.Errorf("%d kinds were found in package row", n)
	}
}
