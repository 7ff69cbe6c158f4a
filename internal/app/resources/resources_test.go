package resources_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/app/apptest"
	"github.com/ebb-compute/ebb/internal/app/resources"
	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// world is the first group, and a second one, with nothing in them.
type world struct {
	*testing.T
	s     *resources.Service
	ws    *workspaces.Service
	store *apptest.Store
	sub   string
	me    access.Principal
}

func newWorld(t *testing.T) world {
	t.Helper()
	st := &apptest.Store{}
	var n atomic.Int64
	at := func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, int(n.Add(1)), time.UTC) }
	id := func() string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", n.Add(1)) }
	ws := &workspaces.Service{Store: st, Now: at, NewID: id}
	c, err := ws.Seed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := world{t, &resources.Service{Store: st, Groups: ws, Now: at, NewID: id}, ws, st, c.SubscriptionID, access.Principal{ID: "me", Name: "me", Kind: access.User}}
	if _, _, err := ws.PutGroup(t.Context(), w.me, w.sub, "second", map[string]any{"location": "westus2"}); err != nil {
		t.Fatal(err)
	}
	return w
}

// id is that of a resource in a group, as "ebb/Microsoft.KeyVault/vaults/v".
func (w world) id(path string) armid.ID {
	w.Helper()
	group, rest, _ := strings.Cut(path, "/")
	id, err := armid.Parse(armid.Group(w.sub, group) + "/providers/" + rest)
	if err != nil {
		w.Fatal(err)
	}
	return id
}

func (w world) put(path string, body map[string]any) (resources.Document, error) {
	return w.s.Put(w.Context(), w.me, resources.Request{ID: w.id(path), Body: body})
}

func (w world) must(path string, body map[string]any) resources.Document {
	w.Helper()
	doc, err := w.put(path, body)
	if err != nil {
		w.Fatalf("Put(%s): %v", path, err)
	}
	return doc
}

func west(more ...any) map[string]any {
	body := map[string]any{"location": "West US 2"}
	for i := 0; i < len(more); i += 2 {
		body[more[i].(string)] = more[i+1]
	}
	return body
}

func TestARecordIsKeptAsItsTypeIsSpelled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	doc := w.must("EBB/microsoft.keyvault/VAULTS/Safe1", west("properties", map[string]any{"any": "thing"}, "tags", map[string]any{"a": "1"}))
	want := armid.Group(w.sub, "ebb") + "/providers/Microsoft.KeyVault/vaults/Safe1"
	if !doc.Created || doc.Body["id"] != want || doc.Body["type"] != "Microsoft.KeyVault/vaults" || doc.Body["location"] != "westus2" {
		t.Errorf("Put = %+v, want the id %s", doc, want)
	}
	if props := doc.Body["properties"].(map[string]any); props["any"] != "thing" {
		t.Errorf("its properties are %v", props)
	}
	again := w.must("ebb/Microsoft.KeyVault/vaults/SAFE1", west()) // the same one
	if again.Created || !armid.Equal(again.Body["id"].(string), want) {
		t.Errorf("put again: %+v", again)
	}
	if tags := again.Body["tags"].(map[string]any); len(tags) != 0 {
		t.Errorf("a PUT without tags leaves %v", tags)
	}
	patched, err := w.s.Patch(t.Context(), w.me, resources.Request{ID: w.id("ebb/Microsoft.KeyVault/vaults/safe1"), Body: map[string]any{"tags": map[string]any{"b": "2"}, "properties": map[string]any{"more": "x"}}})
	if err != nil || patched.Body["tags"].(map[string]any)["b"] != "2" || patched.Body["properties"].(map[string]any)["more"] != "x" {
		t.Errorf("Patch = %+v, %v", patched, err)
	}
}

func TestRecordsThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must("ebb/Microsoft.Storage/storageAccounts/mine", west())
	for name, tt := range map[string]struct {
		path string
		body map[string]any
		code string
	}{
		"in no group that there is":         {"none/Microsoft.KeyVault/vaults/safe", west(), "ResourceGroupNotFound"},
		"of a namespace that is not here":   {"ebb/Microsoft.Web/sites/s", west(), "InvalidResourceNamespace"},
		"of a type that is not here":        {"ebb/Microsoft.KeyVault/hsms/s", west(), "InvalidResourceType"},
		"with a name that is none":          {"ebb/Microsoft.Storage/storageAccounts/Mine-2", west(), "InvalidResourceName"},
		"without a region":                  {"ebb/Microsoft.KeyVault/vaults/safe", nil, "LocationRequired"},
		"with a region that is no text":     {"ebb/Microsoft.KeyVault/vaults/safe", map[string]any{"location": 1}, ""},
		"with tags that are none":           {"ebb/Microsoft.KeyVault/vaults/safe", west("tags", []any{"a"}), ""},
		"below what is not there":           {"ebb/Microsoft.Network/virtualNetworks/v/subnets/s", west(), "ParentResourceNotFound"},
		"in another region than before":     {"ebb/Microsoft.Storage/storageAccounts/mine", map[string]any{"location": "eastus"}, "InvalidResourceLocation"},
		"an account of a name that is gone": {"second/Microsoft.Storage/storageAccounts/mine", west(), "StorageAccountAlreadyTaken"},
	} {
		_, err := w.put(tt.path, tt.body)
		f, ok := errors.AsType[*fault.Error](err)
		if !ok || f.Kind == fault.Internal || tt.code != "" && f.Code != tt.code {
			t.Errorf("%s: %v, want %s", name, err, tt.code)
		}
	}
	run := access.Principal{ID: "r", Kind: access.RunIdentity, Scope: armid.Group(w.sub, "ebb")}
	if _, err := w.s.Put(t.Context(), run, resources.Request{ID: w.id("ebb/Microsoft.KeyVault/vaults/safe"), Body: west()}); fault.KindOf(err) != fault.Forbidden {
		t.Errorf("a run that makes one: %v", err)
	}
	if _, err := w.s.Patch(t.Context(), w.me, resources.Request{ID: w.id("ebb/Microsoft.KeyVault/vaults/none"), Body: west()}); fault.KindOf(err) != fault.NotFound {
		t.Errorf("a patch of none: %v", err)
	}
}

// TestTheNameOfAnAccountIsFreeAgain: by its deletion, and where it went with its group.
func TestTheNameOfAnAccountIsFreeAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const first, other = "second/Microsoft.Storage/storageAccounts/mine", "ebb/Microsoft.Storage/storageAccounts/mine"
	w.must(first, west())
	if there, err := w.s.Delete(t.Context(), w.me, resources.Request{ID: w.id(first)}); !there || err != nil {
		t.Fatalf("Delete = %v, %v", there, err)
	}
	w.must(other, west())
	if _, err := w.put(first, west()); fault.KindOf(err) != fault.Conflict {
		t.Errorf("taken by the other: %v", err)
	}
	if there, err := w.s.Delete(t.Context(), w.me, resources.Request{ID: w.id(other)}); !there || err != nil {
		t.Fatalf("Delete = %v, %v", there, err)
	}
	w.must(first, west())
	if _, err := w.ws.DeleteGroup(t.Context(), w.me, w.sub, "second"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.ws.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.must(other, west())
}

func TestADeletionTakesAlongWhatLiesInIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	space := map[string]any{"addressPrefixes": []any{"10.0.0.0/16"}}
	w.must("ebb/Microsoft.Network/virtualNetworks/v", west("properties", map[string]any{"addressSpace": space, "subnets": []any{map[string]any{"name": "inline", "properties": map[string]any{"addressPrefix": "10.0.0.0/24"}}}}))
	w.must("ebb/Microsoft.Network/virtualNetworks/v/subnets/own", map[string]any{"properties": map[string]any{"addressPrefix": "10.0.1.0/24"}})
	w.must("ebb/Microsoft.Network/virtualNetworks/v2", west("properties", map[string]any{"addressSpace": space}))
	list := func(typ string) (names []string) {
		docs, err := w.s.List(t.Context(), w.me, armid.ID{Subscription: w.sub}, typ)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range docs {
			names = append(names, d.Body["name"].(string))
		}
		return names
	}
	if got := list("microsoft.network/virtualNetworks/SUBNETS"); len(got) != 2 {
		t.Errorf("its subnets are %v", got)
	}
	if there, err := w.s.Delete(t.Context(), w.me, resources.Request{ID: w.id("ebb/Microsoft.Network/virtualNetworks/V")}); !there || err != nil {
		t.Fatalf("Delete = %v, %v", there, err)
	}
	if got := list(""); len(got) != 1 || got[0] != "v2" || len(w.store.Rows(row.Resource)) != 1 {
		t.Errorf("left: %v", got)
	}
	if there, err := w.s.Delete(t.Context(), w.me, resources.Request{ID: w.id("ebb/Microsoft.Network/virtualNetworks/v")}); there || err != nil {
		t.Errorf("deleted once more: %v, %v", there, err)
	}
}
