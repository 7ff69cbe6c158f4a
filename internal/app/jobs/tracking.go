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

// modelsTag is where MLflow looks for the models of a run: it is a list.
const modelsTag = "mlflow.log-model.history"

// NoteModel adds to the models that a run has logged.
func (s *Service) NoteModel(ctx context.Context, p access.Principal, w Workspace, run string, model json.RawMessage) error {
	_, err := s.edit(ctx, p, w, run, "log", func(f *found) ([]row.Change, error) {
		var list []json.RawMessage
		if was := f.body.Tags[modelsTag]; was != "" {
			if err := json.Unmarshal([]byte(was), &list); err != nil {
				return nil, fault.Coded(fault.Invalid, "INVALID_PARAMETER_VALUE", modelsTag, "The tag %q of the run %q is not a list; remove it.", modelsTag, run)
			}
		}
		text, err := json.Marshal(append(list, model))
		if err != nil {
			return nil, err
		}
		return nil, f.body.apply(Patch{Tags: map[string]string{modelsTag: string(text)}})
	})
	return err
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
