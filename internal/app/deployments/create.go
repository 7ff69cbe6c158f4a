package deployments

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/core/template"
	"github.com/ebb-compute/ebb/internal/fault"
)

const (
	mostDepth     = 5     // of deployments in deployments: Azure's
	mostResources = 5_000 // in a deployment and all that lie in it
	mostHistory   = 800   // deployments that a scope remembers: Azure's
	mostActive    = 200   // deployments that run at once
	pastRuns      = 10    // former runs under a name that can still be asked for
)

// Request asks for a deployment, its validation, or what it would change.
type Request struct {
	Scope       string // ARM id of a subscription or a resource group, as typed
	Name        string
	Body        map[string]any // JSON; numbers as json.Number
	Host        string         // that the caller came by
	Environment map[string]any // what environment() returns
}

// prepared is a request that was found to be right.
type prepared struct {
	stored
	holds content
	plan  *template.Plan
}

// prepare checks a request and plans it.
func (s *Service) prepare(ctx context.Context, p access.Principal, req Request, verb string) (prepared, error) {
	if _, err := s.enter(ctx, p, req.Scope, req.Name, verb); err != nil {
		return prepared{}, err
	}
	body, _ := template.Normal(req.Body).(map[string]any)
	props, ok := body["properties"].(map[string]any)
	if !ok {
		return prepared{}, fault.Coded(fault.Invalid, "InvalidRequestContent", "properties", "The request content is not valid: it needs an object 'properties' with a template.")
	}
	run := strings.ToLower(s.NewID())
	d := prepared{stored: stored{
		ID: idOf(req.Scope, req.Name), Name: req.Name, Scope: req.Scope, Who: p, Host: req.Host, Environment: req.Environment, Run: run, Root: run,
		Correlation: strings.ToLower(s.NewID()), State: accepted, Started: s.Now(),
	}}
	d.Location, _ = body["location"].(string)
	d.Tags, _ = body["tags"].(map[string]any)
	if err := d.readProperties(props); err != nil {
		return prepared{}, err
	}
	return d, s.replan(ctx, &d)
}

// readProperties takes mode, template and parameters.
func (d *prepared) readProperties(props map[string]any) error {
	mode, _ := props["mode"].(string)
	switch {
	case strings.EqualFold(mode, "Incremental") || mode == "":
		d.Mode = "Incremental"
	case strings.EqualFold(mode, "Complete"):
		d.Mode = "Complete"
	default:
		return fault.Coded(fault.Invalid, "InvalidDeploymentMode", "properties.mode", "The deployment mode '%.64s' is not Incremental or Complete.", mode)
	}
	group := strings.Contains(strings.ToLower(d.Scope), "/resourcegroups/")
	switch {
	case d.Mode == "Complete" && !group:
		return fault.Coded(fault.Invalid, "InvalidDeploymentMode", "properties.mode", "A deployment to a subscription must be Incremental: Complete is for resource groups.")
	case d.Location == "" && !group:
		return fault.Coded(fault.Invalid, "LocationRequired", "location", "The location property is required for a deployment to a subscription: it is where what is known of the deployment is kept.")
	case d.Location != "" && group:
		return fault.Coded(fault.Invalid, "InvalidDeployment", "location", "The 'location' property is not allowed for a deployment to a resource group: it is the group's.")
	}
	for key, word := range map[string]string{"templateLink": "template", "parametersLink": "parameters"} {
		if props[key] != nil && props[word] == nil {
			return fault.Coded(fault.Unsupported, "NotImplemented", "properties."+key, "Linked files (%s) are not part of Ebb: it fetches nothing from elsewhere. Send the file's content as 'properties.%s' (az does so with --template-file and --parameters @file).", key, word)
		}
	}
	if on, ok := props["onErrorDeployment"].(map[string]any); ok && len(on) > 0 {
		return fault.Coded(fault.Unsupported, "NotImplemented", "properties.onErrorDeployment", "Going back to an earlier deployment on an error (onErrorDeployment) is not part of Ebb.")
	}
	var ok bool
	if d.holds.Template, ok = props["template"].(map[string]any); !ok {
		return fault.Coded(fault.Invalid, "InvalidTemplate", "properties.template", "Deployment template validation failed: 'properties.template' must be an object, the template.")
	}
	given := props["parameters"]
	if file, isFile := given.(map[string]any); isFile && file["parameters"] != nil && file["$schema"] != nil {
		given = file["parameters"] // a whole parameters file
	}
	if d.holds.Parameters, ok = given.(map[string]any); !ok && given != nil {
		return fault.Coded(fault.Invalid, "InvalidRequestContent", "properties.parameters", "The parameters must be an object of {\"value\": …}.")
	}
	return nil
}

// replan makes the plan of a deployment from what is kept of it, and what it shows.
func (s *Service) replan(ctx context.Context, d *prepared) error {
	in, err := s.input(ctx, d)
	if err != nil {
		return err
	}
	if d.plan, err = template.New(in); err != nil {
		return invalidTemplate(err)
	}
	d.stored.Parameters = map[string]shownParameter{}
	for _, p := range d.plan.Parameters {
		shown := shownParameter{Type: p.Type}
		if !p.Secure {
			shown.Value = p.Value
		}
		d.stored.Parameters[p.Name] = shown
	}
	h := fnv.New64a()
	text, err := json.Marshal(d.holds.Template)
	if err != nil {
		return fmt.Errorf("encode a template: %w", err)
	}
	_, _ = h.Write(text)
	d.Hash = fmt.Sprint(h.Sum64())
	d.Providers, d.DependsOn = providers(d.plan, d.Location), dependencies(d.plan)
	return nil
}

func invalidTemplate(err error) error {
	if e, ok := errors.AsType[*template.Error](err); ok {
		return fault.Coded(fault.Invalid, e.Code, e.Path, "%s", e.Error())
	}
	return err
}

// input is what a template may ask about.
func (s *Service) input(ctx context.Context, d *prepared) (template.Input, error) {
	id, err := armid.Parse(d.Scope)
	if err != nil {
		return template.Input{}, fmt.Errorf("scope of deployment %s: %w", d.Name, err)
	}
	tenant, err := s.Scopes.Tenant(ctx)
	if err != nil {
		return template.Input{}, err
	}
	sub, err := s.Scopes.Subscription(ctx, d.Who, id.Subscription)
	if err != nil {
		return template.Input{}, err
	}
	in := template.Input{
		Template: d.holds.Template, Parameters: d.holds.Parameters, Name: d.Name, Mode: d.Mode, Scope: d.Scope, Location: d.Location,
		Tenant:      map[string]any{"tenantId": tenant, "displayName": "Ebb", "countryCode": nil, "id": "/tenants/" + tenant},
		Deployer:    map[string]any{"objectId": d.Who.ID, "tenantId": tenant, "userPrincipalName": d.Who.Name},
		Environment: d.Environment, Now: d.Started, Seed: d.Run,
	}
	in.Subscription, _ = template.Normal(sub.Body).(map[string]any)
	if id.Group != "" {
		group, err := s.Scopes.Group(ctx, d.Who, id.Subscription, id.Group)
		if err != nil {
			return template.Input{}, err
		}
		in.ResourceGroup, _ = template.Normal(group.Body).(map[string]any)
	}
	return in, nil
}

// Validate checks a deployment, and its computes as [Service.WhatIf] does, and makes nothing.
func (s *Service) Validate(ctx context.Context, p access.Principal, req Request) (map[string]any, error) {
	d, err := s.prepare(ctx, p, req, "validate/action")
	if err != nil {
		return nil, err
	}
	if err := s.looking(&d).preflight(ctx); err != nil {
		return nil, err
	}
	var found []any
	for _, r := range d.plan.Resources {
		if r.Deployed() {
			found = append(found, map[string]any{"id": r.ID})
		}
	}
	d.State, d.Ended = succeeded, s.Now()
	body := s.show(d.stored)
	props, _ := body["properties"].(map[string]any)
	props["validatedResources"] = append([]any{}, found...)
	delete(props, "outputResources")
	return body, nil
}

// Created is what became of a wish to deploy.
type Created struct {
	Body map[string]any
	New  bool   // there was none of that name
	Run  string // guid to ask [Service.Status] for
}

// Create keeps a deployment, to be carried out by [Service.Run].
func (s *Service) Create(ctx context.Context, p access.Principal, req Request) (Created, error) {
	if s.active() >= mostActive {
		return Created{}, fault.Coded(fault.Conflict, "TooManyDeployments", "", "%d deployments are running already; wait until some have ended.", mostActive)
	}
	d, err := s.prepare(ctx, p, req, "write")
	if err != nil {
		return Created{}, err
	}
	fresh, err := s.keep(ctx, d)
	if err != nil {
		return Created{}, err
	}
	s.hand(d.key())
	if err := s.trim(ctx, req.Scope); err != nil {
		s.log().WarnContext(ctx, "old deployments not removed", "scope", req.Scope, "err", err)
	}
	return Created{Body: s.show(d.stored), New: fresh, Run: d.Run}, nil
}

// keep writes a deployment in the place of the last one of its name.
func (s *Service) keep(ctx context.Context, d prepared) (fresh bool, err error) {
	for range 4 {
		old, err := s.read(ctx, d.key())
		fresh = errors.Is(err, fault.NotFound)
		if err != nil && !fresh {
			return false, err
		}
		if !fresh {
			if !final(old.State) {
				return false, fault.Coded(fault.Conflict, "DeploymentActive", d.ID, "Unable to edit or replace deployment '%s': a previous deployment of that name, from '%s', is still active. Wait for it, cancel it, or choose another name.", d.Name, stamp(old.Started))
			}
			d.Past = append(slices.Clone(old.Past), ended{old.Run, old.State, old.Error})
			d.Past = d.Past[max(0, len(d.Past)-pastRuns):]
		}
		changes, err := s.dropOperations(ctx, d.key())
		if err != nil {
			return false, err
		}
		body, err := json.Marshal(d.stored)
		if err != nil {
			return false, fmt.Errorf("encode deployment %s: %w", d.Name, err)
		}
		doc := row.Document{
			Kind: row.Deployment, ID: d.key(), Parent: strings.ToLower(d.Scope), Sort: row.SortTime(d.Started),
			Body: body, Created: d.Started, Modified: d.Started, By: d.Who.ID,
		}
		holds, err := s.sealed(d.key(), d.Scope, d.holds)
		if err != nil {
			return false, err
		}
		write := row.Create(doc)
		if !fresh {
			write = row.Update(doc, old.rev)
		}
		_, err = s.Store.Commit(ctx, append(changes, write, row.Put(holds))...)
		if !errors.Is(err, fault.Precondition) && !errors.Is(err, fault.Conflict) {
			if err != nil {
				err = fmt.Errorf("keep deployment %s: %w", d.Name, err)
			}
			return fresh, err
		}
	}
	return false, fault.Coded(fault.Conflict, "Conflict", d.ID, "The deployment '%s' is being changed by others at the same time. Try again in a second.", d.Name)
}

// trim forgets the oldest deployments of a scope that has too many.
func (s *Service) trim(ctx context.Context, scope string) error {
	page, err := s.Store.List(ctx, row.Query{Kind: row.Deployment, Parent: strings.ToLower(scope), Desc: true, Limit: mostHistory})
	if err != nil || page.Next == "" {
		return err
	}
	page, err = s.Store.List(ctx, row.Query{Kind: row.Deployment, Parent: strings.ToLower(scope), Desc: true, After: page.Next, Limit: 100})
	if err != nil {
		return err
	}
	for _, rec := range page.Records {
		d, err := decode(rec)
		if err != nil {
			return err
		}
		if final(d.State) {
			if err := s.drop(ctx, d); err != nil {
				return err
			}
		}
	}
	return nil
}
