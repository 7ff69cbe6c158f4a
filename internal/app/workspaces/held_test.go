package workspaces_test

import (
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// TestNothingIsKeptInWhatIsGone: whatever is written into a workspace or a group
// that is not there is refused, with all that is in the same commit.
func TestNothingIsKeptInWhatIsGone(t *testing.T) {
	t.Parallel()
	_, st, c := seeded(t)
	group := "/subscriptions/" + strings.ToLower(c.SubscriptionID) + "/resourcegroups/ebb"
	ws := group + "/providers/microsoft.machinelearningservices/workspaces/main"
	doc := func(kind row.Kind, id string) row.Row { return row.Document{Kind: kind, ID: id, Body: []byte("{}")} }
	for name, tt := range map[string]struct {
		in row.Row
		ok bool
	}{
		"an asset of the workspace":         {doc(row.Asset, ws+"/data/d/versions/1"), true},
		"an asset of one that is gone":      {doc(row.Asset, ws+"2/data/d/versions/1"), false},
		"a file of one that is gone":        {doc(row.Artifact, ws+"2/artifacts/dcid.r/outputs/a"), false},
		"a job of one that is gone":         {doc(row.Job, ws+"2/jobs/j"), false},
		"a cluster of one that is gone":     {fleet.Cluster{ID: ws + "2/computes/c"}, false},
		"a lock of the workspace":           {doc(row.Lock, ws+"/providers/microsoft.authorization/locks/l"), true},
		"a record of the group":             {doc(row.Resource, group+"/providers/microsoft.keyvault/vaults/v"), true},
		"a record of a group that is gone":  {doc(row.Resource, group+"2/providers/microsoft.keyvault/vaults/v"), false},
		"a lock of a group that is gone":    {doc(row.Lock, group+"2/providers/microsoft.authorization/locks/l"), false},
		"a deployment of the subscription":  {doc(row.Deployment, "/subscriptions/s/providers/microsoft.resources/deployments/d"), true},
		"an event about what is gone":       {row.Document{Kind: row.Event, ID: "e", Parent: ws + "2", Body: []byte("{}")}, true},
		"a workspace, which says it itself": {doc(row.Workspace, ws+"3"), true},
	} {
		other := row.Document{Kind: row.Datum, ID: "beside " + name, Body: []byte("{}")}
		_, err := workspaces.Commit(t.Context(), st, row.Create(other), row.Create(tt.in))
		if tt.ok != (err == nil) || !tt.ok && fault.KindOf(err) != fault.NotFound {
			t.Errorf("%s: Commit = %v, want it to be kept: %v", name, err, tt.ok)
		}
		if _, err := st.Get(t.Context(), other.Key()); tt.ok != (err == nil) {
			t.Errorf("%s: what was committed beside it: %v", name, err)
		}
	}
	twice := row.Create(doc(row.Asset, ws+"/data/d/versions/1"))
	if _, err := workspaces.Commit(t.Context(), st, twice); fault.KindOf(err) != fault.Precondition {
		t.Errorf("creating what is there: %v, want the store's own refusal", err)
	}
}
