// Package nodeproto is what server and node say to each other: types and a
// version, nothing else.
//
// The agent dials one WebSocket (JSON text messages, [Path]+"connect", bearer:
// its node token). The server says what is wanted as levels ([Desired]); the
// agent says what is ([Report]). Either may be repeated or lost without harm.
// Bulk goes by requests of its own, under [Path], with the same bearer:
//
//	GET  attempts/{attempt}/task?fence=       Order
//	GET  snapshots/{snapshot...}              the code as a tar stream
//	POST attempts/{attempt}/log?fence=&member=&name=&offset=   bytes appended where
//	     offset equals the size; 200 or 409, both with LogSize
//	PUT  attempts/{attempt}/artifacts/{path...}?fence=&member= one output file, whole
//	GET  attempts/{attempt}/inputs/{name}?fence=       Content of an input
//	GET  attempts/{attempt}/inputs/{name}?fence=&etag= its files as a tar stream; 409
//	     where they are no longer those of that etag
//	PUT  attempts/{attempt}/outputs/{slot}/{path...}?fence=&member=  a file of a named
//	     output (slot outputs.NAME), or of an input that is written back (inputs.NAME),
//	     kept aside
//	POST attempts/{attempt}/outputs?fence=&member=&done=&epoch=  all of them are there: they
//	     go to their places. done=true: the process ended well, so outputs become assets.
//	     epoch, where it is given: as in [Progress]; 412 for one that is over
//	GET  execs/{id}    a WebSocket for one [Exec], asked for by a [Message]
//	GET  attempts/{attempt}/members/{member}/exec?id=&fence=&arg=  a WebSocket as a user's
//	     of the same: a command that outlives it, on another member of a gang, and
//	     is started once by its id
//
// A request whose fence is not the run's newest is answered 410: the attempt is
// over, whatever the agent believes. How any of this may change: [Version].
package nodeproto

import (
	"time"

	"github.com/ebb-compute/ebb/internal/core/gang"
	"github.com/ebb-compute/ebb/internal/core/queue"
)

// Path under which a server answers agents.
const Path = "/ebb/nodes/v1/"

// Codes with which a server closes the connection after a hello (RFC 6455
// leaves 4000-4999 to applications). Before it, a bad token is answered 401.
const (
	CloseGone       = 4410 // the node is not known, or removed: stop everything and end
	CloseRefused    = 4403 // another installation's node, or a version not served: try again later
	CloseSuperseded = 4409 // the node has a newer connection
)

// Hello is an agent's first message.
type Hello struct {
	Version      int      `json:"version"`
	Node         string   `json:"node"`
	Installation string   `json:"installation"`      // whose node it is; another's is refused
	Software     string   `json:"software"`          // version of the binary
	Boot         string   `json:"boot"`              // kernel boot id
	Process      string   `json:"process"`           // random, new with each start of the agent
	Engine       string   `json:"engine,omitempty"`  // of containers, as "Docker 28.2.2"; empty: jobs are processes
	Isolation    string   `json:"isolation"`         // "user+landlock", "landlock", "none"
	Address      string   `json:"address,omitempty"` // IPv4, where the other nodes of a job reach this one
	Warnings     []string `json:"warnings,omitempty"`
	Report       Report   `json:"report"`
}

// Desired is all that a node is to do, whole. A lower (Term, Revision) than one
// already seen is ignored.
type Desired struct {
	Term     int64    `json:"term"`
	Revision int64    `json:"revision"`
	Attempts []Wanted `json:"attempts,omitempty"` // every attempt that is to be here; others are forgotten once ended
	Drain    bool     `json:"drain,omitempty"`    // take nothing new; say Empty when nothing is left
	// Epoch is the server's: 0, or higher since each restore of an older state, which
	// may lack what it had been sent.
	Epoch int64 `json:"epoch,omitempty"`
}

// Message is what a server sends: orders, or with Exec set (and nothing else)
// the wish for one command. An agent that does not know Exec sees orders of
// term 0, which are older than any.
type Message struct {
	Desired
	Exec *Exec `json:"exec,omitempty"`
}

// Exec asks for a command in the world of an attempt that runs. The agent dials
// [Path]+"execs/"+ID and carries the command's bytes as binary messages: one
// byte that is a [Channel], then the bytes.
type Exec struct {
	ID       string   `json:"id"` // secret, unguessable
	Attempt  string   `json:"attempt"`
	Argv     []string `json:"argv"`
	Terminal bool     `json:"terminal,omitempty"`
	Term     string   `json:"term,omitempty"` // kind of terminal, for TERM
	Rows     int      `json:"rows,omitempty"`
	Cols     int      `json:"cols,omitempty"`
	Keep     bool     `json:"keep,omitempty"` // it goes on without those who asked for it
}

// Channel says what the bytes of a message of an [Exec] are.
type Channel byte

// The first three go to the command, the others come from it. With a terminal
// all output is Stdout.
const (
	Stdin    Channel = 0
	StdinEnd Channel = 1 // no bytes
	Resize   Channel = 2 // ExecSize as JSON
	Stdout   Channel = 3
	Stderr   Channel = 4
	ExecOver Channel = 5 // ExecEnd as JSON; the last message
)

// ExecSize is the size of a terminal, in characters.
type ExecSize struct {
	Rows int `json:"rows"`
	Cols int `json:"cols"`
}

// ExecEnd is how a command ended.
type ExecEnd struct {
	Code  int    `json:"code"`            // 128+n for signal n; 126, 127: not started
	Error string `json:"error,omitempty"` // why it was not started, or not to its end
}

// Wanted is one attempt that a node is to run, or to stop.
type Wanted struct {
	Attempt string        `json:"attempt"`
	Fence   int64         `json:"fence"`
	Member  int           `json:"member"`
	Stop    queue.Cause   `json:"stop,omitempty"`  // SIGTERM, Grace, SIGKILL
	Grace   time.Duration `json:"grace,omitempty"` // nanoseconds
	Hold    bool          `json:"hold,omitempty"`  // prepare it, and start nothing until this is gone
}

// Report is all that a node has, whole.
type Report struct {
	Term     int64      `json:"term"` // of the Desired that it acts on
	Revision int64      `json:"revision"`
	Empty    bool       `json:"empty"`              // Drain was asked at Revision, and nothing is or will be here
	Attempts []Progress `json:"attempts,omitempty"` // every attempt in the journal that is not forgotten
}

// Progress is how far an attempt has come on this node.
type Progress struct {
	Attempt string      `json:"attempt"`
	Fence   int64       `json:"fence"`
	Phase   queue.Phase `json:"phase"`            // ended: process dead, logs and outputs delivered
	Image   string      `json:"image,omitempty"`  // in which it runs, from prepared on; empty: in none
	Detail  string      `json:"detail,omitempty"` // one sentence, as "installing 12 packages"
	Exit    *queue.Exit `json:"exit,omitempty"`   // from finalizing on
	// Started is when the first process started, on the node's clock turned
	// into an age: how long ago it was when the report was made.
	StartedAgo time.Duration `json:"startedAgo,omitempty"`
	// Epoch is the newest that the node had heard of when it began to deliver, once it
	// has: in a later one all is to be sent again. Nil: an agent that cannot say.
	Epoch *int64 `json:"epoch,omitempty"`
}

// Order is everything a node needs to run its member of an attempt.
type Order struct {
	Attempt   string            `json:"attempt"`
	Fence     int64             `json:"fence"`
	Member    int               `json:"member"`
	Number    int               `json:"number"` // of the attempt: 1, 2, ...
	Task      queue.Task        `json:"task"`
	Variables map[string]string `json:"variables"`      // AZUREML_*, AZ_BATCH_*: set by the server, over the user's
	VCPUs     int               `json:"vcpus"`          // of the size; count
	MemoryGiB float64           `json:"memoryGiB"`      // of the size
	LogName   string            `json:"logName"`        // where standard output and error go, as "user_logs/std_log.txt"
	Gang      *gang.Plan        `json:"gang,omitempty"` // its processes; nil: there is one in all
}

// LogSize answers an append: how many bytes the server has of that log.
type LogSize struct {
	Size int64 `json:"size"`
}

// Content is what an input holds.
type Content struct {
	ETag string `json:"etag"` // of names and bytes of all files
	File string `json:"file"` // name of the one file that the job is to see; empty: it sees the folder
}
