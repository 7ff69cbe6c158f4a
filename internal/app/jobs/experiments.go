package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Experiment is a name under which runs are gathered.
type Experiment struct {
	ID          string            `json:"id"` // guid
	Name        string            `json:"name"`
	Description string            `json:"description,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	Created     time.Time         `json:"created"`
	Archived    time.Time         `json:"archived,omitzero"` // zero: it is not
}

func experimentID(w Workspace, name string) string {
	return w.Key() + "/experiments/" + strings.ToLower(name)
}

// guidID is the id of the row that leads from an experiment's guid to its name.
func guidID(w Workspace, guid string) string {
	return w.Key() + "/experimentids/" + strings.ToLower(guid)
}

// checkExperiment says what is wrong with an experiment's name: the service
// takes 1 to 255 letters, digits, dashes and underscores, a letter or digit first.
func checkExperiment(name string) error {
	ok := len(name) >= 1 && len(name) <= 255 && name[0] != '-' && name[0] != '_'
	for _, r := range name {
		ok = ok && (r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	}
	if !ok {
		return fault.Coded(fault.Invalid, "InvalidExperimentName", "experimentName", "The experiment name %.80q is not valid: it must have 1 to 255 characters, begin with a letter or digit, and hold only letters, digits, dashes and underscores.", name)
	}
	return nil
}

func (s *Service) readExperiment(ctx context.Context, w Workspace, name string) (Experiment, row.Record, error) {
	rec, err := s.Store.Get(ctx, row.Key{Kind: row.Experiment, ID: experimentID(w, name)})
	if errors.Is(err, fault.NotFound) {
		return Experiment{}, rec, fault.Coded(fault.NotFound, "ExperimentNotFound", name, "The experiment %q was not found.", name)
	}
	if err != nil {
		return Experiment{}, rec, fmt.Errorf("read experiment %s: %w", name, err)
	}
	var e Experiment
	if err := json.Unmarshal(rec.Row.(row.Document).Body, &e); err != nil {
		return Experiment{}, rec, fmt.Errorf("read experiment %s: %w", name, err)
	}
	return e, rec, nil
}

// Experiment returns an experiment by its name.
func (s *Service) Experiment(ctx context.Context, w Workspace, name string) (Experiment, error) {
	e, _, err := s.readExperiment(ctx, w, name)
	return e, err
}

// ExperimentByID returns an experiment by its guid.
func (s *Service) ExperimentByID(ctx context.Context, w Workspace, guid string) (Experiment, error) {
	rec, err := s.Store.Get(ctx, row.Key{Kind: row.Experiment, ID: guidID(w, guid)})
	if errors.Is(err, fault.NotFound) {
		return Experiment{}, fault.Coded(fault.NotFound, "ExperimentNotFound", guid, "The experiment %q was not found.", guid)
	}
	if err != nil {
		return Experiment{}, fmt.Errorf("read experiment %s: %w", guid, err)
	}
	var to struct{ Name string }
	if err := json.Unmarshal(rec.Row.(row.Document).Body, &to); err != nil {
		return Experiment{}, fmt.Errorf("read experiment %s: %w", guid, err)
	}
	return s.Experiment(ctx, w, to.Name)
}

// ensure returns the experiment of a name, with the writes that make it where
// it is new. They fail when somebody else made it meanwhile.
func (s *Service) ensure(ctx context.Context, p access.Principal, w Workspace, name string) (Experiment, []row.Change, error) {
	if err := checkExperiment(name); err != nil {
		return Experiment{}, nil, err
	}
	e, _, err := s.readExperiment(ctx, w, name)
	if err == nil || !errors.Is(err, fault.NotFound) {
		return e, nil, err
	}
	if err := ownRun(p, "create experiments"); err != nil {
		return Experiment{}, nil, err
	}
	now := s.Now().UTC()
	e = Experiment{ID: s.NewID(), Name: name, Created: now}
	doc, err := s.experimentRow(p, w, e)
	if err != nil {
		return Experiment{}, nil, err
	}
	to, err := json.Marshal(map[string]string{"name": name})
	if err != nil {
		return Experiment{}, nil, fmt.Errorf("write experiment %s: %w", name, err)
	}
	return e, []row.Change{
		row.Create(doc),
		row.Put(row.Document{Kind: row.Experiment, ID: guidID(w, e.ID), Body: to, Created: now, Modified: now, By: p.ID}),
		s.event(p, doc.ID, "create experiment", ""),
	}, nil
}

func (s *Service) experimentRow(p access.Principal, w Workspace, e Experiment) (row.Document, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return row.Document{}, fmt.Errorf("write experiment %s: %w", e.Name, err)
	}
	return row.Document{Kind: row.Experiment, ID: experimentID(w, e.Name), Parent: w.Key(), Sort: row.SortTime(e.Created),
		Body: text, Created: e.Created, Modified: s.Now().UTC(), By: p.ID}, nil
}

// CreateExperiment makes an experiment, or returns the one that has the name.
func (s *Service) CreateExperiment(ctx context.Context, p access.Principal, w Workspace, name string) (Experiment, error) {
	for try := 0; ; try++ {
		e, changes, err := s.ensure(ctx, p, w, name)
		if err != nil || len(changes) == 0 {
			return e, err
		}
		if _, err = s.Store.Commit(ctx, changes...); again(err, try) {
			continue
		}
		if err != nil {
			return Experiment{}, fmt.Errorf("create experiment %s: %w", name, err)
		}
		return e, nil
	}
}

// ExperimentChange is what may be changed of an experiment; nil: stays.
type ExperimentChange struct {
	Description *string
	Tags        map[string]string // added to those there are
	Remove      []string          // names of tags
	Archive     *bool
}

// UpdateExperiment changes the experiment that has a guid.
func (s *Service) UpdateExperiment(ctx context.Context, p access.Principal, w Workspace, guid string, c ExperimentChange) (Experiment, error) {
	if err := ownRun(p, "change experiments"); err != nil {
		return Experiment{}, err
	}
	for try := 0; ; try++ {
		named, err := s.ExperimentByID(ctx, w, guid)
		if err != nil {
			return Experiment{}, err
		}
		e, rec, err := s.readExperiment(ctx, w, named.Name)
		if err != nil {
			return Experiment{}, err
		}
		e.change(c, s.Now().UTC())
		if err := checkMap("tags", e.Tags, maxTags); err != nil {
			return Experiment{}, err
		}
		if err := checkText("", e.Description); err != nil {
			return Experiment{}, err
		}
		doc, err := s.experimentRow(p, w, e)
		if err != nil {
			return Experiment{}, err
		}
		if _, err = s.Store.Commit(ctx, row.Update(doc, rec.Rev), s.event(p, doc.ID, "update experiment", "")); again(err, try) {
			continue
		}
		if err != nil {
			return Experiment{}, fmt.Errorf("update experiment %s: %w", e.Name, err)
		}
		return e, nil
	}
}

func (e *Experiment) change(c ExperimentChange, now time.Time) {
	if c.Description != nil {
		e.Description = *c.Description
	}
	if len(c.Tags) > 0 && e.Tags == nil {
		e.Tags = map[string]string{}
	}
	maps.Copy(e.Tags, c.Tags)
	for _, k := range c.Remove {
		delete(e.Tags, k)
	}
	if c.Archive != nil {
		e.Archived = time.Time{}
		if *c.Archive {
			e.Archived = now
		}
	}
}

// DeleteExperiment removes an experiment that has no runs.
func (s *Service) DeleteExperiment(ctx context.Context, p access.Principal, w Workspace, guid string) error {
	if err := ownRun(p, "delete experiments"); err != nil {
		return err
	}
	e, err := s.ExperimentByID(ctx, w, guid)
	if err != nil {
		return err
	}
	runs, _, err := s.List(ctx, p, w, Query{ExperimentID: e.ID, Top: 1})
	if err != nil {
		return err
	}
	if len(runs) > 0 {
		return fault.Coded(fault.Conflict, "ExperimentNotEmpty", e.Name, "The experiment %q has runs; only an empty one can be deleted. Archive it instead.", e.Name)
	}
	id := experimentID(w, e.Name)
	if _, err := s.Store.Commit(ctx, row.Drop(row.Key{Kind: row.Experiment, ID: id}), row.Drop(row.Key{Kind: row.Experiment, ID: guidID(w, guid)}), s.event(p, id, "delete experiment", "")); err != nil {
		return fmt.Errorf("delete experiment %s: %w", e.Name, err)
	}
	return nil
}

// View says whether archived ones are wanted.
type View string

// The three views of the service; empty is ActiveOnly.
const (
	ActiveOnly   View = "ActiveOnly"
	ArchivedOnly View = "ArchivedOnly"
	All          View = "All"
)

func (v View) shows(archived bool) bool {
	switch {
	case strings.EqualFold(string(v), string(All)):
		return true
	case strings.EqualFold(string(v), string(ArchivedOnly)):
		return archived
	}
	return !archived
}

// Experiments lists a workspace's experiments, newest first, a page at a time.
func (s *Service) Experiments(ctx context.Context, w Workspace, view View, filter string, top int, after string) ([]Experiment, string, error) {
	f, err := parseFilter(filter)
	if err != nil {
		return nil, "", err
	}
	out := []Experiment{}
	next, err := s.eachExperiment(ctx, w, view, top, after, func(e Experiment, _ string) (bool, error) {
		ok, err := f.match(func(field string) (any, bool) { return e.field(field) })
		if ok && err == nil {
			out = append(out, e)
		}
		return ok, err
	})
	return out, next, err
}

// eachExperiment hands over experiments, the newest first, with their rows' places,
// until top of them were taken, and returns the cursor behind the last.
func (s *Service) eachExperiment(ctx context.Context, w Workspace, view View, top int, after string, take func(Experiment, string) (bool, error)) (string, error) {
	plain := func(_ context.Context, page []row.Record) ([]row.Record, error) { return page, nil }
	return walk(ctx, s.Store, row.Query{Kind: row.Experiment, Parent: w.Key(), Desc: true, After: after}, top, plain, func(r row.Record) (bool, error) {
		doc := r.Row.(row.Document)
		var e Experiment
		if err := json.Unmarshal(doc.Body, &e); err != nil {
			return false, fmt.Errorf("read experiment: %w", err)
		}
		if !view.shows(!e.Archived.IsZero()) {
			return false, nil
		}
		return take(e, doc.Sort+" "+doc.ID)
	})
}

func (e *Experiment) field(name string) (any, bool) {
	switch lower := strings.ToLower(name); {
	case lower == "name":
		return e.Name, true
	case lower == "experimentid":
		return e.ID, true
	case lower == "description":
		return e.Description, true
	case lower == "createdutc":
		return e.Created, true
	case strings.HasPrefix(lower, "tags/"):
		v, ok := e.Tags[name[len("tags/"):]]
		return optional(v, ok), true
	}
	return nil, false
}
