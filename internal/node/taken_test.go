package node_test

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/node"
	"github.com/ebb-compute/ebb/internal/node/shim"
)

// witness are shims that look what is on disk when one is started.
type witness struct {
	*shimmed
	t     *testing.T
	known atomic.Bool
}

func (w *witness) Start(dir string, spec shim.Spec) error {
	text, err := os.ReadFile(filepath.Join(dir, "..", "..", "memory"))
	if err != nil {
		w.t.Error(err)
	}
	copied := w.t.TempDir()
	if err := os.WriteFile(filepath.Join(copied, "memory"), text, 0o600); err != nil {
		w.t.Error(err)
	}
	_, _, taken, err := node.OpenLedger(copied)
	if err != nil {
		w.t.Error(err)
	}
	_, known := taken[filepath.Base(dir)]
	w.known.Store(known)
	return w.shimmed.Start(dir, spec)
}

// That an attempt is started here is on disk before it is, whatever number its
// order has: a server may say more under the one that it used before.
func TestAnAttemptIsWrittenDownBeforeItStarts(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]int64{"in a new order": 1, "in an order of the same number": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, f := newSite(t), &witness{shimmed: newShims(), t: t}
			m := newMachine(t, s, f, &prepared{})
			s.want(give())
			await(t, "the first order", func() bool {
				s.mu.Lock()
				defer s.mu.Unlock()
				return s.report.Revision == s.desired.Revision
			})
			s.mu.Lock()
			s.desired.Revision += more
			give(wanted("r.1", 1))(&s.desired)
			s.mu.Unlock()
			s.poke()
			m.awaitPhase("r.1", queue.InRunning)
			if !f.known.Load() {
				t.Error("r.1 was started and is not in the journal")
			}
		})
	}
}
