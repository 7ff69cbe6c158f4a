package resources_test

import (
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/app/resources"
	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/row"
)

const other = "11111111-2222-4333-8444-555555555555" // a subscription

// twoSubscriptions is a world with an account "mine" in the first and "theirs" in the other.
func twoSubscriptions(t *testing.T) world {
	t.Helper()
	w := newWorld(t)
	for _, kind := range []row.Kind{row.Subscription, row.ResourceGroup} {
		for _, was := range w.store.Rows(kind) {
			doc := was.(row.Document)
			doc.ID, doc.Parent = strings.ReplaceAll(doc.ID, w.sub, other), strings.ReplaceAll(doc.Parent, w.sub, other)
			doc.Body = []byte(strings.ReplaceAll(string(doc.Body), w.sub, other))
			if _, err := w.store.Commit(t.Context(), row.Create(doc)); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.must("ebb/Microsoft.Storage/storageAccounts/mine", west())
	there := w
	there.sub = other
	there.must("ebb/Microsoft.Storage/storageAccounts/theirs", west())
	return w
}

// What a name's question and a PUT say is the same: the names of accounts are the
// server's, and not those of what somebody may see.
func TestNamesThatMayBeHad(t *testing.T) {
	t.Parallel()
	w := twoSubscriptions(t)
	scoped := w.me
	scoped.Scope = strings.ToLower(armid.Group(w.sub, "second"))
	for name, c := range map[string]struct {
		who  access.Principal
		name string
		want string
	}{
		"one's own":                                 {w.me, "mine", "AlreadyExists"},
		"one that can be no name":                   {w.me, "No", "AccountNameInvalid"},
		"one that nobody has":                       {w.me, "other1", ""},
		"one of another subscription":               {w.me, "theirs", "AlreadyExists"},
		"one of a group that the asker may not see": {scoped, "mine", "AlreadyExists"},
		"nobody's, for who may see one group":       {scoped, "other1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, words, err := w.s.Available(t.Context(), c.who, w.sub, "Microsoft.Storage/storageAccounts", c.name)
			if err != nil || got != c.want || (got == "") != (words == "") {
				t.Errorf("Available(%s) = %q, %q, %v; want %q", c.name, got, words, err, c.want)
			}
		})
	}
}

// A name that went to somebody else is not given back with the record.
func TestADeletionKeepsTheNameOfAnother(t *testing.T) {
	t.Parallel()
	const account = "ebb/Microsoft.Storage/storageAccounts/mine"
	for name, taken := range map[string]func(w world, take func()){
		"before it": func(_ world, take func()) { take() },
		"while it goes": func(w world, take func()) {
			w.store.Before = func([]row.Change) error {
				w.store.Before = nil
				take()
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := twoSubscriptions(t)
			theirs := row.Key{Kind: row.Resource, ID: strings.ToLower(armid.Group(other, "ebb") + "/providers/Microsoft.Storage/storageAccounts/theirs")}
			taken(w, func() {
				if _, err := w.store.Commit(t.Context(), row.Put(workspaces.AccountOwner("mine", theirs, w.s.Now()))); err != nil {
					t.Error(err)
				}
			})
			if there, err := w.s.Delete(t.Context(), w.me, resources.Request{ID: w.id(account)}); !there || err != nil {
				t.Fatalf("Delete = %v, %v", there, err)
			}
			rec, err := w.store.Get(t.Context(), workspaces.AccountKey("mine"))
			if err != nil {
				t.Fatalf("the name was given back: %v", err)
			}
			if owner, err := workspaces.OwnerOf(rec); err != nil || owner != theirs {
				t.Errorf("it is that of %v, %v", owner, err)
			}
			// One's own is.
			w.must("ebb/Microsoft.Storage/storageAccounts/brief", west())
			if there, err := w.s.Delete(t.Context(), w.me, resources.Request{ID: w.id("ebb/Microsoft.Storage/storageAccounts/brief")}); !there || err != nil {
				t.Fatalf("Delete = %v, %v", there, err)
			}
			if _, err := w.store.Get(t.Context(), workspaces.AccountKey("brief")); err == nil {
				t.Error("the name of what is deleted is still taken")
			}
		})
	}
}
