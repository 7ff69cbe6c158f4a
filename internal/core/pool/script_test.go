package pool_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
)

var update = flag.Bool("update", false, "rewrite the answers in testdata")

// TestScripts plays each testdata/*.txt: a line is a command, what stands under
// its ---- is the answer. Run with -update and read the diff.
func TestScripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := &stage{t: t, now: start, v: pool.New()}
			got := s.play(string(want))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(want) {
				t.Errorf("%s differs; run go test -update and read the diff\n%s", file, got)
			}
		})
	}
}

// stage is a pool that a script plays with: every plan is taken in at once.
type stage struct {
	t     *testing.T
	now   time.Time
	v     *pool.View
	seen  []pool.Event
	facts pool.Facts
}

func (s *stage) play(script string) string {
	var out strings.Builder
	skip := false
	for line := range strings.Lines(script) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "----":
			skip = true
		case line == "":
			skip = false
			fmt.Fprintln(&out)
		case strings.HasPrefix(line, "#"):
			fmt.Fprintln(&out, line)
		case !skip:
			fmt.Fprintf(&out, "%s\n----\n%s\n", line, s.do(line))
			skip = true
		}
	}
	return out.String()
}

// do carries out one command:
//
//	cluster NAME MIN MAX IDLE     a user wants a cluster, or changes it
//	instance NAME on|off|again IDLE  a user wants an instance, stops it, starts it (again: restarts)
//	delete NAME                   a user deletes it
//	submit RUN CLUSTER NODES [LIMIT]
//	led RUN LEADERS               its first nodes lead, the others serve them
//	cancel RUN
//	room VCPUS                    the engine has so many, and does not oversubscribe
//	away|back NODE                its agent is not connected, or is again
//	heard|removed NODE, silent|dead|failed NODE WHY...
//	phase RUN NODE PHASE [CODE]   the agent of NODE reports
//	empty NODE                    the agent reports, at its node's revision
//	pass DURATION
//	decide                        look, and take the plan in
//	show                          what is
func (s *stage) do(line string) string {
	w := strings.Fields(line)
	arg := func(i int) string {
		if i >= len(w) {
			s.t.Fatalf("%q: a word is missing", line)
		}
		return w[i]
	}
	number := func(i int) int {
		n, err := strconv.Atoi(arg(i))
		if err != nil {
			s.t.Fatalf("%q: %v", line, err)
		}
		return n
	}
	length := func(i int) time.Duration {
		d, err := time.ParseDuration(arg(i))
		if err != nil {
			s.t.Fatalf("%q: %v", line, err)
		}
		return d
	}
	switch w[0] {
	case "cluster":
		c := cluster(arg(1), number(2), number(3))
		c.IdleAfter = length(4)
		if old, ok := s.v.Cluster(c.ID); ok {
			c.Generation = old.Generation + 1
		}
		s.apply(row.Put(c))
	case "instance":
		c := cluster(arg(1), 1, 1)
		c.Instance, c.Off, c.IdleAfter, c.Created, c.Switched = true, arg(2) == "off", length(3), s.now, s.now
		if old, ok := s.v.Cluster(c.ID); ok {
			c.Generation = old.Generation + 1
		}
		op := operation.Operation{ID: fmt.Sprintf("%s-op%d", c.Name, c.Generation), Target: c.ID, Generation: c.Generation, Status: operation.InProgress, Started: s.now}
		s.apply(row.Put(c), row.Put(op))
	case "delete":
		c, _ := s.v.Cluster(cluster(arg(1), 0, 0).ID)
		c.Deleting = true
		c.Generation++
		s.apply(row.Put(c))
	case "submit":
		r := queue.Run{ID: arg(1), Document: arg(1), Cluster: cluster(arg(2), 0, 0).ID, Nodes: number(3), Submitted: s.now}
		if len(w) > 4 {
			r.TimeLimit = length(4)
		}
		s.apply(queued(r)...)
		s.now = s.now.Add(time.Millisecond) // nobody submits two at once
	case "led":
		r, _ := s.v.Run(arg(1))
		r.Leaders = number(2)
		s.apply(row.Put(r))
	case "cancel":
		r, ok := s.v.Run(arg(1))
		if !ok {
			s.t.Fatalf("%q: no such run", line)
		}
		r.Cancel = true
		s.apply(row.Put(r))
	case "room":
		s.facts.Capacity = pool.Capacity{VCPUs: number(1)}
	case "away", "back":
		s.facts.Away = maps.Clone(s.facts.Away)
		if s.facts.Away == nil {
			s.facts.Away = map[string]bool{}
		}
		s.facts.Away[arg(1)] = w[0] == "away"
	case "heard", "silent", "dead", "removed":
		s.seen = append(s.seen, pool.Event{Kind: pool.EventKind(w[0]), Node: arg(1), Why: strings.Join(w[2:], " ")})
	case "failed":
		s.seen = append(s.seen, pool.Event{Kind: pool.LaunchFailed, Node: arg(1), Why: strings.Join(w[2:], " ")})
	case "empty":
		n, _ := s.v.Node(arg(1))
		s.seen = append(s.seen, pool.Event{Kind: pool.Reported, Node: n.ID, Report: pool.Report{Revision: n.Revision, Empty: true}})
	case "phase":
		a, ok := s.v.AttemptOf(arg(1))
		if !ok {
			s.t.Fatalf("%q: the run has no attempt", line)
		}
		p := pool.Progress{Attempt: a.ID, Fence: a.Fence, Phase: queue.Phase(arg(3))}
		if p.Phase.Rank() < 0 {
			s.t.Fatalf("%q: no such phase", line)
		}
		if len(w) > 4 {
			p.Exit = queue.Exit{Cause: queue.ByExit, Code: number(4), Ended: s.now}
			if a.Stop != "" {
				p.Exit.Cause = a.Stop
			}
		}
		s.seen = append(s.seen, pool.Event{Kind: pool.Reported, Node: arg(2), Report: pool.Report{Attempts: []pool.Progress{p}}})
	case "pass":
		s.now = s.now.Add(length(1))
	case "decide":
		return s.decide()
	case "show":
		return s.show()
	default:
		s.t.Fatalf("unknown command %q", line)
	}
	return "ok"
}

func (s *stage) apply(c ...row.Change) { s.v = s.v.Apply(c...) }

func (s *stage) decide() string {
	f := s.facts
	f.Seen = s.seen
	p := pool.Decide(s.v, f, s.now)
	s.apply(p.Changes...)
	s.seen = nil
	var out []string
	for _, a := range p.Actions {
		out = append(out, a.String())
	}
	for _, c := range p.Changes {
		if st, ok := c.Put.(queue.Status); ok && st.State.Final() {
			out = append(out, strings.TrimSpace(fmt.Sprintf("%s is %s %s %s", st.ID, st.State, st.Failure.Code, st.Failure.Message)))
		}
	}
	if !p.Recheck.IsZero() {
		out = append(out, "look again in "+p.Recheck.Sub(s.now).String())
	}
	if len(out) == 0 {
		return "nothing to do"
	}
	return strings.Join(out, "\n")
}

func (s *stage) show() string {
	var out []string
	for c := range s.v.Clusters() {
		st, _ := s.v.ClusterStatus(c.ID)
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s, %d of %d nodes  %s", c.Name, st.Provisioning, st.Allocation, s.v.NodeCount(c.ID), st.Target, st.Why)))
		for _, n := range s.v.NodesOf(c.ID) {
			line := fmt.Sprintf("  %s %s %s", n.ID, n.State, n.Attempt)
			if a, ok := s.v.Attempt(n.Attempt); ok && len(a.Members) > 1 {
				line += fmt.Sprintf(" %s, revision %d", a.Phase, n.Revision)
			}
			out = append(out, strings.TrimRight(line, " "))
		}
		for r := range s.v.RunsOf(c.ID) {
			rs, _ := s.v.RunStatus(r.ID)
			out = append(out, strings.TrimRight(fmt.Sprintf("  %s %s  %s", r.ID, rs.State, rs.Why), " "))
		}
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, "\n")
}

// Every move that the scripts show must be in the tables, and the other way
// round every state must be reached by a word of Azure's.
func TestNodeStatesHaveAzureWords(t *testing.T) {
	t.Parallel()
	words := []string{"idle", "running", "preparing", "unusable", "leaving", "preempted"}
	for s := range fleet.Moves() {
		if !slices.Contains(words, s.Azure()) {
			t.Errorf("%s is %q, want one of %v", s, s.Azure(), words)
		}
	}
}
