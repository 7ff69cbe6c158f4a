package pool

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
)

// LostByRestore is the failure of a run of which a restored state does not know
// what became: it is not run again, for it may have run.
const LostByRestore = "LostByRestore"

// Held is a node as its engine has it.
type Held struct {
	Node     string
	Attempts []string // taken there and not forgotten
	Unknown  bool     // which: nobody can tell
}

// unique makes of a number of this epoch what no other epoch has: in a state that
// was restored the same numbers come again.
func (f Facts) unique(n int) string {
	if f.Epoch == 0 {
		return strconv.Itoa(n)
	}
	return strconv.FormatInt(f.Epoch, 36) + "-" + strconv.Itoa(n)
}

// Stock is what a state that was restored holds true of what the engine has; the
// plan makes it so, once, before anything is decided. v is older than held: what it
// does not know may be somebody's, and what it believes may be over.
//
//   - A node that the engine does not have, or that holds attempts which v does not
//     know there, leaves the rows. Who is left in the engine without a row is no
//     longer ours to judge: it is quarantined by whoever called.
//   - An attempt that is not where v has it has ended, nobody knows how, and its run
//     with it. A gang loses the rest in the ordinary way.
//   - A run that waits in v and is held by a node without a row is over too: what
//     runs there is its own later attempt.
//
// All else goes on as it is in v: nodes and jobs that both know. Of a node whose
// attempts are unknown v is believed where it says that a job is there, and not
// where it says that none is.
func Stock(v *View, held []Held, now time.Time) Plan {
	s := &stock{turn: turn{v: v, now: now, writes: map[row.Key]int{}, runs: map[string]*queue.Status{}, tries: map[string]queue.Attempt{}}, has: map[string]Held{}}
	for _, h := range held {
		s.has[h.Node] = h
	}
	nodes := slices.SortedFunc(v.Nodes(), byID)
	for _, n := range nodes {
		s.node(n)
	}
	attempts := slices.SortedFunc(v.Attempts(), func(a, b queue.Attempt) int { return strings.Compare(a.ID, b.ID) })
	for _, a := range attempts {
		s.attempt(a)
	}
	for _, h := range held {
		if s.kept[h.Node] {
			continue
		}
		for _, id := range h.Attempts {
			s.elsewhere(h.Node, id)
		}
	}
	return s.plan
}

func byID(a, b fleet.Node) int { return strings.Compare(a.ID, b.ID) }

// stock is one call of Stock.
type stock struct {
	turn
	has  map[string]Held
	kept map[string]bool // nodes whose rows stay
}

// node drops the row of a node, unless the engine has it and it holds nothing else
// than the row says.
func (s *stock) node(n fleet.Node) {
	h, ok := s.has[n.ID]
	foreign := slices.ContainsFunc(h.Attempts, func(id string) bool { return id != n.Attempt }) || h.Unknown && n.Attempt == ""
	if !ok || foreign {
		why := "the engine does not have it, and the restored state is older"
		if foreign {
			why = "it holds what the restored state does not know"
			if h.Unknown {
				why = "nobody can tell what it holds"
			}
		}
		s.drop(n.Key())
		s.act(Action{Verb: Forget, Cluster: n.Cluster, Node: n.ID, Why: why})
		return
	}
	if s.kept == nil {
		s.kept = map[string]bool{}
	}
	s.kept[n.ID] = true
}

// attempt ends the members of an attempt that are not where v has them.
func (s *stock) attempt(a queue.Attempt) {
	left := false
	a.Members = slices.Clone(a.Members)
	for i, m := range a.Members {
		if m.Phase == queue.Ended {
			continue
		}
		if h := s.has[m.Node]; s.kept[m.Node] && (h.Unknown || slices.Contains(h.Attempts, a.ID)) {
			left = true
			continue
		}
		a.Doubt = fmt.Sprintf("The server was restored to a state in which the run was on node %s, where it is no longer. How it ended is not known; submit it again if it is to run again.", m.Node)
		a.Members[i].Phase = queue.Ended
		a.Members[i].Exit = queue.Exit{Cause: queue.ByNodeLoss, Message: a.Doubt, Ended: s.now}
	}
	if a.Doubt == "" {
		return
	}
	if a.Phase = least(a); !left {
		a.Phase = queue.Ended
		s.fail(a.Run, a.ID, a.Doubt)
	}
	s.saveAttempt(a)
}

// elsewhere ends a run that waits, of which a node without a row has an attempt.
func (s *stock) elsewhere(node, id string) {
	run := id
	if i := strings.LastIndexByte(id, '.'); i >= 0 {
		run = id[:i]
	}
	rs, ok := s.status(run)
	if !ok || rs.State.Final() {
		return
	}
	if a, ok := s.v.AttemptOf(run); ok {
		if a, _ = s.turn.attempt(a.ID); a.Phase != queue.Ended {
			return // it goes on where v has it, or ends there
		}
	}
	s.fail(run, id, fmt.Sprintf("The server was restored to a state in which the run waited. It was started since, on node %s, which is quarantined; what it writes stays there.", node))
}

func (s *stock) fail(run, attempt, why string) {
	rs, ok := s.status(run)
	if !ok || rs.State.Final() {
		return
	}
	rs.Failure = queue.Failure{Code: LostByRestore, Message: why}
	s.run(rs, queue.Failed, "")
	cluster := ""
	if r, ok := s.v.Run(run); ok {
		cluster = r.Cluster
	}
	s.act(Action{Verb: End, Cluster: cluster, Run: run, Attempt: attempt, Why: LostByRestore})
}
