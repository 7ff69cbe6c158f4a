package workspaces_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/app/apptest"
	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

func service(t *testing.T) (*workspaces.Service, *apptest.Store) {
	t.Helper()
	st := &apptest.Store{}
	var n atomic.Int64
	return &workspaces.Service{
		Store: st,
		Now:   func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) },
		NewID: func() string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", n.Add(1)) },
		Log:   slog.New(slog.NewTextHandler(t.Output(), nil)),
	}, st
}

func seeded(t *testing.T) (*workspaces.Service, *apptest.Store, workspaces.Client) {
	t.Helper()
	s, st := service(t)
	c, err := s.Seed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s, st, c
}

func TestSeedOnce(t *testing.T) {
	t.Parallel()
	s, st, first := seeded(t)
	if first.Secret == "" || first.TenantID == "" || first.ClientID == "" || first.SubscriptionID == "" || first.ResourceGroup != "ebb" || first.Workspace != "main" {
		t.Fatalf("Seed() = %+v, with something missing", first)
	}
	again, err := s.Seed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first.Secret = ""
	if again != first {
		t.Errorf("the second Seed() = %+v, want the first without its secret: %+v", again, first)
	}
	if n := len(st.Rows(row.Workspace)); n != 1 {
		t.Errorf("%d workspaces, want 1", n)
	}
	if n := len(st.Rows(row.Event)); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

// TestSeedLosesARace: when another call seeds between the look and the commit,
// its seed counts.
func TestSeedLosesARace(t *testing.T) {
	t.Parallel()
	s, st := service(t)
	other := &workspaces.Service{Store: st, Now: s.Now, NewID: s.NewID, Log: s.Log}
	var winner workspaces.Client
	st.Before = func([]row.Change) error {
		st.Before = nil
		var err error
		winner, err = other.Seed(context.Background())
		return err
	}
	got, err := s.Seed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	winner.Secret = ""
	if got != winner || winner.TenantID == "" {
		t.Errorf("Seed() = %+v, want what won: %+v", got, winner)
	}
}

func TestNoSecretIsKept(t *testing.T) {
	t.Parallel()
	_, st, c := seeded(t)
	for _, kind := range []row.Kind{row.Datum, row.Workspace, row.Event, row.Subscription, row.ResourceGroup} {
		for _, r := range st.Rows(kind) {
			if bytes.Contains(r.(row.Document).Body, []byte(c.Secret)) {
				t.Errorf("%s holds the secret: %s", kind, r.(row.Document).Body)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	s, _, c := seeded(t)
	for name, try := range map[string]struct{ tenant, client, secret, code string }{
		"the right secret opens":            {c.TenantID, c.ClientID, c.Secret, ""},
		"ids count in any case":             {strings.ToUpper(c.TenantID), strings.ToUpper(c.ClientID), c.Secret, ""},
		"no tenant means the only one":      {"", c.ClientID, c.Secret, ""},
		"a wrong secret does not":           {c.TenantID, c.ClientID, c.Secret + "x", "AADSTS7000215"},
		"an empty secret does not":          {c.TenantID, c.ClientID, "", "AADSTS7000215"},
		"an unknown client does not":        {c.TenantID, c.TenantID, c.Secret, "AADSTS700016"},
		"a foreign tenant does not":         {c.ClientID, c.ClientID, c.Secret, "AADSTS90002"},
		"a name with a slash reads no rows": {c.TenantID, "../installation", c.Secret, "AADSTS700016"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := s.Check(t.Context(), try.tenant, try.client, try.secret)
			if try.code == "" {
				if err != nil || p.ID != c.ObjectID || p.App != c.ClientID || p.Tenant != c.TenantID || p.Kind != access.Application || p.Scope != "" {
					t.Errorf("Check(%+v) = %+v, %v", try, p, err)
				}
				return
			}
			e, ok := errors.AsType[*fault.Error](err)
			if !ok || e.Kind != fault.Unauthorized || e.Code != try.code {
				t.Errorf("Check(%+v) = %+v, %v; want %s", try, p, err, try.code)
			}
		})
	}
}

func TestNewSecretKeepsTheOneBefore(t *testing.T) {
	t.Parallel()
	s, _, first := seeded(t)
	second, err := s.NewSecret(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	third, err := s.NewSecret(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		secret string
		opens  bool
	}{"the first": {first.Secret, false}, "the second": {second.Secret, true}, "the third": {third.Secret, true}} {
		if _, err := s.Check(t.Context(), "", first.ClientID, c.secret); (err == nil) != c.opens {
			t.Errorf("%s secret: %v, want it to open: %v", name, err, c.opens)
		}
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	s, _, c := seeded(t)
	id := "/subscriptions/" + c.SubscriptionID + "/resourceGroups/ebb/providers/Microsoft.MachineLearningServices/workspaces/main"
	info, err := s.Lookup(t.Context(), strings.ToUpper(id))
	if err != nil {
		t.Fatal(err)
	}
	if info.ID != id || info.Key != strings.ToLower(id) || info.Name != "main" || info.Region != "westus2" || info.Tenant != c.TenantID || len(info.GUID) != 36 {
		t.Errorf("Lookup = %+v", info)
	}
	if by, err := s.LookupGUID(t.Context(), strings.ToUpper(info.GUID)); err != nil || by != info {
		t.Errorf("LookupGUID = %+v, %v; want %+v", by, err, info)
	}
	for name, try := range map[string]struct{ id, code string }{
		"no such workspace":    {strings.Replace(id, "/main", "/other", 1), "ResourceNotFound"},
		"no such group":        {strings.Replace(id, "/ebb/", "/other/", 1), "ResourceGroupNotFound"},
		"no such subscription": {strings.Replace(id, c.SubscriptionID, c.TenantID, 1), "SubscriptionNotFound"},
		"not a workspace":      {id + "/computes/c", "InvalidResourceId"},
		"nonsense":             {"hello", "InvalidResourceId"},
	} {
		_, err := s.Lookup(t.Context(), try.id)
		if e, ok := errors.AsType[*fault.Error](err); !ok || e.Code != try.code {
			t.Errorf("%s: %v, want %s", name, err, try.code)
		}
	}
}

func TestReads(t *testing.T) {
	t.Parallel()
	s, _, c := seeded(t)
	owner := access.Principal{ID: c.ObjectID}
	ws := "/subscriptions/" + c.SubscriptionID + "/resourceGroups/ebb/providers/Microsoft.MachineLearningServices/workspaces/main"
	run := access.Principal{ID: "run", Kind: access.RunIdentity, Scope: strings.ToLower(ws)}
	foreign := access.Principal{ID: "other", Kind: access.RunIdentity, Scope: strings.ToLower(ws) + "2"}

	doc, err := s.Get(t.Context(), owner, ws)
	if err != nil {
		t.Fatal(err)
	}
	props := doc.Body["properties"].(map[string]any)
	for _, k := range []string{"workspaceId", "friendlyName", "storageAccount", "provisioningState", "creationTime"} {
		if props[k] == nil {
			raw, _ := json.Marshal(doc.Body)
			t.Errorf("the workspace has no %s: %s", k, raw)
		}
	}
	if doc.Rev == 0 {
		t.Error("the workspace has no revision")
	}
	if _, err := s.Get(t.Context(), run, ws); err != nil {
		t.Errorf("a run may not read its own workspace: %v", err)
	}
	if _, err := s.Get(t.Context(), foreign, ws); !errors.Is(err, fault.Forbidden) {
		t.Errorf("a run of another workspace: %v, want Forbidden", err)
	}
	for name, list := range map[string]func(access.Principal) ([]workspaces.Document, error){
		"workspaces": func(p access.Principal) ([]workspaces.Document, error) {
			return s.List(t.Context(), p, c.SubscriptionID, "")
		},
		"workspaces of a group": func(p access.Principal) ([]workspaces.Document, error) {
			return s.List(t.Context(), p, c.SubscriptionID, "EBB")
		},
		"groups": func(p access.Principal) ([]workspaces.Document, error) {
			return s.Groups(t.Context(), p, c.SubscriptionID)
		},
		"subscriptions": func(p access.Principal) ([]workspaces.Document, error) { return s.Subscriptions(t.Context(), p) },
	} {
		if docs, err := list(owner); err != nil || len(docs) != 1 {
			t.Errorf("%s: %d, %v; want one", name, len(docs), err)
		}
		if docs, err := list(foreign); err != nil || len(docs) != 0 {
			t.Errorf("%s for a foreign run: %d, %v; want none", name, len(docs), err)
		}
	}
	if _, err := s.List(t.Context(), owner, c.SubscriptionID, "nope"); !errors.Is(err, fault.NotFound) {
		t.Errorf("workspaces of a missing group: %v, want NotFound", err)
	}
}

// TestSignInsThatNobodyApproved: those that are over keep nobody out.
func TestSignInsThatNobodyApproved(t *testing.T) {
	t.Parallel()
	s, _ := service(t)
	now := time.Date(2026, 5, 6, 0, 0, 0, 0, time.UTC)
	s.Now = func() time.Time { return now }
	for range 1000 {
		if _, err := s.BeginDevice(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.BeginDevice(t.Context()); !errors.Is(err, fault.Exhausted) {
		t.Errorf("one more than may wait: %v", err)
	}
	now = now.Add(16 * time.Minute)
	if _, err := s.BeginDevice(t.Context()); err != nil {
		t.Errorf("when the others are over: %v", err)
	}
}
