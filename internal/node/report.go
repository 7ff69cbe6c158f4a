package node

import (
	"time"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// Report says what the node has.
func (m *Machine) Report(now time.Time) nodeproto.Report {
	r := nodeproto.Report{Term: m.memory.Term, Revision: m.memory.Revision, Empty: m.told && m.drain && len(m.attempts) == 0}
	for _, a := range m.sorted() {
		p := nodeproto.Progress{Attempt: a.id, Fence: a.fence, Phase: a.stage.phase(), Detail: a.detail, Image: a.image}
		if a.exit != nil {
			exit := *a.exit
			p.Exit = &exit
		}
		if a.stage >= ended {
			epoch := a.epoch
			p.Epoch = &epoch
		}
		if !a.started.IsZero() {
			p.StartedAgo = max(now.Sub(a.started), 1)
		}
		r.Attempts = append(r.Attempts, p)
	}
	return r
}

// Urgent reports whether others wait for what the report says: a node that is
// done with an attempt can have the next, or be removed, and what a gang's member
// has come to decides over the others. How far a single one has come is for
// people, who do not see what is over in a moment.
func (m *Machine) Urgent() bool {
	for _, a := range m.attempts {
		if a.stage == ended || a.stage == forgetting || a.gang && (a.stage == prepared || a.stage == delivering) {
			return true
		}
	}
	return m.told && m.drain && len(m.attempts) == 0
}

func (s stage) phase() queue.Phase {
	switch s {
	case journalling:
		return queue.Placed
	case preparing:
		return queue.InPreparing
	case prepared, starting:
		return queue.Prepared
	case running, sweeping:
		return queue.InRunning
	case delivering:
		return queue.InFinalizing
	}
	return queue.Ended
}
