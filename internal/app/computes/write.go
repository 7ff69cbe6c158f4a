package computes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/merge"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Put makes a compute, or changes the one of that name. A body that changes
// nothing is answered with an operation all the same: SDK v1 raises without one.
func (s *Service) Put(ctx context.Context, p access.Principal, req Request) (Result, error) {
	return s.write(ctx, p, req, func(info workspaces.Info, have *saved) (Result, error) {
		if have == nil && !req.Check {
			return s.create(ctx, p, info, req)
		}
		if have == nil {
			_, err := s.canonical(req.Body, info, req.Name, nil)
			return Result{}, err
		}
		if err := s.checkState(req.Body, *have); err != nil {
			return Result{}, err
		}
		want, err := s.canonical(req.Body, info, req.Name, &have.stored)
		if err != nil {
			return Result{}, err
		}
		if err := want.identify(nil, req.Body["identity"], have.Resource["identity"] != nil); err != nil {
			return Result{}, err
		}
		if req.CreateOnly {
			if err := repeats(have.stored, want, req.Body); err != nil {
				return Result{}, err
			}
		}
		if req.Check {
			return Result{Document: s.show(*have)}, nil
		}
		return s.change(ctx, p, info, *have, want, true)
	})
}

// Patch changes the compute of that name: what its type lets change, as a PUT could.
func (s *Service) Patch(ctx context.Context, p access.Principal, req Request) (Result, error) {
	return s.write(ctx, p, req, func(info workspaces.Info, have *saved) (Result, error) {
		if have == nil {
			_, err := s.load(ctx, info, req.Name)
			return Result{}, err
		}
		if err := placed(req.Body, "", have.cluster.Instance); err != nil {
			return Result{}, err
		}
		patch := make(map[string]any, len(req.Body))
		for k, v := range req.Body {
			patch[k] = v
		}
		delete(patch, "identity") // has rules of its own
		want, err := s.canonical(merge.Patch(have.Resource, patch), info, req.Name, &have.stored)
		if err != nil {
			return Result{}, err
		}
		given, ok := req.Body["identity"]
		if !ok {
			want.resource["identity"] = have.Resource["identity"]
			if want.resource["identity"] == nil {
				delete(want.resource, "identity")
			}
		} else if err := want.identify(have.Resource["identity"], given, true); err != nil {
			return Result{}, err
		}
		return s.change(ctx, p, info, *have, want, false)
	})
}

// checkState refuses a body that claims another provisioningState than there is, as
// ARM's contract asks (arm-rpc v1.0, "ProvisioningState property").
func (s *Service) checkState(body map[string]any, have saved) error {
	props, _ := body["properties"].(map[string]any)
	claimed, ok := props["provisioningState"].(string)
	if !ok {
		return nil
	}
	now, _ := s.show(have).Body["properties"].(map[string]any)
	if is, _ := now["provisioningState"].(string); !strings.EqualFold(is, claimed) {
		return invalid("properties.provisioningState", "The provisioningState in the body is '%.32s' but the compute's is '%s'. Leave it out: it is read-only.", claimed, is)
	}
	return nil
}

// write does what Put and Patch share: who may, what is there, and another try
// when somebody else was first.
func (s *Service) write(ctx context.Context, p access.Principal, req Request, do func(workspaces.Info, *saved) (Result, error)) (Result, error) {
	info, err := s.enter(ctx, p, req.Workspace, "write")
	if err != nil {
		return Result{}, err
	}
	for range attempts {
		c, err := s.load(ctx, info, req.Name)
		have := &c
		if errors.Is(err, fault.NotFound) {
			have = nil
		} else if err != nil {
			return Result{}, err
		}
		if req.Match != nil {
			if err := req.Match(have != nil, c.rev); err != nil {
				return Result{}, err
			}
		}
		if have != nil && have.cluster.Deleting {
			return Result{}, fault.Coded(fault.Conflict, "Conflict", have.ID,
				"The compute '%s' is being deleted. Its name is free again once a GET of it answers 404, within seconds when it has no nodes.", have.Name)
		}
		res, err := do(info, have)
		if !errors.Is(err, fault.Precondition) {
			return res, err
		}
	}
	return Result{}, busy(req.Name)
}

func (s *Service) create(ctx context.Context, p access.Principal, info workspaces.Info, req Request) (Result, error) {
	if err := armid.CheckCompute(req.Name); err != nil {
		return Result{}, fault.Coded(fault.Invalid, "InvalidResourceName", req.Name, "%s.", sentence(err))
	}
	want, err := s.canonical(req.Body, info, req.Name, nil)
	if err != nil {
		return Result{}, err
	}
	if err := want.identify(nil, req.Body["identity"], false); err != nil {
		return Result{}, err
	}
	now := s.Now()
	digits := strings.ReplaceAll(s.NewID(), "-", "")
	c := stored{
		ID: armid.Compute(info.ID, req.Name), Name: req.Name, Region: want.region, Tenant: info.Tenant,
		Prefix:    "tvm-" + digits[max(0, len(digits)-16):],
		CreatedBy: p.Name, CreatedByType: kind(p), ModifiedBy: p.Name, ModifiedByType: kind(p), Resource: want.resource,
	}
	if want.instance {
		c.Owner, c.Last = p.ID, last{Name: "Create", Time: now}
	}
	body, err := json.Marshal(c)
	if err != nil {
		return Result{}, fmt.Errorf("encode compute %s: %w", req.Name, err)
	}
	doc := row.Document{Kind: row.Compute, ID: strings.ToLower(c.ID), Parent: info.Key, Body: body, Created: now, Modified: now, By: p.ID}
	wish := fleet.Cluster{
		ID: doc.ID, Name: req.Name, Prefix: c.Prefix, Workspace: info.Key, Region: want.region, Pool: s.pool(), Size: want.machine.Size(),
		LowPriority: want.low, Min: want.min, Max: want.max, IdleAfter: want.idle, Generation: 1, Created: now,
		Instance: want.instance, Isolated: want.inner["isolatedNetwork"] == true,
	}
	if want.instance {
		wish.Switched = now
	}
	status := fleet.Status{ID: doc.ID, Provisioning: operation.Creating, Allocation: fleet.Resizing, Since: now, Target: want.min}
	op := s.operation(info, doc.ID, want.region, 1)
	rev, err := s.Store.Commit(ctx, row.Create(doc), row.Create(wish), row.Create(status), row.Create(op),
		s.event(p, c.ID, "created", want.machine.Canonical()+", "+want.extent()))
	if err != nil {
		return Result{}, fmt.Errorf("create compute %s: %w", req.Name, err)
	}
	made := saved{stored: c, doc: doc, rev: rev, cluster: wish}
	return Result{Document: s.show(made), Created: true, Operation: op.ID, Subscription: op.Scope, Region: op.Location, Warnings: want.warnings}, nil
}

// change commits what differs. always: an operation is made though nothing does.
func (s *Service) change(ctx context.Context, p access.Principal, info workspaces.Info, have saved, want wanted, always bool) (Result, error) {
	same, err := equal(have.Resource, want.resource)
	if err != nil {
		return Result{}, fmt.Errorf("compare compute %s: %w", have.Name, err)
	}
	res := Result{Subscription: info.Subscription, Region: have.Region, Warnings: want.warnings}
	if same {
		if always {
			op := s.operation(info, have.doc.ID, have.Region, have.cluster.Generation)
			if _, err := s.Store.Commit(ctx, row.Update(have.cluster, have.clusterRev), row.Create(op)); err != nil {
				return Result{}, fmt.Errorf("keep operation of compute %s: %w", have.Name, err)
			}
			res.Operation = op.ID
		}
		res.Document = s.show(have)
		return res, nil
	}
	now := s.Now()
	next := have
	next.Resource, next.ModifiedBy, next.ModifiedByType = want.resource, p.Name, kind(p)
	if next.doc.Body, err = json.Marshal(next.stored); err != nil {
		return Result{}, fmt.Errorf("encode compute %s: %w", have.Name, err)
	}
	next.doc.Modified, next.doc.By = now, p.ID
	next.cluster.Min, next.cluster.Max, next.cluster.IdleAfter = want.min, want.max, want.idle
	next.cluster.Generation++
	op := s.operation(info, have.doc.ID, have.Region, next.cluster.Generation)
	next.rev, err = s.Store.Commit(ctx, row.Update(next.doc, have.rev), row.Update(next.cluster, have.clusterRev), row.Create(op),
		s.event(p, have.ID, "updated", want.extent()))
	if err != nil {
		return Result{}, fmt.Errorf("update compute %s: %w", have.Name, err)
	}
	res.Document, res.Operation = s.show(next), op.ID
	return res, nil
}

// extent says how large it may be.
func (w *wanted) extent() string {
	if w.instance {
		return fmt.Sprintf("one node, idle for %s at most (0s: for ever).", w.idle)
	}
	return fmt.Sprintf("%d to %d nodes, idle for %s at most.", w.min, w.max, w.idle)
}

// equal compares canonical documents by what they say in JSON: a number read
// back from the store has another type than one just made.
func equal(a, b map[string]any) (bool, error) {
	x, err := json.Marshal(a)
	if err != nil {
		return false, err
	}
	y, err := json.Marshal(b)
	if err != nil {
		return false, err
	}
	return bytes.Equal(x, y), nil
}

func kind(p access.Principal) string {
	if p.Kind == access.User {
		return "User"
	}
	return "Application"
}

func (s *Service) pool() string {
	if s.Pool == "" {
		return "local"
	}
	return s.Pool
}

// sentence turns an error's words into the beginning of a sentence.
func sentence(err error) string {
	t := err.Error()
	return strings.ToUpper(t[:1]) + t[1:]
}
