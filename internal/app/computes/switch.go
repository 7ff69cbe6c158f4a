package computes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/quota"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Start switches an instance on. One that is on stays as it is.
func (s *Service) Start(ctx context.Context, p access.Principal, workspace, name string) (Result, error) {
	return s.act(ctx, p, workspace, name, "Start", func(c *saved, off bool, now time.Time) error {
		if off {
			c.cluster.Off, c.cluster.Switched = false, now
		}
		return nil
	})
}

// Stop switches an instance off. What runs there is cancelled.
func (s *Service) Stop(ctx context.Context, p access.Principal, workspace, name string) (Result, error) {
	return s.act(ctx, p, workspace, name, "Stop", func(c *saved, _ bool, now time.Time) error {
		if !c.cluster.Off {
			c.cluster.Off, c.cluster.Switched = true, now
		}
		return nil
	})
}

// Restart gives an instance another node. What runs there is cancelled.
func (s *Service) Restart(ctx context.Context, p access.Principal, workspace, name string) (Result, error) {
	return s.act(ctx, p, workspace, name, "Restart", func(c *saved, off bool, now time.Time) error {
		if off {
			return fault.Coded(fault.Conflict, "Conflict", c.ID, "The compute instance '%s' is stopped. Start it instead.", c.Name)
		}
		c.cluster.Switched = now
		return nil
	})
}

// Resize gives an instance that is stopped another size.
func (s *Service) Resize(ctx context.Context, p access.Principal, workspace, name, size string) (Result, error) {
	m, ok := quota.Lookup(size)
	if !ok {
		return Result{}, unknownSize(size)
	}
	return s.act(ctx, p, workspace, name, "Resize", func(c *saved, off bool, _ time.Time) error {
		if !off {
			return fault.Coded(fault.Conflict, "Conflict", c.ID, "The compute instance '%s' must be stopped before it is resized.", c.Name)
		}
		resource, _ := clone(c.Resource).(map[string]any)
		props, _ := resource["properties"].(map[string]any)
		inner, _ := props["properties"].(map[string]any)
		inner["vmSize"] = m.Canonical()
		c.Resource, c.cluster.Size = resource, m.Size()
		return nil
	})
}

// act does one thing to an instance. do changes its wish; where it changes
// nothing the operation ends at once.
func (s *Service) act(ctx context.Context, p access.Principal, workspace, name, what string, do func(c *saved, off bool, now time.Time) error) (Result, error) {
	info, err := s.enter(ctx, p, workspace, strings.ToLower(what)+"/action")
	if err != nil {
		return Result{}, err
	}
	for range attempts {
		c, err := s.load(ctx, info, name)
		if err != nil {
			return Result{}, err
		}
		switch {
		case !c.cluster.Instance:
			return Result{}, Unsuited("Compute"+what, c.Name)
		case c.cluster.Deleting:
			return Result{}, fault.Coded(fault.Conflict, "Conflict", c.ID, "The compute '%s' is being deleted.", c.Name)
		}
		res, err := s.acted(ctx, p, info, c, what, do)
		if !errors.Is(err, fault.Precondition) {
			return res, err
		}
	}
	return Result{}, busy(name)
}

func (s *Service) acted(ctx context.Context, p access.Principal, info workspaces.Info, c saved, what string, do func(*saved, bool, time.Time) error) (Result, error) {
	now := s.Now()
	was := c.cluster
	status, _ := s.Store.View().ClusterStatus(c.doc.ID)
	if err := do(&c, fleet.Off(was, status), now); err != nil {
		return Result{}, err
	}
	var changes []row.Change
	if c.cluster != was {
		c.cluster.Generation++
		c.Last, c.ModifiedBy, c.ModifiedByType = last{what, now}, p.Name, kind(p)
		body, err := json.Marshal(c.stored)
		if err != nil {
			return Result{}, fmt.Errorf("encode compute %s: %w", c.Name, err)
		}
		c.doc.Body, c.doc.Modified, c.doc.By = body, now, p.ID
		changes = append(changes, row.Update(c.doc, c.rev), s.event(p, c.ID, strings.ToLower(what), "Asked for by "+p.Name+"."))
	}
	op := s.operation(info, c.doc.ID, c.Region, c.cluster.Generation)
	changes = append(changes, row.Update(c.cluster, c.clusterRev), row.Create(op))
	if _, err := s.Store.Commit(ctx, changes...); err != nil {
		return Result{}, fmt.Errorf("%s compute %s: %w", strings.ToLower(what), c.Name, err)
	}
	return Result{Operation: op.ID, Subscription: op.Scope, Region: op.Location}, nil
}

// Unsuited refuses what only other types of compute can do.
func Unsuited(action, name string) error {
	return fault.Coded(fault.Invalid, "UserError", name,
		"%s with computeType AmlCompute is not supported. A cluster starts and stops its nodes by itself, between its minimum and its maximum.", action)
}

// Free reports whether a compute may be made under a name, and if not, why: the
// code and a sentence.
func (s *Service) Free(ctx context.Context, p access.Principal, workspace, name string) (code, why string, err error) {
	info, err := s.enter(ctx, p, workspace, "read")
	if err != nil {
		return "", "", err
	}
	if err := armid.CheckCompute(name); err != nil {
		return "Invalid", sentence(err) + ".", nil
	}
	switch _, err := s.load(ctx, info, name); {
	case errors.Is(err, fault.NotFound):
		return "", "", nil
	case err != nil:
		return "", "", err
	}
	return "AlreadyExists", fmt.Sprintf("The workspace '%s' has a compute named '%s'.", info.Name, name), nil
}
