// Package sim is an engine that only pretends. The tests of control, scale tests
// and demos run on it; it passes enginetest like any other.
package sim

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/engine"
	"github.com/ebb-compute/ebb/internal/fault"
)

var _ engine.Driver = (*Engine)(nil)

// Op names a method of [engine.Driver], for [Engine.Fail].
type Op string

// The methods.
const (
	Launch   Op = "launch"
	Remove   Op = "remove"
	List     Op = "list"
	Capacity Op = "capacity"
)

// Engine holds nodes in memory. Its fields may be set until it is first used.
type Engine struct {
	Room  int             // nodes it can hold, dead ones included; 0: any number
	Has   engine.Capacity // what Capacity says, and GPUs that are given out one by one
	Delay time.Duration   // how long Launch and Remove take; 0: no time
	// Fail, if not nil, is asked before each call; an error is the call's answer.
	Fail func(op Op, node string) error
	// Started and Stopped, if not nil, are told of every node that really
	// starts, and of every one that is removed or dies. No lock is held.
	Started func(spec engine.Spec)
	Stopped func(node string)

	mu    sync.Mutex
	nodes map[string]*node
}

type node struct {
	spec engine.Spec
	size fleet.Size
	dead string // why; empty: alive
	// holds are the attempts that a list says are there.
	holds []string
}

// Launch implements [engine.Driver].
func (e *Engine) Launch(ctx context.Context, spec engine.Spec) error {
	if err := e.before(ctx, Launch, spec.Node); err != nil {
		return err
	}
	started, err := e.add(spec)
	if started && e.Started != nil {
		e.Started(spec)
	}
	return err
}

func (e *Engine) add(spec engine.Spec) (started bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.nodes[spec.Node]; ok {
		return false, nil
	}
	if e.Room > 0 && len(e.nodes) >= e.Room {
		return false, fault.New(fault.Exhausted, spec.Node, "All %d nodes are in use.", e.Room)
	}
	if e.Has.GPURequired && spec.Size.GPUs > 0 {
		if spec.Size.GPUs > e.Has.GPUs {
			return false, fault.New(fault.Invalid, spec.Node, "%s has %d GPUs, and there are %d.", spec.Size.Name, spec.Size.GPUs, e.Has.GPUs)
		}
		free := e.Has.GPUs
		for _, n := range e.nodes {
			free -= n.size.GPUs
		}
		if free < spec.Size.GPUs {
			return false, fault.New(fault.Exhausted, spec.Node, "%d of %d GPUs are free, and %d are needed.", max(0, free), e.Has.GPUs, spec.Size.GPUs)
		}
	}
	if e.nodes == nil {
		e.nodes = map[string]*node{}
	}
	e.nodes[spec.Node] = &node{spec: spec, size: spec.Size}
	return true, nil
}

// Remove implements [engine.Driver].
func (e *Engine) Remove(ctx context.Context, id string) error {
	if err := e.before(ctx, Remove, id); err != nil {
		return err
	}
	e.mu.Lock()
	n, ok := e.nodes[id]
	delete(e.nodes, id)
	e.mu.Unlock()
	if ok && n.dead == "" && e.Stopped != nil {
		e.Stopped(id)
	}
	return nil
}

// List implements [engine.Driver].
func (e *Engine) List(ctx context.Context) ([]engine.Seen, error) {
	if err := e.before(ctx, List, ""); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]engine.Seen, 0, len(e.nodes))
	for id, n := range e.nodes {
		all = append(all, engine.Seen{
			Node: id, Alive: n.dead == "", Why: n.dead, Cluster: n.spec.Cluster, Size: n.size,
			Installation: n.spec.Installation, Epoch: n.spec.Epoch, Attempts: slices.Clone(n.holds),
		})
	}
	slices.SortFunc(all, func(a, b engine.Seen) int {
		if a.Node < b.Node {
			return -1
		}
		return 1
	})
	return all, nil
}

// Capacity implements [engine.Driver].
func (e *Engine) Capacity(ctx context.Context) (engine.Capacity, error) {
	if err := e.before(ctx, Capacity, ""); err != nil {
		return engine.Capacity{}, err
	}
	return e.Has, nil
}

// Kill lets a node die. It is listed as dead until it is removed.
func (e *Engine) Kill(id, why string) {
	e.mu.Lock()
	n, ok := e.nodes[id]
	ok = ok && n.dead == ""
	if ok {
		n.dead = why
	}
	e.mu.Unlock()
	if ok && e.Stopped != nil {
		e.Stopped(id)
	}
}

// Hold says which attempts a node has from now on.
func (e *Engine) Hold(id string, attempts ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n, ok := e.nodes[id]; ok {
		n.holds = attempts
	}
}

// Add puts a node in that nobody asked for, as a crash may leave one.
func (e *Engine) Add(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.nodes == nil {
		e.nodes = map[string]*node{}
	}
	e.nodes[id] = &node{}
}

// before is what every call does first.
func (e *Engine) before(ctx context.Context, op Op, id string) error {
	if e.Delay > 0 && (op == Launch || op == Remove) {
		timer := time.NewTimer(e.Delay)
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.Fail != nil {
		return e.Fail(op, id)
	}
	return nil
}
