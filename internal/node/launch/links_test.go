package launch

import (
	"context"
	"crypto/rand"
	"fmt"
	mrand "math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/core/gang"
	"github.com/ebb-compute/ebb/internal/node/launch/rank"
)

// ring is a job's nodes that no other test has, here or beside us.
func ring(n int) []links {
	run, third := rand.Text(), 1+mrand.IntN(250)
	var hosts []gang.Host
	for i := range n {
		hosts = append(hosts, gang.Host{Node: fmt.Sprint("node-", i), Address: fmt.Sprintf("127.78.%d.%d", third, i+1)})
	}
	var out []links
	for i := range n {
		out = append(out, links{rank.Spec{Plan: gang.Spread{}.Plan(run, hosts, i), Attempt: run + ".1"}, 20 * time.Second})
	}
	return out
}

func checkAll(t *testing.T, all []links) []error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, l := range all {
		wg.Go(func() {
			var speed float64
			if speed, errs[i] = l.check(ctx); errs[i] == nil && speed <= 0 {
				errs[i] = fmt.Errorf("speed %g", speed)
			}
			if errs[i] != nil {
				cancel() // as the server stops a gang of which one has failed
			}
		})
	}
	wg.Wait()
	return errs
}

func TestLinksThatWork(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 5} {
		for i, err := range checkAll(t, ring(n)) {
			if err != nil {
				t.Errorf("member %d of %d: %v", i, n, err)
			}
		}
	}
}

// A link that is broken is named with both of its ends, and nobody goes on.
func TestABrokenLinkIsNamed(t *testing.T) {
	t.Parallel()
	all := ring(4)
	for i := range all {
		all[i].within = 2 * time.Second
	}
	all[1].spec.Hosts = append([]gang.Host{}, all[1].spec.Hosts...)
	all[1].spec.Hosts[2].Address = "127.79.0.9" // where nobody listens
	named := false
	for i, err := range checkAll(t, all) {
		if err == nil {
			t.Errorf("member %d goes on", i)
		}
		if i == 1 {
			named = strings.Contains(err.Error(), "node-1 (1 of the job's 4 nodes, "+all[1].spec.Hosts[1].Address+") cannot reach node node-2 (2 of the job's 4 nodes, 127.79.0.9)")
		}
	}
	if !named {
		t.Error("the broken link is not named")
	}
}

// A stranger on the port is no neighbour.
func TestAStrangerOnThePortIsPassedOver(t *testing.T) {
	t.Parallel()
	all, other := ring(2), ring(2)[1]
	other.spec.Check, other.spec.Hosts = all[1].spec.Check, all[1].spec.Hosts
	in, err := other.listen()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	go func() { _, _ = other.accept(in) }()
	for i, err := range checkAll(t, all) {
		if err != nil {
			t.Errorf("member %d: %v", i, err)
		}
	}
}
