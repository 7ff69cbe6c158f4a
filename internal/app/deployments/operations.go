package deployments

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/core/template"
	"github.com/ebb-compute/ebb/internal/fault"
)

// step is one operation of a deployment: a resource that is put, or deleted. It is
// the body of a [row.DeploymentOperation] document.
type step struct {
	ID       string    `json:"id"`
	Of       string    `json:"of"`   // ARM id of the deployment
	Verb     string    `json:"verb"` // Create, Delete, EvaluateDeploymentOutput
	Resource string    `json:"resource,omitempty"`
	Type     string    `json:"type,omitempty"`
	Name     string    `json:"name,omitempty"`
	State    string    `json:"state"`
	Status   int       `json:"status,omitempty"` // of HTTP
	Error    *Problem  `json:"error,omitempty"`
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended"`
	Tracking string    `json:"tracking"`
}

func (p step) key(deployment string) string {
	return deployment + "/operations/" + strings.ToLower(p.ID)
}

// record writes an operation as it stands.
func (s *Service) record(ctx context.Context, deployment string, p step) error {
	body, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode operation %s: %w", p.ID, err)
	}
	_, err = s.Store.Commit(ctx, row.Put(row.Document{
		Kind: row.DeploymentOperation, ID: p.key(deployment), Parent: deployment, Sort: p.ID, Body: body, Created: p.Started, Modified: s.Now(),
	}))
	if err != nil {
		return fmt.Errorf("write operation %s: %w", p.ID, err)
	}
	return nil
}

// operations returns all rows of a deployment's operations.
func (s *Service) operations(ctx context.Context, deployment string) ([]row.Record, error) {
	var all []row.Record
	for q := (row.Query{Kind: row.DeploymentOperation, Parent: deployment}); ; {
		page, err := s.Store.List(ctx, q)
		if err != nil {
			return nil, fmt.Errorf("list operations of %s: %w", deployment, err)
		}
		all = append(all, page.Records...)
		if page.Next == "" {
			return all, nil
		}
		q.After = page.Next
	}
}

func decodeStep(rec row.Record) (step, error) {
	doc, ok := rec.Row.(row.Document)
	if !ok {
		return step{}, fmt.Errorf("operation row is a %T", rec.Row)
	}
	var p step
	if err := parse(doc.Body, &p); err != nil {
		return step{}, fmt.Errorf("decode operation %s: %w", doc.ID, err)
	}
	return p, nil
}

// Operations returns one page of a deployment's operations, the latest first.
func (s *Service) Operations(ctx context.Context, p access.Principal, scope, name, after string, limit int) ([]map[string]any, string, error) {
	key, err := s.enter(ctx, p, scope, name, "operations/read")
	if err != nil {
		return nil, "", err
	}
	if _, err := s.read(ctx, key); err != nil {
		return nil, "", err
	}
	page, err := s.Store.List(ctx, row.Query{Kind: row.DeploymentOperation, Parent: key, Desc: true, After: after, Limit: limit})
	if err != nil {
		return nil, "", fmt.Errorf("list operations: %w", err)
	}
	var list []map[string]any
	for _, rec := range page.Records {
		p, err := decodeStep(rec)
		if err != nil {
			return nil, "", err
		}
		list = append(list, s.showStep(p))
	}
	return list, page.Next, nil
}

// Operation returns one operation.
func (s *Service) Operation(ctx context.Context, p access.Principal, scope, name, id string) (map[string]any, error) {
	key, err := s.enter(ctx, p, scope, name, "operations/read")
	if err != nil {
		return nil, err
	}
	d, err := s.read(ctx, key)
	if err != nil {
		return nil, err
	}
	rec, err := s.Store.Get(ctx, row.Key{Kind: row.DeploymentOperation, ID: (step{ID: id}).key(key)})
	if errors.Is(err, fault.NotFound) {
		return nil, fault.Coded(fault.NotFound, "DeploymentOperationNotFound", id, "The deployment '%s' has no operation '%.64s'. 'az deployment operation group list' shows those it has.", d.Name, id)
	}
	if err != nil {
		return nil, fmt.Errorf("get operation %s: %w", id, err)
	}
	o, err := decodeStep(rec)
	return s.showStep(o), err
}

// showStep is an operation as ARM shows it.
func (s *Service) showStep(p step) map[string]any {
	until := p.Ended
	if until.IsZero() {
		until = s.Now()
	}
	props := map[string]any{
		"provisioningOperation": p.Verb, "provisioningState": p.State, "timestamp": stamp(until), "duration": duration(until.Sub(p.Started)), "trackingId": p.Tracking,
	}
	if p.Status != 0 {
		props["statusCode"] = strings.ReplaceAll(http.StatusText(p.Status), " ", "")
	}
	if p.Error != nil {
		props["statusMessage"] = map[string]any{"status": p.State, "error": p.Error}
	}
	if p.Resource != "" {
		props["targetResource"] = map[string]any{"id": p.Resource, "resourceType": p.Type, "resourceName": p.Name}
	}
	return map[string]any{"id": p.Of + "/operations/" + p.ID, "operationId": p.ID, "properties": props}
}

// stepOf is the operation of a plan's resource, before it begins.
func (s *Service) stepOf(d stored, i int, verb string, r *template.Resource) step {
	return step{
		ID: fmt.Sprintf("%s%06X", strings.ToUpper(d.Run[:8]), i+1), Of: d.ID, Verb: verb, Resource: r.ID, Type: r.Type, Name: r.Name[strings.LastIndexByte(r.Name, '/')+1:],
		State: running, Started: s.Now(), Tracking: d.Correlation,
	}
}
