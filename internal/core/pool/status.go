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
	st.Provisioning = operation.Succeeded
	if s.c.Deleting {
		st.Provisioning = operation.Deleting
	}
	target := min(max(s.wanted, s.staying()), s.c.Max)
	if s.c.Deleting {
		target = 0
	}
	present := s.present()
	allocation := fleet.Steady
	if present != target || slices.ContainsFunc(s.nodes, onTheWay) {
		allocation = fleet.Resizing
	}
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
	case target > present || target == present:
		return fmt.Sprintf("Nodes start, until there are %d.", target)
	}
	return fmt.Sprintf("Nodes leave, until there are %d.", target)
}

// capital makes a clause begin like a sentence.
func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// onTheWay reports whether a node is coming or going.
func onTheWay(n fleet.Node) bool {
	return n.State == fleet.Launching || n.State == fleet.Draining || n.State == fleet.Removing
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
	if !slices.Equal(a.Errors, b.Errors) || !a.Since.Equal(b.Since) || !a.RetryAt.Equal(b.RetryAt) {
		return false
	}
	a.Errors, b.Errors = nil, nil
	a.Since, b.Since, a.RetryAt, b.RetryAt = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	return a.ID == b.ID && a.Observed == b.Observed && a.Provisioning == b.Provisioning && a.Allocation == b.Allocation &&
		a.Target == b.Target && a.Why == b.Why && a.Launched == b.Launched && a.Failures == b.Failures && a.Full == b.Full
}

// isCompute reports whether an ARM id is that of a compute.
func isCompute(id string) bool { return strings.Contains(id, "/computes/") }
