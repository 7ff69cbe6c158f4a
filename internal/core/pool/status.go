package pool

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/row"
)

// report writes what became of a cluster, or drops it when it is gone.
func (t *turn) report(s *site) {
	if t.gone(s) {
		s.gone = true
		t.drop(s.c.Key())
		t.drop(s.s.Key())
		t.drop(row.Key{Kind: row.Compute, ID: s.c.ID})
		t.act(Action{Verb: Delete, Cluster: s.c.ID, Why: "its nodes and runs are gone"})
		return
	}
	st := &s.s
	st.Observed = s.c.Generation
	target := min(max(s.wanted, s.staying()), s.c.Max)
	if s.off() {
		target = 0
	}
	present := s.present()
	allocation := fleet.Steady
	if present != target || s.onTheWay() {
		allocation = fleet.Resizing
	}
	st.Provisioning = s.provisioning(allocation)
	if allocation != st.Allocation {
		st.Allocation, st.Since = allocation, t.now
	}
	st.Target = target
	switch {
	case allocation == fleet.Steady:
		st.Why = ""
		if st.Failures > 0 && s.wanted <= s.staying() { // nobody needs what failed
			s.calm()
		}
	case s.block != "":
		st.Why = capital(s.block) + "."
	default:
		st.Why = s.whyResize(present, target)
	}
	if !same(*st, s.old) {
		t.put(*st)
	}
}

func (s *site) whyResize(present, target int) string {
	switch {
	case s.c.Deleting:
		return "The cluster is being deleted."
	case s.off():
		return "The instance is being stopped."
	case target > present || target == present:
		return fmt.Sprintf("Nodes start, until there are %d.", target)
	}
	return fmt.Sprintf("Nodes leave, until there are %d.", target)
}

// capital makes a clause begin like a sentence.
func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// onTheWay reports whether a node is coming or going.
func (s *site) onTheWay() bool {
	if s.has.launching+s.has.draining > 0 {
		return true
	}
	for i := range s.nodes {
		switch s.nodes[i].State {
		case fleet.Removing:
			return true
		case fleet.Busy, fleet.Unusable:
			if s.leaves(i) {
				return true
			}
		}
	}
	return false
}

// provisioning is the state of the resource. A cluster is made as soon as its wish
// is taken in; an instance is what its node is.
func (s *site) provisioning(allocation fleet.Allocation) operation.State {
	switch {
	case s.c.Deleting:
		return operation.Deleting
	case !s.c.Instance || allocation == fleet.Steady:
		return operation.Succeeded
	case len(s.s.Errors) > 0:
		return operation.Failed
	case s.old.Provisioning == "" || s.old.Provisioning == operation.Creating:
		return operation.Creating
	}
	return operation.Updating
}

// gone reports whether nothing of a cluster that is being deleted is left.
func (t *turn) gone(s *site) bool {
	if !s.c.Deleting || s.present() > 0 {
		return false
	}
	for r := range t.v.RunsOf(s.c.ID) {
		if rs, ok := t.status(r.ID); ok && !rs.State.Final() {
			return false
		}
	}
	return true
}

// same reports whether two statuses say the same.
func same(a, b fleet.Status) bool {
	if !slices.Equal(a.Errors, b.Errors) || !a.Since.Equal(b.Since) || !a.RetryAt.Equal(b.RetryAt) || !a.Slept.Equal(b.Slept) {
		return false
	}
	a.Errors, b.Errors = nil, nil
	a.Since, b.Since, a.RetryAt, b.RetryAt = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	return a.ID == b.ID && a.Observed == b.Observed && a.Provisioning == b.Provisioning && a.Allocation == b.Allocation &&
		a.Target == b.Target && a.Why == b.Why && a.Launched == b.Launched && a.Failures == b.Failures && a.Full == b.Full
}

// isCompute reports whether an ARM id is that of a compute.
func isCompute(id string) bool { return strings.Contains(id, "/computes/") }
