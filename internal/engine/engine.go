// Package engine is the port to whatever runs nodes: this machine, Slurm,
// Kubernetes. [Driver] is all that a new one must implement; enginetest is what
// it must pass.
//
// A node is a pilot: an engine only starts and stops "ebb node" agents, which
// dial the server by themselves. An engine is no scheduler.
package engine

import (
	"context"

	"github.com/ebb-compute/ebb/internal/core/fleet"
)

// Driver starts and stops nodes. Every method may be called again after a
// crash, and from several goroutines.
type Driver interface {
	// Launch asks for a node. Asking again for one that exists is no error.
	// It returns fault.Exhausted when there is no room now, fault.Invalid when
	// there never will be.
	Launch(ctx context.Context, spec Spec) error

	// Remove makes node id go, with everything it runs, and returns when it is
	// proved dead. An unknown id is already gone: no error.
	Remove(ctx context.Context, id string) error

	// List returns every node that the engine still holds, in any order; also those
	// that were launched for another installation, or in an earlier epoch of this.
	List(ctx context.Context) ([]Seen, error)

	// Capacity says what the engine has in all, in use or not.
	Capacity(ctx context.Context) (Capacity, error)
}

// Spec is what an engine needs to start a node.
type Spec struct {
	Node         string // id
	Cluster      string // name, for people
	Size         fleet.Size
	LowPriority  bool
	Installation string // id of the installation; marks what is ours
	Epoch        int64  // of the installation: higher after each restore of an older state
	Token        string // node token: the agent's bearer
}

// Seen is a node as an engine knows it.
type Seen struct {
	Node  string
	Alive bool   // false: proved dead, but still taking room until removed
	Why   string // what the engine knows about the end of a dead one

	// From its Spec, so that who does not know a node can tell whose it is.
	Cluster      string
	Size         fleet.Size
	Installation string
	Epoch        int64
	// Attempts are all that were taken there and not forgotten, over or not, where
	// the engine can tell; Unknown: it should, and cannot.
	Attempts []string
	Unknown  bool
}

// Capacity is what an engine has.
type Capacity struct {
	VCPUs     int     // count; 0: unknown or unlimited
	MemoryGiB float64 // GiB; 0: unknown or unlimited
	GPUs      int     // count
	// Oversubscribe: nodes may be larger, together or alone, than VCPUs and
	// MemoryGiB. GPUs are never shared.
	Oversubscribe bool
	// GPURequired: a node whose size has GPUs needs them; otherwise it runs
	// without, and says so.
	GPURequired bool
}
