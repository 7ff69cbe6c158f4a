// Package runner turns what a server orders into what a shim runs: it makes the
// attempt's environment, command, variables and world. An agent makes one
// [Runner] when it starts, and for each attempt calls [Runner.Prepare] and then
// shim.Start.
package runner

import (
	"context"
	"io"

	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/node/shim"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// Isolation is how far jobs are kept from each other and from the node's owner.
const (
	UserAndLandlock = "user+landlock" // a Unix user each, private mounts, Landlock
	LandlockOnly    = "landlock"
	NoIsolation     = "none"
)

// Config of a runner.
type Config struct {
	Cache     string            // folder shared by the nodes of the machine: DATA/cache
	Hide      []string          // never shown to jobs, though below a system path: DATA
	Read      []string          // more paths that jobs may read, as data sets; default none
	CA        string            // bundle that jobs trust, a file of the host; empty: their own
	Variables map[string]string // base variables of every job, below the user's; as HTTPS_PROXY
	GPUs      []string          // devices of this node, for CUDA_VISIBLE_DEVICES; nil: none visible
}

// Runner prepares attempts. Safe for concurrent use.
type Runner struct{ cfg Config }

// New looks at what this machine allows.
func New(cfg Config) (*Runner, error) { return &Runner{cfg: cfg}, nil }

// Isolation is UserAndLandlock, LandlockOnly or NoIsolation.
func (r *Runner) Isolation() string { return NoIsolation }

// Warnings are sentences about what this machine does not allow, to be said once.
func (r *Runner) Warnings() []string { return nil }

// Prepare makes the environment (built or from the cache; how it goes is written
// to log, nothing if there is nothing to do) and the spec for shim.Start in dir,
// whose work/ folder has the code already. An error that is a fault is the
// user's to mend (queue.BySetup) and its message is for them; any other is the
// node's.
func (r *Runner) Prepare(ctx context.Context, dir string, o nodeproto.Order, log io.Writer) (shim.Spec, error) {
	return shim.Spec{}, fault.New(fault.Unsupported, "runner", "it is being written")
}
