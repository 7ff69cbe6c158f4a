// Package accounts answers for storage accounts: whose they are, and their keys.
// A workspace has one of its own; others are records that somebody made
// (Microsoft.Storage/storageAccounts). The bytes are internal/blob's, the keys are
// derived by internal/token: what is kept here is how often each was made anew.
//
// Start at [Service.Find].
package accounts

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Store is what the service needs of the store.
type Store interface {
	Commit(ctx context.Context, changes ...row.Change) (int64, error)
	Get(ctx context.Context, k row.Key) (row.Record, error)
	List(ctx context.Context, q row.Query) (row.Page, error)
}

// Workspaces is what the service needs of app/workspaces.
type Workspaces interface {
	Lookup(ctx context.Context, id string) (workspaces.Info, error)
}

// Deriver makes the keys of accounts. *token.Keys is one.
type Deriver interface {
	SharedKey(account string, n, generation int) []byte
}

// Service answers for storage accounts.
type Service struct {
	Store      Store
	Workspaces Workspaces
	Deriver    Deriver
	Now        func() time.Time // site clock, UTC
}

// Account is a storage account.
type Account struct {
	Name        string
	Unique      string // its name, and of a record when it was made: another that gets the name has neither its keys nor its blobs
	Scope       string // the ARM id that says who may touch it: its workspace's, or its own
	Workspace   string // guid; empty for a record
	Generations [2]int // of its keys
}

// Key is one of an account's two keys, as listKeys shows it.
type Key struct {
	Name  string // key1, key2
	Value string // base64
	Made  time.Time
}

// Find finds an account by its name; [fault.NotFound] if there is none.
func (s *Service) Find(ctx context.Context, name string) (Account, error) {
	a, err := s.owner(ctx, name)
	if err != nil {
		return Account{}, err
	}
	kept, _, err := s.kept(ctx, a.Unique)
	a.Generations = kept.Generations
	return a, err
}

func (s *Service) owner(ctx context.Context, name string) (Account, error) {
	rec, err := s.Store.Get(ctx, workspaces.AccountKey(name))
	if errors.Is(err, fault.NotFound) {
		return Account{}, missing(name)
	}
	if err != nil {
		return Account{}, fmt.Errorf("find account %s: %w", name, err)
	}
	k, err := workspaces.OwnerOf(rec)
	if err != nil {
		return Account{}, fmt.Errorf("find account %s: %w", name, err)
	}
	a, err := s.of(ctx, name, k)
	if errors.Is(err, fault.NotFound) { // it went with its group
		err = missing(name)
	}
	return a, err
}

// Index notes to whom the accounts belong that were made before that was kept. It
// is for the start of the server.
func (s *Service) Index(ctx context.Context) error {
	for _, kind := range []row.Kind{row.Workspace, row.Resource} {
		for after := ""; ; {
			page, err := s.Store.List(ctx, row.Query{Kind: kind, After: after})
			if err != nil {
				return fmt.Errorf("index accounts: %w", err)
			}
			for _, rec := range page.Records {
				if err := s.index(ctx, rec.Row.Key()); err != nil {
					return fmt.Errorf("index the account of %s: %w", rec.Row.Key().ID, err)
				}
			}
			if after = page.Next; after == "" {
				break
			}
		}
	}
	return nil
}

// index notes that an account belongs to a workspace or a record, if it does and
// nobody has it yet.
func (s *Service) index(ctx context.Context, k row.Key) error {
	name := ""
	if k.Kind == row.Workspace {
		w, err := s.Workspaces.Lookup(ctx, k.ID)
		if err != nil {
			return err
		}
		name = armid.Account(w.GUID)
	} else if i := strings.LastIndex(k.ID, resourceSuffix); i >= 0 && !strings.Contains(k.ID[i+len(resourceSuffix):], "/") {
		name = k.ID[i+len(resourceSuffix):]
	} else {
		return nil
	}
	if _, err := s.owner(ctx, name); !errors.Is(err, fault.NotFound) {
		return err
	}
	_, err := s.Store.Commit(ctx, row.Put(workspaces.AccountOwner(name, k, s.Now().UTC())))
	return err
}

// resourceSuffix is how the id of a record of an account ends, before its name.
const resourceSuffix = "/providers/microsoft.storage/storageaccounts/"

func missing(name string) error {
	return fault.Coded(fault.NotFound, "ResourceNotFound", name, "There is no storage account '%.40s' on this server.", name)
}

// of is the account if the row at k is what it belongs to.
func (s *Service) of(ctx context.Context, name string, k row.Key) (Account, error) {
	if k.Kind == row.Resource {
		rec, err := s.Store.Get(ctx, k)
		if err != nil {
			return Account{}, err
		}
		doc, ok := rec.Row.(row.Document)
		if !ok {
			return Account{}, fmt.Errorf("account %s: the row is a %T", name, rec.Row)
		}
		var body struct {
			SystemData struct{ CreatedAt time.Time }
		}
		if err := json.Unmarshal(doc.Body, &body); err != nil {
			return Account{}, fmt.Errorf("decode account %s: %w", name, err)
		}
		return Account{Name: name, Unique: fmt.Sprintf("%s@%x", name, max(0, body.SystemData.CreatedAt.UnixMilli())), Scope: k.ID}, nil
	}
	w, err := s.Workspaces.Lookup(ctx, k.ID)
	if err != nil {
		return Account{}, err
	}
	if armid.Account(w.GUID) != name {
		return Account{}, missing(name)
	}
	return Account{Name: name, Unique: name, Scope: w.Key, Workspace: strings.ToLower(w.GUID)}, nil
}

// generations is the stored form.
type generations struct {
	Generations [2]int       `json:"generations"`
	Made        [2]time.Time `json:"made"`
}

func keysRow(unique string) row.Key { return row.Key{Kind: row.Datum, ID: "storage keys/" + unique} }

func (s *Service) kept(ctx context.Context, unique string) (generations, int64, error) {
	rec, err := s.Store.Get(ctx, keysRow(unique))
	if errors.Is(err, fault.NotFound) {
		return generations{}, 0, nil
	}
	if err != nil {
		return generations{}, 0, fmt.Errorf("get keys of %s: %w", unique, err)
	}
	doc, ok := rec.Row.(row.Document)
	if !ok {
		return generations{}, 0, fmt.Errorf("keys of %s: the row is a %T", unique, rec.Row)
	}
	var g generations
	if err := json.Unmarshal(doc.Body, &g); err != nil {
		return generations{}, 0, fmt.Errorf("decode keys of %s: %w", unique, err)
	}
	return g, rec.Rev, nil
}

// Keys returns an account's keys.
func (s *Service) Keys(ctx context.Context, p access.Principal, name string) ([]Key, error) {
	unique, err := s.may(ctx, p, name, "listKeys")
	if err != nil {
		return nil, err
	}
	g, _, err := s.kept(ctx, unique)
	return s.derive(unique, g), err
}

func (s *Service) derive(unique string, g generations) []Key {
	var keys []Key
	for i := range g.Generations {
		keys = append(keys, Key{fmt.Sprintf("key%d", i+1), base64.StdEncoding.EncodeToString(s.Deriver.SharedKey(unique, i+1, g.Generations[i])), g.Made[i]})
	}
	return keys
}

// Regenerate makes one of an account's keys anew: what is signed with the one before
// counts no more. It returns both.
func (s *Service) Regenerate(ctx context.Context, p access.Principal, name, key string) ([]Key, error) {
	unique, err := s.may(ctx, p, name, "regenerateKey")
	if err != nil {
		return nil, err
	}
	n := map[string]int{"key1": 0, "key2": 1}
	i, ok := n[strings.ToLower(key)]
	if !ok {
		return nil, fault.Coded(fault.Invalid, "InvalidValuesForRequestParameters", "keyName", "The key %.40q is none of a storage account's; it has key1 and key2.", key)
	}
	for {
		g, rev, err := s.kept(ctx, unique)
		if err != nil {
			return nil, err
		}
		now := s.Now().UTC()
		g.Generations[i]++
		g.Made[i] = now
		body, err := json.Marshal(g)
		if err != nil {
			return nil, fmt.Errorf("encode keys of %s: %w", name, err)
		}
		k := keysRow(unique)
		change := row.Create(row.Document{Kind: k.Kind, ID: k.ID, Body: body, Created: now, Modified: now, By: p.ID})
		if rev != 0 {
			change.If = row.Condition{Rev: rev}
		}
		_, err = s.Store.Commit(ctx, change)
		if errors.Is(err, fault.Precondition) { // somebody was quicker: theirs, and then ours
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("keep keys of %s: %w", name, err)
		}
		return s.derive(unique, g), nil
	}
}

// may returns the account's Unique if p may do something with it.
func (s *Service) may(ctx context.Context, p access.Principal, name, action string) (string, error) {
	a, err := s.owner(ctx, name)
	if err != nil {
		return "", err
	}
	if p.Kind == access.RunIdentity || !p.May(a.Scope) {
		return "", fault.Coded(fault.Forbidden, "AuthorizationFailed", "", "The client '%s' with object id '%s' does not have authorization to perform action 'Microsoft.Storage/storageAccounts/%s/action' over scope '%s'.", p.Name, p.ID, action, a.Scope)
	}
	return a.Unique, nil
}
