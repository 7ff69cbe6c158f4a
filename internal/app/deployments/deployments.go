// Package deployments deploys ARM templates. core/template says what there is to
// put and in which order; this package keeps the wish, puts every resource as a
// caller would ([Calls]), follows what takes long, and keeps what became of it.
//
// A deployment is a row, and so is every operation of it. Putting a resource twice
// is harmless, so a server that was killed in the middle goes on at its next
// start ([Service.Run]) with the resources that are not done.
//
// Start at [Service.Create]; [Service.Run] does the work.
package deployments

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/core/template"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Store is what the service needs of the store.
type Store interface {
	Commit(ctx context.Context, changes ...row.Change) (int64, error)
	Get(ctx context.Context, k row.Key) (row.Record, error)
	List(ctx context.Context, q row.Query) (row.Page, error)
}

// Scopes is what the service needs to know of what is deployed to.
type Scopes interface {
	Group(ctx context.Context, p access.Principal, sub, group string) (workspaces.Document, error)
	Subscription(ctx context.Context, p access.Principal, sub string) (workspaces.Document, error)
	Tenant(ctx context.Context) (string, error)
}

// Call is a request to Resource Manager that the service makes for a caller.
type Call struct {
	Method  string
	Host    string // that the caller came by: addresses in answers follow it
	Path    string // may have a query
	Version string // api-version, unless Path has one
	Body    any    // nil: none
	Create  bool   // a compute that exists may be repeated, not changed
	Check   bool   // of a compute: nothing is written, and what would be refused is
}

// Answer is what a call came to.
type Answer struct {
	Status   int
	Body     any    // nil: none
	Async    string // Azure-AsyncOperation
	Location string
}

// Calls answers requests as if they had come from outside, with every check.
type Calls interface {
	Do(ctx context.Context, p access.Principal, c Call) (Answer, error)
}

// Secrets seals what is not to be kept in clear.
type Secrets interface {
	Seal(about string, secret []byte) ([]byte, error)
	Unseal(about string, sealed []byte) ([]byte, error)
}

// Service deploys templates.
type Service struct {
	Store   Store
	Scopes  Scopes
	Calls   Calls
	Secrets Secrets
	// Writable refuses a deployment inside another where a lock, or a deletion that is
	// under way, forbids one; default: none does. All other writes are Calls'.
	Writable func(ctx context.Context, id string) error
	Now      func() time.Time // site clock, UTC
	NewID    func() string    // guids
	Log      *slog.Logger     // default: slog.Default()

	mu      sync.Mutex
	waiting []string                      // keys of deployments that nobody drives yet
	wake    chan struct{}                 // tells Run of them; made by it
	cancels map[string]context.CancelFunc // of deployments that are being driven, by run
	counts  map[string]int                // resources by the run of the outermost deployment
}

// States of deployments and their operations.
const (
	accepted  = "Accepted"
	running   = "Running"
	succeeded = "Succeeded"
	failed    = "Failed"
	canceled  = "Canceled"
)

func final(state string) bool { return state == succeeded || state == failed || state == canceled }

// Problem is an error as ARM shows it.
type Problem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Target  string `json:"target,omitempty"`
	Details []any  `json:"details"`
}

// shownParameter is a parameter as a deployment shows it: without the value if it is secure.
type shownParameter struct {
	Type  string `json:"type"`
	Value any    `json:"value,omitempty"`
}

// ended is a former run of a deployment, for clients that still ask for it.
type ended struct {
	Run   string   `json:"run"`
	State string   `json:"state"`
	Error *Problem `json:"error,omitempty"`
}

// stored is the body of a [row.Deployment] document.
type stored struct {
	ID          string                    `json:"id"` // as typed
	Name        string                    `json:"name"`
	Scope       string                    `json:"scope"`
	Location    string                    `json:"location,omitempty"`
	Tags        map[string]any            `json:"tags,omitempty"`
	Mode        string                    `json:"mode"`
	Who         access.Principal          `json:"who"`
	Host        string                    `json:"host"`
	Environment map[string]any            `json:"environment,omitempty"`
	Run         string                    `json:"run"`              // guid: of this deployment under this name
	Root        string                    `json:"root"`             // run of the outermost deployment
	Parent      string                    `json:"parent,omitempty"` // run of the deployment it lies in
	Depth       int                       `json:"depth,omitempty"`
	Outer       bool                      `json:"outer,omitempty"` // its template was evaluated by the one it lies in
	Correlation string                    `json:"correlation"`
	State       string                    `json:"state"`
	Canceling   bool                      `json:"canceling,omitempty"`
	Started     time.Time                 `json:"started"`
	Ended       time.Time                 `json:"ended"`
	Hash        string                    `json:"hash"`
	Parameters  map[string]shownParameter `json:"parameters"`
	Providers   []any                     `json:"providers"`
	DependsOn   []any                     `json:"dependencies"`
	Made        []string                  `json:"made,omitempty"` // ids of output resources
	Outputs     map[string]any            `json:"outputs,omitempty"`
	Error       *Problem                  `json:"error,omitempty"`
	Past        []ended                   `json:"past,omitempty"`
}

func (d stored) key() string { return strings.ToLower(d.ID) }

// saved is a deployment as it was read.
type saved struct {
	stored
	doc row.Document
	rev int64
}

// content is what a deployment is made of. It is kept sealed: parameters are
// secret, and templates hold what somebody wrote into them.
type content struct {
	Template   map[string]any `json:"template"`
	Parameters map[string]any `json:"parameters"` // as given; secure ones only until the deployment has ended
}

// names of deployments: Azure's rule.
var names = regexp.MustCompile(`^[-\w._()]{1,64}$`)

// address checks the id of a deployment and takes it apart.
func address(scope, name string) (armid.ID, error) {
	id, err := armid.Parse(scope)
	if err != nil || id.Provider != "" {
		return armid.ID{}, fault.Coded(fault.Invalid, "InvalidResourceId", scope, "Templates are deployed to a subscription or a resource group, not to '%.300s'.", scope)
	}
	if !names.MatchString(name) {
		return armid.ID{}, fault.Coded(fault.Invalid, "InvalidDeploymentName", name, "The deployment name '%.100s' is not valid: it must have 1 to 64 characters and hold only letters, digits and -._().", name)
	}
	return id, nil
}

// idOf is the ARM id of a deployment.
func idOf(scope, name string) string {
	return scope + "/providers/" + template.DeploymentType + "/" + name
}

func may(p access.Principal, scope, verb string) error {
	if p.May(scope) && (verb == "read" || p.Kind != access.RunIdentity) {
		return nil
	}
	return fault.Coded(fault.Forbidden, "AuthorizationFailed", "", "The client '%s' with object id '%s' does not have authorization to perform action '%s/%s' over scope '%s'.",
		p.Name, p.ID, template.DeploymentType, verb, scope)
}

// enter asks whether p may do something to a deployment, and whether its scope is there.
func (s *Service) enter(ctx context.Context, p access.Principal, scope, name, verb string) (string, error) {
	id, err := address(scope, name)
	if err != nil {
		return "", err
	}
	if err := may(p, scope, verb); err != nil {
		return "", err
	}
	if id.Group == "" {
		_, err = s.Scopes.Subscription(ctx, p, id.Subscription)
	} else {
		_, err = s.Scopes.Group(ctx, p, id.Subscription, id.Group)
	}
	return strings.ToLower(idOf(scope, name)), err
}

func (s *Service) read(ctx context.Context, key string) (saved, error) {
	rec, err := s.Store.Get(ctx, row.Key{Kind: row.Deployment, ID: key})
	if errors.Is(err, fault.NotFound) {
		name := key[strings.LastIndexByte(key, '/')+1:]
		return saved{}, fault.Coded(fault.NotFound, "DeploymentNotFound", "", "Deployment '%s' could not be found.", name)
	}
	if err != nil {
		return saved{}, fmt.Errorf("get deployment %s: %w", key, err)
	}
	return decode(rec)
}

func decode(rec row.Record) (saved, error) {
	doc, ok := rec.Row.(row.Document)
	if !ok {
		return saved{}, fmt.Errorf("deployment row is a %T", rec.Row)
	}
	d := saved{doc: doc, rev: rec.Rev}
	if err := parse(doc.Body, &d.stored); err != nil {
		return saved{}, fmt.Errorf("decode deployment %s: %w", doc.ID, err)
	}
	return d, nil
}

func parse(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	return dec.Decode(v)
}

// change reads a deployment, lets do change it, and writes it, as often as somebody
// else was first. do returns false where there is nothing to change.
func (s *Service) change(ctx context.Context, key string, do func(*stored) bool) (saved, error) {
	for range 16 {
		d, err := s.read(ctx, key)
		if err != nil || !do(&d.stored) {
			return d, err
		}
		if d.doc.Body, err = json.Marshal(d.stored); err != nil {
			return d, fmt.Errorf("encode deployment %s: %w", key, err)
		}
		d.doc.Modified = s.Now()
		rev, err := s.Store.Commit(ctx, row.Update(d.doc, d.rev))
		if errors.Is(err, fault.Precondition) {
			continue
		}
		if err != nil {
			return d, fmt.Errorf("write deployment %s: %w", key, err)
		}
		d.rev = rev
		return d, nil
	}
	return saved{}, fault.Coded(fault.Conflict, "Conflict", key, "The deployment is being changed by others at the same time. Try again in a second.")
}

// Get returns a deployment.
func (s *Service) Get(ctx context.Context, p access.Principal, scope, name string) (map[string]any, error) {
	key, err := s.enter(ctx, p, scope, name, "read")
	if err != nil {
		return nil, err
	}
	d, err := s.read(ctx, key)
	if err != nil {
		return nil, err
	}
	return s.show(d.stored), nil
}

// List returns one page of the deployments of a scope, the newest first. keep, if
// set, says which states count.
func (s *Service) List(ctx context.Context, p access.Principal, scope, after string, limit int, keep func(state string) bool) ([]map[string]any, string, error) {
	if _, err := s.enter(ctx, p, scope, "list", "read"); err != nil {
		return nil, "", err
	}
	page, err := s.Store.List(ctx, row.Query{Kind: row.Deployment, Parent: strings.ToLower(scope), Desc: true, After: after, Limit: limit})
	if err != nil {
		return nil, "", fmt.Errorf("list deployments: %w", err)
	}
	var list []map[string]any
	for _, rec := range page.Records {
		d, err := decode(rec)
		if err != nil {
			return nil, "", err
		}
		if keep == nil || keep(d.State) {
			list = append(list, s.show(d.stored))
		}
	}
	return list, page.Next, nil
}

// Delete forgets a deployment and its operations; what it made stays. It reports
// whether there was one.
func (s *Service) Delete(ctx context.Context, p access.Principal, scope, name string) (bool, error) {
	key, err := s.enter(ctx, p, scope, name, "delete")
	if err != nil {
		return false, err
	}
	d, err := s.read(ctx, key)
	if errors.Is(err, fault.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !final(d.State) {
		return false, fault.Coded(fault.Conflict, "DeploymentActive", d.ID, "The deployment '%s' is %s. Cancel it, or wait until it has ended, before it is deleted.", d.Name, strings.ToLower(d.State))
	}
	return true, s.drop(ctx, d)
}

// drop removes the rows of a deployment.
func (s *Service) drop(ctx context.Context, d saved) error {
	changes, err := s.dropOperations(ctx, d.key())
	if err != nil {
		return err
	}
	changes = append(changes, row.Drop(row.Key{Kind: row.Deployment, ID: d.key()}), row.Drop(row.Key{Kind: row.DeploymentContent, ID: d.key()}))
	if _, err := s.Store.Commit(ctx, changes...); err != nil {
		return fmt.Errorf("delete deployment %s: %w", d.Name, err)
	}
	return nil
}

// dropOperations returns the changes that remove the operations of a deployment.
func (s *Service) dropOperations(ctx context.Context, key string) ([]row.Change, error) {
	recs, err := s.operations(ctx, key)
	if err != nil {
		return nil, err
	}
	var changes []row.Change
	for _, rec := range recs {
		changes = append(changes, row.Drop(rec.Row.Key()))
	}
	return changes, nil
}

// Cancel asks a deployment to stop. Resources that are under way may still be made.
func (s *Service) Cancel(ctx context.Context, p access.Principal, scope, name string) error {
	key, err := s.enter(ctx, p, scope, name, "cancel/action")
	if err != nil {
		return err
	}
	refused := false
	d, err := s.change(ctx, key, func(d *stored) bool {
		refused = final(d.State)
		d.Canceling = !refused
		return !refused
	})
	if err != nil {
		return err
	}
	if refused {
		return fault.Coded(fault.Conflict, "DeploymentCannotBeCancelled", d.ID, "The deployment '%s' cannot be cancelled, because it is not running: it is %s.", d.Name, strings.ToLower(d.State))
	}
	s.mu.Lock()
	cancel := s.cancels[d.Run]
	s.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	return nil
}

// Export returns the template of a deployment.
func (s *Service) Export(ctx context.Context, p access.Principal, scope, name string) (map[string]any, error) {
	key, err := s.enter(ctx, p, scope, name, "exportTemplate/action")
	if err != nil {
		return nil, err
	}
	d, err := s.read(ctx, key)
	if err != nil {
		return nil, err
	}
	if d.Outer {
		return nil, fault.Coded(fault.Invalid, "TemplateNotExportable", d.ID, "The template of '%s' was evaluated by the deployment that it lies in, and may hold its secrets. Export the template of that deployment.", d.Name)
	}
	c, err := s.content(ctx, key)
	return c.Template, err
}

// Status is the state of one run of a deployment, by its guid.
type Status struct {
	State string
	Error *Problem
}

// Status returns what became of a run, also of one that was followed by another.
func (s *Service) Status(ctx context.Context, p access.Principal, scope, name, run string) (Status, error) {
	key, err := s.enter(ctx, p, scope, name, "read")
	if err != nil {
		return Status{}, err
	}
	d, err := s.read(ctx, key)
	if err != nil {
		return Status{}, err
	}
	if strings.EqualFold(d.Run, run) {
		return Status{d.State, d.Error}, nil
	}
	for _, e := range d.Past {
		if strings.EqualFold(e.Run, run) {
			return Status{e.State, e.Error}, nil
		}
	}
	return Status{}, fault.Coded(fault.NotFound, "OperationNotFound", run, "The deployment '%s' has no operation '%.64s'.", d.Name, run)
}

// content opens what a deployment is made of.
func (s *Service) content(ctx context.Context, key string) (content, error) {
	rec, err := s.Store.Get(ctx, row.Key{Kind: row.DeploymentContent, ID: key})
	if err != nil {
		return content{}, fmt.Errorf("get the template of %s: %w", key, err)
	}
	doc, ok := rec.Row.(row.Document)
	if !ok {
		return content{}, fmt.Errorf("template row is a %T", rec.Row)
	}
	var sealed []byte
	if err := json.Unmarshal(doc.Body, &sealed); err != nil {
		return content{}, fmt.Errorf("decode the template of %s: %w", key, err)
	}
	clear, err := s.Secrets.Unseal(key, sealed)
	if err != nil {
		return content{}, err
	}
	var c content
	if err := parse(clear, &c); err != nil {
		return content{}, fmt.Errorf("decode the template of %s: %w", key, err)
	}
	return c, nil
}

// sealed returns the row that keeps what a deployment is made of.
func (s *Service) sealed(key, scope string, c content) (row.Document, error) {
	clear, err := json.Marshal(c)
	if err != nil {
		return row.Document{}, fmt.Errorf("encode the template of %s: %w", key, err)
	}
	sealed, err := s.Secrets.Seal(key, clear)
	if err != nil {
		return row.Document{}, fmt.Errorf("seal the template of %s: %w", key, err)
	}
	body, err := json.Marshal(sealed)
	now := s.Now()
	return row.Document{Kind: row.DeploymentContent, ID: key, Parent: strings.ToLower(scope), Body: body, Created: now, Modified: now}, err
}

func (s *Service) log() *slog.Logger {
	if s.Log == nil {
		return slog.Default()
	}
	return s.Log
}
