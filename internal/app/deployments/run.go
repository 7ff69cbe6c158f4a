package deployments

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/core/template"
	"github.com/ebb-compute/ebb/internal/fault"
)

const (
	atOnce = 8               // resources of one deployment that are put at the same time
	pause  = 5 * time.Second // before another try of what the store refused
	// patience is how long one resource may take: Azure's limit for most.
	patience = 2 * time.Hour
)

// Run carries out deployments until ctx ends: those that were not done when the
// server ended last, and those that Create hands over.
func (s *Service) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		err := s.resume(ctx)
		if err == nil || ctx.Err() != nil {
			break
		}
		s.log().ErrorContext(ctx, "deployments not resumed", "err", err)
		if !sleep(ctx, pause) {
			return
		}
	}
	for {
		for _, key := range s.take() {
			wg.Go(func() {
				if _, err := s.drive(ctx, key, 0); err != nil && ctx.Err() == nil {
					s.log().ErrorContext(ctx, "deployment waits", "id", key, "err", err)
					if sleep(ctx, pause) { // what it came to could not be written, or read
						s.hand(key)
					}
				}
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-s.signal():
		}
	}
}

// resume hands over what was not done.
func (s *Service) resume(ctx context.Context) error {
	for q := (row.Query{Kind: row.Deployment}); ; {
		page, err := s.Store.List(ctx, q)
		if err != nil {
			return fmt.Errorf("list deployments: %w", err)
		}
		for _, rec := range page.Records {
			d, err := decode(rec)
			if err != nil {
				return err
			}
			if !final(d.State) && d.Parent == "" { // the others are resumed by those they lie in
				s.hand(d.key())
			}
		}
		if page.Next == "" {
			return nil
		}
		q.After = page.Next
	}
}

func (s *Service) signal() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wake == nil {
		s.wake = make(chan struct{}, 1)
	}
	return s.wake
}

// hand gives a deployment to Run.
func (s *Service) hand(key string) {
	wake := s.signal()
	s.mu.Lock()
	s.waiting = append(s.waiting, key)
	s.mu.Unlock()
	select {
	case wake <- struct{}{}:
	default: // it is told already
	}
}

func (s *Service) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := s.waiting
	s.waiting = nil
	return keys
}

// active counts the deployments that are under way, without those inside others.
func (s *Service) active() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.counts) + len(s.waiting)
}

// begin registers a run, so that it can be cancelled and nobody else drives it.
func (s *Service) begin(d stored, cancel context.CancelFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancels == nil {
		s.cancels, s.counts = map[string]context.CancelFunc{}, map[string]int{}
	}
	if s.cancels[d.Run] != nil {
		return false
	}
	s.cancels[d.Run] = cancel
	if d.Parent == "" {
		s.counts[d.Run] = 0
	}
	return true
}

func (s *Service) end(d stored) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.cancels, d.Run)
	if d.Parent == "" {
		delete(s.counts, d.Run)
	}
}

// count adds to what a deployment and all inside it hold, within the limit.
func (s *Service) count(d stored, n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[d.Root] += n
	return s.counts[d.Root] <= mostResources
}

// turn is one deployment while it is carried out.
type turn struct {
	s        *Service
	d        *prepared
	key      string
	done     []bool // resources that are there, or need not be
	started  []bool
	problems []any // details of the deployment's error
	secrets  []string
}

// drive carries out a deployment to its end. When ctx ends, the rows stay as they
// are, for the next start; a deployment that is cancelled is ended as such.
func (s *Service) drive(ctx context.Context, key string, _ int) (saved, error) {
	d, err := s.read(ctx, key)
	if errors.Is(err, fault.NotFound) || err == nil && final(d.State) {
		return d, nil
	}
	if err != nil {
		return d, err
	}
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	if !s.begin(d.stored, cancel) {
		return d, nil
	}
	defer s.end(d.stored)
	if d, err = s.change(ctx, key, func(d *stored) bool { d.State = running; return true }); err != nil {
		return d, err
	}
	if d.Canceling {
		cancel()
	}
	t, problem, err := s.open(ctx, d)
	if err != nil {
		return d, err
	}
	outputs := map[string]any{}
	if problem == nil {
		outputs, problem = t.carryOut(own)
	}
	if ctx.Err() != nil {
		return d, ctx.Err()
	}
	end := succeeded
	switch {
	case own.Err() != nil:
		end, problem = canceled, &Problem{Code: "DeploymentCanceled", Message: "The deployment was canceled.", Details: []any{}}
	case problem != nil:
		end = failed
	}
	return s.finish(ctx, t, end, problem, outputs)
}

// open plans a deployment anew from what is kept of it. What cannot be planned any
// more ends the deployment.
func (s *Service) open(ctx context.Context, d saved) (*turn, *Problem, error) {
	t := &turn{s: s, d: &prepared{stored: d.stored}, key: d.key()}
	c, err := s.content(ctx, t.key)
	if err == nil {
		c.Template, _ = template.Normal(c.Template).(map[string]any)
		c.Parameters, _ = template.Normal(c.Parameters).(map[string]any)
		t.d.holds = c
		err = s.replan(ctx, t.d)
	}
	if e, ok := errors.AsType[*fault.Error](err); ok && e.Kind != fault.Unavailable {
		return t, &Problem{Code: e.Code, Message: e.Msg, Target: e.Target, Details: []any{}}, nil
	}
	if err != nil {
		return t, nil, err
	}
	for _, p := range t.d.plan.Parameters {
		if p.Secure {
			t.secrets = secretsIn(p.Value, t.secrets)
		}
	}
	if !s.count(d.stored, len(t.d.plan.Resources)) {
		return t, &Problem{Code: "DeploymentQuotaExceeded", Message: fmt.Sprintf("The deployment and all deployments inside it have more than %d resources.", mostResources), Details: []any{}}, nil
	}
	return t, nil, t.remember(ctx)
}

// remember takes in what an earlier start has done.
func (t *turn) remember(ctx context.Context) error {
	recs, err := t.s.operations(ctx, t.key)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, rec := range recs {
		p, err := decodeStep(rec)
		if err != nil {
			return err
		}
		there[strings.ToLower(p.Resource)] = p.State == succeeded && p.Verb == "Create"
	}
	for _, r := range t.d.plan.Resources {
		t.done = append(t.done, !r.Deployed() || there[strings.ToLower(r.ID)])
	}
	t.started = slices.Clone(t.done)
	return nil
}

// carryOut puts everything, deletes what Complete mode says, and evaluates the outputs.
func (t *turn) carryOut(ctx context.Context) (map[string]any, *Problem) {
	t.resources(ctx)
	if len(t.problems) == 0 && ctx.Err() == nil && t.d.Mode == "Complete" {
		t.complete(ctx)
	}
	if len(t.problems) > 0 || ctx.Err() != nil {
		return nil, &Problem{
			Code:    "DeploymentFailed",
			Message: "At least one resource deployment operation failed. Please list deployment operations for details. Please see https://aka.ms/arm-deployment-operations for usage details.",
			Target:  t.d.ID, Details: t.problems,
		}
	}
	return t.outputs(ctx)
}

// resources puts every resource as soon as those it waits for are there. Where one
// fails, those that wait for it are not begun; the others go on.
func (t *turn) resources(ctx context.Context) {
	type result struct {
		i       int
		problem *Problem
	}
	results := make(chan result)
	flying := 0
	for {
		for i, r := range t.d.plan.Resources {
			if flying >= atOnce || ctx.Err() != nil {
				break
			}
			if t.started[i] || slices.ContainsFunc(r.DependsOn, func(j int) bool { return !t.done[j] }) {
				continue
			}
			t.started[i] = true
			flying++
			go func() { results <- result{i, t.put(ctx, i)} }() // received below, always
		}
		if flying == 0 {
			return
		}
		got := <-results
		flying--
		if got.problem == nil {
			t.done[got.i] = true
			continue
		}
		t.blame(t.d.plan.Resources[got.i], got.problem)
	}
}

// blame names a failed resource in the deployment's error.
func (t *turn) blame(r *template.Resource, p *Problem) {
	t.problems = append(t.problems, Problem{
		Code: p.Code, Target: r.ID, Message: fmt.Sprintf("The resource '%s' (%s) failed: %s", r.Name, r.Type, p.Message), Details: brief(p.Details),
	})
}

// longestDetail is how long a detail's message may be in a deployment's error, in
// bytes. Clients print the whole error, and the list of all sizes has 26 KB.
const longestDetail = 1000

// brief leaves out what only the operation itself shows at length.
func brief(details []any) []any {
	out := slices.Clone(details)
	for i, d := range out {
		m, _ := d.(map[string]any)
		words, _ := m["message"].(string)
		if len(words) <= longestDetail {
			continue
		}
		m = maps.Clone(m)
		m["message"] = fmt.Sprintf("%s… (%d characters; the deployment's operations have all of them)", strings.ToValidUTF8(words[:100], ""), len(words))
		out[i] = m
	}
	return out
}

// outputs evaluates the outputs. Secure ones are named, and their values dropped.
func (t *turn) outputs(ctx context.Context) (map[string]any, *Problem) {
	known := template.Known{}
	for range rounds {
		found, needs, err := t.d.plan.Outputs(known)
		if err != nil {
			return nil, t.unfit(err)
		}
		if len(needs) == 0 {
			out := map[string]any{}
			for name, o := range found {
				shown := map[string]any{"type": o.Type}
				if !o.Secure {
					shown["value"] = o.Value
				}
				out[name] = shown
			}
			return out, nil
		}
		if p := t.fetch(ctx, needs, known); p != nil {
			return nil, p
		}
	}
	return nil, &Problem{Code: "InvalidTemplate", Message: "The outputs refer to more and more resources.", Details: []any{}}
}

// unfit is what an expression comes to that could only be evaluated at the end.
func (t *turn) unfit(err error) *Problem {
	p := &Problem{Code: "DeploymentOutputEvaluationFailed", Message: "Unable to evaluate template outputs: " + t.redact(err.Error()), Details: []any{}}
	return p
}

// finish writes the end of a deployment, and forgets the secrets it was given.
func (s *Service) finish(ctx context.Context, t *turn, state string, problem *Problem, outputs map[string]any) (saved, error) {
	if err := s.settle(ctx, t.key, t.d.Run); err != nil {
		return saved{}, err
	}
	d, err := s.change(ctx, t.key, func(d *stored) bool {
		d.State, d.Error, d.Ended, d.Made = state, problem, s.Now(), nil
		if state == succeeded {
			d.Outputs = outputs
		}
		if t.d.plan != nil {
			for i, r := range t.d.plan.Resources {
				if r.Deployed() && i < len(t.done) && t.done[i] {
					d.Made = append(d.Made, r.ID)
				}
			}
		}
		return true
	})
	if errors.Is(err, fault.NotFound) { // its group was deleted under it
		return d, nil
	}
	if err != nil {
		return d, err
	}
	s.log().InfoContext(ctx, "deployed", "id", d.ID, "state", state)
	return d, s.forget(ctx, t)
}

// forget drops secure parameters from what is kept.
func (s *Service) forget(ctx context.Context, t *turn) error {
	if t.d.plan == nil {
		return nil
	}
	kept, had := map[string]any{}, false
	for name, v := range t.d.holds.Parameters {
		secure := slices.ContainsFunc(t.d.plan.Parameters, func(p template.Parameter) bool { return p.Secure && strings.EqualFold(p.Name, name) })
		if had = had || secure; !secure {
			kept[name] = v
		}
	}
	if !had {
		return nil
	}
	doc, err := s.sealed(t.key, t.d.Scope, content{t.d.holds.Template, kept})
	if err != nil {
		return err
	}
	if _, err := s.Store.Commit(ctx, row.Change{Put: doc, If: row.Condition{Exists: true}}); err != nil && !errors.Is(err, fault.Precondition) {
		return fmt.Errorf("forget the secrets of deployment %s: %w", t.d.Name, err)
	}
	return nil
}

// sleep waits, and reports whether it was for the whole time.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
