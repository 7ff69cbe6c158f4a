package accounts_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/app/accounts"
	"github.com/ebb-compute/ebb/internal/app/apptest"
	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

type deriver struct{}

func (deriver) SharedKey(account string, n, generation int) []byte {
	return fmt.Appendf(nil, "%s %d %d", account, n, generation)
}

type world struct {
	*testing.T
	store   *apptest.Store
	s       *accounts.Service
	account string // the first workspace's
	id      string // lower-case
}

func newWorld(t *testing.T) world {
	t.Helper()
	store := &apptest.Store{}
	ids := 0
	ws := &workspaces.Service{Store: store, Now: func() time.Time { return time.Unix(1, 0) }, NewID: func() string { ids++; return fmt.Sprintf("00000000-0000-0000-0000-%012d", ids) }}
	c, err := ws.Seed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	info, err := ws.Lookup(t.Context(), armid.Workspace(c.SubscriptionID, c.ResourceGroup, c.Workspace))
	if err != nil {
		t.Fatal(err)
	}
	return world{t, store, &accounts.Service{Store: store, Workspaces: ws, Deriver: deriver{}, Now: func() time.Time { return time.Unix(2, 0) }}, armid.Account(info.GUID), info.Key}
}

func values(keys []accounts.Key) []string {
	var out []string
	for _, k := range keys {
		raw, _ := base64.StdEncoding.DecodeString(k.Value)
		out = append(out, k.Name+"="+string(raw))
	}
	return out
}

var owner = access.Principal{ID: "o", Kind: access.User}

func TestAWorkspaceHasAnAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 2 { // found, and then known
		a, err := w.s.Find(t.Context(), w.account)
		if err != nil || a.Scope != w.id || a.Workspace == "" || a.Generations != [2]int{} {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	for _, name := range []string{"nobody", "", "ebb", strings.ToUpper(w.account)} {
		if _, err := w.s.Find(t.Context(), name); !errors.Is(err, fault.NotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestARecordIsAnAccountWhileItIsThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := "/subscriptions/s/resourcegroups/g/providers/microsoft.storage/storageaccounts/mine"
	if _, err := w.s.Find(t.Context(), "mine"); !errors.Is(err, fault.NotFound) {
		t.Fatalf("before: %v", err)
	}
	doc := row.Document{Kind: row.Resource, ID: id, Body: []byte("{}")}
	if _, err := w.store.Commit(t.Context(), row.Put(doc)); err != nil {
		t.Fatal(err)
	}
	if err := w.s.Index(t.Context()); err != nil {
		t.Fatal(err)
	}
	first, err := w.s.Find(t.Context(), "mine")
	if err != nil || first.Scope != id || first.Workspace != "" {
		t.Errorf("%+v, %v", first, err)
	}
	if _, err := w.s.Find(t.Context(), "ine"); !errors.Is(err, fault.NotFound) {
		t.Errorf("the end of a name is no name: %v", err)
	}
	if _, err := w.store.Commit(t.Context(), row.Drop(doc.Key())); err != nil {
		t.Fatal(err)
	}
	if _, err := w.s.Find(t.Context(), "mine"); !errors.Is(err, fault.NotFound) {
		t.Errorf("afterwards: %v", err)
	}
	doc.Body = []byte(`{"systemData":{"createdAt":"2026-05-06T07:08:09.123Z"}}`)
	if _, err := w.store.Commit(t.Context(), row.Put(doc)); err != nil {
		t.Fatal(err)
	}
	if again, err := w.s.Find(t.Context(), "mine"); err != nil || again.Unique == first.Unique {
		t.Errorf("another of the name: %+v, %v; the first was %+v", again, err, first)
	}
}

// listless is a store that counts lists.
type listless struct {
	accounts.Store
	lists int
}

func (l *listless) List(ctx context.Context, q row.Query) (row.Page, error) {
	l.lists++
	return l.Store.List(ctx, q)
}

// TestFindingAnAccountListsNothing: anybody may ask for any name, as often as they
// like, before anything is known of them.
func TestFindingAnAccountListsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	counted := &listless{Store: w.store}
	w.s.Store = counted
	for _, name := range []string{"nobody", w.account} {
		if _, err := w.s.Find(t.Context(), name); (err == nil) != (name == w.account) {
			t.Errorf("Find(%s): %v", name, err)
		}
	}
	if counted.lists != 0 {
		t.Errorf("%d lists were asked for", counted.lists)
	}
}

// TestAccountsFromBefore: those of data that has no index yet are found after Index.
func TestAccountsFromBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.store.Commit(t.Context(), row.Drop(workspaces.AccountKey(w.account))); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.s.Index(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if a, err := w.s.Find(t.Context(), w.account); err != nil || a.Scope != w.id {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestKeysAreMadeAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	keys, err := w.s.Keys(t.Context(), owner, w.account)
	if want := []string{"key1=" + w.account + " 1 0", "key2=" + w.account + " 2 0"}; err != nil || !slices.Equal(values(keys), want) {
		t.Fatalf("%v, %v; want %v", values(keys), err, want)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := w.s.Regenerate(t.Context(), owner, w.account, "Key2"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	keys, err = w.s.Regenerate(t.Context(), owner, w.account, "key1")
	if want := []string{"key1=" + w.account + " 1 1", "key2=" + w.account + " 2 4"}; err != nil || !slices.Equal(values(keys), want) {
		t.Errorf("%v, %v; want %v", values(keys), err, want)
	}
	if a, err := w.s.Find(t.Context(), w.account); err != nil || a.Generations != [2]int{1, 4} {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestWhoMayHaveKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, p := range map[string]access.Principal{
		"a run of the workspace":    {Kind: access.RunIdentity, Scope: w.id},
		"somebody of another scope": {Kind: access.User, Scope: "/subscriptions/other"},
	} {
		_, err := w.s.Keys(t.Context(), p, w.account)
		_, err2 := w.s.Regenerate(t.Context(), p, w.account, "key1")
		if !errors.Is(err, fault.Forbidden) || !errors.Is(err2, fault.Forbidden) {
			t.Errorf("%s: %v, %v", name, err, err2)
		}
	}
	if _, err := w.s.Regenerate(t.Context(), owner, w.account, "key3"); !errors.Is(err, fault.Invalid) {
		t.Errorf("key3: %v", err)
	}
	if _, err := w.s.Keys(t.Context(), owner, "nobody"); !errors.Is(err, fault.NotFound) {
		t.Errorf("nobody's keys: %v", err)
	}
}
