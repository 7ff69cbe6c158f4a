package pool

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"

	"github.com/ebb-compute/ebb/internal/core/cow"
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
)

// View is all that is hot, as of one commit: clusters, their statuses and nodes,
// live runs with their statuses and attempts, operations that are not final. It
// never changes: [View.Apply] returns another. Any number of goroutines may read it.
//
// What is in it follows from the rows alone:
//   - clusters, cluster statuses and nodes: all, until their rows are dropped;
//   - statuses of runs, attempts, operations: while they are live ([row.Row] Hot);
//   - runs: while their status is there and live.
type View struct {
	clusters   cow.Map[*fleet.Cluster]
	ordered    cow.List[*fleet.Cluster] // by id
	statuses   cow.Map[*fleet.Status]
	full       cow.Map[*fleet.Status] // those of statuses whose cluster was turned away
	nodes      cow.Map[*fleet.Node]
	nodesOf    cow.Map[cow.List[*fleet.Node]] // by cluster, by number
	runs       cow.Map[*queue.Run]
	runsOf     cow.Map[cow.List[*queue.Run]] // by cluster, in serving order
	waiting    cow.Map[cow.List[*queue.Run]] // those of runsOf that are Queued, in the same order
	cancelled  cow.Map[*queue.Run]           // those of runs that are to end
	runStatus  cow.Map[*queue.Status]
	attempts   cow.Map[*queue.Attempt]
	attemptsOf cow.Map[cow.List[*queue.Attempt]] // by run, latest last
	operations cow.Map[*operation.Operation]
	pending    cow.List[*operation.Operation] // by start, then id
}

// New returns an empty view.
func New() *View { return &View{} }

// Cluster returns the wish with that id.
func (v *View) Cluster(id string) (fleet.Cluster, bool) { return value(v.clusters.Get(id)) }

// Clusters yields every cluster, by id.
func (v *View) Clusters() iter.Seq[fleet.Cluster] { return values(v.ordered) }

// ClusterCount returns how many clusters there are.
func (v *View) ClusterCount() int { return v.clusters.Len() }

// ClusterStatus returns what became of the cluster with that id.
func (v *View) ClusterStatus(id string) (fleet.Status, bool) { return value(v.statuses.Get(id)) }

// Node returns the node with that id.
func (v *View) Node(id string) (fleet.Node, bool) { return value(v.nodes.Get(id)) }

// NodesOf returns the nodes of a cluster by number. The slice is the caller's.
func (v *View) NodesOf(cluster string) []fleet.Node {
	l, _ := v.nodesOf.Get(cluster)
	out := make([]fleet.Node, 0, l.Len())
	for n := range l.All() {
		out = append(out, *n)
	}
	return out
}

// Nodes yields every node, in no order that means anything.
func (v *View) Nodes() iter.Seq[fleet.Node] {
	return func(yield func(fleet.Node) bool) {
		for _, n := range v.nodes.All() {
			if !yield(*n) {
				return
			}
		}
	}
}

// NodeCount returns how many nodes a cluster has.
func (v *View) NodeCount(cluster string) int {
	l, _ := v.nodesOf.Get(cluster)
	return l.Len()
}

// Run returns the live run with that id.
func (v *View) Run(id string) (queue.Run, bool) { return value(v.runs.Get(id)) }

// RunStatus returns the status of the live run with that id.
func (v *View) RunStatus(id string) (queue.Status, bool) { return value(v.runStatus.Get(id)) }

// RunsOf yields the live runs of a cluster in serving order ([queue.Before]).
// Those without a cluster are under "".
func (v *View) RunsOf(cluster string) iter.Seq[queue.Run] {
	l, _ := v.runsOf.Get(cluster)
	return values(l)
}

// RunCount returns how many live runs a cluster has.
func (v *View) RunCount(cluster string) int {
	l, _ := v.runsOf.Get(cluster)
	return l.Len()
}

// Cancelled yields the live runs that are to end, in no order that means anything.
func (v *View) Cancelled() iter.Seq[queue.Run] {
	return func(yield func(queue.Run) bool) {
		for _, r := range v.cancelled.All() {
			if !yield(*r) {
				return
			}
		}
	}
}

// Queues yields the clusters that have live runs, with how many; a cluster may
// be gone already. In no order that means anything.
func (v *View) Queues() iter.Seq2[string, int] {
	return func(yield func(string, int) bool) {
		for id, l := range v.runsOf.All() {
			if !yield(id, l.Len()) {
				return
			}
		}
	}
}

// Attempt returns the live attempt with that id.
func (v *View) Attempt(id string) (queue.Attempt, bool) { return value(v.attempts.Get(id)) }

// AttemptOf returns the live attempt of a run, the latest if there are several.
func (v *View) AttemptOf(run string) (queue.Attempt, bool) {
	l, _ := v.attemptsOf.Get(run)
	var last *queue.Attempt
	for a := range l.All() {
		last = a
	}
	return value(last, last != nil)
}

// Attempts yields every live attempt, in no order that means anything.
func (v *View) Attempts() iter.Seq[queue.Attempt] {
	return func(yield func(queue.Attempt) bool) {
		for _, a := range v.attempts.All() {
			if !yield(*a) {
				return
			}
		}
	}
}

// Operation returns the operation with that id, if it is not final.
func (v *View) Operation(id string) (operation.Operation, bool) { return value(v.operations.Get(id)) }

// Operations yields the operations that are not final, by start, then id.
func (v *View) Operations() iter.Seq[operation.Operation] { return values(v.pending) }

// TurnedAway yields the clusters to which the engine said that it is full, in no
// order that means anything.
func (v *View) TurnedAway() iter.Seq[string] {
	return func(yield func(string) bool) {
		for id := range v.full.All() {
			if !yield(id) {
				return
			}
		}
	}
}

// Apply returns the view after changes, in order. Their conditions are the
// store's to check. The order of a run and its status within one call does not
// matter; but a run that is put without a live status, in v or among changes, is
// not taken in: whoever gives a run its first status puts the run beside it, or
// has put it there before (the store sees to this).
func (v *View) Apply(changes ...row.Change) *View {
	next := *v
	for _, c := range changes {
		next.change(c)
	}
	// Runs last: whether one is live is only known once all statuses are in.
	for _, c := range changes {
		if r, ok := c.Put.(queue.Run); ok {
			next.putRun(r)
		} else if c.Put == nil && c.Drop.Kind == row.Run {
			next.dropRun(c.Drop.ID)
		}
	}
	return &next
}

func (v *View) change(c row.Change) {
	if c.Put == nil {
		v.drop(c.Drop)
		return
	}
	switch r := c.Put.(type) {
	case fleet.Cluster:
		v.clusters = v.clusters.With(r.ID, &r)
		v.ordered = v.ordered.With(&r, byClusterID)
	case fleet.Status:
		v.statuses = v.statuses.With(r.ID, &r)
		if r.Full {
			v.full = v.full.With(r.ID, &r)
		} else {
			v.full = v.full.Without(r.ID)
		}
	case fleet.Node:
		v.dropNode(r.ID)
		v.nodes = v.nodes.With(r.ID, &r)
		v.nodesOf = with(v.nodesOf, r.Cluster, &r, byNumber)
	case queue.Status:
		if !r.Hot() {
			v.dropRunStatus(r.ID)
			return
		}
		v.putRunStatus(&r)
	case queue.Attempt:
		v.dropAttempt(r.ID)
		if r.Hot() {
			v.attempts = v.attempts.With(r.ID, &r)
			v.attemptsOf = with(v.attemptsOf, r.Run, &r, byTry)
		}
	case operation.Operation:
		v.dropOperation(r.ID)
		if r.Hot() {
			v.operations = v.operations.With(r.ID, &r)
			v.pending = v.pending.With(&r, byStart)
		}
	}
}

func (v *View) drop(k row.Key) {
	switch k.Kind {
	case row.Cluster:
		if c, ok := v.clusters.Get(k.ID); ok {
			v.clusters = v.clusters.Without(k.ID)
			v.ordered = v.ordered.Without(c, byClusterID)
		}
	case row.ClusterStatus:
		v.statuses = v.statuses.Without(k.ID)
		v.full = v.full.Without(k.ID)
	case row.Node:
		v.dropNode(k.ID)
	case row.Run:
		v.dropRun(k.ID)
	case row.RunStatus:
		v.dropRunStatus(k.ID)
	case row.Attempt:
		v.dropAttempt(k.ID)
	case row.Operation:
		v.dropOperation(k.ID)
	}
}

func (v *View) putRun(r queue.Run) {
	v.dropRun(r.ID) // its place in the queue may be another now
	s, live := v.runStatus.Get(r.ID)
	if !live {
		return
	}
	v.runs = v.runs.With(r.ID, &r)
	if r.Cancel {
		v.cancelled = v.cancelled.With(r.ID, &r)
	}
	v.runsOf = with(v.runsOf, r.Cluster, &r, queue.Order)
	if s.State == queue.Queued {
		v.waiting = with(v.waiting, r.Cluster, &r, queue.Order)
	}
}

func (v *View) dropRun(id string) {
	if r, ok := v.runs.Get(id); ok {
		v.runs = v.runs.Without(id)
		v.cancelled = v.cancelled.Without(id)
		v.runsOf = without(v.runsOf, r.Cluster, r, queue.Order)
		v.waiting = without(v.waiting, r.Cluster, r, queue.Order)
	}
}

func (v *View) putRunStatus(s *queue.Status) {
	old, had := v.runStatus.Get(s.ID)
	v.runStatus = v.runStatus.With(s.ID, s)
	if had && (old.State == queue.Queued) == (s.State == queue.Queued) {
		return
	}
	r, ok := v.runs.Get(s.ID)
	switch {
	case !ok: // [View.putRun] follows
	case s.State == queue.Queued:
		v.waiting = with(v.waiting, r.Cluster, r, queue.Order)
	default:
		v.waiting = without(v.waiting, r.Cluster, r, queue.Order)
	}
}

func (v *View) dropRunStatus(id string) {
	v.runStatus = v.runStatus.Without(id)
	v.dropRun(id)
}

func (v *View) dropNode(id string) {
	if n, ok := v.nodes.Get(id); ok {
		v.nodes = v.nodes.Without(id)
		v.nodesOf = without(v.nodesOf, n.Cluster, n, byNumber)
	}
}

func (v *View) dropAttempt(id string) {
	if a, ok := v.attempts.Get(id); ok {
		v.attempts = v.attempts.Without(id)
		v.attemptsOf = without(v.attemptsOf, a.Run, a, byTry)
	}
}

func (v *View) dropOperation(id string) {
	if o, ok := v.operations.Get(id); ok {
		v.operations = v.operations.Without(id)
		v.pending = v.pending.Without(o, byStart)
	}
}

// Lines yields every row of the view as text, sorted. Two views with the same
// rows yield the same lines. It is for comparing and for people, not for speed.
func (v *View) Lines() []string {
	var out []string
	add(&out, row.Cluster, v.clusters)
	add(&out, row.ClusterStatus, v.statuses)
	add(&out, row.Node, v.nodes)
	add(&out, row.Run, v.runs)
	add(&out, row.RunStatus, v.runStatus)
	add(&out, row.Attempt, v.attempts)
	add(&out, row.Operation, v.operations)
	slices.Sort(out)
	// The orders are part of what a view says.
	for c := range v.Clusters() {
		out = append(out, "cluster "+c.ID)
	}
	var indexes []string
	for id, l := range v.nodesOf.All() {
		indexes = append(indexes, "nodes of "+id+":"+names(l, func(n *fleet.Node) string { return n.ID }))
	}
	for id, l := range v.runsOf.All() {
		indexes = append(indexes, "runs of "+id+":"+names(l, func(r *queue.Run) string { return r.ID }))
	}
	for id, l := range v.waiting.All() {
		indexes = append(indexes, "waiting of "+id+":"+names(l, func(r *queue.Run) string { return r.ID }))
	}
	for id, l := range v.attemptsOf.All() {
		indexes = append(indexes, "attempts of "+id+":"+names(l, func(a *queue.Attempt) string { return a.ID }))
	}
	slices.Sort(indexes)
	out = append(out, indexes...)
	return append(out, "pending:"+names(v.pending, func(o *operation.Operation) string { return o.ID }))
}

// Digest is a hash of [View.Lines]: equal for views with the same rows.
func (v *View) Digest() string {
	h := sha256.New()
	for _, l := range v.Lines() {
		_, _ = fmt.Fprintln(h, l) // a hash never fails
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Differ returns the first lines in which two views differ, or "" if they do not.
func Differ(a, b *View) string {
	x, y := a.Lines(), b.Lines()
	for i := range max(len(x), len(y)) {
		switch {
		case i >= len(x):
			return "only the second has " + y[i]
		case i >= len(y):
			return "only the first has " + x[i]
		case x[i] != y[i]:
			return "the first has " + x[i] + ", the second " + y[i]
		}
	}
	return ""
}

func add[T any](out *[]string, kind row.Kind, m cow.Map[*T]) {
	for id, r := range m.All() {
		*out = append(*out, fmt.Sprintf("%s %s %+v", kind, id, *r))
	}
}

func names[T any](l cow.List[T], id func(T) string) string {
	s := ""
	for x := range l.All() {
		s += " " + id(x)
	}
	return s
}

func byClusterID(a, b *fleet.Cluster) int { return cmp.Compare(a.ID, b.ID) }

func byNumber(a, b *fleet.Node) int {
	return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.ID, b.ID))
}

func byTry(a, b *queue.Attempt) int {
	return cmp.Or(cmp.Compare(a.N, b.N), cmp.Compare(a.ID, b.ID))
}

func byStart(a, b *operation.Operation) int {
	return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
}

func with[T any](m cow.Map[cow.List[T]], key string, v T, compare func(a, b T) int) cow.Map[cow.List[T]] {
	l, _ := m.Get(key)
	return m.With(key, l.With(v, compare))
}

// without leaves no empty lists behind.
func without[T any](m cow.Map[cow.List[T]], key string, v T, compare func(a, b T) int) cow.Map[cow.List[T]] {
	l, _ := m.Get(key)
	n := l.Len()
	switch l = l.Without(v, compare); l.Len() {
	case n:
		return m
	case 0:
		return m.Without(key)
	}
	return m.With(key, l)
}

func value[T any](p *T, ok bool) (T, bool) {
	if !ok {
		var none T
		return none, false
	}
	return *p, true
}

func values[T any](l cow.List[*T]) iter.Seq[T] {
	return func(yield func(T) bool) {
		for p := range l.All() {
			if !yield(*p) {
				return
			}
		}
	}
}
