// Package local runs nodes on this machine: each is an "ebb node" process with
// a folder of its own, which outlives the server. It knows no queue and no
// cluster; it starts, finds and removes.
//
// What is true is read from the folders every time, so any number of engines
// and crashes may lie between two calls:
//
//	DIR/.lock                held while a folder is made: GPUs and addresses are given one node at a time
//	DIR/{node}/node.json     the contract with the agent (node.Config), 0600
//	DIR/{node}/lock          flock held by the living agent: the only proof of life
//	DIR/{node}/removing      Remove has begun: no agent may start here any more
//	DIR/.new-*, .gone-*      half made, half removed; cleared away by the next call
//
// A folder's own flock is held by whoever launches or removes that node.
// Start reading at [Engine.Launch].
package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/engine"
	"github.com/ebb-compute/ebb/internal/fault"
)

var _ engine.Driver = (*Engine)(nil)

// Engine is this machine.
type Engine struct {
	Dir    string // holds a folder for each node; made when needed
	Server string // path of the file that tells agents where the server is
	Cache  string // folder that the machine's nodes share
	// Readable are further paths that jobs on the nodes may read; default: none.
	Readable []string
	// Networks are private ones that inputs of jobs may come from by https://;
	// default: none.
	Networks []string
	// Images are the settings by which nodes get images, in their own words: this
	// room passes them on; default: none.
	Images json.RawMessage
	// Container says how jobs on the nodes run in containers; default: never.
	Container Container
	// EndNode is told, with a removed node's folder, that nothing runs there any more;
	// it gives back what the machine lent for more than one attempt. Default: nothing.
	EndNode func(ctx context.Context, dir string) error
	// EndAttempt makes whatever runs in an attempt's folder go and returns when
	// that is proved: node/shim's, which this room may not import. Required.
	EndAttempt func(ctx context.Context, dir string) error

	Exe             []string      // what starts an agent, the node's folder is appended; default: this binary with "node"
	NvidiaSMI       string        // default: "nvidia-smi" on PATH
	NoOversubscribe bool          // nodes together may not be larger than the machine; default: they may
	GPURequired     bool          // a size with GPUs waits for them; default: it runs without on a machine that has none
	Patience        time.Duration // for an agent to come up; default: 10 s
	// Machine measures what there is to share; default: the processors that this
	// process may use, and MemTotal in GiB.
	Machine func() (vcpus int, memoryGiB float64, err error)
	Log     *slog.Logger // default: slog.Default()

	mu    sync.Mutex
	gpus  []gpu
	asked time.Time // when gpus was read; zero: never
}

// Container is what agents are told of containers; see config.Container.
type Container struct {
	Use    string `json:"use,omitempty"`
	Engine string `json:"engine,omitempty"`
	User   string `json:"user,omitempty"`
}

// record is node.json: what node.Config reads, and what only the engine does.
type record struct {
	Node         string          `json:"node"`
	Cluster      string          `json:"cluster"`
	Installation string          `json:"installation"`
	Epoch        int64           `json:"epoch,omitempty"`
	Token        string          `json:"token"`
	Server       string          `json:"server"`
	Cache        string          `json:"cache"`
	Readable     []string        `json:"readable,omitempty"`
	Networks     []string        `json:"networks,omitempty"`
	Images       json.RawMessage `json:"images,omitempty"`
	Size         fleet.Size      `json:"size"`
	Container    Container       `json:"container,omitzero"`
	LowPriority  bool            `json:"lowPriority,omitempty"`
	Address      string          `json:"address"` // no other node's that is there
	GPUs         []string        `json:"gpus,omitempty"`
	Warnings     []string        `json:"warnings,omitempty"`

	Boot     string        `json:"boot"`     // the machine's boot in which it was launched
	Launched time.Duration `json:"launched"` // since that boot, asleep or not
}

// nodeName is what a node's id may look like: it becomes a folder's name.
var nodeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$`)

func (e *Engine) log() *slog.Logger {
	if e.Log == nil {
		return slog.Default()
	}
	return e.Log
}

func (e *Engine) patience() time.Duration {
	if e.Patience == 0 {
		return 10 * time.Second
	}
	return e.Patience
}

// Launch implements [engine.Driver]. It returns when the agent holds its lock.
// A node whose agent ran before and is dead stays dead.
func (e *Engine) Launch(ctx context.Context, spec engine.Spec) error {
	if !nodeName.MatchString(spec.Node) {
		return fault.New(fault.Invalid, spec.Node, "A node's id is made of letters, digits, dots, dashes and underscores.")
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("launch %s: %w", spec.Node, err)
	}
	if err := e.makeFolder(ctx, spec); err != nil {
		return err
	}
	dir := filepath.Join(e.Dir, spec.Node)
	held, err := lockFolder(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Conflict, spec.Node, "The node was removed while it was launched.")
	}
	if err != nil {
		return fmt.Errorf("launch %s: %w", spec.Node, err)
	}
	defer held.Close()
	if _, err := os.Stat(filepath.Join(dir, "removing")); err == nil {
		return fault.New(fault.Conflict, spec.Node, "The node is being removed.")
	}
	if h, err := readHolder(filepath.Join(dir, "lock")); err == nil && h.pid != 0 {
		return nil // it lives, or lived
	}
	if err := e.start(ctx, dir); err != nil {
		return fmt.Errorf("launch %s: %w", spec.Node, err)
	}
	return nil
}

// makeFolder makes the node's folder unless there is one, with the GPUs that it
// is to have. GPUs are free when no folder names them.
func (e *Engine) makeFolder(ctx context.Context, spec engine.Spec) error {
	if err := os.MkdirAll(e.Dir, 0o711); err != nil {
		return fmt.Errorf("launch %s: %w", spec.Node, err)
	}
	machine, err := lockFile(ctx, filepath.Join(e.Dir, ".lock"))
	if err != nil {
		return fmt.Errorf("launch %s: %w", spec.Node, err)
	}
	defer machine.Close()
	dir := filepath.Join(e.Dir, spec.Node)
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	r := record{
		Node: spec.Node, Cluster: spec.Cluster, Installation: spec.Installation, Epoch: spec.Epoch, Token: spec.Token,
		Server: e.Server, Cache: e.Cache, Readable: e.Readable, Networks: e.Networks, Images: e.Images, Size: spec.Size, LowPriority: spec.LowPriority, Container: e.Container,
		Boot: bootID(), Launched: sinceBoot(),
	}
	if err := e.room(ctx, spec, &r); err != nil {
		return err
	}
	if err := writeFolder(e.Dir, r); err != nil {
		return fmt.Errorf("launch %s: %w", spec.Node, err)
	}
	return nil
}

// writeFolder makes the folder aside and renames it, so that one that is there
// is whole.
func writeFolder(parent string, r record) error {
	tmp, err := os.MkdirTemp(parent, ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(tmp, "node.json"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(tmp, "attempts"), 0o711); err != nil {
		return err
	}
	if err := os.Chmod(tmp, 0o711); err != nil { // a job's own user passes through
		return err
	}
	if err := syncDir(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(parent, r.Node)); err != nil {
		return err
	}
	return syncDir(parent)
}

// List implements [engine.Driver].
func (e *Engine) List(ctx context.Context) ([]engine.Seen, error) {
	records, err := e.records()
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	seen := make([]engine.Seen, 0, len(records))
	for _, r := range records {
		s := engine.Seen{Node: r.Node, Cluster: r.Cluster, Size: r.Size, Installation: r.Installation, Epoch: r.Epoch}
		s.Alive, s.Why = e.alive(r)
		if s.Attempts, err = e.attempts(r.Node); err != nil {
			// Not the others' fault: they are wanted all the same.
			e.log().Error("node's attempts unreadable", "node", r.Node, "err", err)
			s.Unknown = true
		}
		seen = append(seen, s)
	}
	return seen, ctx.Err()
}

// alive says whether the node's agent lives, or may still come up. A lock that
// is free is proof of death: the kernel frees it with the process.
func (e *Engine) alive(r record) (bool, string) {
	path := filepath.Join(e.Dir, r.Node, "lock")
	h, err := readHolder(path)
	if err != nil || h.pid == 0 {
		switch {
		case r.Boot != bootID():
			return false, "The machine was started anew before the node's agent came up."
		case sinceBoot()-r.Launched < 2*e.patience():
			return true, ""
		}
		return false, "The node's agent never came up."
	}
	if held(path) {
		return true, ""
	}
	if h.boot != bootID() {
		return false, "The machine was started anew."
	}
	return false, fmt.Sprintf("The node's agent (process %d) is dead.", h.pid)
}

// attempts are those that have a folder: what the agent took and has not forgotten.
func (e *Engine) attempts(node string) ([]string, error) {
	dirs, err := os.ReadDir(filepath.Join(e.Dir, node, "attempts"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // removed since
		return nil, err
	}
	var out []string
	for _, d := range dirs {
		if d.IsDir() && !strings.HasPrefix(d.Name(), ".") { // a dot begins what is being forgotten
			out = append(out, d.Name())
		}
	}
	return out, nil
}

// records reads every node's folder. One without a readable node.json is not
// ours to judge, but it is said.
func (e *Engine) records() ([]record, error) {
	dirs, err := os.ReadDir(e.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []record
	for _, d := range dirs {
		if strings.HasPrefix(d.Name(), ".") || !d.IsDir() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(e.Dir, d.Name(), "node.json"))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since
		}
		var r record
		if err == nil {
			err = json.Unmarshal(b, &r)
		}
		if err != nil || r.Node != d.Name() {
			e.log().Error("node folder unreadable", "dir", filepath.Join(e.Dir, d.Name()), "err", err)
			continue
		}
		out = append(out, r)
	}
	return out, nil
}
