package jobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/near"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Submission is a run that somebody wants, in nobody's wire words.
type Submission struct {
	Name        string // run id; empty: one is made
	Experiment  string // name; empty: "Default"
	Form        Form
	Definition  json.RawMessage // as it came
	Type        string
	Parent      string // run id of the parent; empty: none
	DisplayName string // empty: the run id
	Description string
	Tags        map[string]string
	Properties  map[string]string
	Archived    bool
	Notes       []string // sentences: what of it is kept and not acted on

	// What it runs. Two submissions that differ here are two jobs.
	Target      string // name or ARM id of the compute
	Nodes       int    // 0: 1
	Distributed string // how processes are to find each other; empty: there is one
	Processes   int    `json:",omitempty"` // on each node, of MPI and PyTorch; 0: 1
	Workers     int    `json:",omitempty"` // of TensorFlow; 0: as many as nodes
	Servers     int    `json:",omitempty"` // of TensorFlow: parameter servers
	Command     string
	Script      string
	Arguments   []string
	Code        string // guid of the snapshot; empty: none
	Enclosed    bool   `json:",omitempty"` // the code came with the request; the client names a snapshot of its own
	Variables   map[string]string
	Literals    map[string]string `json:",omitempty"` // values of inputs, by name
	Inputs      []queue.Input     `json:",omitempty"`
	Outputs     []queue.Output    `json:",omitempty"`
	Environment queue.Environment
	Container   *queue.Container `json:",omitempty"` // nil: none is wanted
	Framework   string
	Priority    int
	TimeLimit   time.Duration // 0: none
}

// hash tells one job from another under the same name.
func (in *Submission) hash() string {
	work := *in
	work.Definition, work.Tags, work.Properties, work.Notes = nil, nil, nil, nil
	work.DisplayName, work.Description, work.Archived, work.Type = "", "", false, ""
	if i := strings.LastIndexByte(work.Target, '/'); i >= 0 {
		work.Target = work.Target[i+1:]
	}
	work.Target = strings.ToLower(work.Target)
	work.Inputs = slices.Clone(work.Inputs)
	for i := range work.Inputs {
		work.Inputs[i].Key, work.Inputs[i].Public = "", "" // follow from the address
	}
	work.Environment.CondaFile = ""               // its parts are there
	if r := work.Environment.Registry; r != nil { // a password is sealed another way each time
		known := *r
		known.Sealed = nil
		work.Environment.Registry = &known
	}
	if b := work.Environment.Build; b != nil {
		known := *b
		known.Key = ""
		work.Environment.Build = &known
	}
	if c := work.Container; c != nil && reflect.DeepEqual(*c, queue.Container{}) {
		work.Container = nil // follows from the environment
	}
	if len(work.Variables) == 0 {
		work.Variables = nil // what is shown as {} was perhaps not sent at all
	}
	text, err := json.Marshal(work)
	if err != nil {
		panic("jobs: a submission cannot be written as JSON: " + err.Error())
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Submit records a run and returns it. The same name and the same work again is
// the same run (created is false); other work under the name is a conflict. It
// is durable, and has its place in the queue, when Submit returns.
func (s *Service) Submit(ctx context.Context, p access.Principal, w Workspace, in Submission) (j *Job, created bool, err error) {
	if err := ownRun(p, "submit jobs"); err != nil {
		return nil, false, err
	}
	if in.Name == "" {
		in.Name = s.NewID()
	}
	if in.Experiment == "" {
		in.Experiment = "Default"
	}
	in.Nodes = max(in.Nodes, 1)
	if !in.Environment.InImage() {
		in.Container = nil
	}
	if err := armid.CheckJob(in.Name); err != nil {
		return nil, false, fault.Coded(fault.Invalid, "InvalidPropertyValue", "runId", "%s", sentence(err))
	}
	if err := in.check(); err != nil {
		return nil, false, err
	}
	if in.Form == ARM {
		if err := in.refers(); err != nil {
			return nil, false, err
		}
	}
	hash := in.hash()
	for try := 0; ; try++ {
		f, err := s.find(ctx, docID(w, in.Name), in.Name)
		if err == nil {
			j, err := s.same(ctx, p, w, f, in, hash)
			return j, false, err
		}
		if !errors.Is(err, fault.NotFound) {
			return nil, false, err
		}
		j, err := s.create(ctx, p, w, in, hash)
		if again(err, try) {
			continue
		}
		return j, err == nil, err
	}
}

// same answers a submission whose name is taken.
func (s *Service) same(ctx context.Context, p access.Principal, w Workspace, f found, in Submission, hash string) (*Job, error) {
	if f.body.Hash != hash {
		return nil, fault.Coded(fault.Conflict, "Conflict", in.Name,
			"The job %q exists and runs something else. A job cannot be changed once it is submitted; choose another name.", in.Name)
	}
	if in.Form == V1 { // its tags and properties come by PATCH
		return s.job(ctx, f)
	}
	return s.edit(ctx, p, w, in.Name, "update", func(f *found) ([]row.Change, error) {
		b := &f.body
		if in.DisplayName != "" {
			b.DisplayName = in.DisplayName
		}
		if in.Tags != nil {
			b.Tags = in.Tags
		}
		for k, v := range in.Properties {
			put(&b.Properties, k, v)
		}
		b.Description, b.Archived = in.Description, in.Archived
		return nil, b.check()
	})
}

// create writes a new run: its document, its task, its place and first status,
// and its experiment where that is new, in one commit.
func (s *Service) create(ctx context.Context, p access.Principal, w Workspace, in Submission, hash string) (*Job, error) {
	cluster, err := s.cluster(ctx, w, in.Target)
	if err != nil {
		return nil, err
	}
	spread, err := in.spread()
	if err != nil {
		return nil, err
	}
	if err := fits(cluster, in); err != nil {
		return nil, err
	}
	if err := s.checkCode(ctx, w, in.Code); err != nil {
		return nil, err
	}
	exp, changes, err := s.ensure(ctx, p, w, in.Experiment)
	if err != nil {
		return nil, err
	}
	body := Body{
		Run: s.NewID(), Name: in.Name, Workspace: w.ID, Experiment: exp.Name, ExperimentID: exp.ID,
		Kind: Command, Form: in.Form, Hash: hash, Type: in.Type, Target: cluster.Name, Compute: cluster.ID, Nodes: in.Nodes, Spread: spread,
		Command: in.Command, Script: in.Script, Snapshot: in.Code, Variables: in.Variables, Limit: in.TimeLimit,
		DisplayName: in.DisplayName, Description: in.Description, Tags: in.Tags, Properties: maps.Clone(in.Properties),
		Outputs: in.Outputs, Definition: in.Definition, Creator: creator(p), Modifier: creator(p), Archived: in.Archived, Root: in.Name, Notes: in.Notes,
	}
	if body.DisplayName == "" {
		body.DisplayName = in.Name
	}
	put(&body.Properties, "_azureml.ComputeTargetType", "amlctrain") // as the service marks runs of an AmlCompute
	if in.Code != "" && !in.Enclosed {
		put(&body.Properties, "ContentSnapshotId", in.Code)
	}
	if err := s.adopt(ctx, w, &body, in.Parent); err != nil {
		return nil, err
	}
	if err := body.check(); err != nil {
		return nil, err
	}
	now := s.Now().UTC()
	task, err := s.task(w, body, in, now)
	if err != nil {
		return nil, err
	}
	doc, number, err := s.document(ctx, p, w, &body, now)
	if err != nil {
		return nil, err
	}
	run := queue.Run{ID: body.Run, Name: body.Name, Workspace: w.Key(), Document: doc.ID, Cluster: cluster.ID, Nodes: in.Nodes, Leaders: spread.Leaders(in.Nodes),
		Priority: in.Priority, Submitted: now, TimeLimit: in.TimeLimit}
	status := queue.Status{ID: body.Run, Document: doc.ID, State: queue.Queued, Since: now, Why: "It waits for its turn."}
	changes = append(changes, row.Create(doc), row.Put(task), row.Create(run), row.Create(status), number, s.event(p, doc.ID, "submit", ""))
	if _, err := s.Store.Commit(ctx, changes...); err != nil {
		return nil, fmt.Errorf("submit %s: %w", body.Name, err)
	}
	return &Job{Body: body, Created: now, Modified: now, Status: status, ID: doc.ID}, nil
}

// document packs a new run's document, with its number, and the write that
// remembers the number.
func (s *Service) document(ctx context.Context, p access.Principal, w Workspace, body *Body, now time.Time) (row.Document, row.Change, error) {
	n, err := s.numbers.next(body.ExperimentID, func() (int, error) { return s.lastNumber(ctx, w, body.ExperimentID) })
	if err != nil {
		return row.Document{}, row.Change{}, err
	}
	body.Number = n
	text, err := json.Marshal(body)
	if err != nil {
		return row.Document{}, row.Change{}, fmt.Errorf("write run %s: %w", body.Name, err)
	}
	doc := row.Document{Kind: row.Job, ID: docID(w, body.Name), Parent: w.Key(), Sort: row.SortTime(now), Body: text, Created: now, Modified: now, By: p.ID}
	return doc, row.Put(row.Document{Kind: row.Datum, ID: numberID(body.ExperimentID), Body: fmt.Appendf(nil, `{"last":%d}`, n), Created: now, Modified: now, By: p.ID}), nil
}

func numberID(experiment string) string { return "run numbers/" + experiment }

// lastNumber finds the last run number of an experiment after a start: the one
// remembered, or a higher one among the newest runs, since commits of the same
// moment may have been written in any order.
func (s *Service) lastNumber(ctx context.Context, w Workspace, experiment string) (int, error) {
	rec, err := s.Store.Get(ctx, row.Key{Kind: row.Datum, ID: numberID(experiment)})
	if errors.Is(err, fault.NotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read run numbers: %w", err)
	}
	var kept struct{ Last int }
	if err := json.Unmarshal(rec.Row.(row.Document).Body, &kept); err != nil {
		return 0, fmt.Errorf("read run numbers: %w", err)
	}
	page, err := s.Store.List(ctx, row.Query{Kind: row.Job, Parent: w.Key(), Desc: true, Limit: 1000})
	if err != nil {
		return 0, fmt.Errorf("read run numbers: %w", err)
	}
	for _, r := range page.Records {
		if f, err := unpack(r); err == nil && f.body.ExperimentID == experiment {
			kept.Last = max(kept.Last, f.body.Number)
		}
	}
	return kept.Last, nil
}

// task packs what the node will read.
func (s *Service) task(w Workspace, b Body, in Submission, now time.Time) (row.Document, error) {
	t := queue.Task{
		Run: b.Run, Name: b.Name, Workspace: w.ID, Experiment: b.Experiment, ExperimentID: b.ExperimentID,
		Command: in.Command, Script: in.Script, Arguments: in.Arguments, Variables: in.surroundings(b.Spread), Spread: b.Spread,
		Environment: in.Environment, Framework: in.Framework, TimeLimit: in.TimeLimit,
		Container: in.Container, References: in.Form == ARM, Literals: in.Literals, Inputs: in.Inputs, Outputs: in.Outputs,
	}
	if in.Code != "" {
		t.Code = snapshotID(w, in.Code)
	}
	text, err := json.Marshal(t)
	if err != nil {
		return row.Document{}, fmt.Errorf("write task of %s: %w", b.Name, err)
	}
	return row.Document{Kind: row.Task, ID: b.Run, Parent: w.Key(), Body: text, Created: now, Modified: now}, nil
}

func snapshotID(w Workspace, guid string) string {
	return w.Key() + "/snapshots/" + strings.ToLower(guid)
}

func (s *Service) checkCode(ctx context.Context, w Workspace, guid string) error {
	if guid == "" {
		return nil
	}
	_, err := s.Store.Get(ctx, row.Key{Kind: row.Snapshot, ID: snapshotID(w, guid)})
	if errors.Is(err, fault.NotFound) {
		return fault.Coded(fault.Invalid, "SnapshotNotFound", "SnapshotId", "The snapshot %q was not found in this workspace.", guid)
	}
	return err
}

// cluster returns the cluster a run names, by name or ARM id.
func (s *Service) cluster(ctx context.Context, w Workspace, target string) (fleet.Cluster, error) {
	name := target
	if strings.HasPrefix(target, "/") {
		id, err := armid.Parse(target)
		if err != nil || armid.Key(id.Parent().String()) != w.Key() {
			return fleet.Cluster{}, fault.Coded(fault.Invalid, "ComputeNotFound", "computeId", "The compute %q does not lie in the workspace %q.", target, w.Name)
		}
		name = id.Name()
	}
	if name == "" {
		return fleet.Cluster{}, fault.Coded(fault.Invalid, "ComputeNotFound", "computeId", "The job names no compute, and serverless compute is not part of Ebb. %s", s.offer(ctx, w, ""))
	}
	if strings.EqualFold(name, "serverless") {
		return fleet.Cluster{}, fault.New(fault.Unsupported, "computeId", "Serverless compute is not part of Ebb: a job names its compute. %s", s.offer(ctx, w, ""))
	}
	if strings.EqualFold(name, "local") {
		return fleet.Cluster{}, fault.New(fault.Unsupported, "target", "Runs on the user's own machine (target \"local\") are not built. %s", s.offer(ctx, w, ""))
	}
	rec, err := s.Store.Get(ctx, row.Key{Kind: row.Cluster, ID: armid.Key(armid.Compute(w.ID, name))})
	if errors.Is(err, fault.NotFound) {
		return fleet.Cluster{}, fault.Coded(fault.Invalid, "ComputeNotFound", "computeId", "The compute %q was not found in the workspace %q. %s", name, w.Name, s.offer(ctx, w, name))
	}
	if err != nil {
		return fleet.Cluster{}, fmt.Errorf("read compute %s: %w", name, err)
	}
	c := rec.Row.(fleet.Cluster)
	if c.Deleting {
		return fleet.Cluster{}, fault.Coded(fault.Invalid, "ComputeDeleting", "computeId", "The compute %q is being deleted. %s", c.Name, s.offer(ctx, w, ""))
	}
	return c, s.usable(ctx, c)
}

// usable refuses a cluster whose creation failed: nothing would ever run.
func (s *Service) usable(ctx context.Context, c fleet.Cluster) error {
	rec, err := s.Store.Get(ctx, row.Key{Kind: row.ClusterStatus, ID: c.ID})
	if errors.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read compute %s: %w", c.Name, err)
	}
	if st := rec.Row.(fleet.Status); st.Provisioning == operation.Failed {
		return fault.Coded(fault.Invalid, "ComputeFailed", "computeId", "The compute %q failed to be made and runs nothing. Delete it and create it again.", c.Name)
	}
	return nil
}

// offer names the computes that exist, for a refusal, the nearest to a name first.
func (s *Service) offer(ctx context.Context, w Workspace, name string) string {
	page, err := s.Store.List(ctx, row.Query{Kind: row.Cluster, Parent: w.Key(), Limit: 500})
	if err != nil {
		return ""
	}
	var names []string
	for _, r := range page.Records {
		if c := r.Row.(fleet.Cluster); !c.Deleting {
			names = append(names, c.Name)
		}
	}
	if len(names) == 0 {
		return "The workspace has no computes yet; create one first."
	}
	sort.Strings(names)
	if name == "" {
		return "Computes in this workspace: " + near.List(name, names) + "."
	}
	return "Computes in this workspace, the nearest first: " + near.List(name, names) + "."
}

// adopt makes body the child of the run that parent names.
func (s *Service) adopt(ctx context.Context, w Workspace, body *Body, parent string) error {
	if parent == "" {
		return nil
	}
	f, err := s.find(ctx, docID(w, parent), parent)
	if err != nil {
		return err
	}
	body.Parent, body.Root = f.body.Name, f.body.Root
	body.Ancestors = append(append([]string{}, f.body.Ancestors...), f.body.Run)
	if len(body.Ancestors) > 32 {
		return fault.Coded(fault.Invalid, "InvalidPropertyValue", "parentRunId", "Runs are nested more than 32 deep.")
	}
	return nil
}

func put(m *map[string]string, k, v string) {
	if *m == nil {
		*m = map[string]string{}
	}
	(*m)[k] = v
}

// sentence gives an error of core a capital and a full stop.
func sentence(err error) string {
	t := strings.TrimSuffix(err.Error(), ".") + "."
	return strings.ToUpper(t[:1]) + t[1:]
}
