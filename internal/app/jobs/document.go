package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/gang"
	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Kind tells runs that control moves from those that their own process moves.
type Kind string

// Interactive runs (SDK v1 start_logging, child runs) have no cluster.
const (
	Command     Kind = "command"
	Interactive Kind = "interactive"
)

// Form tells whose words a definition is in.
type Form string

// The two ways a run is submitted.
const (
	V1  Form = "v1"  // a run configuration of SDK v1
	ARM Form = "arm" // properties of a CommandJob
)

// Body is a run's document.
type Body struct {
	Run          string            `json:"run"` // guid
	Name         string            `json:"name"`
	Number       int               `json:"number"`
	Workspace    string            `json:"workspace"` // ARM id as typed
	Experiment   string            `json:"experiment"`
	ExperimentID string            `json:"experimentId"`
	Kind         Kind              `json:"kind"`
	Form         Form              `json:"form"`
	Hash         string            `json:"hash,omitempty"` // of what it runs: the same again is the same job
	Type         string            `json:"type,omitempty"`
	TypeV2       json.RawMessage   `json:"typeV2,omitempty"`
	Label        string            `json:"label,omitempty"`   // SDK v1's "name"
	Target       string            `json:"target,omitempty"`  // as typed
	Compute      string            `json:"compute,omitempty"` // lower-case ARM id; empty: none
	Nodes        int               `json:"nodes,omitempty"`
	Spread       gang.Spread       `json:"spread,omitzero"` // how its processes lie on its nodes
	Command      string            `json:"command,omitempty"`
	Script       string            `json:"script,omitempty"`
	Snapshot     string            `json:"snapshot,omitempty"` // guid of the code
	Variables    map[string]string `json:"variables,omitempty"`
	Limit        time.Duration     `json:"limit,omitempty"`
	DisplayName  string            `json:"displayName,omitempty"`
	Description  string            `json:"description,omitempty"`
	Tags         map[string]string `json:"tags,omitempty"`
	Properties   map[string]string `json:"properties,omitempty"`
	Params       map[string]string `json:"params,omitempty"` // MLflow's
	Outputs      []queue.Output    `json:"outputs,omitempty"`
	Links        *Links            `json:"links,omitempty"`
	Definition   json.RawMessage   `json:"definition,omitempty"` // as it came
	Parent       string            `json:"parent,omitempty"`     // run id
	Root         string            `json:"root,omitempty"`       // run id
	Ancestors    []string          `json:"ancestors,omitempty"`  // guids, root first
	Creator      Creator           `json:"creator"`
	Modifier     Creator           `json:"modifier"`
	Archived     bool              `json:"archived,omitempty"`
	CancelAsked  bool              `json:"cancelAsked,omitempty"` // interactive runs; others: queue.Run
	Reported     *Reported         `json:"reported,omitempty"`
	Warnings     []Warning         `json:"warnings,omitempty"`
	Notes        []string          `json:"notes,omitempty"` // sentences: what of it is not acted on
}

// Creator is who wrote a run.
type Creator struct {
	ID     string `json:"id"`
	Name   string `json:"name,omitempty"`
	Tenant string `json:"tenant,omitempty"`
	Kind   string `json:"kind,omitempty"`
}

// Reported is the end that a managed run's own process told of. It moves
// nothing: only control knows when a process ended, and how.
type Reported struct {
	State queue.State `json:"state"`
	At    time.Time   `json:"at"`
}

// Warning is what a process wanted to be told.
type Warning struct {
	Source  string `json:"source"`
	Message string `json:"message"`
}

// Job is a run as it is now.
type Job struct {
	Body
	Created  time.Time
	Modified time.Time
	Status   queue.Status
	Cancel   bool   // its end was asked for
	Why      string // why it was
	ID       string // of its document
	Version  Version
}

// Version is equal (==) for two reads of one run only if nothing of it changed
// between them. It is zero for one that was just made.
type Version struct {
	rev   int64
	mark  pool.RunMark
	ended *queue.Status
}

// State is the status to show: a run that was asked to end says so until it has.
func (j *Job) State() queue.State {
	if j.Cancel && !j.Status.State.Final() {
		return queue.CancelRequested
	}
	return j.Status.State
}

// AllNotes are sentences on what of a job is not acted on, and what its nodes do without.
func (j *Job) AllNotes() []string { return append(slices.Clip(j.Notes), j.Status.Notes...) }

// Container is the name of the run's artifact container.
func (j *Job) Container() string { return "dcid." + j.Name }

// ARM is the run's resource id as typed.
func (j *Job) ARM() string { return j.Workspace + "/jobs/" + j.Name }

// docID is the id of a run's document.
func docID(w Workspace, name string) string { return w.Key() + "/jobs/" + strings.ToLower(name) }

func creator(p access.Principal) Creator {
	return Creator{ID: p.ID, Name: p.Name, Tenant: p.Tenant, Kind: string(p.Kind)}
}

// found is a run's document with its revision.
type found struct {
	body Body
	doc  row.Document
	rev  int64

	ended *queue.Status // read along with it, of a run that is not live; nil: it was not
}

// recall is unpack for those who only look: it remembers what it read before.
func (s *Service) recall(rec row.Record) (*found, error) {
	id := rec.Row.Key().ID
	if f, ok := s.known.Get(id, rec.Rev); ok {
		return f, nil
	}
	f, err := unpack(rec)
	if err != nil {
		return nil, err
	}
	s.remember(&f)
	return &f, nil
}

func (s *Service) remember(f *found) {
	s.known.Put(f.doc.ID, f.rev, f, len(f.doc.Body))
}

func (s *Service) find(ctx context.Context, id, name string) (found, error) {
	rec, err := s.read(ctx, id, name)
	if err != nil {
		return found{}, err
	}
	return unpack(rec)
}

func (s *Service) read(ctx context.Context, id, name string) (row.Record, error) {
	rec, err := s.Store.Get(ctx, row.Key{Kind: row.Job, ID: id})
	if errors.Is(err, fault.NotFound) {
		return row.Record{}, fault.Coded(fault.NotFound, "RunNotFound", name, "The run %q was not found.", name)
	}
	if err != nil {
		return row.Record{}, fmt.Errorf("read run %s: %w", name, err)
	}
	return rec, nil
}

func unpack(rec row.Record) (found, error) {
	doc := rec.Row.(row.Document)
	f := found{doc: doc, rev: rec.Rev}
	if err := json.Unmarshal(doc.Body, &f.body); err != nil {
		return found{}, fmt.Errorf("read run %s: %w", doc.ID, err)
	}
	return f, nil
}

// job adds to a document what became of it: from memory while it is live, as
// lists are long and a row from disk is a query.
func (s *Service) job(ctx context.Context, f found) (*Job, error) {
	j := &Job{Body: f.body, Created: f.doc.Created, Modified: f.doc.Modified, ID: f.doc.ID}
	view := s.Store.View()
	j.Version = Version{f.rev, view.RunMark(f.body.Run), f.ended}
	status, live := view.RunStatus(f.body.Run)
	switch {
	case live:
	case f.ended != nil:
		status = *f.ended
	default:
		rec, err := s.Store.Get(ctx, row.Key{Kind: row.RunStatus, ID: f.body.Run})
		if err != nil {
			return nil, fmt.Errorf("read the status of run %s: %w", f.body.Name, err)
		}
		status = rec.Row.(queue.Status)
		j.Version.ended = &status
	}
	j.Status = status
	switch {
	case f.body.Kind == Interactive:
		j.Cancel = f.body.CancelAsked
	case !status.State.Final():
		run, live := view.Run(f.body.Run)
		if !live {
			rec, err := s.Store.Get(ctx, row.Key{Kind: row.Run, ID: f.body.Run})
			if err != nil {
				return nil, fmt.Errorf("read run %s: %w", f.body.Name, err)
			}
			run = rec.Row.(queue.Run)
			j.Version.ended = &status // like no other: the mark does not tell of it
		}
		j.Cancel, j.Why = run.Cancel, run.CancelWhy
	}
	return j, nil
}

// Get returns one run of a workspace, by its run id.
func (s *Service) Get(ctx context.Context, _ access.Principal, w Workspace, name string) (*Job, error) {
	rec, err := s.read(ctx, docID(w, name), name)
	if err != nil {
		return nil, err
	}
	f, err := s.recall(rec)
	if err != nil {
		return nil, err
	}
	return s.job(ctx, *f)
}

// State returns the status of a run by its guid.
func (s *Service) State(ctx context.Context, run string) (queue.State, error) {
	rec, err := s.Store.Get(ctx, row.Key{Kind: row.RunStatus, ID: run})
	if err != nil {
		return "", err
	}
	return rec.Row.(queue.Status).State, nil
}

// MayWrite says whether p may write files and metrics of the run.
func (s *Service) MayWrite(p access.Principal, j *Job) error { return mayWrite(p, &j.Body) }

// edit changes a run's document under its revision, again if somebody was first.
// change may add further writes to the same commit.
func (s *Service) edit(ctx context.Context, p access.Principal, w Workspace, name, what string, change func(*found) ([]row.Change, error)) (*Job, error) {
	defer s.turns.take(docID(w, name))()
	for try := 0; ; try++ {
		f, err := s.find(ctx, docID(w, name), name)
		if err != nil {
			return nil, err
		}
		if err := mayWrite(p, &f.body); err != nil {
			return nil, err
		}
		before, err := json.Marshal(f.body)
		if err != nil {
			return nil, fmt.Errorf("write run %s: %w", name, err)
		}
		more, err := change(&f)
		if err != nil {
			return nil, err
		}
		after, err := json.Marshal(f.body)
		if err != nil {
			return nil, fmt.Errorf("write run %s: %w", name, err)
		}
		if string(before) == string(after) && len(more) == 0 {
			return s.job(ctx, f)
		}
		if string(before) != string(after) {
			f.doc.Modified, f.doc.By = s.Now().UTC(), p.ID
			f.body.Modifier = creator(p)
			if f.doc.Body, err = json.Marshal(f.body); err != nil {
				return nil, fmt.Errorf("write run %s: %w", name, err)
			}
			more = append(more, row.Update(f.doc, f.rev))
		}
		more = append(more, s.event(p, armid.Key(f.body.Workspace)+"/jobs/"+strings.ToLower(name), what, ""))
		rev, err := s.Store.Commit(ctx, more...)
		if again(err, try) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s run %s: %w", what, name, err)
		}
		if string(before) != string(after) {
			f.rev = rev
		}
		return s.job(ctx, f)
	}
}
