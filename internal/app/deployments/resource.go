package deployments

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/template"
	"github.com/ebb-compute/ebb/internal/fault"
)

const (
	rounds  = 10 // of fetching what an expression needs, which may need more
	retries = 5  // of a call that nobody could answer just then
	slowest = time.Second
)

// put makes one resource of the plan, and keeps what became of it.
func (t *turn) put(ctx context.Context, i int) *Problem {
	r := t.d.plan.Resources[i]
	p := t.s.stepOf(t.d.stored, i, "Create", r)
	if err := t.s.record(ctx, t.key, p); err != nil {
		return t.internal(ctx, err)
	}
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	status, problem := t.attempt(bounded, i, r)
	if problem != nil && bounded.Err() != nil && ctx.Err() == nil {
		problem = &Problem{Code: "ResourceDeploymentTimeout", Message: fmt.Sprintf("It did not end within %s.", patience), Details: []any{}}
	}
	return t.close(ctx, p, status, problem)
}

// close writes how an operation ended. When the server ends it is left open, to be
// done again at the next start; what was cancelled says so.
func (t *turn) close(ctx context.Context, p step, status int, problem *Problem) *Problem {
	p.State, p.Status, p.Error, p.Ended = succeeded, status, problem, t.s.Now()
	if problem != nil {
		p.State = failed
	}
	write := ctx
	if ctx.Err() != nil {
		p.State = canceled
		write = context.WithoutCancel(ctx)
		if !t.canceled(write) {
			return problem
		}
	}
	if err := t.s.record(write, t.key, p); err != nil {
		return t.internal(ctx, err)
	}
	return problem
}

// canceled reports whether somebody asked for the end, rather than the server ending.
func (t *turn) canceled(ctx context.Context) bool {
	d, err := t.s.read(ctx, t.key)
	return err == nil && d.Canceling
}

// halted is what becomes of what was under way when its deployment was cancelled.
func halted() *Problem {
	return &Problem{Code: "Canceled", Message: "The deployment was canceled while this was under way.", Details: []any{}}
}

// internal is an error that is not the user's.
func (t *turn) internal(ctx context.Context, err error) *Problem {
	if ctx.Err() == nil {
		t.s.log().ErrorContext(ctx, "operation not written", "deployment", t.key, "err", err)
	}
	return &Problem{Code: "InternalServerError", Message: "internal error", Details: []any{}}
}

// attempt evaluates a resource, puts it and follows what it starts.
func (t *turn) attempt(ctx context.Context, i int, r *template.Resource) (int, *Problem) {
	body, problem := t.body(ctx, i)
	if problem != nil {
		return http.StatusBadRequest, problem
	}
	if strings.EqualFold(r.Type, template.DeploymentType) {
		return t.nest(ctx, r, body)
	}
	ans, problem := t.call(ctx, Call{Method: "PUT", Path: r.ID, Version: r.APIVersion, Body: body, Create: true})
	if problem != nil {
		return ans.Status, problem
	}
	return ans.Status, t.follow(ctx, r, ans)
}

// body evaluates what is put, fetching what it refers to.
func (t *turn) body(ctx context.Context, i int) (map[string]any, *Problem) {
	known := template.Known{}
	for range rounds {
		body, needs, err := t.d.plan.Body(i, known)
		if e, ok := errors.AsType[*template.Error](err); ok {
			return nil, &Problem{Code: e.Code, Message: "Unable to process template language expressions: " + t.redact(e.Error()), Target: e.Path, Details: []any{}}
		}
		if err != nil {
			return nil, t.internal(ctx, err)
		}
		if len(needs) == 0 {
			return body, nil
		}
		if p := t.fetch(ctx, needs, known); p != nil {
			return nil, p
		}
	}
	return nil, &Problem{Code: "InvalidTemplate", Message: "The resource refers to more and more other resources.", Details: []any{}}
}

// fetch answers needs.
func (t *turn) fetch(ctx context.Context, needs []template.Need, known template.Known) *Problem {
	for _, n := range needs {
		c := Call{Method: "GET", Path: n.ID, Version: n.APIVersion}
		if n.Action != "" {
			c.Method, c.Path, c.Body = "POST", n.ID+"/"+n.Action, n.Body
			if n.Body == nil {
				c.Body = map[string]any{}
			}
		}
		ans, p := t.call(ctx, c)
		if p != nil {
			p.Message = fmt.Sprintf("%s of '%s' failed: %s", c.Method, c.Path, p.Message)
			return p
		}
		known[n.Key()] = template.Normal(ans.Body)
	}
	return nil
}

// call makes a request, again if nobody could answer just then.
func (t *turn) call(ctx context.Context, c Call) (Answer, *Problem) {
	c.Host = t.d.Host
	for try := 0; ; try++ {
		ans, err := t.s.Calls.Do(ctx, t.d.Who, c)
		switch {
		case err != nil && ctx.Err() != nil:
			return ans, halted()
		case err != nil:
			return ans, t.internal(ctx, err)
		}
		busy := ans.Status == http.StatusTooManyRequests || ans.Status >= http.StatusInternalServerError
		if busy && try < retries && sleep(ctx, slowest) {
			continue
		}
		if ans.Status >= http.StatusBadRequest {
			return ans, t.problem(ans.Body, ans.Status)
		}
		return ans, nil
	}
}

// problem reads an error as ARM writes it.
func (t *turn) problem(body any, status int) *Problem {
	m, _ := body.(map[string]any)
	e, _ := m["error"].(map[string]any)
	p := &Problem{Code: http.StatusText(status), Message: "The request failed with status " + fmt.Sprint(status) + ".", Details: []any{}}
	if code, ok := e["code"].(string); ok && code != "" {
		p.Code = code
	}
	if words, ok := e["message"].(string); ok && words != "" {
		p.Message = t.redact(words)
	}
	p.Target, _ = e["target"].(string)
	if details, ok := e["details"].([]any); ok && len(details) > 0 {
		p.Details, _ = t.hidden(details).([]any)
	}
	return p
}

// follow waits until what a PUT or DELETE started has ended.
func (t *turn) follow(ctx context.Context, r *template.Resource, ans Answer) *Problem {
	for pause := 20 * time.Millisecond; ; pause = min(pause*3/2, slowest) {
		var c Call
		switch {
		case ans.Async != "":
			c = Call{Method: "GET", Path: ans.Async}
		case ans.Status == http.StatusAccepted && ans.Location != "":
			c = Call{Method: "GET", Path: ans.Location}
		case !final(state(ans.Body)) && state(ans.Body) != "":
			c = Call{Method: "GET", Path: r.ID, Version: r.APIVersion}
		default:
			return t.ended(state(ans.Body), ans.Body)
		}
		if !sleep(ctx, pause) {
			return halted()
		}
		next, problem := t.call(ctx, c)
		if problem != nil {
			return problem
		}
		if ans.Async == "" {
			ans = next
			continue
		}
		m, _ := next.Body.(map[string]any)
		if status, _ := m["status"].(string); final(status) {
			return t.ended(status, next.Body)
		}
	}
}

// state is the provisioningState of a resource; most records have none.
func state(body any) string {
	m, _ := body.(map[string]any)
	props, _ := m["properties"].(map[string]any)
	s, _ := props["provisioningState"].(string)
	return s
}

// ended reads how something that took long has ended.
func (t *turn) ended(status string, body any) *Problem {
	if status != failed && status != canceled {
		return nil
	}
	p := t.problem(body, http.StatusConflict)
	if p.Code == http.StatusText(http.StatusConflict) {
		p.Code, p.Message = "ResourceDeploymentFailure", "The resource write operation failed to complete successfully, because it reached terminal provisioning state '"+status+"'."
	}
	return p
}

// nest carries out a deployment inside this one.
func (t *turn) nest(ctx context.Context, r *template.Resource, body map[string]any) (int, *Problem) {
	if t.d.Depth+1 >= mostDepth {
		return http.StatusBadRequest, &Problem{Code: "InvalidTemplate", Message: fmt.Sprintf("Deployments lie inside each other more than %d deep.", mostDepth), Details: []any{}}
	}
	scope := r.ID[:strings.LastIndex(strings.ToLower(r.ID), "/providers/"+strings.ToLower(template.DeploymentType))]
	key := strings.ToLower(r.ID)
	old, err := t.s.read(ctx, key)
	if errors.Is(err, fault.NotFound) || err == nil && old.Parent != t.d.Run {
		d, err := t.s.prepare(ctx, t.d.Who, Request{Scope: scope, Name: r.Name, Body: body, Host: t.d.Host, Environment: t.d.Environment}, "write")
		if err == nil && t.s.Writable != nil {
			err = t.s.Writable(ctx, r.ID)
		}
		if err == nil && d.Mode == "Complete" {
			err = fault.Coded(fault.Invalid, "InvalidDeploymentMode", "properties.mode", "A deployment inside another must be Incremental.")
		}
		if err == nil {
			d.Root, d.Parent, d.Depth, d.Correlation, d.Outer = t.d.Root, t.d.Run, t.d.Depth+1, t.d.Correlation, outer(body)
			_, err = t.s.keep(ctx, d)
		}
		if err != nil {
			return http.StatusBadRequest, t.refused(ctx, err)
		}
	} else if err != nil {
		return http.StatusInternalServerError, t.internal(ctx, err)
	}
	d, err := t.s.drive(ctx, key, t.d.Depth+1)
	switch {
	case err != nil && ctx.Err() != nil:
		t.stop(context.WithoutCancel(ctx), key)
		return http.StatusConflict, halted()
	case err != nil:
		return http.StatusInternalServerError, t.internal(ctx, err)
	case d.State == succeeded:
		return http.StatusOK, nil
	case d.Error != nil:
		return http.StatusConflict, d.Error
	}
	return http.StatusConflict, &Problem{Code: "DeploymentFailed", Message: "The deployment ended as " + d.State + ".", Details: []any{}}
}

// stop ends an inner deployment when the one around it was cancelled.
func (t *turn) stop(ctx context.Context, key string) {
	if !t.canceled(ctx) {
		return
	}
	if err := t.s.abandon(ctx, key, t.d.Run); err != nil {
		t.s.log().ErrorContext(ctx, "inner deployment not ended", "id", key, "err", err)
	}
}

// abandon ends a deployment that lies in the run of another which goes on no more.
func (s *Service) abandon(ctx context.Context, key, parent string) error {
	d, err := s.read(ctx, key)
	if errors.Is(err, fault.NotFound) || err == nil && (final(d.State) || d.Parent != parent) {
		return nil
	}
	if err == nil {
		err = s.settle(ctx, key, d.Run)
	}
	if err != nil {
		return err
	}
	_, err = s.change(ctx, key, func(d *stored) bool {
		if final(d.State) {
			return false
		}
		d.State, d.Ended, d.Error = canceled, s.Now(), &Problem{Code: "DeploymentCanceled", Message: "The deployment around it was canceled.", Details: []any{}}
		return true
	})
	return err
}

// settle ends what a server that was killed left open of a run that is about to
// end: nobody would ever take it up again.
func (s *Service) settle(ctx context.Context, key, run string) error {
	recs, err := s.operations(ctx, key)
	if err != nil {
		return err
	}
	for _, rec := range recs {
		p, err := decodeStep(rec)
		if err != nil {
			return err
		}
		if strings.EqualFold(p.Type, template.DeploymentType) {
			if err := s.abandon(ctx, strings.ToLower(p.Resource), run); err != nil {
				return err
			}
		}
		if !final(p.State) {
			p.State, p.Ended, p.Error = canceled, s.Now(), halted()
			if err := s.record(ctx, key, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// refused is a fault as a problem.
func (t *turn) refused(ctx context.Context, err error) *Problem {
	e, ok := errors.AsType[*fault.Error](err)
	if !ok {
		return t.internal(ctx, err)
	}
	code := e.Code
	if code == "" {
		code = "BadRequest"
	}
	return &Problem{Code: code, Message: t.redact(e.Msg), Target: e.Target, Details: []any{}}
}

// outer reports whether an inner deployment's template was evaluated by this one.
func outer(body map[string]any) bool {
	props, _ := body["properties"].(map[string]any)
	options, _ := props["expressionEvaluationOptions"].(map[string]any)
	scope, _ := options["scope"].(string)
	return !strings.EqualFold(scope, "inner")
}

// secretsIn collects the texts of secure parameters.
func secretsIn(v any, into []string) []string {
	switch v := v.(type) {
	case string:
		if len(v) >= 4 { // shorter ones would turn up everywhere
			return append(into, v)
		}
	case []any:
		for _, x := range v {
			into = secretsIn(x, into)
		}
	case map[string]any:
		for _, x := range v {
			into = secretsIn(x, into)
		}
	}
	return into
}

const stars = "*******"

// redact keeps secure parameters out of messages.
func (t *turn) redact(words string) string {
	for _, s := range t.secrets {
		words = strings.ReplaceAll(words, s, stars)
	}
	return words
}
