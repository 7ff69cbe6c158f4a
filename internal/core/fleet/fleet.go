// Package fleet holds clusters and nodes: what they are, their states, and the
// moves between states that are legal. What to do next is core/pool's.
package fleet

import (
	"slices"
	"time"

	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/row"
)

// Size is a kind of machine, by Azure's names (reference: core/quota's table).
type Size struct {
	Name      string  // canonical upper case, as STANDARD_DS3_V2
	Family    string  // as standardDSv2Family
	VCPUs     int     // count
	MemoryGiB float64 // GiB
	GPUs      int     // count
}

// Cluster is what a user wants: min..max nodes of one size. Written by app.
type Cluster struct {
	ID          string // lower-case ARM id of the compute
	Name        string // as typed
	Prefix      string // begins every node's id; never used by another cluster, before or after
	Workspace   string // lower-case ARM id
	Region      string // normalised: lower-case, no spaces
	Pool        string // the engine instance that runs its nodes
	Size        Size
	LowPriority bool
	Min, Max    int
	IdleAfter   time.Duration // how long a node above Min may stand idle; of an instance, before it goes off, 0: never
	Generation  int64         // raised by 1 with every change
	Deleting    bool
	Created     time.Time

	Isolated bool // its nodes do not reach each other, so a job has one

	Instance bool      // a compute instance: Min and Max are 1 and its node stays while it is on
	Off      bool      // an instance that was stopped
	Switched time.Time // when an instance was last made, started, stopped or restarted: nodes from before leave
}

// MostInTouch is how many nodes a cluster may have that reach each other. Above,
// communication between them is off, as in Azure.
const MostInTouch = 100

// Key implements [row.Row].
func (c Cluster) Key() row.Key { return row.Key{Kind: row.Cluster, ID: c.ID} }

// Index implements [row.Row].
func (c Cluster) Index() (parent, sort string) { return c.Workspace, "" }

// Hot implements [row.Row].
func (c Cluster) Hot() bool { return true }

// Allocation is Azure's allocationState.
type Allocation string

// Resizing while the number of nodes differs from the target, or is on its way to.
const (
	Steady   Allocation = "Steady"
	Resizing Allocation = "Resizing"
)

// Problem is one entry of a cluster's errors.
type Problem struct{ Code, Message string }

// Status is what became of a cluster. Written by control.
type Status struct {
	ID           string // the cluster's
	Observed     int64  // generation taken in
	Provisioning operation.State
	Allocation   Allocation
	Since        time.Time // of the last change of Allocation
	Target       int       // nodes the last or present resize aims at
	Why          string    // one sentence: why it is resizing, or why it cannot; empty when steady
	Errors       []Problem // nil while healthy: SDK v1 stops waiting when it is not
	Launched     int64     // nodes ever launched; the next one's number
	Failures     int       // launches failed in a row
	RetryAt      time.Time // no launch before; zero: at once
	Full         bool      // the last launch failed for want of room
	Slept        time.Time // when an instance last went off because it stood idle
}

// Key implements [row.Row].
func (s Status) Key() row.Key { return row.Key{Kind: row.ClusterStatus, ID: s.ID} }

// Index implements [row.Row].
func (s Status) Index() (parent, sort string) { return "", "" }

// Hot implements [row.Row].
func (s Status) Hot() bool { return true }

// Off reports whether a cluster runs no nodes, whatever its Min says: it is being
// deleted, or an instance that was stopped or stood idle since it was started.
func Off(c Cluster, s Status) bool {
	return c.Deleting || c.Off || c.Instance && s.Slept.After(c.Switched)
}

// Leaves reports whether a node is not to stay: its cluster is off, or an
// instance that restarts with another.
func Leaves(c Cluster, s Status, n Node) bool { return Off(c, s) || n.Created.Before(c.Switched) }

// NodeState is where a node stands in its life. Azure's word for each is [NodeState.Azure].
type NodeState string

// A node is Launching from the moment its launch is recorded until its agent
// says hello. Draining may be taken back; Removing may not: it is recorded only
// after the agent said "empty, accepting nothing", or is proved dead.
const (
	Launching NodeState = "launching"
	Idle      NodeState = "idle"
	Busy      NodeState = "busy" // holds an attempt
	Draining  NodeState = "draining"
	Unusable  NodeState = "unusable"  // silent or broken; is replaced
	Preempted NodeState = "preempted" // taken away by the engine
	Removing  NodeState = "removing"
	Gone      NodeState = "gone" // its row is dropped
)

// next lists every legal move. docs/states.md is printed from it.
var next = map[NodeState][]NodeState{
	Launching: {Idle, Draining, Unusable, Preempted, Removing},
	Idle:      {Busy, Draining, Unusable, Preempted, Removing},
	Busy:      {Idle, Unusable, Preempted, Removing},
	Draining:  {Idle, Removing, Unusable, Preempted},
	Unusable:  {Idle, Busy, Removing},
	Preempted: {Removing},
	Removing:  {Gone},
	Gone:      nil,
}

// CanMove reports whether a node may go from one state to another.
func CanMove(from, to NodeState) bool { return slices.Contains(next[from], to) }

// Moves returns the table of legal moves, for the diagram.
func Moves() map[NodeState][]NodeState { return next }

// Azure returns the nodeState of listNodes, and of nodeStateCounts.
func (s NodeState) Azure() string {
	switch s {
	case Launching:
		return "preparing"
	case Busy:
		return "running"
	case Draining, Removing, Gone:
		return "leaving"
	}
	return string(s) // idle, unusable, preempted
}

// Node is one machine of a cluster. Written by control. Its id is chosen by the
// planner and never used again, so that every engine call can be repeated.
type Node struct {
	ID        string // Prefix-Number, URL-safe
	Cluster   string // lower-case ARM id
	Number    int64
	State     NodeState
	Since     time.Time // of the last change of State
	IdleSince time.Time // zero unless Idle
	Attempt   string    // id of the attempt it holds; empty: none
	Revision  int64     // of what its agent is asked for; raised with every change of it
	Why       string    // one sentence on the present state; may be empty
	Warnings  []string  // sentences of its agent's last hello on what jobs do without here
	Engine    string    // of containers, as its agent names it; empty: it has none, or uses none
	Address   string    // IPv4, where the other nodes of a job reach it; empty: its agent said none
	Created   time.Time
}

// Key implements [row.Row].
func (n Node) Key() row.Key { return row.Key{Kind: row.Node, ID: n.ID} }

// Index implements [row.Row].
func (n Node) Index() (parent, sort string) { return n.Cluster, "" }

// Hot implements [row.Row].
func (n Node) Hot() bool { return true }
