package authorization_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/app/apptest"
	"github.com/ebb-compute/ebb/internal/app/authorization"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/row"
)

const (
	ws      = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/main"
	reader  = "/subscriptions/s/providers/Microsoft.Authorization/roleDefinitions/acdd72a7-3385-48ef-bd42-f606fba81ae7"
	someone = "11111111-2222-4333-8444-555555555555"
)

// TestAClusterTakesItsAssignmentsAlong: another cluster of the same name does not
// come into what was given at the first.
func TestAClusterTakesItsAssignmentsAlong(t *testing.T) {
	t.Parallel()
	st := &apptest.Store{}
	var n, hours atomic.Int64
	s := &authorization.Service{Store: st, NewID: func() string { return fmt.Sprint(n.Add(1)) },
		Now: func() time.Time { return time.Date(2026, 1, 2, int(hours.Load()), 0, 0, 0, time.UTC) }}
	owner := access.Principal{ID: "o", Kind: access.Application}
	key := row.Key{Kind: row.Compute, ID: "/subscriptions/s/resourcegroups/g/providers/microsoft.machinelearningservices/workspaces/main/computes/cpu"}
	cluster := func() {
		if _, err := st.Commit(t.Context(), row.Put(row.Document{Kind: key.Kind, ID: key.ID, Body: []byte(`{"id":"` + ws + `/computes/cpu"}`), Created: s.Now()})); err != nil {
			t.Fatal(err)
		}
	}
	count := func() int {
		list, err := s.Assignments(t.Context(), owner, ws+"/computes/cpu", authorization.Wanted{AtScope: true})
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	cluster()
	give := map[string]any{"properties": map[string]any{"roleDefinitionId": reader, "principalId": someone, "principalType": "User"}}
	if _, err := s.PutAssignment(t.Context(), owner, ws+"/computes/CPU", someone, give); err != nil {
		t.Fatal(err)
	}
	if count() != 1 {
		t.Fatal("the assignment is not listed")
	}
	if _, err := st.Commit(t.Context(), row.Drop(key)); err != nil { // as control does
		t.Fatal(err)
	}
	hours.Add(1)
	cluster()
	if n := count(); n != 0 || len(st.Rows(row.Assignment)) != 0 {
		t.Errorf("the next cluster has %d of the first one's assignments", n)
	}
}
