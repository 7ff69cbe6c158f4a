// Package queue holds jobs and their attempts: what they are, their states, the
// legal moves, and the order in which they are served. Which node serves which
// is core/pool's.
package queue

import (
	"cmp"
	"slices"
	"time"

	"github.com/ebb-compute/ebb/internal/core/gang"
	"github.com/ebb-compute/ebb/internal/core/row"
)

// Run is a job as its user wants it. Written by app. SDK v1 runs, ARM jobs and
// MLflow runs are all projections of it.
type Run struct {
	ID          string // guid, ours: the runUuid of run history
	Name        string // the run id that clients use, as typed
	Workspace   string // lower-case ARM id
	Document    string // ID of its [row.Job] document
	Cluster     string // lower-case ARM id of the compute
	Nodes       int    // all or none start (gang); at least 1
	Leaders     int    // the first members, whose good end is that of all: the others serve them; 0: all lead
	Priority    int    // higher first; 0 is normal
	Submitted   time.Time
	TimeLimit   time.Duration // of one attempt's running; 0: none
	MaxAttempts int           // how often node loss may start it again, first included; 0: 3
	Cancel      bool          // the user wants it to end
	CancelWhy   string
}

// Key implements [row.Row].
func (r Run) Key() row.Key { return row.Key{Kind: row.Run, ID: r.ID} }

// Index implements [row.Row].
func (r Run) Index() (parent, sort string) { return r.Cluster, "" }

// Hot implements [row.Row]. A store cools the row when its [Status] ends.
func (r Run) Hot() bool { return true }

// State is a run's status, in Azure's words (JobStatus of the 2024-04-01 mfe.json).
type State string

// Only control moves a run that has a cluster. CancelRequested is shown by api
// from Run.Cancel; it is a state here so that the words have one list.
const (
	NotStarted      State = "NotStarted"
	Queued          State = "Queued"     // waits for nodes
	Preparing       State = "Preparing"  // its environment is being made
	Starting        State = "Starting"   // a node has it; no process yet
	Running         State = "Running"    // processes run
	Finalizing      State = "Finalizing" // processes ended; logs and outputs are on their way
	CancelRequested State = "CancelRequested"
	Completed       State = "Completed"
	Failed          State = "Failed"
	Canceled        State = "Canceled"
)

// next lists every legal move. docs/states.md is printed from it.
var next = map[State][]State{
	NotStarted: {Queued, Running, Completed, Failed, Canceled},
	Queued:     {Starting, Failed, Canceled},
	Starting:   {Preparing, Running, Finalizing, Queued, Completed, Failed, Canceled},
	Preparing:  {Running, Finalizing, Queued, Completed, Failed, Canceled},
	Running:    {Finalizing, Queued, Completed, Failed, Canceled},
	Finalizing: {Queued, Completed, Failed, Canceled},
}

// CanMove reports whether a run may go from one state to another.
func CanMove(from, to State) bool { return slices.Contains(next[from], to) }

// Moves returns the table of legal moves, for the diagram.
func Moves() map[State][]State { return next }

// Final reports whether nothing follows.
func (s State) Final() bool { return s == Completed || s == Failed || s == Canceled }

// Failure says why a run failed or was stopped.
type Failure struct {
	Code     string // as "UserError", "NodeLost", "JobTimeout", "ImageBuildFailure"
	Message  string // whole sentences, with the last lines of the log where a process failed
	ExitCode int    // of the first process that failed; 0: none did
	Node     string // where
}

// Status is what became of a run. Written by control.
type Status struct {
	ID       string // the run's
	Document string // the run's
	State    State
	Since    time.Time // of the last change of State
	Why      string    // one sentence: why it waits; empty when it does not
	Attempts int       // made so far, the present one included
	Started  time.Time // the first process of the first attempt; zero: not yet
	Ended    time.Time // zero: not yet
	Failure  Failure   // zero: none
	Notes    []string  // sentences: what the nodes of the last attempt do without
	Image    string    // in whose container it runs or ran last; empty: in none
}

// Key implements [row.Row].
func (s Status) Key() row.Key { return row.Key{Kind: row.RunStatus, ID: s.ID} }

// Index implements [row.Row].
func (s Status) Index() (parent, sort string) { return "", "" }

// Hot implements [row.Row].
func (s Status) Hot() bool { return !s.State.Final() }

// Phase is how far an attempt, or one member of it, has come.
type Phase string

// Phases only go forward.
const (
	Placed       Phase = "placed"    // recorded; its nodes are told
	InPreparing  Phase = "preparing" // code and environment are being made
	Prepared     Phase = "prepared"  // a gang's member waits for the others, and starts when all are
	InRunning    Phase = "running"
	InFinalizing Phase = "finalizing" // processes ended; logs and outputs are on their way
	Ended        Phase = "ended"
)

// phases in order; [Phase.Rank] is the index.
var phases = []Phase{Placed, InPreparing, Prepared, InRunning, InFinalizing, Ended}

// Rank orders phases.
func (p Phase) Rank() int { return slices.Index(phases, p) }

// Cause is why an attempt ended. One is chosen for the whole gang, in this order.
type Cause string

// From the one that wins over all others to the weakest.
const (
	ByCancel     Cause = "cancel"
	ByTimeout    Cause = "timeout"
	ByExit       Cause = "exit"       // a user's process ended by itself, well or not
	BySetup      Cause = "setup"      // code or environment could not be made: the user's to mend
	ByPreemption Cause = "preemption" // the engine took a node
	ByNodeLoss   Cause = "node loss"  // a node or its shim died
)

// Exit is the end of one member, from the shim's record.
type Exit struct {
	Cause   Cause
	Code    int    // exit code; 128+n for signal n
	Process string `json:",omitempty"` // which of several processes it was, as "rank 3"; empty: the only one, or nobody knows
	Message string // for people: what failed, with the last lines of the log
	Started time.Time
	Ended   time.Time
}

// Member is one node's share of an attempt.
type Member struct {
	Node  string
	Phase Phase
	Exit  Exit // set once Phase is finalizing or ended
}

// Attempt is one try to run a run. A new one needs proof that the old is dead.
type Attempt struct {
	ID      string // Run + "." + N: URL-safe
	Run     string // guid
	N       int    // 1, 2, ...
	Cluster string
	Fence   int64 // higher than that of any attempt before it, of any run
	Phase   Phase // the least of its members', or Ended
	Members []Member
	Stop    Cause // why it is being stopped; empty: it is not
	StopAt  time.Time
	Placed  time.Time
	Started time.Time // first process; zero: not yet
	// Doubt says why nobody knows what became of it, so that its run does not run
	// again; empty: somebody does.
	Doubt string
}

// Of a fence the low bits count the attempts of one server's life, those above
// are the life's term. The rest is room: for four thousand million attempts in a
// life and a thousand million terms, so that who puts back an older state can skip
// those of lives that it does not know.
const (
	fenceBits  = 32
	fenceFirst = 1 << 61 // once fences were nanoseconds since 1970
)

// FenceBefore is below every fence of a server's life with that term, and above
// those of all lives before it. Terms are on disk before their life begins, so
// that no clock has a say in the order of fences.
func FenceBefore(term int64) int64 { return fenceFirst + term<<fenceBits }

// Key implements [row.Row].
func (a Attempt) Key() row.Key { return row.Key{Kind: row.Attempt, ID: a.ID} }

// Index implements [row.Row].
func (a Attempt) Index() (parent, sort string) { return a.Run, "" }

// Hot implements [row.Row].
func (a Attempt) Hot() bool { return a.Phase != Ended }

// Task is what a run runs: kept as a [row.Task] document (JSON of this), read by
// the agent when it is told of an attempt. Nothing in it is secret.
type Task struct {
	Run          string            `json:"run"`               // guid
	Name         string            `json:"name"`              // run id
	Workspace    string            `json:"workspace"`         // ARM id as typed
	Experiment   string            `json:"experiment"`        // name
	ExperimentID string            `json:"experimentId"`      // guid
	Command      string            `json:"command,omitempty"` // for /bin/sh -c; empty: Script
	Script       string            `json:"script,omitempty"`  // file in the code, run by the environment's python
	Arguments    []string          `json:"arguments,omitempty"`
	Code         string            `json:"code,omitempty"`      // ID of the [row.Snapshot]; empty: none
	Variables    map[string]string `json:"variables,omitempty"` // the user's environment variables
	Environment  Environment       `json:"environment"`
	Container    *Container        `json:"container,omitempty"` // nil: processes of the machine
	Framework    string            `json:"framework,omitempty"`
	Spread       gang.Spread       `json:"spread,omitzero"` // how its processes lie on its nodes
	TimeLimit    time.Duration     `json:"timeLimit,omitempty"`

	// Of ARM jobs: command and variables hold references, which the node fills,
	// as it alone knows where inputs and outputs lie.
	References bool              `json:"references,omitempty"`
	Literals   map[string]string `json:"literals,omitempty"` // values of inputs, by name
	Inputs     []Input           `json:"inputs,omitempty"`
	Outputs    []Output          `json:"outputs,omitempty"`
}

// Environment is what a task's processes find around them: the machine's Python
// and packages, or in a container an image, which may have to be made.
type Environment struct {
	Name        string   `json:"name,omitempty"`
	Python      string   `json:"python,omitempty"`      // wanted version, as "3.8.13" or "3.8"; empty: any
	Pip         []string `json:"pip,omitempty"`         // requirement lines; any: a venv is made
	Conda       []string `json:"conda,omitempty"`       // conda packages other than python and pip, as "numpy=1.21"
	UserManaged bool     `json:"userManaged,omitempty"` // use what is there as it is
	Interpreter string   `json:"interpreter,omitempty"` // with UserManaged; default "python"

	Image     string    `json:"image,omitempty"`     // what it is in, or is made on; empty: Build, or none
	Build     *Build    `json:"build,omitempty"`     // makes the image that Image would name
	CondaFile string    `json:"condaFile,omitempty"` // of which Python, Pip and Conda are parts; JSON, which is YAML
	Registry  *Registry `json:"registry,omitempty"`  // who reads Image
}

// InImage reports whether the environment says what image it is.
func (e Environment) InImage() bool { return e.Image != "" || e.Build != nil }

// Build makes an image from a Dockerfile.
type Build struct {
	Dockerfile string `json:"dockerfile,omitempty"` // its text; empty: it is a file of the context
	Path       string `json:"path,omitempty"`       // of the Dockerfile in the context
	URI        string `json:"uri,omitempty"`        // of the context, as the user wrote it; empty: it has no files
	Key        string `json:"key,omitempty"`        // of the blobs of the context, "container/path"
}

// ContextInput is the name by which a node asks for the files of [Build.Key], as
// it asks for an input's; no input can be called so.
const ContextInput = "build context of the environment"

// Registry is what a registry asks of who reads a private image.
type Registry struct {
	Address  string `json:"address"` // as "myregistry.azurecr.io"
	Username string `json:"username,omitempty"`
	Sealed   []byte `json:"sealed,omitempty"`   // the password, as it is kept
	Password string `json:"password,omitempty"` // in an order to a node only
}

// Container is what a user asks of the container around a task's processes, where
// the task's environment is an image and the node has an engine.
type Container struct {
	Shm      int64             `json:"shm,omitempty"` // bytes of shared memory; 0: the default
	Ulimits  []Ulimit          `json:"ulimits,omitempty"`
	Tmpfs    map[string]string `json:"tmpfs,omitempty"` // options by folder
	Hosts    []string          `json:"hosts,omitempty"` // "name:address"
	Hostname string            `json:"hostname,omitempty"`
}

// Ulimit is a limit of setrlimit, as "nofile".
type Ulimit struct {
	Name string `json:"name"`
	Soft int64  `json:"soft"`
	Hard int64  `json:"hard"`
}

// Before reports whether run a is served before run b: priority, then time of
// submission, then id.
func Before(a, b Run) bool { return Order(&a, &b) < 0 }

// Order is [Before] as a comparison, which copies neither.
func Order(a, b *Run) int {
	if a.Priority != b.Priority {
		return cmp.Compare(b.Priority, a.Priority)
	}
	if o := a.Submitted.Compare(b.Submitted); o != 0 {
		return o
	}
	return cmp.Compare(a.ID, b.ID)
}
