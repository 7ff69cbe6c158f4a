package assets

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Filter chooses among assets. The zero Filter is every active one, newest first.
type Filter struct {
	View   string // ActiveOnly (default), ArchivedOnly, All
	Order  string // OData, as "createdtime desc"
	Tags   string // as "a,b=c": all must be there
	Stage  string
	Text   string // of the description, or a part of it
	After  string // cursor from the page before
	Limit  int    // at most so many; 0: 100
	Hash   string // of code, as SDK v2 makes it
	Method string // version of that hash; empty: any
}

// pageSize is how many assets a page has where nobody asks for less.
const pageSize = 100

// want reports whether an asset is chosen.
func (f Filter) want(a *Asset) (bool, error) {
	switch strings.ToLower(f.View) {
	case "", "activeonly":
		if a.Archived() {
			return false, nil
		}
	case "archivedonly":
		if !a.Archived() {
			return false, nil
		}
	case "all":
	default:
		return false, fault.Coded(fault.Invalid, "InvalidParameter", "listViewType", "listViewType must be ActiveOnly, ArchivedOnly or All, not %.60q.", f.View)
	}
	if stage, _ := a.Properties["stage"].(string); f.Stage != "" && !strings.EqualFold(stage, f.Stage) {
		return false, nil
	}
	if words, _ := a.Properties["description"].(string); f.Text != "" && !strings.Contains(strings.ToLower(words), strings.ToLower(f.Text)) {
		return false, nil
	}
	tags, _ := a.Properties["tags"].(map[string]any)
	for pair := range strings.SplitSeq(f.Tags, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		key, value, exact := strings.Cut(pair, "=")
		if got, ok := tags[key]; !ok || exact && got != value {
			return false, nil
		}
	}
	return true, nil
}

// newest reports which way a list runs. Assets are kept by time of creation.
func (f Filter) newest() (bool, error) {
	field, direction, _ := strings.Cut(strings.ToLower(strings.TrimSpace(f.Order)), " ")
	field = strings.TrimSuffix(field, "utc")
	direction = strings.TrimSpace(direction)
	known := map[string]bool{"": true, "createdtime": true, "creationtime": true, "createdat": true, "createddate": true}[field]
	if !known || direction != "" && direction != "asc" && direction != "desc" {
		return false, fault.Coded(fault.Invalid, "InvalidParameter", "$orderBy", "Versions are not ordered by %.60q; they are by 'createdtime desc' or 'createdtime asc'.", f.Order)
	}
	return field == "" || direction == "desc", nil
}

// Names lists the names of a collection, in order. Names whose every version
// was made by the way, for a job, are left out.
func (s *Service) Names(ctx context.Context, w Place, c Collection, f Filter) ([]Asset, string, error) {
	return s.choose(ctx, row.Query{Kind: c.rows(), Parent: collectionID(w, c), After: f.After}, f, func(a *Asset) bool { return !a.Anonymous })
}

// VersionsOf lists the versions of a name; of an environment those that were
// registered, not what runs left on their way. Code is also found by its hash, under
// any name: then the name does not matter.
func (s *Service) VersionsOf(ctx context.Context, w Place, c Collection, name string, f Filter) ([]Asset, string, error) {
	if c == Codes && f.Hash != "" {
		return s.byHash(ctx, w, f)
	}
	desc, err := f.newest()
	if err != nil {
		return nil, "", err
	}
	q := row.Query{Kind: c.rows(), Parent: nameID(w, c, name), Desc: desc, After: f.After}
	list, next, err := s.choose(ctx, q, f, func(a *Asset) bool { return c != Environments || a.Properties["isAnonymous"] != true })
	if err == nil && len(list) == 0 && f.After == "" {
		if _, err := s.asset(ctx, w, c, name, ""); c == Environments {
			if e, ok := s.curated(err, name); ok {
				return []Asset{e.asset(curatedVersion)}, "", nil
			}
		}
		_, err = s.Get(ctx, w, c, name, "")
	}
	return list, next, err
}

// choose reads pages until it has enough of what a filter wants.
func (s *Service) choose(ctx context.Context, q row.Query, f Filter, also func(*Asset) bool) ([]Asset, string, error) {
	limit := f.Limit
	if limit <= 0 {
		limit = pageSize
	}
	out := []Asset{}
	for least := 1; ; least = pageSize { // or a name with a thousand archived versions costs a query for each
		q.Limit = max(limit-len(out), least)
		page, err := s.Store.List(ctx, q)
		if err != nil {
			return nil, "", fmt.Errorf("list %s: %w", q.Parent, err)
		}
		for i, r := range page.Records {
			k, err := unpack(r)
			if err != nil {
				return nil, "", err
			}
			ok, err := f.want(&k.Asset)
			if err != nil {
				return nil, "", err
			}
			if !ok || !also(&k.Asset) {
				continue
			}
			if out = append(out, k.Asset); len(out) < limit {
				continue
			}
			if i < len(page.Records)-1 { // a page that ends here has the cursor that leads on from here
				q.Limit = i + 1
				if page, err = s.Store.List(ctx, q); err != nil {
					return nil, "", fmt.Errorf("list %s: %w", q.Parent, err)
				}
			}
			return out, page.Next, nil
		}
		if q.After = page.Next; q.After == "" {
			return out, "", nil
		}
	}
}

// Newest returns the newest active version of a name: what "@latest" means.
func (s *Service) Newest(ctx context.Context, w Place, c Collection, name string) (Asset, error) {
	list, _, err := s.VersionsOf(ctx, w, c, name, Filter{Limit: 1})
	if err != nil {
		return Asset{}, err
	}
	if len(list) == 0 {
		return Asset{}, fault.Coded(fault.NotFound, "NotFound", name, "The %s %.80q has no version that is not archived.", kinds[c].noun, name)
	}
	return list[0], nil
}

// byHash finds code of the same content, whatever its name.
func (s *Service) byHash(ctx context.Context, w Place, f Filter) ([]Asset, string, error) {
	var at hashed
	_, err := s.read(ctx, row.Asset, hashID(w, f.Hash), &at)
	if errors.Is(err, fault.NotFound) {
		return []Asset{}, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	a, err := s.Get(ctx, w, Codes, at.Name, at.Version)
	if errors.Is(err, fault.NotFound) {
		return []Asset{}, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	hash, method := hashOf(a.Properties)
	if _, err := s.Snapshot(ctx, w, a.Snapshot); errors.Is(err, fault.NotFound) || hash != f.Hash || f.Method != "" && method != f.Method {
		return []Asset{}, "", nil // its files are gone by retention: it is to be sent again
	}
	return []Asset{a}, "", nil
}
