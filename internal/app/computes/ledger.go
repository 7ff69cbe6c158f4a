package computes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/quota"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// mostQuotas is how many limits one call may set.
const mostQuotas = 1000

// Sizes returns what sizes there are in a region.
func (s *Service) Sizes(ctx context.Context, p access.Principal, sub, region string) ([]quota.Machine, error) {
	if err := s.regional(ctx, p, sub, region, "read"); err != nil {
		return nil, err
	}
	return quota.Sizes(), nil
}

// Usages returns what a subscription uses in a region: the vCPUs of the nodes that exist.
func (s *Service) Usages(ctx context.Context, p access.Principal, sub, region string, expand bool) ([]quota.Row, error) {
	if err := s.regional(ctx, p, sub, region, "read"); err != nil {
		return nil, err
	}
	uses, err := s.uses(ctx, sub, region)
	if err != nil {
		return nil, err
	}
	limits, err := s.limits(ctx, sub, region)
	if err != nil {
		return nil, err
	}
	return quota.Usages(sub, uses, limits, expand), nil
}

// Quotas returns the limits of a subscription and its workspaces in a region.
func (s *Service) Quotas(ctx context.Context, p access.Principal, sub, region string) ([]quota.Row, error) {
	if err := s.regional(ctx, p, sub, region, "read"); err != nil {
		return nil, err
	}
	limits, err := s.limits(ctx, sub, region)
	if err != nil {
		return nil, err
	}
	return quota.Quotas(sub, limits), nil
}

// QuotaWish is one entry of updateQuotas.
type QuotaWish struct {
	ID    string // {workspace}/quotas/{family}
	Limit *int64 // vCPUs; nil: it was not given
}

// QuotaResult is what became of a wish.
type QuotaResult struct {
	QuotaWish
	Status quota.Status
}

// UpdateQuotas sets limits of workspaces. Each wish has a status of its own; those
// that succeed are kept in one commit.
func (s *Service) UpdateQuotas(ctx context.Context, p access.Principal, sub, region string, wishes []QuotaWish) ([]QuotaResult, error) {
	if err := s.regional(ctx, p, sub, region, "write"); err != nil {
		return nil, err
	}
	if len(wishes) == 0 || len(wishes) > mostQuotas {
		return nil, invalid("value", "The list 'value' has %d entries; it must have 1 to %d.", len(wishes), mostQuotas)
	}
	uses, err := s.uses(ctx, sub, region)
	if err != nil {
		return nil, err
	}
	var results []QuotaResult
	var changes []row.Change
	for _, wish := range wishes {
		limit, status, err := s.quotaWish(ctx, sub, wish, uses)
		if err != nil {
			return nil, err
		}
		results = append(results, QuotaResult{wish, status})
		if status != quota.Success {
			continue
		}
		doc, err := s.quotaRow(p, sub, region, limit)
		if err != nil {
			return nil, err
		}
		changes = append(changes, row.Put(doc), s.event(p, limit.Workspace, "quota", fmt.Sprintf("%s in %s: %d vCPUs.", limit.Family, armid.Region(region), limit.VCPUs)))
	}
	if len(changes) > 0 {
		if _, err := s.Store.Commit(ctx, changes...); err != nil {
			return nil, fmt.Errorf("keep quotas: %w", err)
		}
	}
	return results, nil
}

// quotaWish checks one wish.
func (s *Service) quotaWish(ctx context.Context, sub string, wish QuotaWish, uses []quota.Use) (quota.Limit, quota.Status, error) {
	id, err := armid.Parse(wish.ID)
	if err != nil || wish.Limit == nil || !id.Is(armid.WorkspaceType+"/quotas") || !strings.EqualFold(id.Subscription, sub) {
		return quota.Limit{}, quota.Failure, nil
	}
	family, ok := quota.Family(id.Name())
	if !ok {
		return quota.Limit{}, quota.InvalidFamily, nil
	}
	info, err := s.Workspaces.Lookup(ctx, id.Parent().String())
	if errors.Is(err, fault.NotFound) {
		return quota.Limit{}, quota.Failure, nil
	}
	if err != nil {
		return quota.Limit{}, "", fmt.Errorf("find the workspace of a quota: %w", err)
	}
	limit := quota.Limit{Workspace: info.ID, Family: family, VCPUs: *wish.Limit}
	return limit, quota.CheckLimit(limit, uses), nil
}

// quotaParent is what the limits of one subscription and region are listed under.
func quotaParent(sub, region string) string {
	return strings.ToLower(armid.Subscription(sub) + "/providers/" + armid.Provider + "/locations/" + armid.Region(region) + "/quotas")
}

func (s *Service) quotaRow(p access.Principal, sub, region string, l quota.Limit) (row.Document, error) {
	body, err := json.Marshal(l)
	if err != nil {
		return row.Document{}, fmt.Errorf("encode quota of %s: %w", l.Workspace, err)
	}
	now := s.Now()
	return row.Document{
		Kind: row.Resource, ID: strings.ToLower(l.Workspace + "/quotas/" + armid.Region(region) + "/" + l.Family), Parent: quotaParent(sub, region),
		Body: body, Created: now, Modified: now, By: p.ID,
	}, nil
}

// limits returns the limits that workspaces have of their own.
func (s *Service) limits(ctx context.Context, sub, region string) ([]quota.Limit, error) {
	recs, err := s.all(ctx, row.Query{Kind: row.Resource, Parent: quotaParent(sub, region)})
	if err != nil {
		return nil, fmt.Errorf("list quotas: %w", err)
	}
	var limits []quota.Limit
	for _, rec := range recs {
		doc, ok := rec.Row.(row.Document)
		if !ok {
			return nil, fmt.Errorf("quota row is a %T", rec.Row)
		}
		var l quota.Limit
		if err := json.Unmarshal(doc.Body, &l); err != nil {
			return nil, fmt.Errorf("decode quota %s: %w", doc.ID, err)
		}
		limits = append(limits, l)
	}
	return limits, nil
}

// uses returns the clusters of a subscription in a region, with what they use now.
func (s *Service) uses(ctx context.Context, sub, region string) ([]quota.Use, error) {
	recs, err := s.all(ctx, row.Query{Kind: row.Compute, Prefix: strings.ToLower(armid.Subscription(sub)) + "/"})
	if err != nil {
		return nil, fmt.Errorf("list computes: %w", err)
	}
	view := s.Store.View()
	var uses []quota.Use
	for _, rec := range recs {
		c, err := decode(rec)
		if err != nil {
			return nil, err
		}
		wish, ok := view.Cluster(c.doc.ID)
		if !ok || wish.Region != armid.Region(region) {
			continue
		}
		least := wish.Min * wish.Size.VCPUs
		if wish.Off {
			least = 0
		}
		uses = append(uses, quota.Use{
			Workspace: strings.TrimSuffix(c.ID, "/computes/"+c.Name), Cluster: c.ID, Family: wish.Size.Family, LowPriority: wish.LowPriority,
			VCPUs: len(view.NodesOf(c.doc.ID)) * wish.Size.VCPUs, Least: least,
		})
	}
	return uses, nil
}

// regional checks the parts that an address below a location has.
func (s *Service) regional(ctx context.Context, p access.Principal, sub, region, verb string) error {
	if err := may(p, armid.Subscription(sub), verb); err != nil {
		return err
	}
	if _, err := s.Workspaces.Subscription(ctx, p, sub); err != nil {
		return err
	}
	return CheckRegion(region)
}

// all reads every page of an answer.
func (s *Service) all(ctx context.Context, q row.Query) ([]row.Record, error) {
	var recs []row.Record
	for {
		page, err := s.Store.List(ctx, q)
		if err != nil {
			return nil, err
		}
		recs = append(recs, page.Records...)
		if page.Next == "" {
			return recs, nil
		}
		q.After = page.Next
	}
}
