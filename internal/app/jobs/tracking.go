package jobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// MLflow's words that stand for fields of a run.
const (
	NameTag   = "mlflow.runName"
	NoteTag   = "mlflow.note.content"
	ParentTag = "mlflow.parentRunId"
)

// ours is how the names of MLflow's own tags begin. They do not count as the
// user's, and may be as long as MLflow lets them.
const ours = "mlflow."

// MLflow's limits.
const (
	maxParamKey   = 255     // characters
	maxParamValue = 6000    // characters
	maxParams     = 1 << 20 // bytes of all of a run
	maxOwnTag     = 8000    // characters
)

// Point is one value of a metric.
type Point struct {
	Value float64
	Step  int64
	At    time.Time
}

// point is a Point as rows have it: JSON has no word for NaN and infinities.
type point struct {
	Value any   `json:"value"`
	Step  int64 `json:"step"`
	At    int64 `json:"at"` // ms
}

// MarshalJSON implements [json.Marshaler].
func (p Point) MarshalJSON() ([]byte, error) {
	return json.Marshal(point{Number(p.Value), p.Step, p.At.UnixMilli()})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (p *Point) UnmarshalJSON(b []byte) error {
	var in point
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	v, ok := ParseNumber(in.Value)
	if !ok {
		return fmt.Errorf("the value %v is no number", in.Value)
	}
	*p = Point{v, in.Step, time.UnixMilli(in.At).UTC()}
	return nil
}

// Number is a number as JSON can have it: NaN and infinities are words.
func Number(v float64) any {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 1):
		return "Infinity"
	case math.IsInf(v, -1):
		return "-Infinity"
	}
	return v
}

// ParseNumber is the inverse of [Number]; it takes numbers written as text too.
func ParseNumber(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case json.Number:
		f, err := v.Float64()
		return f, err == nil
	case string:
		f, err := strconv.ParseFloat(v, 64)
		return f, err == nil
	}
	return 0, false
}

// later is the one of two that MLflow shows: of the higher step, then the later.
func later(a, b *Point) *Point {
	if b == nil || a != nil && (a.Step > b.Step || a.Step == b.Step && !b.At.After(a.At)) {
		return a
	}
	return b
}

// logged is a value as run history has it.
type logged struct {
	MetricID   string         `json:"metricId"`
	CreatedUtc time.Time      `json:"createdUtc"`
	Step       int64          `json:"step"`
	Data       map[string]any `json:"data"`
}

// PointOf reads a logged value of a metric, if it is one number.
func PointOf(name string, raw json.RawMessage) (Point, bool) {
	var v logged
	if json.Unmarshal(raw, &v) != nil {
		return Point{}, false
	}
	n, ok := ParseNumber(v.Data[name])
	return Point{n, v.Step, v.CreatedUtc}, ok
}

// last is what MLflow would show of these values.
func last(name string, values []json.RawMessage) (out *Point) {
	for _, v := range values {
		if p, ok := PointOf(name, v); ok {
			out = later(out, &p)
		}
	}
	return out
}

// Named is a value of a named metric.
type Named struct {
	Name string
	Point
}

// Log is what MLflow tells of a run in one request.
type Log struct {
	Metrics []Named
	Params  map[string]string
	Tags    map[string]string
}

// Track keeps what MLflow tells of a run. A param that is there may not change.
func (s *Service) Track(ctx context.Context, p access.Principal, w Workspace, run string, l Log) error {
	if len(l.Params)+len(l.Tags) > 0 {
		if _, err := s.edit(ctx, p, w, run, "log", func(f *found) ([]row.Change, error) {
			if err := f.body.params(l.Params); err != nil {
				return nil, err
			}
			return nil, f.body.apply(taken(l.Tags))
		}); err != nil {
			return err
		}
	}
	if len(l.Metrics) == 0 {
		return nil
	}
	return s.Append(ctx, p, w, run, batches(l.Metrics))
}

// params adds to the params of a run.
func (b *Body) params(add map[string]string) error {
	total := 0
	for k, v := range add {
		if k == "" || len([]rune(k)) > maxParamKey || len([]rune(v)) > maxParamValue {
			return fault.Coded(fault.Invalid, "INVALID_PARAMETER_VALUE", "params", "The param %.60q is too long: a name has 1 to %d characters, a value at most %d.", k, maxParamKey, maxParamValue)
		}
		if was, there := b.Params[k]; there && was != v {
			return fault.Coded(fault.Invalid, "INVALID_PARAMETER_VALUE", "params", "The param %q has the value %.100q and cannot be changed to %.100q. Use a tag, or another run.", k, was, v)
		}
		put(&b.Params, k, v)
	}
	for k, v := range b.Params {
		total += len(k) + len(v)
	}
	if total > maxParams {
		return fault.Coded(fault.Invalid, "INVALID_PARAMETER_VALUE", "params", "The params of the run %q have %d bytes in all; at most %d are allowed.", b.Name, total, maxParams)
	}
	return nil
}

// taken is a patch of what tags say, those among them that stand for fields.
func taken(tags map[string]string) Patch {
	c := Patch{Tags: maps.Clone(tags)}
	if v, there := tags[NameTag]; there {
		c.DisplayName = &v
	}
	if v, there := tags[NoteTag]; there {
		c.Description = &v
	}
	for _, k := range []string{NameTag, NoteTag, ParentTag} {
		delete(c.Tags, k)
	}
	return c
}

// batches turns values into rows of run history, a metric's in the order they
// came. The first id of each stands for all of the batch: the same again is
// kept once, and one that only begins alike is another.
func batches(values []Named) []Batch {
	var names []string
	of := map[string][]Named{}
	for _, v := range values {
		if of[v.Name] == nil {
			names = append(names, v.Name)
		}
		of[v.Name] = append(of[v.Name], v)
	}
	var out []Batch
	for _, name := range names {
		for some := range slices.Chunk(of[name], rowValues) {
			b := Batch{Metric: Metric{Name: name, Columns: map[string]string{name: "double"}, Properties: json.RawMessage(`{"uxMetricType":"azureml.v1.scalar"}`)}}
			sum := sha256.New()
			for i := len(some) - 1; i >= 0; i-- { // the first last: it has seen all
				v := some[i]
				_, _ = fmt.Fprintf(sum, "%d %d %x\n", v.Step, v.At.UnixMilli(), math.Float64bits(v.Value))
				text, err := json.Marshal(logged{hex.EncodeToString(sum.Sum(nil)[:16]), v.At.UTC(), v.Step, map[string]any{name: Number(v.Value)}})
				if err != nil {
					panic("jobs: a metric cannot be written as JSON: " + err.Error())
				}
				b.Values = append(b.Values, text)
			}
			slices.Reverse(b.Values)
			out = append(out, b)
		}
	}
	return out
}

// Start is a run that MLflow makes: without a cluster, and running at once.
type Start struct {
	ExperimentID string
	DisplayName  string    // empty: the run id
	Began        time.Time // zero: now
	Tags         map[string]string
}

// Begin makes a run of MLflow's.
func (s *Service) Begin(ctx context.Context, p access.Principal, w Workspace, in Start) (*Job, error) {
	e, err := s.ExperimentByID(ctx, w, in.ExperimentID)
	if err != nil {
		return nil, err
	}
	c := taken(in.Tags)
	c.Experiment, c.Parent, c.Status, c.Began, c.Type = e.Name, in.Tags[ParentTag], string(queue.Running), in.Began, "mlflow"
	if in.DisplayName != "" {
		c.DisplayName = &in.DisplayName
	}
	if c.Parent == "" && p.Kind == access.RunIdentity {
		// A job's token may write its own run and what descends from it: a second
		// run that its code starts is a child.
		if c.Parent, err = s.nameOf(ctx, p.Run); err != nil {
			return nil, err
		}
	}
	for try := 0; ; try++ {
		j, err := s.begin(ctx, p, w, s.NewID(), c)
		if !again(err, try) {
			return j, err
		}
	}
}

// nameOf returns the run id of a run on a cluster, by its guid.
func (s *Service) nameOf(ctx context.Context, run string) (string, error) {
	rec, err := s.Store.Get(ctx, row.Key{Kind: row.Run, ID: run})
	if err != nil {
		return "", fmt.Errorf("read run %s: %w", run, err)
	}
	return rec.Row.(queue.Run).Name, nil
}

// Finish is what MLflow says about the state of a run. It moves runs without a
// cluster; what it says of others is kept as reported.
func (s *Service) Finish(ctx context.Context, p access.Principal, w Workspace, run string, to queue.State, at time.Time) (*Job, error) {
	return s.edit(ctx, p, w, run, "update", func(f *found) ([]row.Change, error) {
		if at.IsZero() || at.After(s.Now()) {
			at = s.Now().UTC()
		}
		switch {
		case f.body.Kind == Interactive:
			return s.move(ctx, f, to, at)
		case to.Final() && f.body.Reported == nil:
			f.body.Reported = &Reported{State: to, At: at}
		}
		return nil, nil
	})
}

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
	found := []Tracked{}
	take := func(r row.Record) (bool, error) {
		t, ok, err := s.wanted(ctx, r, q, f)
		if ok {
			found = append(found, t)
		}
		return ok, err
	}
	ask := row.Query{Kind: row.Job, Parent: w.Key(), Desc: true}
	if len(orders) == 0 { // rows have this order: no need to read them all
		ask.After = q.After
		next, err := s.walk(ctx, ask, q.Top, take)
		return found, next, err
	}
	for more := true; more; more = ask.After != "" {
		if ask.After, err = s.walk(ctx, ask, 1000, take); err != nil {
			return nil, "", err
		}
	}
	sortBy(orders, found, func(t *Tracked, of subject) (value, bool) { return t.value(of) })
	return cut(found, q.After, q.Top)
}

// wanted reads a run and says whether a search holds for it. What only its
// document can tell is looked at first: metrics are rows of their own.
func (s *Service) wanted(ctx context.Context, r row.Record, q Search, f search) (t Tracked, ok bool, err error) {
	d, err := unpack(r)
	if err != nil {
		return t, false, err
	}
	if !q.View.shows(d.body.Archived) || !slices.ContainsFunc(q.Experiments, func(e string) bool { return strings.EqualFold(e, d.body.ExperimentID) }) {
		return t, false, nil
	}
	early := Tracked{Job: &Job{Body: d.body}}
	for i := range f {
		if of := f[i].of; of.kind != "metric" && of.kind != "attribute" {
			if v, there := early.value(of); !f[i].holds(v, there) {
				return t, false, nil
			}
		}
	}
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

func sortBy[T any](orders []order, list []T, get func(*T, subject) (value, bool)) {
	slices.SortStableFunc(list, func(a, b T) int {
		for _, o := range orders {
			x, hasX := get(&a, o.of)
			y, hasY := get(&b, o.of)
			if sign := o.compare(x, hasX, y, hasY); sign != 0 {
				return sign
			}
		}
		return 0
	})
}

// cut returns a page of a sorted list, whose cursor is a place in it.
func cut[T any](list []T, after string, top int) ([]T, string, error) {
	from := 0
	if after != "" {
		n, err := strconv.Atoi(after)
		if err != nil || n < 0 {
			return nil, "", badSearch("The page token %.40q is not one that this server gave.", after)
		}
		from = min(n, len(list))
	}
	if top <= 0 || top > 1000 {
		top = 1000
	}
	to := min(from+top, len(list))
	next := ""
	if to < len(list) {
		next = strconv.Itoa(to)
	}
	return list[from:to], next, nil
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
	found := []Experiment{}
	for after := ""; ; {
		page, next, err := s.Experiments(ctx, w, q.View, "", 1000, after)
		if err != nil {
			return nil, "", err
		}
		for _, e := range page {
			if f.match(e.value) {
				found = append(found, e)
			}
		}
		if after = next; after == "" {
			break
		}
	}
	sortBy(orders, found, func(e *Experiment, of subject) (value, bool) { return e.value(of) })
	return cut(found, q.After, q.Top)
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
