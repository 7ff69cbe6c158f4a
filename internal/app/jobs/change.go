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
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Cancel asks for a run's end. One that has ended stays as it is, and asking
// twice is asking once.
func (s *Service) Cancel(ctx context.Context, p access.Principal, w Workspace, name, why string) (*Job, error) {
	return s.edit(ctx, p, w, name, "cancel", func(f *found) ([]row.Change, error) {
		return s.cancel(ctx, p, f, why)
	})
}

// cancel marks a run that control moves, or ends one that nothing else does.
func (s *Service) cancel(ctx context.Context, p access.Principal, f *found, why string) ([]row.Change, error) {
	state, err := s.State(ctx, f.body.Run)
	if err != nil {
		return nil, fmt.Errorf("read the status of run %s: %w", f.body.Name, err)
	}
	if state.Final() {
		return nil, nil
	}
	if f.body.Kind == Interactive {
		return s.move(ctx, f, queue.Canceled, s.Now().UTC())
	}
	rec, err := s.Store.Get(ctx, row.Key{Kind: row.Run, ID: f.body.Run})
	if err != nil {
		return nil, fmt.Errorf("read run %s: %w", f.body.Name, err)
	}
	run := rec.Row.(queue.Run)
	if run.Cancel {
		return nil, nil
	}
	run.Cancel, run.CancelWhy = true, why
	if why == "" {
		run.CancelWhy = "It was canceled by " + firstOf(p.Name, p.ID) + "."
	}
	return []row.Change{row.Update(run, rec.Rev)}, nil
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// move gives a run without a cluster another status. A move that is not legal
// is no error and no change: a client that ends a run twice is right both times.
func (s *Service) move(ctx context.Context, f *found, to queue.State, at time.Time) ([]row.Change, error) {
	rec, err := s.Store.Get(ctx, row.Key{Kind: row.RunStatus, ID: f.body.Run})
	if err != nil {
		return nil, fmt.Errorf("read the status of run %s: %w", f.body.Name, err)
	}
	st := rec.Row.(queue.Status)
	if !queue.CanMove(st.State, to) {
		return nil, nil
	}
	st.State, st.Since, st.Why = to, at, ""
	if to == queue.Running && st.Started.IsZero() {
		st.Started = at
	}
	if to.Final() {
		st.Ended = at
	}
	return []row.Change{row.Update(st, rec.Rev)}, nil
}

// Patch is what may be changed of a run, or told of a new one without a
// cluster; nil: stays.
type Patch struct {
	Experiment  string // name, for a new run
	Parent      string // run id, for a new run
	Label       *string
	DisplayName *string
	Description *string
	Tags        map[string]string // added to those there are
	Properties  map[string]string // added; one that is there may not change
	Hidden      *bool             // archived, in ARM's words
	Target      string
	Script      string
	Type        string
	TypeV2      json.RawMessage
	Definition  json.RawMessage
	Status      string    // of a new run; only NotStarted and Running are taken
	Began       time.Time // of a new run that is Running; zero: now
}

// Patch changes a run; the one that does not exist is made, without a cluster:
// its own process then says when it starts and ends (SDK v1 start_logging).
func (s *Service) Patch(ctx context.Context, p access.Principal, w Workspace, name string, c Patch) (*Job, error) {
	for try := 0; ; try++ {
		j, err := s.edit(ctx, p, w, name, "update", func(f *found) ([]row.Change, error) { return nil, f.body.apply(c) })
		if !errors.Is(err, fault.NotFound) {
			return j, err
		}
		if j, err = s.begin(ctx, p, w, name, c); !again(err, try) {
			return j, err
		}
	}
}

// apply changes a document in place.
func (b *Body) apply(c Patch) error {
	for k, v := range c.Properties {
		if was, there := b.Properties[k]; there && was != v {
			return fault.Coded(fault.Invalid, "ImmutableProperty", "properties", "The property %q has the value %.100q and cannot be changed: properties of a run are immutable. Use a tag.", k, was)
		}
		put(&b.Properties, k, v)
	}
	if len(c.Tags) > 0 && b.Tags == nil {
		b.Tags = map[string]string{}
	}
	maps.Copy(b.Tags, c.Tags)
	set(&b.Label, c.Label)
	set(&b.DisplayName, c.DisplayName)
	set(&b.Description, c.Description)
	if c.Hidden != nil { // what run history hides is what ARM calls archived
		b.Archived = *c.Hidden
	}
	if b.Kind == Interactive {
		for to, v := range map[*string]string{&b.Target: c.Target, &b.Script: c.Script, &b.Type: c.Type} {
			if v != "" {
				*to = v
			}
		}
		if len(c.TypeV2) > 0 {
			b.TypeV2 = c.TypeV2
		}
		if len(c.Definition) > 0 {
			b.Definition = c.Definition
		}
		b.Snapshot = b.Properties["ContentSnapshotId"]
	}
	return b.check()
}

func set[T any](to *T, v *T) {
	if v != nil {
		*to = *v
	}
}

// begin makes a run without a cluster.
func (s *Service) begin(ctx context.Context, p access.Principal, w Workspace, name string, c Patch) (*Job, error) {
	if err := armid.CheckJob(name); err != nil {
		return nil, fault.Coded(fault.Invalid, "InvalidPropertyValue", "runId", "%s", sentence(err))
	}
	exp, changes, err := s.ensure(ctx, p, w, c.Experiment)
	if err != nil {
		return nil, err
	}
	b := Body{Run: s.NewID(), Name: name, Workspace: w.ID, Experiment: exp.Name, ExperimentID: exp.ID, Kind: Interactive, Form: V1,
		DisplayName: name, Creator: creator(p), Modifier: creator(p), Root: name, Nodes: 1}
	if err := s.adopt(ctx, w, &b, c.Parent); err != nil {
		return nil, err
	}
	if err := mayWrite(p, &b); err != nil {
		return nil, err
	}
	if err := b.apply(c); err != nil {
		return nil, err
	}
	now := s.Now().UTC()
	st := queue.Status{ID: b.Run, Document: docID(w, name), State: queue.NotStarted, Since: now}
	if strings.EqualFold(c.Status, string(queue.Running)) {
		st.State, st.Started = queue.Running, now
		if !c.Began.IsZero() && c.Began.Before(now) {
			st.Started = c.Began.UTC()
		}
	}
	doc, number, err := s.document(ctx, p, w, &b, now)
	if err != nil {
		return nil, err
	}
	changes = append(changes, row.Create(doc), row.Create(st), number, s.event(p, doc.ID, "create", ""))
	if _, err := s.Store.Commit(ctx, changes...); err != nil {
		return nil, fmt.Errorf("create run %s: %w", name, err)
	}
	return &Job{Body: b, Created: now, Modified: now, Status: st, ID: doc.ID}, nil
}

// RemoveTags takes tags off a run; those it does not have are no error.
func (s *Service) RemoveTags(ctx context.Context, p access.Principal, w Workspace, name string, tags []string) (*Job, error) {
	return s.edit(ctx, p, w, name, "remove tags", func(f *found) ([]row.Change, error) {
		for _, t := range tags {
			delete(f.body.Tags, t)
		}
		return nil, nil
	})
}

// Happening is what a run's process, or whoever started it, tells about it.
type Happening struct {
	Name    string // the last word of the event's name: Start, Completed, Failed, ...
	Code    string // of an Error
	Message string // of an Error or Warning
	Source  string // of a Warning
}

// Tell takes an event. It moves runs without a cluster; of others it is kept as
// reported, since only control knows how their processes end. What is told of a
// run that has ended changes nothing.
func (s *Service) Tell(ctx context.Context, p access.Principal, w Workspace, name string, h Happening) error {
	_, err := s.edit(ctx, p, w, name, "event "+strings.ToLower(h.Name), func(f *found) ([]row.Change, error) {
		now := s.Now().UTC()
		to, moves := map[string]queue.State{
			"start": queue.Running, "completed": queue.Completed, "failed": queue.Failed, "canceled": queue.Canceled,
		}[strings.ToLower(h.Name)]
		switch {
		case strings.EqualFold(h.Name, "Warning"):
			f.body.warn(h)
			return nil, nil
		case strings.EqualFold(h.Name, "CancelRequested"), to == queue.Canceled && f.body.Kind == Command && p.Kind != access.RunIdentity:
			return s.cancel(ctx, p, f, "")
		case strings.EqualFold(h.Name, "Error"):
			return s.fail(ctx, f, h)
		case !moves:
			return nil, nil // heartbeats and the like: nothing depends on them
		case f.body.Kind == Interactive:
			return s.move(ctx, f, to, now)
		case to.Final() && f.body.Reported == nil:
			f.body.Reported = &Reported{State: to, At: now}
		}
		return nil, nil
	})
	return err
}

// warn keeps the last 20 warnings.
func (b *Body) warn(h Happening) {
	b.Warnings = append(b.Warnings, Warning{Source: clip(h.Source, 200), Message: clip(h.Message, 3000)})
	if n := len(b.Warnings); n > 20 {
		b.Warnings = b.Warnings[n-20:]
	}
}

// clip cuts text to the service's limit on error messages, in characters.
func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n])
	}
	return s
}

// fail keeps why a run without a cluster fails; that it does comes after.
func (s *Service) fail(ctx context.Context, f *found, h Happening) ([]row.Change, error) {
	if f.body.Kind == Command {
		return nil, nil
	}
	rec, err := s.Store.Get(ctx, row.Key{Kind: row.RunStatus, ID: f.body.Run})
	if err != nil {
		return nil, fmt.Errorf("read the status of run %s: %w", f.body.Name, err)
	}
	st := rec.Row.(queue.Status)
	if st.State.Final() {
		return nil, nil
	}
	st.Failure = queue.Failure{Code: firstOf(h.Code, "UserError"), Message: clip(h.Message, 3000)}
	return []row.Change{row.Update(st, rec.Rev)}, nil
}

// Delete removes a run that has ended, with its metrics and the names of its files:
// another run of its name must not find them. A run that is not there is gone
// already: removed is false.
func (s *Service) Delete(ctx context.Context, p access.Principal, w Workspace, name string) (removed bool, err error) {
	if err := ownRun(p, "delete jobs"); err != nil {
		return false, err
	}
	f, err := s.find(ctx, docID(w, name), name)
	if errors.Is(err, fault.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	state, err := s.State(ctx, f.body.Run)
	if err != nil {
		return false, fmt.Errorf("read the status of run %s: %w", name, err)
	}
	if !state.Final() {
		return false, fault.Coded(fault.Conflict, "JobNotInTerminalState", name, "The job %q is %s and cannot be deleted; cancel it and wait for its end.", name, state)
	}
	if err := s.dropMetrics(ctx, f.doc.ID); err != nil {
		return false, err
	}
	if err := s.dropArtifacts(ctx, w, f.body.Name); err != nil {
		return false, err
	}
	if err := s.dropModels(ctx, w, f.body.Name); err != nil {
		return false, err
	}
	changes := []row.Change{
		row.Drop(f.doc.Key()), row.Drop(row.Key{Kind: row.Task, ID: f.body.Run}), row.Drop(row.Key{Kind: row.Run, ID: f.body.Run}),
		row.Drop(row.Key{Kind: row.RunStatus, ID: f.body.Run}), s.event(p, f.doc.ID, "delete", ""),
	}
	page, err := s.Store.List(ctx, row.Query{Kind: row.Attempt, Parent: f.body.Run})
	if err != nil {
		return false, fmt.Errorf("list attempts of %s: %w", name, err)
	}
	for _, r := range page.Records {
		changes = append(changes, row.Drop(r.Row.Key()))
	}
	if _, err := s.Store.Commit(ctx, changes...); err != nil {
		return false, fmt.Errorf("delete run %s: %w", name, err)
	}
	return true, nil
}

// dropArtifacts forgets the files of a run.
func (s *Service) dropArtifacts(ctx context.Context, w Workspace, name string) error {
	for {
		page, err := s.Store.List(ctx, row.Query{Kind: row.Artifact, Parent: w.Key() + "/artifacts/" + strings.ToLower("dcid."+name)})
		if err != nil || len(page.Records) == 0 {
			return err
		}
		changes := make([]row.Change, len(page.Records))
		for i, r := range page.Records {
			changes[i] = row.Drop(r.Row.Key())
		}
		if _, err := s.Store.Commit(ctx, changes...); err != nil {
			return fmt.Errorf("drop artifacts of %s: %w", name, err)
		}
	}
}
