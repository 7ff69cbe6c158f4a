package jobs

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
)

// Tracked is a run with the values of its metrics, by name.
type Tracked struct {
	*Job
	Metrics map[string]Point
}

// Tracked returns a run as MLflow shows it.
func (s *Service) Tracked(ctx context.Context, p access.Principal, w Workspace, run string) (Tracked, error) {
	j, err := s.Get(ctx, p, w, run)
	if err != nil {
		return Tracked{}, err
	}
	return s.tracked(ctx, j)
}

func (s *Service) tracked(ctx context.Context, j *Job) (Tracked, error) {
	t := Tracked{j, map[string]Point{}}
	for after := ""; ; {
		page, err := s.Store.List(ctx, row.Query{Kind: row.Metric, Parent: j.ID, Limit: 1000, After: after})
		if err != nil {
			return t, fmt.Errorf("list metrics of %s: %w", j.Name, err)
		}
		for _, r := range page.Records {
			var m Metric
			if err := json.Unmarshal(r.Row.(row.Document).Body, &m); err != nil {
				return t, fmt.Errorf("read metrics of %s: %w", j.Name, err)
			}
			if m.Last != nil {
				t.Metrics[m.Name] = *m.Last
			}
		}
		if after = page.Next; after == "" {
			return t, nil
		}
	}
}

// value answers a search. Times are in ms, as MLflow has them.
func (t *Tracked) value(of subject) (value, bool) {
	switch of.kind {
	case "metric":
		p, ok := t.Metrics[of.name]
		return value{number: p.Value}, ok
	case "param":
		v, ok := t.Params[of.name]
		return value{text: v}, ok
	case "tag":
		v, ok := t.tag(of.name)
		return value{text: v}, ok
	}
	switch of.name {
	case "run_id":
		return value{text: t.Name}, true
	case "run_name":
		return value{text: t.DisplayName}, true
	case "status":
		return value{text: TrackedState(t.Status.State)}, true
	case "user_id":
		return value{text: t.Creator.Name}, true
	case "artifact_uri":
		return value{text: t.Container()}, true
	case "start_time":
		at := t.StartedOr()
		return value{number: float64(at.UnixMilli())}, true
	}
	return value{number: float64(t.Status.Ended.UnixMilli())}, !t.Status.Ended.IsZero()
}

// StartedOr is when the run started, or came if it has not.
func (t *Tracked) StartedOr() time.Time {
	if t.Status.Started.IsZero() {
		return t.Created
	}
	return t.Status.Started
}

// AllTags are the run's tags, and the fields that MLflow has as tags.
func (t *Tracked) AllTags() map[string]string {
	out := maps.Clone(t.Tags)
	if out == nil {
		out = map[string]string{}
	}
	for _, k := range []string{NameTag, NoteTag, ParentTag, "mlflow.rootRunId", "mlflow.user"} {
		if v, ok := t.tag(k); ok {
			out[k] = v
		}
	}
	return out
}

func (t *Tracked) tag(name string) (string, bool) {
	if v, ok := t.Tags[name]; ok {
		return v, true
	}
	v := map[string]string{NameTag: t.DisplayName, NoteTag: t.Description, ParentTag: t.Parent, "mlflow.rootRunId": t.Root, "mlflow.user": t.Creator.Name}[name]
	return v, v != ""
}

// TrackedState is a state in MLflow's words.
func TrackedState(s queue.State) string {
	switch s {
	case queue.Completed:
		return "FINISHED"
	case queue.Failed:
		return "FAILED"
	case queue.Canceled:
		return "KILLED"
	case queue.Running, queue.Finalizing, queue.CancelRequested:
		return "RUNNING"
	}
	return "SCHEDULED"
}

// Search asks for runs as MLflow does.
type Search struct {
	Experiments []string // guids
	Filter      string
	Orders      []string // empty: newest first
	View        View     // empty: ActiveOnly
	Top         int      // 0: 1000
	After       string   // cursor of the previous page
}

// Search returns a page of runs, and the cursor of the next one.
func (s *Service) Search(ctx context.Context, w Workspace, q Search) ([]Tracked, string, error) {
	f, err := parseSearch(q.Filter, runAttributes)
	if err != nil {
		return nil, "", err
	}
	orders, err := parseOrders(q.Orders, runAttributes)
	if err != nil {
		return nil, "", err
	}
	out := []Tracked{}
	keep := func(t Tracked, _ *found) { out = append(out, t) }
	take := func(d *found) (bool, error) {
		if d == nil {
			return false, nil
		}
		t, ok, err := s.wanted(ctx, *d, f)
		if ok {
			keep(t, d)
		}
		return ok, err
	}
	read := s.runs(func(b *Body) bool { return q.wants(b, f) })
	ask := row.Query{Kind: row.Job, Parent: w.Key(), Desc: true}
	if len(orders) == 0 { // rows have this order: no need to read them all
		ask.After = q.After
		next, err := walk(ctx, s.Store, ask, q.Top, read, take)
		return out, next, err
	}
	first, err := newBest(orders, q.Top, q.After, func(t *Tracked, of subject) (value, bool) { return t.value(of) })
	if err != nil {
		return nil, "", err
	}
	keep = func(t Tracked, d *found) { first.offer(t, d.doc.Sort+" "+d.doc.ID) }
	for more := true; more; more = ask.After != "" {
		if ask.After, err = walk(ctx, s.Store, ask, 1000, read, take); err != nil {
			return nil, "", err
		}
	}
	out, next := first.page()
	return out, next, nil
}

// wants looks at what a document alone can tell: metrics and statuses are rows of
// their own.
func (q *Search) wants(b *Body, f search) bool {
	if !q.View.shows(b.Archived) || !slices.ContainsFunc(q.Experiments, func(e string) bool { return strings.EqualFold(e, b.ExperimentID) }) {
		return false
	}
	early := Tracked{Job: &Job{Body: *b}}
	for i := range f {
		if of := f[i].of; of.kind != "metric" && of.kind != "attribute" {
			if v, there := early.value(of); !f[i].holds(v, there) {
				return false
			}
		}
	}
	return true
}

// wanted says whether a search holds for a run.
func (s *Service) wanted(ctx context.Context, d found, f search) (t Tracked, ok bool, err error) {
	j, err := s.job(ctx, d)
	if err != nil {
		return t, false, err
	}
	if t, err = s.tracked(ctx, j); err != nil {
		return t, false, err
	}
	return t, f.match(t.value), nil
}

func parseOrders(in []string, attributes map[string]string) ([]order, error) {
	if len(in) > 20 {
		return nil, badSearch("%d orders are too many; 20 are allowed.", len(in))
	}
	var out []order
	for _, text := range in {
		o, err := parseOrder(text, attributes)
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

// SearchExperiments returns a page of experiments as MLflow asks for them.
func (s *Service) SearchExperiments(ctx context.Context, w Workspace, q Search) ([]Experiment, string, error) {
	f, err := parseSearch(q.Filter, experimentAttributes)
	if err != nil {
		return nil, "", err
	}
	orders, err := parseOrders(q.Orders, experimentAttributes)
	if err != nil {
		return nil, "", err
	}
	top := cmp.Or(q.Top, 1000)
	if len(orders) == 0 { // rows have this order: no need to read them all
		out := []Experiment{}
		next, err := s.eachExperiment(ctx, w, q.View, top, q.After, func(e Experiment, _ string) (bool, error) {
			ok := f.match(e.value)
			if ok {
				out = append(out, e)
			}
			return ok, nil
		})
		return out, next, err
	}
	first, err := newBest(orders, top, q.After, func(e *Experiment, of subject) (value, bool) { return e.value(of) })
	if err != nil {
		return nil, "", err
	}
	for after, more := "", true; more; more = after != "" {
		after, err = s.eachExperiment(ctx, w, q.View, 1000, after, func(e Experiment, row string) (bool, error) {
			ok := f.match(e.value)
			if ok {
				first.offer(e, row)
			}
			return ok, nil
		})
		if err != nil {
			return nil, "", err
		}
	}
	out, next := first.page()
	return out, next, nil
}

func (e *Experiment) value(of subject) (value, bool) {
	switch of.kind {
	case "tag":
		v, ok := e.Tags[of.name]
		return value{text: v}, ok
	case "attribute":
	default:
		return value{}, false
	}
	switch of.name {
	case "name":
		return value{text: e.Name}, true
	case "experiment_id":
		return value{text: e.ID}, true
	}
	return value{number: float64(e.Created.UnixMilli())}, true
}
