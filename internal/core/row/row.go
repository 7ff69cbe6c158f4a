// Package row is what Ebb remembers, as data: rows, keys, and changes to them.
//
// Every row has one writer. A wish (document, cluster, run) is written by app; what
// became of it (cluster status, node, run status, attempt) by control. The two
// never write the same row, so neither has to merge the other's work.
//
// Start at [Change]; the store commits changes, and core/pool folds them into a view.
package row

import "time"

// Kind names a table of rows.
type Kind string

// Kinds of documents: kept as they came, read by id or listed under a parent.
// ID and Parent are lower-cased; the words as typed are in the body.
const (
	Subscription  Kind = "subscription"  // ID: guid
	ResourceGroup Kind = "resourcegroup" // ID: ARM id; Parent: subscription's ARM id
	Workspace     Kind = "workspace"     // ID: ARM id; Parent: resource group's ARM id
	Compute       Kind = "compute"       // ID: ARM id; Parent: workspace's ARM id
	Resource      Kind = "resource"      // any other ARM resource kept as a record; ID: ARM id; Parent: its parent's ARM id
	Lock          Kind = "lock"          // of a scope; ID: scope + "/providers/microsoft.authorization/locks/" + name; Parent: scope
	Assignment    Kind = "assignment"    // of a role; ID: scope + "/providers/microsoft.authorization/roleassignments/" + guid; Parent: scope
	Role          Kind = "role"          // a role definition of the tenant's own; ID: guid
	Experiment    Kind = "experiment"    // ID: workspace id + "/experiments/" + name; Parent: workspace id
	Job           Kind = "job"           // a run's document; ID: workspace id + "/jobs/" + run id; Parent: workspace id; Sort: submit time
	Task          Kind = "task"          // what to run, as queue.Task; ID: run uuid
	Environment   Kind = "environment"   // one version; ID: workspace id + "/environments/" + name + "/versions/" + version
	Asset         Kind = "asset"         // a name, or a version of one; ID: workspace id + "/data/" + name + "/versions/" + version, or another kind of asset's
	Snapshot      Kind = "snapshot"      // a tree of code; ID: workspace id + "/snapshots/" + guid
	Artifact      Kind = "artifact"      // a file of a run; ID: container + "/" + path; Parent: container (dcid.<run id>)
	Metric        Kind = "metric"        // one logged value or row; Parent: run's document id; Sort: order of arrival
	Deployment    Kind = "deployment"    // ID: ARM id; Parent: the scope's; Sort: time it was asked for
	Event         Kind = "event"         // activity log; Parent: ARM id it is about; Sort: time
	Datum         Kind = "datum"         // one of a kind: clock, installation, credentials; ID: its name
)

// Kinds of what belongs to a deployment.
const (
	DeploymentContent   Kind = "deployment.content"   // template and parameters, sealed; ID: the deployment's
	DeploymentOperation Kind = "deployment.operation" // ID: deployment's + "/operations/" + id; Parent: deployment's
)

// Kinds with a type of their own in core. Hot: the live ones are held in memory.
const (
	Operation     Kind = "operation"      // operation.Operation; writer: app, completed by control
	Cluster       Kind = "cluster"        // fleet.Cluster; writer: app; hot
	ClusterStatus Kind = "cluster.status" // fleet.Status; writer: control; hot
	Node          Kind = "node"           // fleet.Node; writer: control; hot
	Run           Kind = "run"            // queue.Run; writer: app; hot until its status ends
	RunStatus     Kind = "run.status"     // queue.Status; writer: control (app for runs without a cluster); hot until it ends
	Attempt       Kind = "attempt"        // queue.Attempt; writer: control; hot until it ends
)

// Key finds a row.
type Key struct {
	Kind Kind
	ID   string
}

// Row is anything that can be kept. Implementations are values, not pointers,
// and must not be changed once handed over.
type Row interface {
	// Key says where the row is kept.
	Key() Key
	// Index says under what parent and in what order it is listed. Both may be empty.
	Index() (parent, sort string)
	// Hot reports whether the row belongs in memory ([core/pool.View]).
	Hot() bool
}

// Document is a row whose body is JSON that core does not look into.
type Document struct {
	Kind     Kind
	ID       string // lower-case
	Parent   string // lower-case
	Sort     string // orders the rows of one parent; bytewise
	Body     []byte // JSON
	Created  time.Time
	Modified time.Time
	By       string // who wrote it last: object id of the principal
}

// Key implements [Row].
func (d Document) Key() Key { return Key{d.Kind, d.ID} }

// Index implements [Row].
func (d Document) Index() (parent, sort string) { return d.Parent, d.Sort }

// Hot implements [Row]: documents stay on disk.
func (d Document) Hot() bool { return false }

// SortTime writes a time for [Document] Sort: in the order of time, bytewise. All
// who write rows under one parent must write it alike, as events have several.
func SortTime(t time.Time) string { return t.UTC().Format("20060102T150405.000000000Z") }

// Change is one row written or removed, if its condition holds. A list of
// changes is committed whole or not at all.
type Change struct {
	Put  Row       // nil: Drop is removed
	Drop Key       // removing what is not there is no error
	If   Condition // zero: always
	Only bool      // nothing is put or dropped: the condition on the row at Drop is all
}

// Condition is what must be true of the row's revision for a change to happen.
// A revision is the number of the commit that wrote the row: it only grows.
type Condition struct {
	Absent bool  // the row must not exist
	Rev    int64 // the row must have this revision; 0: any
	Exists bool  // the row must exist
}

// Put returns the change that writes r whatever was there.
func Put(r Row) Change { return Change{Put: r} }

// Create returns the change that writes r if nothing is there.
func Create(r Row) Change { return Change{Put: r, If: Condition{Absent: true}} }

// Update returns the change that writes r if what is there has revision rev.
func Update(r Row, rev int64) Change { return Change{Put: r, If: Condition{Rev: rev}} }

// Drop returns the change that removes the row at k.
func Drop(k Key) Change { return Change{Drop: k} }

// Need returns the change that changes nothing: there must be a row at k, or all
// that is committed with it is refused.
func Need(k Key) Change { return Change{Drop: k, If: Condition{Exists: true}, Only: true} }

// Same returns the change that changes nothing: the row at k must have revision rev.
func Same(k Key, rev int64) Change { return Change{Drop: k, If: Condition{Rev: rev}, Only: true} }

// Record is a row as it was read.
type Record struct {
	Row Row
	Rev int64
}

// Query asks for rows of one kind, in order of (Sort, ID).
type Query struct {
	Kind   Kind
	Parent string   // exact; empty: every parent
	Prefix string   // of the ID; empty: all
	IDs    []string // those that there are of them; nil: any
	Desc   bool     // last first
	Limit  int      // at most so many; 0: 1000
	After  string   // cursor from the previous page; empty: from the start
}

// Page is one page of an answer. Next is empty on the last.
type Page struct {
	Records []Record
	Next    string
}
