package node_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// A server is restored to a copy from before outputs came, while they come. What it
// takes for the whole is the whole, however late the agent hears of it.
func TestDeliveryToAServerThatIsRestored(t *testing.T) {
	t.Parallel()
	const epoch, files, words = 1 << 25, 8, "said before\n"
	restored := func(d *nodeproto.Desired) { d.Term, d.Revision, d.Epoch = epoch+1, 1, epoch }
	for name, heard := range map[string]func(*site, *machine){
		"and is heard of when all is said to be over": func(s *site, m *machine) { m.awaitPhase("r.1", queue.Ended) },
		"and is heard of by the next agent": func(s *site, m *machine) {
			m.awaitPhase("r.1", queue.Ended)
			if err := m.stop(); err != nil {
				t.Error(err)
			}
			m.start()
		},
		"and is heard of at once": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, f := newSite(t), newShims()
			m := newMachine(t, s, f, &prepared{})
			s.want(give(wanted("r.1", 1)))
			m.awaitPhase("r.1", queue.InRunning)
			m.print("r.1", words)
			for _, at := range []string{"work/outputs", "outputs/model"} {
				if err := os.MkdirAll(filepath.Join(m.attempt("r.1"), at), 0o755); err != nil {
					t.Fatal(err)
				}
				for i := range files {
					if err := os.WriteFile(filepath.Join(m.attempt("r.1"), at, fmt.Sprint(i)), []byte("fine"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			lost := make(chan struct{})
			s.mu.Lock()
			s.lose = func() {
				clear(s.artifacts)
				clear(s.logs)
				restored(&s.desired)
				close(lost)
			}
			s.mu.Unlock()
			exited(f, m.attempt("r.1"))
			<-lost
			if heard != nil {
				heard(s, m)
			}
			s.want(restored)
			await(t, "the end in this epoch", func() bool {
				s.mu.Lock()
				defer s.mu.Unlock()
				a := s.report.Attempts
				return len(a) == 1 && a[0].Phase == queue.Ended && a[0].Epoch != nil && *a[0].Epoch == epoch
			})
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.artifacts) != files || len(s.kept) != files || len(s.settled) != 1 {
				t.Errorf("there are %d outputs and %d named ones of %d, settled %q", len(s.artifacts), len(s.kept), files, s.settled)
			}
			if got := string(s.logs["r.1 user_logs/std_log.txt"]); got != words {
				t.Errorf("the log is %q, want %q", got, words)
			}
		})
	}
}
