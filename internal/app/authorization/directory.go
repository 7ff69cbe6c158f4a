package authorization

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/row"
)

// Entry is a principal that the server knows: a client, or an identity of a resource.
type Entry struct {
	ID       string // object id
	App      string // client id
	Name     string
	Resource string // the resource whose identity it is; empty: a client
}

// identified is the part of a resource that says who it is.
type identified struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Type       string `json:"type"`
	Identity   lenient
	Properties lenient
}

// lenient is what a resource says of a principal. Records of other providers are
// kept as they came: where one has something else in that place, it has none.
type lenient struct{ Type, Principal, Client string }

// UnmarshalJSON implements [json.Unmarshaler].
func (l *lenient) UnmarshalJSON(text []byte) error {
	var is map[string]any
	if json.Unmarshal(text, &is) != nil {
		return nil
	}
	l.Type, _ = is["type"].(string)
	l.Principal, _ = is["principalId"].(string)
	l.Client, _ = is["clientId"].(string)
	return nil
}

// Directory returns every principal there is.
func (s *Service) Directory(ctx context.Context) ([]Entry, error) {
	var list []Entry
	for _, read := range []func(context.Context) ([]Entry, error){s.clients, s.users, s.workspaces, s.computes} {
		some, err := read(ctx)
		if err != nil {
			return nil, err
		}
		list = append(list, some...)
	}
	return list, nil
}

func (s *Service) clients(ctx context.Context) ([]Entry, error) {
	recs, err := s.all(ctx, row.Query{Kind: row.Datum, Prefix: workspaces.ClientPrefix})
	if err != nil {
		return nil, err
	}
	var list []Entry
	for _, rec := range recs {
		var c struct {
			ID   string `json:"object"`
			App  string `json:"client"`
			Name string `json:"name"`
		}
		if err := decode(rec, &c); err != nil {
			return nil, err
		}
		list = append(list, Entry{ID: c.ID, App: c.App, Name: c.Name})
	}
	return list, nil
}

// users are the user-assigned identities, and what else has one of its own.
func (s *Service) users(ctx context.Context) ([]Entry, error) {
	recs, err := s.all(ctx, row.Query{Kind: row.Resource})
	if err != nil {
		return nil, err
	}
	var list []Entry
	for _, rec := range recs {
		var r identified
		if err := decode(rec, &r); err != nil {
			return nil, err
		}
		switch {
		case strings.EqualFold(r.Type, "Microsoft.ManagedIdentity/userAssignedIdentities"):
			list = append(list, Entry{r.Properties.Principal, r.Properties.Client, r.Name, r.ID})
		case r.Identity.Principal != "":
			list = append(list, system(r))
		}
	}
	return list, nil
}

func system(r identified) Entry {
	return Entry{r.Identity.Principal, workspaces.GUID("application", r.Identity.Principal), r.Name, r.ID}
}

func (s *Service) workspaces(ctx context.Context) ([]Entry, error) {
	recs, err := s.all(ctx, row.Query{Kind: row.Workspace})
	if err != nil {
		return nil, err
	}
	var list []Entry
	for _, rec := range recs {
		var b struct{ Resource identified }
		if err := decode(rec, &b); err != nil {
			return nil, err
		}
		if b.Resource.Identity.Principal != "" {
			list = append(list, system(b.Resource))
		}
	}
	return list, nil
}

func (s *Service) computes(ctx context.Context) ([]Entry, error) {
	recs, err := s.all(ctx, row.Query{Kind: row.Compute})
	if err != nil {
		return nil, err
	}
	var list []Entry
	for _, rec := range recs {
		var b struct {
			ID, Name, Prefix string
			Resource         identified
		}
		if err := decode(rec, &b); err != nil {
			return nil, err
		}
		if b.Resource.Identity.Type == "SystemAssigned" {
			r := identified{ID: b.ID, Name: b.Name}
			r.Identity.Principal = workspaces.GUID("system", b.Prefix)
			list = append(list, system(r))
		}
	}
	return list, nil
}
