package jobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Metric is what a run logged under one name. It is kept as one row for the
// name (parent: the run) and one per batch of values (parent: the name's row),
// so that neither appending nor reading a page depends on how much there is.
type Metric struct {
	Name       string            `json:"name"`
	Columns    map[string]string `json:"columns,omitempty"`
	Properties json.RawMessage   `json:"properties,omitempty"`
	Last       *Point            `json:"last,omitempty"` // what MLflow calls the metric's value; nil: it has none that is a number
}

// Batch is values of one metric, in order.
type Batch struct {
	Metric
	Values []json.RawMessage
}

const (
	maxMetricName = 255    // characters, the service's limit
	maxBatch      = 10_000 // values of one request; the client sends 50
	rowValues     = 500    // values of one row
	pageValues    = 5_000  // values of one answer, at least, where there are as many
)

// metricID is the id of a name's row. Names are case-sensitive and any text.
func metricID(run, name string) string {
	sum := sha256.Sum256([]byte(name))
	return run + "/metrics/" + hex.EncodeToString(sum[:16])
}

// Append adds values. Sent twice (the client repeats what it got no answer to),
// they are kept once.
func (s *Service) Append(ctx context.Context, p access.Principal, w Workspace, run string, batches []Batch) error {
	f, err := s.find(ctx, docID(w, run), run)
	if err != nil {
		return err
	}
	if err := mayWrite(p, &f.body); err != nil {
		return err
	}
	total := 0
	for _, b := range batches {
		if n := len([]rune(b.Name)); n == 0 || n > maxMetricName {
			return fault.Coded(fault.Invalid, "InvalidMetricName", "name", "A metric's name has 1 to %d characters; %.40q has %d.", maxMetricName, b.Name, n)
		}
		total += len(b.Values)
	}
	if total > maxBatch {
		return fault.Coded(fault.TooLarge, "TooManyMetrics", "values", "%d values are too many for one request; %d are allowed.", total, maxBatch)
	}
	defer s.turns.take(f.doc.ID)() // the last value is read and written
	for try := 0; ; try++ {
		changes, err := s.metricRows(ctx, p, f.doc.ID, batches)
		if err != nil || len(changes) == 0 {
			return err
		}
		if _, err := s.Store.Commit(ctx, changes...); again(err, try) {
			continue
		} else if err != nil {
			return fmt.Errorf("log metrics of %s: %w", run, err)
		}
		return nil
	}
}

// metricRows returns the writes for those batches that are not kept yet.
func (s *Service) metricRows(ctx context.Context, p access.Principal, run string, batches []Batch) ([]row.Change, error) {
	now := s.Now().UTC()
	var changes []row.Change
	names := map[string]bool{} // ids written by this commit
	for i, b := range batches {
		id := metricID(run, b.Name)
		if !names[id] {
			names[id] = true
			for _, more := range batches[i:] { // of the same name
				if more.Name == b.Name {
					b.Last = later(b.Last, last(b.Name, more.Values))
				}
			}
			change, err := s.metricName(ctx, p, run, id, b.Metric, now)
			if err != nil {
				return nil, err
			}
			changes = append(changes, change...)
		}
		for values := range slices.Chunk(b.Values, rowValues) {
			change, err := s.metricValues(ctx, p, id, b.Name, values, now)
			if err != nil {
				return nil, err
			}
			for _, c := range change {
				if k := c.Put.Key().ID; !names[k] { // the same batch twice in one request
					names[k], changes = true, append(changes, c)
				}
			}
		}
	}
	return changes, nil
}

// metricValues returns the write of one row of values, none if it is kept already.
func (s *Service) metricValues(ctx context.Context, p access.Principal, id, name string, values []json.RawMessage, now time.Time) ([]row.Change, error) {
	key := row.Key{Kind: row.Metric, ID: id + "/" + s.batchID(values[0])}
	_, err := s.Store.Get(ctx, key)
	if err == nil {
		return nil, nil
	}
	if !errors.Is(err, fault.NotFound) {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	text, err := json.Marshal(values)
	if err != nil {
		return nil, fault.Coded(fault.Invalid, "InvalidMetric", name, "The values of %q are not valid JSON.", name)
	}
	return []row.Change{row.Create(row.Document{Kind: row.Metric, ID: key.ID, Parent: id, Sort: row.SortTime(loggedAt(values[0], now)) + "-" + s.arrival.next(now), Body: text, Created: now, Modified: now, By: p.ID})}, nil
}

// loggedAt is when a value was logged: SDK v1 sends what it gathered from several
// threads, so that the order of arrival is not the order of logging.
func loggedAt(value json.RawMessage, now time.Time) time.Time {
	var v struct{ CreatedUtc time.Time }
	if json.Unmarshal(value, &v) != nil || v.CreatedUtc.Year() < 1970 || v.CreatedUtc.Year() > 9999 {
		return now
	}
	return v.CreatedUtc
}

// batchID tells a batch by its first value's metricId.
func (s *Service) batchID(first json.RawMessage) string {
	var v struct{ MetricID string }
	if json.Unmarshal(first, &v) != nil || v.MetricID == "" {
		return s.NewID()
	}
	sum := sha256.Sum256([]byte(v.MetricID))
	return hex.EncodeToString(sum[:16])
}

// metricName returns the write that makes a name known, or its new columns.
func (s *Service) metricName(ctx context.Context, p access.Principal, run, id string, m Metric, now time.Time) ([]row.Change, error) {
	doc := row.Document{Kind: row.Metric, ID: id, Parent: run, Created: now, Modified: now, By: p.ID}
	rec, err := s.Store.Get(ctx, row.Key{Kind: row.Metric, ID: id})
	switch {
	case errors.Is(err, fault.NotFound):
		doc.Sort = s.arrival.next(now)
		if doc.Body, err = json.Marshal(m); err != nil {
			return nil, fault.Coded(fault.Invalid, "InvalidMetric", m.Name, "The properties of %q are not valid JSON.", m.Name)
		}
		return []row.Change{row.Create(doc)}, nil
	case err != nil:
		return nil, fmt.Errorf("read metric %s: %w", m.Name, err)
	}
	var kept Metric
	if err := json.Unmarshal(rec.Row.(row.Document).Body, &kept); err != nil {
		return nil, fmt.Errorf("read metric %s: %w", m.Name, err)
	}
	grown := false
	for column, typ := range m.Columns {
		if _, there := kept.Columns[column]; !there {
			put(&kept.Columns, column, typ)
			grown = true
		}
	}
	if most := later(kept.Last, m.Last); most != kept.Last {
		kept.Last, grown = most, true
	}
	if !grown {
		return nil, nil
	}
	doc = rec.Row.(row.Document)
	doc.Modified, doc.By = now, p.ID
	if doc.Body, err = json.Marshal(kept); err != nil {
		return nil, fmt.Errorf("write metric %s: %w", m.Name, err)
	}
	return []row.Change{row.Update(doc, rec.Rev)}, nil
}

// Metrics lists the names a run logged under, in the order they first came.
func (s *Service) Metrics(ctx context.Context, w Workspace, run, after string) ([]Metric, string, error) {
	f, err := s.find(ctx, docID(w, run), run)
	if err != nil {
		return nil, "", err
	}
	page, err := s.Store.List(ctx, row.Query{Kind: row.Metric, Parent: f.doc.ID, Limit: 1000, After: after})
	if err != nil {
		return nil, "", fmt.Errorf("list metrics of %s: %w", run, err)
	}
	out := []Metric{}
	for _, r := range page.Records {
		var m Metric
		if err := json.Unmarshal(r.Row.(row.Document).Body, &m); err != nil {
			return nil, "", fmt.Errorf("read metrics of %s: %w", run, err)
		}
		out = append(out, m)
	}
	return out, page.Next, nil
}

// Values returns a page of a metric's values, in the order they were logged; start and
// end, where set, bound their createdUtc.
func (s *Service) Values(ctx context.Context, w Workspace, run, name, after string, start, end time.Time) (b Batch, next string, err error) {
	f, err := s.find(ctx, docID(w, run), run)
	if err != nil {
		return b, "", err
	}
	id := metricID(f.doc.ID, name)
	rec, err := s.Store.Get(ctx, row.Key{Kind: row.Metric, ID: id})
	if errors.Is(err, fault.NotFound) {
		return b, "", fault.Coded(fault.NotFound, "MetricNotFound", name, "The run %q has no metric %q.", run, name)
	}
	if err != nil {
		return b, "", fmt.Errorf("read metric %s: %w", name, err)
	}
	if err := json.Unmarshal(rec.Row.(row.Document).Body, &b.Metric); err != nil {
		return b, "", fmt.Errorf("read metric %s: %w", name, err)
	}
	b.Values = []json.RawMessage{}
	for {
		page, err := s.Store.List(ctx, row.Query{Kind: row.Metric, Parent: id, Limit: 20, After: after})
		if err != nil {
			return b, "", fmt.Errorf("list metric %s: %w", name, err)
		}
		for _, r := range page.Records {
			var values []json.RawMessage
			if err := json.Unmarshal(r.Row.(row.Document).Body, &values); err != nil {
				return b, "", fmt.Errorf("read metric %s: %w", name, err)
			}
			b.Values = append(b.Values, between(values, start, end)...)
		}
		if after = page.Next; after == "" || len(b.Values) >= pageValues {
			return b, after, nil
		}
	}
}

func between(values []json.RawMessage, start, end time.Time) []json.RawMessage {
	if start.IsZero() && end.IsZero() {
		return values
	}
	var out []json.RawMessage
	for _, v := range values {
		var at struct{ CreatedUtc time.Time }
		if json.Unmarshal(v, &at) != nil || at.CreatedUtc.Before(start) || !end.IsZero() && at.CreatedUtc.After(end) {
			continue
		}
		out = append(out, v)
	}
	return out
}

// dropMetrics removes everything a run logged.
func (s *Service) dropMetrics(ctx context.Context, run string) error {
	for {
		names, err := s.Store.List(ctx, row.Query{Kind: row.Metric, Parent: run})
		if err != nil || len(names.Records) == 0 {
			return err
		}
		for _, n := range names.Records {
			for {
				values, err := s.Store.List(ctx, row.Query{Kind: row.Metric, Parent: n.Row.Key().ID})
				if err != nil {
					return err
				}
				changes := []row.Change{}
				for _, v := range values.Records {
					changes = append(changes, row.Drop(v.Row.Key()))
				}
				if len(changes) == 0 {
					changes = append(changes, row.Drop(n.Row.Key()))
				}
				if _, err := s.Store.Commit(ctx, changes...); err != nil {
					return fmt.Errorf("drop metrics: %w", err)
				}
				if len(values.Records) == 0 {
					break
				}
			}
		}
	}
}
