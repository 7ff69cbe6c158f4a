package resources

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

const accountType = "Microsoft.Storage/storageAccounts"

// Available says whether a resource of a type may be given a name that is unique
// everywhere: empty, or why it may not.
func (s *Service) Available(ctx context.Context, p access.Principal, sub, typ, name string) (reason, words string, err error) {
	namespace, kind, _ := strings.Cut(typ, "/")
	ns, t, err := typeOf(namespace, kind)
	if err != nil {
		return "", "", err
	}
	if t.name != nil && !t.name.MatchString(name) {
		return "AccountNameInvalid", fmt.Sprintf("%.100s is not a valid name: it must have %s.", name, t.rule), nil
	}
	taken, err := s.taken(ctx, p, sub, ns.Name+"/"+t.Name, name)
	if err != nil || !taken {
		return "", "", err
	}
	return "AlreadyExists", fmt.Sprintf("The name %s is already taken.", name), nil
}

// taken reports whether a name is: that of a storage account anywhere on the
// server, of others in the subscription.
func (s *Service) taken(ctx context.Context, p access.Principal, sub, typ, name string) (bool, error) {
	if typ == accountType {
		p.Scope = "" // such names are public, and who may see only a part needs the same answer
		if _, err := s.Groups.Subscription(ctx, p, sub); err != nil {
			return false, err
		}
		owner, _, err := s.owner(ctx, name)
		return owner != nil, err
	}
	docs, err := s.List(ctx, p, armid.ID{Subscription: sub}, typ)
	return slices.ContainsFunc(docs, func(d Document) bool {
		is, _ := d.Body["name"].(string)
		return strings.EqualFold(is, name)
	}), err
}

// claim takes the name of a storage account, which is unique on the whole server.
func (s *Service) claim(ctx context.Context, id armid.ID) ([]row.Change, error) {
	if !id.Is(accountType) {
		return nil, nil
	}
	name := strings.ToLower(id.Name())
	owner, rev, err := s.owner(ctx, name)
	if err != nil {
		return nil, err
	}
	if owner != nil {
		return nil, fault.Coded(fault.Conflict, "StorageAccountAlreadyTaken", name, "The storage account named %s is already taken: it is that of %s.", name, owner.ID)
	}
	mine := workspaces.AccountOwner(name, key(id), s.Now())
	if rev != 0 { // whose it was went with its group
		return []row.Change{row.Update(mine, rev)}, nil
	}
	return []row.Change{row.Create(mine)}, nil
}

// release gives the name of a storage account back, if it is this resource's.
func (s *Service) release(ctx context.Context, id armid.ID) ([]row.Change, error) {
	if !id.Is(accountType) {
		return nil, nil
	}
	name := strings.ToLower(id.Name())
	owner, rev, err := s.owner(ctx, name)
	if err != nil || owner == nil || *owner != key(id) {
		return nil, err
	}
	return []row.Change{{Drop: workspaces.AccountKey(name), If: row.Condition{Rev: rev}}}, nil
}

// owner returns whose a storage account is, nil if it is nobody's, and the revision
// of the row that says so, 0 if there is none.
func (s *Service) owner(ctx context.Context, name string) (*row.Key, int64, error) {
	rec, err := s.Store.Get(ctx, workspaces.AccountKey(name))
	if errors.Is(err, fault.NotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("find account %s: %w", name, err)
	}
	owner, err := workspaces.OwnerOf(rec)
	if err != nil {
		return nil, 0, fmt.Errorf("find account %s: %w", name, err)
	}
	_, err = s.Store.Get(ctx, owner)
	if errors.Is(err, fault.NotFound) {
		return nil, rec.Rev, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("find account %s: %w", name, err)
	}
	return &owner, rec.Rev, nil
}
