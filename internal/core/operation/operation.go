// Package operation holds provisioning states and long-running operations, as
// the ARM contract has them (arm-rpc v1.0, async-api-reference).
package operation

import (
	"time"

	"github.com/ebb-compute/ebb/internal/core/row"
)

// State is a provisioning state or the status of an operation.
type State string

// Only Succeeded, Failed and Canceled are final.
const (
	Creating   State = "Creating"
	Updating   State = "Updating"
	Deleting   State = "Deleting"
	InProgress State = "InProgress"
	Succeeded  State = "Succeeded"
	Failed     State = "Failed"
	Canceled   State = "Canceled"
)

// Final reports whether nothing follows.
func (s State) Final() bool { return s == Succeeded || s == Failed || s == Canceled }

// Operation is one asynchronous request and what became of it. app writes it
// InProgress; control writes it again, final, once the target's status has
// observed Generation (or the target is gone, for a delete).
type Operation struct {
	ID         string // guid; also the name in the URL
	Target     string // ARM id of what it changes, lower-case
	Scope      string // subscription the URL lies under
	Location   string
	Generation int64 // of the target's wish, that must be observed
	Status     State
	Started    time.Time
	Ended      time.Time
	Code       string // of the error; empty unless Failed
	Message    string
}

// Key implements [row.Row].
func (o Operation) Key() row.Key { return row.Key{Kind: row.Operation, ID: o.ID} }

// Index implements [row.Row].
func (o Operation) Index() (parent, sort string) { return o.Target, "" }

// Hot implements [row.Row]: control finishes those that are not final.
func (o Operation) Hot() bool { return !o.Status.Final() }
