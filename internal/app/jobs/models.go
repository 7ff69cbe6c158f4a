package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// LoggedModel is what MLflow 3 knows of a model that a run logged. Its files lie
// in a container of its own, dcid.ID.
type LoggedModel struct {
	ID           string            `json:"id"`
	ExperimentID string            `json:"experimentId"`
	Experiment   string            `json:"experiment"` // name
	Run          string            `json:"run"`        // run id
	Name         string            `json:"name"`
	Type         string            `json:"type,omitempty"`
	Status       string            `json:"status"` // in MLflow's words
	Params       map[string]string `json:"params,omitempty"`
	Tags         map[string]string `json:"tags,omitempty"`
	Metrics      []ModelMetric     `json:"metrics,omitempty"` // the last of each
	Creator      Creator           `json:"creator"`
	Created      time.Time         `json:"created"`
	Modified     time.Time         `json:"modified"`
}

// ModelMetric is a metric of a run that is also a model's.
type ModelMetric struct {
	Name    string `json:"name"`
	Dataset string `json:"dataset,omitempty"`
	Digest  string `json:"digest,omitempty"` // of the dataset
	Point   Point  `json:"point"`
}

// modelAttributes may be asked for in searches.
var modelAttributes = map[string]string{
	"name": "name", "model_id": "model_id", "model_type": "model_type", "status": "status", "source_run_id": "source_run_id",
	"creation_timestamp": "creation_time", "creation_time": "creation_time", "last_updated_timestamp": "last_update_time", "last_update_time": "last_update_time",
}

const maxModelMetrics = 1000

func modelsID(w Workspace) string { return w.Key() + "/loggedmodels" }

// LogModel makes a model of a run.
func (s *Service) LogModel(ctx context.Context, p access.Principal, w Workspace, m LoggedModel) (LoggedModel, error) {
	f, err := s.find(ctx, docID(w, m.Run), m.Run)
	if err != nil {
		return m, err
	}
	if err := mayWrite(p, &f.body); err != nil {
		return m, err
	}
	if m.ExperimentID != "" && !strings.EqualFold(m.ExperimentID, f.body.ExperimentID) {
		return m, fault.Coded(fault.Invalid, "INVALID_PARAMETER_VALUE", "experiment_id", "The run %q belongs to the experiment %q, and the model is to be in another.", m.Run, f.body.Experiment)
	}
	now := s.Now().UTC()
	m.ID, m.ExperimentID, m.Experiment, m.Run, m.Creator, m.Created, m.Modified = "m-"+strings.ReplaceAll(s.NewID(), "-", ""), f.body.ExperimentID, f.body.Experiment, f.body.Name, creator(p), now, now
	if err := m.check(); err != nil {
		return m, err
	}
	doc, err := s.modelRow(p, w, m)
	if err != nil {
		return m, err
	}
	if _, err := s.Store.Commit(ctx, row.Create(doc)); err != nil {
		return m, fmt.Errorf("log model %s: %w", m.Name, err)
	}
	return m, nil
}

func (m *LoggedModel) check() error {
	params := Body{Name: m.ID}
	if err := params.params(m.Params); err != nil {
		return err
	}
	if len(m.Name) > maxParamKey || len(m.Type) > maxParamKey {
		return fault.Coded(fault.Invalid, "INVALID_PARAMETER_VALUE", "name", "The model's name or type has more than %d characters.", maxParamKey)
	}
	return checkMap("tags", m.Tags, maxTags)
}

func (s *Service) modelRow(p access.Principal, w Workspace, m LoggedModel) (row.Document, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return row.Document{}, fmt.Errorf("write model %s: %w", m.ID, err)
	}
	return row.Document{Kind: row.Asset, ID: modelsID(w) + "/" + strings.ToLower(m.ID), Parent: modelsID(w), Sort: row.SortTime(m.Created), Body: text, Created: m.Created, Modified: m.Modified, By: p.ID}, nil
}

func (s *Service) readModel(ctx context.Context, w Workspace, id string) (LoggedModel, int64, error) {
	var m LoggedModel
	rec, err := s.Store.Get(ctx, row.Key{Kind: row.Asset, ID: modelsID(w) + "/" + strings.ToLower(id)})
	if errors.Is(err, fault.NotFound) {
		return m, 0, fault.Coded(fault.NotFound, "ModelNotFound", id, "The logged model %.80q was not found.", id)
	}
	if err != nil {
		return m, 0, fmt.Errorf("read model %s: %w", id, err)
	}
	if err := json.Unmarshal(rec.Row.(row.Document).Body, &m); err != nil {
		return m, 0, fmt.Errorf("read model %s: %w", id, err)
	}
	return m, rec.Rev, nil
}

// LoggedModel returns a model by its id.
func (s *Service) LoggedModel(ctx context.Context, w Workspace, id string) (LoggedModel, error) {
	m, _, err := s.readModel(ctx, w, id)
	return m, err
}

// ChangeModel changes a model. Who may write its run may.
func (s *Service) ChangeModel(ctx context.Context, p access.Principal, w Workspace, id string, change func(*LoggedModel) error) (LoggedModel, error) {
	defer s.turns.take(modelsID(w) + id)()
	for try := 0; ; try++ {
		m, rev, err := s.readModel(ctx, w, id)
		if err != nil {
			return m, err
		}
		f, err := s.find(ctx, docID(w, m.Run), m.Run)
		if err == nil {
			err = mayWrite(p, &f.body)
		} else if errors.Is(err, fault.NotFound) { // its run was deleted
			err = ownRun(p, "change models")
		}
		if err != nil {
			return m, err
		}
		if err := errors.Join(change(&m), m.check()); err != nil {
			return m, err
		}
		m.Modified = s.Now().UTC()
		doc, err := s.modelRow(p, w, m)
		if err != nil {
			return m, err
		}
		if _, err = s.Store.Commit(ctx, row.Update(doc, rev)); again(err, try) {
			continue
		}
		return m, err
	}
}

// DropModel forgets a model, and the names of its files.
func (s *Service) DropModel(ctx context.Context, p access.Principal, w Workspace, id string) error {
	m, err := s.ChangeModel(ctx, p, w, id, func(*LoggedModel) error { return nil }) // may p?
	if err != nil {
		return err
	}
	if err := s.dropArtifacts(ctx, w, m.ID); err != nil {
		return err
	}
	_, err = s.Store.Commit(ctx, row.Drop(row.Key{Kind: row.Asset, ID: modelsID(w) + "/" + strings.ToLower(m.ID)}))
	return err
}

// SearchModels returns a page of models, newest first unless orders say else.
func (s *Service) SearchModels(ctx context.Context, w Workspace, q Search) ([]LoggedModel, string, error) {
	f, err := parseSearch(q.Filter, modelAttributes)
	if err != nil {
		return nil, "", err
	}
	orders, err := parseOrders(q.Orders, modelAttributes)
	if err != nil {
		return nil, "", err
	}
	first, err := newBest(orders, q.Top, q.After, func(m *LoggedModel, of subject) (value, bool) { return m.value(of) })
	if err != nil {
		return nil, "", err
	}
	for after := ""; ; {
		page, err := s.Store.List(ctx, row.Query{Kind: row.Asset, Parent: modelsID(w), Desc: true, After: after})
		if err != nil {
			return nil, "", fmt.Errorf("list models: %w", err)
		}
		for _, r := range page.Records {
			var m LoggedModel
			if err := json.Unmarshal(r.Row.(row.Document).Body, &m); err != nil {
				return nil, "", fmt.Errorf("read models: %w", err)
			}
			if slices.Contains(q.Experiments, m.ExperimentID) && f.match(m.value) {
				d := r.Row.(row.Document)
				first.offer(m, d.Sort+" "+d.ID)
			}
		}
		if after = page.Next; after == "" {
			break
		}
	}
	list, next := first.page()
	return list, next, nil
}

// ModelAt finds the newest model that a run logged under the name that a path of
// the run begins with, and what of the path is below it. MLflow 3 has the same
// addresses for models as MLflow 2, where they were files of the run.
func (s *Service) ModelAt(ctx context.Context, w Workspace, run *Job, path string) (m LoggedModel, below string, err error) {
	name, below, _ := strings.Cut(strings.Trim(path, "/"), "/")
	list, _, err := s.SearchModels(ctx, w, Search{Experiments: []string{run.ExperimentID}, Filter: "source_run_id = '" + run.Name + "'", Top: maxModelsOfRun})
	if err != nil {
		return m, "", err
	}
	at := slices.IndexFunc(list, func(m LoggedModel) bool { return m.Name == name })
	if at < 0 {
		return m, "", fault.Coded(fault.NotFound, "ModelNotFound", name, "The run %q logged no model %.80q.", run.Name, name)
	}
	return list[at], below, nil
}

// maxModelsOfRun is how many models of one run are looked through.
const maxModelsOfRun = 1000

func (m *LoggedModel) value(of subject) (value, bool) {
	switch of.kind {
	case "metric":
		for _, v := range m.Metrics {
			if v.Name == of.name {
				return value{number: v.Point.Value}, true
			}
		}
		return value{}, false
	case "param":
		v, ok := m.Params[of.name]
		return value{text: v}, ok
	case "tag":
		v, ok := m.Tags[of.name]
		return value{text: v}, ok
	}
	switch of.name {
	case "creation_time":
		return value{number: float64(m.Created.UnixMilli())}, true
	case "last_update_time":
		return value{number: float64(m.Modified.UnixMilli())}, true
	}
	text := map[string]string{"name": m.Name, "model_id": m.ID, "model_type": m.Type, "status": m.Status, "source_run_id": m.Run}[of.name]
	return value{text: text}, text != ""
}

// Measure keeps the last value of a metric of the model.
func (m *LoggedModel) Measure(n ModelMetric) error {
	for i, have := range m.Metrics {
		if have.Name == n.Name && have.Dataset == n.Dataset && have.Digest == n.Digest {
			if later(&have.Point, &n.Point) == &n.Point {
				m.Metrics[i] = n
			}
			return nil
		}
	}
	if len(m.Metrics) >= maxModelMetrics {
		return fault.Coded(fault.Invalid, "INVALID_PARAMETER_VALUE", "metrics", "The model %q has %d metrics; there can be no more.", m.ID, maxModelMetrics)
	}
	m.Metrics = append(m.Metrics, n)
	return nil
}

// Tag adds tags and params to a model.
func (m *LoggedModel) Tag(tags, params map[string]string) {
	for to, add := range map[*map[string]string]map[string]string{&m.Tags: tags, &m.Params: params} {
		if *to == nil && len(add) > 0 {
			*to = map[string]string{}
		}
		maps.Copy(*to, add)
	}
}

// Links are what MLflow says that a run read and made: data sets and models, as
// it wrote them.
type Links struct {
	Datasets []json.RawMessage `json:"datasets,omitempty"`
	In       []json.RawMessage `json:"in,omitempty"`
	Out      []json.RawMessage `json:"out,omitempty"`
}

// maxLinks bounds them, in bytes.
const maxLinks = 1 << 20

// Link adds to what a run read and made.
func (s *Service) Link(ctx context.Context, p access.Principal, w Workspace, run string, l Links) error {
	_, err := s.edit(ctx, p, w, run, "link", func(f *found) ([]row.Change, error) {
		b := &f.body
		if b.Links == nil {
			b.Links = &Links{}
		}
		size := 0
		for to, add := range map[*[]json.RawMessage][]json.RawMessage{&b.Links.Datasets: l.Datasets, &b.Links.In: l.In, &b.Links.Out: l.Out} {
			for _, v := range add {
				if !slices.ContainsFunc(*to, func(have json.RawMessage) bool { return string(have) == string(v) }) {
					*to = append(*to, v)
				}
			}
			for _, v := range *to {
				size += len(v)
			}
		}
		if size > maxLinks {
			return nil, fault.Coded(fault.Invalid, "INVALID_PARAMETER_VALUE", "datasets", "What the run %q read and made takes %d bytes; at most %d are allowed.", run, size, maxLinks)
		}
		return nil, nil
	})
	return err
}

// dropModels forgets the models of a run, and the names of their files.
func (s *Service) dropModels(ctx context.Context, w Workspace, run string) error {
	for after := ""; ; {
		page, err := s.Store.List(ctx, row.Query{Kind: row.Asset, Parent: modelsID(w), After: after})
		if err != nil {
			return fmt.Errorf("list models: %w", err)
		}
		for _, r := range page.Records {
			var m LoggedModel
			if err := json.Unmarshal(r.Row.(row.Document).Body, &m); err != nil {
				return fmt.Errorf("read models: %w", err)
			}
			if !strings.EqualFold(m.Run, run) {
				continue
			}
			if err := s.dropArtifacts(ctx, w, m.ID); err != nil {
				return err
			}
			if _, err := s.Store.Commit(ctx, row.Drop(r.Row.Key())); err != nil {
				return fmt.Errorf("drop model %s: %w", m.ID, err)
			}
		}
		if after = page.Next; after == "" {
			return nil
		}
	}
}
