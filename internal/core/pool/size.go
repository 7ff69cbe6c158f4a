package pool

import (
	"fmt"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/queue"
)

// Capacity is what an engine has in all, in use or not. engine.Capacity says it
// in the same words; core knows no engine.
type Capacity struct {
	VCPUs         int     // count; 0: no limit
	MemoryGiB     float64 // GiB; 0: no limit
	GPUs          int     // count
	Oversubscribe bool    // VCPUs and MemoryGiB set no limit
	GPURequired   bool    // nodes of sizes with GPUs need them
}

// room is what is left of the capacity. Fields may go below zero: somebody holds more than there is.
type room struct {
	limited, cpus, memory, gpus bool // which of them set a limit
	all, left                   Capacity
}

func newRoom(c Capacity) room {
	r := room{all: c, left: c}
	r.cpus = !c.Oversubscribe && c.VCPUs > 0
	r.memory = !c.Oversubscribe && c.MemoryGiB > 0
	r.gpus = c.GPURequired
	r.limited = r.cpus || r.memory || r.gpus
	return r
}

// takeAll takes every node that is not gone.
func (r *room) takeAll(sites []*site) {
	for _, s := range sites {
		r.take(s.c.Size, s.present())
	}
}

func (r *room) take(z fleet.Size, n int) {
	r.left.VCPUs -= n * z.VCPUs
	r.left.MemoryGiB -= float64(n) * z.MemoryGiB
	r.left.GPUs -= n * z.GPUs
}

// fits is how many more nodes of a size there is room for, at most n.
func (r *room) fits(z fleet.Size, n int) int {
	c := r.left
	if r.cpus && z.VCPUs > 0 {
		n = min(n, c.VCPUs/z.VCPUs)
	}
	if r.memory && z.MemoryGiB > 0 {
		n = min(n, int(c.MemoryGiB/z.MemoryGiB))
	}
	if r.gpus && z.GPUs > 0 {
		n = min(n, c.GPUs/z.GPUs)
	}
	return max(0, n)
}

// most is how many nodes of a cluster the engine can ever hold beside what other
// clusters keep at all times.
func (t *turn) most(s *site) int {
	if !t.room.limited {
		return s.c.Max
	}
	if !t.counted {
		t.counted, t.beside = true, t.room
		t.beside.left = t.room.all
		for _, o := range t.order {
			if !o.off() {
				t.beside.take(o.c.Size, o.c.Min)
			}
		}
	}
	r := t.beside
	if !s.off() {
		r.take(s.c.Size, -s.c.Min)
	}
	return r.fits(s.c.Size, s.c.Max)
}

// describe says what n nodes take of what sets a limit.
func (r *room) describe(z fleet.Size, n int) string {
	return r.words(n*z.VCPUs, float64(n)*z.MemoryGiB, n*z.GPUs)
}

func (r *room) total() string { return r.words(r.all.VCPUs, r.all.MemoryGiB, r.all.GPUs) }

func count(n int, unit string) string {
	if n != 1 {
		unit += "s"
	}
	return fmt.Sprintf("%d %s", n, unit)
}

func (r *room) words(cpus int, memory float64, gpus int) string {
	var parts []string
	if r.cpus {
		parts = append(parts, count(cpus, "vCPU"))
	}
	if r.memory {
		parts = append(parts, fmt.Sprintf("%.4g GiB", memory))
	}
	if r.gpus {
		parts = append(parts, count(gpus, "GPU"))
	}
	if n := len(parts); n > 1 {
		return strings.Join(parts[:n-1], ", ") + " and " + parts[n-1]
	}
	return strings.Join(parts, "")
}

// keepable is how many draining nodes are wanted after all.
func (s *site) keepable() int {
	return max(0, min(s.leavers(), s.wanted-s.staying()))
}

func (t *turn) keepSome(s *site, n int) {
	for i := 0; i < len(s.nodes) && n > 0; i++ {
		if s.nodes[i].State == fleet.Draining && !s.leaves(i) {
			t.keep(s, i, "work arrived")
			n--
		}
	}
}

// mayLaunch says how many nodes may be launched now, beside draining ones that are kept.
func (t *turn) mayLaunch(s *site) int {
	lack := s.wanted - s.staying() - s.keepable()
	if lack <= 0 {
		return 0
	}
	switch {
	case t.f.Blind:
		s.block = "the engine has not said yet what it has"
		return 0
	case t.now.Before(s.s.RetryAt):
		s.recheck(s.s.RetryAt)
		s.block = "the last launch of a node failed, and is tried again"
		return 0
	}
	return min(lack, max(0, s.c.Max-s.present()))
}

func (t *turn) launch(s *site) {
	if s.share.lack == 0 {
		return
	}
	why := fmt.Sprintf("jobs wait, and %d of %d nodes are wanted", s.wanted, s.c.Max)
	if s.c.Instance {
		why = "the instance is on"
	} else if len(s.ask) == 0 {
		why = fmt.Sprintf("at least %d nodes are wanted", s.c.Min)
	}
	created := t.now
	if created.Before(s.c.Switched) { // the clock was read before the wish was: it is no node from before
		created = s.c.Switched
	}
	for range s.share.lack {
		number := s.nextNumber()
		s.s.Launched = number + 1
		n := fleet.Node{
			ID: s.c.Prefix + "-" + t.f.unique(int(number)), Cluster: s.c.ID, Number: number,
			State: fleet.Launching, Since: t.now, Revision: 1, Why: why, Created: created,
		}
		s.nodes = append(s.nodes, n)
		s.has.count(&n, 1)
		t.put(n)
		t.act(Action{Verb: Launch, Cluster: s.c.ID, Node: n.ID, Why: why})
	}
}

// nextNumber is above that of every node there ever was.
func (s *site) nextNumber() int64 {
	n := s.s.Launched
	if len(s.nodes) > 0 {
		n = max(n, s.nodes[len(s.nodes)-1].Number+1) // by number
	}
	return n
}

// shrink drains what stands idle too long and is not wanted. Nodes that wait for
// the head of the queue are wanted: holding pauses the idle timer.
func (t *turn) shrink(s *site) {
	wanted := s.share.due
	if wanted < s.wanted { // its room is needed: what still comes is no reason to let go of more
		wanted = max(wanted, s.busy()+s.launching())
	}
	surplus := s.staying() - wanted
	if surplus <= 0 || s.c.Deleting || s.share.lack > 0 {
		return
	}
	for _, i := range s.idle() {
		if surplus == 0 {
			return
		}
		due := s.nodes[i].IdleSince.Add(s.c.IdleAfter)
		if t.now.Before(due) {
			s.recheck(due)
			return // the rest idled for less
		}
		t.drain(s, i, fmt.Sprintf("idle for %v", t.now.Sub(s.nodes[i].IdleSince).Truncate(time.Second)))
		surplus--
	}
}

// sleep switches an instance off that stood idle for as long as it may, unless a run
// waits for its agent to come back.
func (t *turn) sleep(s *site) {
	if s.c.IdleAfter <= 0 || s.off() || len(s.ask) > 0 {
		return
	}
	for _, i := range s.idle() {
		due := s.nodes[i].IdleSince.Add(s.c.IdleAfter)
		if t.now.Before(due) {
			s.recheck(due)
			return
		}
		s.s.Slept, s.wanted, t.counted = t.now, 0, false
		t.drain(s, i, s.whyLeave())
	}
}

// never says why a run can never start here as things are; empty: it can.
func (t *turn) never(s *site, need, most int) string {
	c := &s.c
	switch {
	case s.off():
		return fmt.Sprintf("The compute instance %q is stopped. Start it, or submit the run to another compute.", c.Name)
	case need > c.Max:
		return fmt.Sprintf("It needs %s, and cluster %q may have %d at most. Raise the cluster's maximum to %d or more, or ask for fewer nodes.",
			nodes(need), c.Name, c.Max, need)
	case need > most && t.room.gpus && c.Size.GPUs*need > t.room.all.GPUs:
		return fmt.Sprintf("It needs %s of %s with %d GPUs in all, and this site has %d. Choose another size, or fewer nodes.",
			nodes(need), c.Size.Name, c.Size.GPUs*need, t.room.all.GPUs)
	case need > most:
		return fmt.Sprintf("It needs %s of %s (%s in all), and this site has %s, of which other clusters keep what their minimum asks for. Choose a smaller size, lower a minimum, or let the site oversubscribe.",
			nodes(need), c.Size.Name, t.room.describe(c.Size, need), t.room.total())
	}
	return ""
}

func nodes(n int) string {
	if n == 1 {
		return "1 node"
	}
	return fmt.Sprintf("%d nodes", n)
}

// waiter is a run in the queue that may have to be told why.
type waiter struct {
	run  *queue.Run
	told string // what it was told last
	why  string // never starts as things are; empty: it may
}

// explain writes why runs wait. The sentences hold no number that changes with
// every turn: a queue of thousands is written once.
func (t *turn) explain(s *site) {
	head, told := true, 0
	others := ""
	for _, w := range s.queue {
		why := w.why
		first := head && why == ""
		switch {
		case why != "":
		case head:
			why, head = s.whyWait(w.run, true), false
		default:
			if others == "" { // the same for all of them
				others = s.whyWait(w.run, false)
			}
			why = others
		}
		if why == w.told || told == explainMost {
			continue
		}
		if ready := w.run.Submitted.Add(explainAfter); !first && w.why == "" && t.now.Before(ready) {
			s.recheck(ready) // most are served before anybody asks
			continue
		}
		told++
		rs, _ := t.status(w.run.ID)
		t.run(rs, rs.State, why)
	}
}

func (s *site) whyWait(r *queue.Run, head bool) string {
	c := &s.c
	most := fmt.Sprintf("cluster %q may have %s at most", c.Name, nodes(c.Max))
	switch {
	case !head:
		return fmt.Sprintf("Other runs come first, and %s. Raise its maximum to start sooner.", most)
	case s.block != "":
		return fmt.Sprintf("It waits for %s of cluster %q: %s.", nodes(max(1, r.Nodes)), c.Name, s.block)
	case s.coming():
		return fmt.Sprintf("It waits for %s of cluster %q to start.", nodes(max(1, r.Nodes)), c.Name)
	}
	return fmt.Sprintf("It needs %s at once, and %s, which other runs use. Raise its maximum to start sooner.", nodes(max(1, r.Nodes)), most)
}
