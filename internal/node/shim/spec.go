// Package shim holds one attempt of a job: it starts the user's process in the
// world that a [Spec] describes, keeps its log, and when it ends or is to stop
// kills until nothing descends from it and leaves a [Record].
//
// Each attempt has a folder (its journal) and a shim process of its own, which
// outlives the agent that started it and the server. Agents find it again by
// [Look]: whether it lives is proved by the flock on DIR/lock, never by a pid.
//
//	lock          held by the living shim; inside its pid, and what it made: user,
//	              control groups, the process
//	stop.json     the agent wants it to end, and why
//	exit.json     the [Record], fsynced and renamed into place
//	container*    of a contained job: see node/container
//	log/NAME      standard output and error, merged
//	work/, tmp/   the code, and what the job sees as /tmp
//
// Start reading at [Start] for the agent's side and [Main] for the shim's. What
// to do when is [Machine]'s, which does no I/O.
package shim

import (
	"errors"
	"time"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/node/shim/cgroup"
	"github.com/ebb-compute/ebb/internal/node/shim/sandbox"
)

// ErrStarted is returned by [Start] for a folder in which a shim was started before.
var ErrStarted = errors.New("attempt was started before")

// Spec is all that a shim needs to know. It is kept nowhere: Env holds tokens.
type Spec struct {
	Argv []string `json:"argv"` // Argv[0] without a slash is looked up in Env's PATH
	Env  []string `json:"env"`  // whole: nothing is inherited
	Dir  string   `json:"dir"`  // working folder, as the job sees it
	Log  string   `json:"log"`  // name below DIR/log, as "user_logs/std_log.txt"
	// Input is what Argv reads as its standard input. Empty: nothing.
	Input []byte `json:"input,omitempty"`
	// Contained: Argv is no program of the job but ours that holds its container
	// (node/container). It runs as we do, in no world and no control group of the
	// job's; the user that Users gave is told to it; and what it left of its
	// container is removed before there is a record.
	Contained bool `json:"contained,omitempty"`
	// Image is what people know the image of that container by; shims have no use for it.
	Image string `json:"-"`
	// LogWords is what people know that log by. Empty: Log.
	LogWords string `json:"logWords,omitempty"`
	// Ranks is set where the process is the first of several, which have logs of their own.
	Ranks *Ranks `json:"ranks,omitempty"`

	// Users is a folder of uid leases shared by all shims of the machine: the job
	// runs as a user that no other living attempt has. Empty: as our own user.
	Users string `json:"users,omitempty"`
	// Own is what is given to that user before the job starts, with all below,
	// on the host: work and tmp.
	Own []string `json:"own,omitempty"`
	// World is what the process sees and may touch. Zero: everything we may.
	World sandbox.World `json:"world"`

	Cgroups cgroup.Tree   `json:"cgroups"` // where limits are set; zero: none
	Limits  cgroup.Limits `json:"limits"`
	// MemoryWords names the memory limit for people, as "14 GiB of Standard_D4_v2".
	MemoryWords string `json:"memoryWords,omitempty"`

	Grace     time.Duration `json:"grace,omitempty"`     // between SIGTERM and SIGKILL where a stop names none; 0: 10 s
	TimeLimit time.Duration `json:"timeLimit,omitempty"` // of running; 0: none. Held by the shim, so nobody else need be there
}

// Ranks is what a shim does for processes that package launch starts.
type Ranks struct {
	Node   string   `json:"node"`   // for people
	Logs   []string `json:"logs"`   // names below DIR/log that they write themselves
	Failed string   `json:"failed"` // file, on the host, in which launch says which of them failed first
}

// Record is how an attempt ended, as DIR/exit.json has it.
type Record struct {
	Exit queue.Exit `json:"exit"`
	// Logs has the final size in bytes of each file below DIR/log, by name.
	Logs map[string]int64 `json:"logs,omitempty"`
	// Swept: the shim died; somebody else killed what was left and wrote this.
	Swept bool `json:"swept,omitempty"`
}

// Phase says what is known of an attempt's folder.
type Phase string

// The phases of a folder.
const (
	None    Phase = "none"    // nothing was ever started here
	Running Phase = "running" // a shim holds the lock
	Ended   Phase = "ended"   // there is a record
	Died    Phase = "died"    // a shim was (to be) started; none lives and none left a record: [Sweep] it
)

// State is what [Look] sees.
type State struct {
	Phase   Phase
	PID     int       // Running: of the shim
	Process int       // Running: of the user's process; 0: not started yet
	Started time.Time // of the user's process; zero: not started yet
	Record  Record    // Ended
}
