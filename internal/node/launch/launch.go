// Package launch starts a member's share of a job of several processes. "ebb
// launch" is the first process in the member's world, whatever made that (mounts
// and users of this machine, a container): it checks the way to its neighbours,
// starts the processes or waits for those that another member starts here, and
// says which failed first. "ebb rsh" brings mpirun's daemons to the other members,
// by way of the nodes' agents.
//
// Start at [Main].
package launch

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/core/gang"
	"github.com/ebb-compute/ebb/internal/node/launch/rank"
)

// endWithin is how long the processes of a member have to end once one of them
// has failed; those of other members are asked meanwhile.
const endWithin = 300 * time.Millisecond

// Main is "ebb launch".
func Main() int {
	folder := os.Getenv(rank.Variable)
	s, err := rank.Load(folder)
	if err != nil {
		fmt.Fprintln(os.Stderr, "ebb launch:", err)
		return 126
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		<-signals
		stop()
	}()
	m := &member{spec: s, folder: folder, failures: make(chan rank.Failure, len(s.Processes)+1)}
	return m.run(ctx)
}

// member is a member's share, being run.
type member struct {
	spec     rank.Spec
	folder   string
	failures chan rank.Failure
}

// stopped is the exit code of what was asked to end.
const stopped = 128 + int(unix.SIGTERM)

func (m *member) run(ctx context.Context) int {
	if err := m.listen(); err != nil {
		return m.failed(rank.Failure{Code: 1, Setup: true, Message: fmt.Sprintf("The processes could not be started: %v.", err)})
	}
	if len(m.spec.Hosts) > 1 {
		switch err := checkLinks(ctx, m.spec); {
		case ctx.Err() != nil:
			return stopped
		case err != nil:
			return m.failed(rank.Failure{Code: 1, Link: true, Message: sentence(err)})
		}
	}
	switch {
	case m.spec.Kind != gang.MPI:
		return m.processes(ctx)
	case m.spec.Member == 0:
		return m.mpirun(ctx)
	}
	select { // for mpirun's daemon, which comes as a visitor
	case <-ctx.Done():
		m.awaitRanks()
		return stopped
	case f := <-m.failures:
		return m.failed(f)
	}
}

// awaitRanks returns when no rank lives here. How long they may take to end is the
// shim's to say, which kills all of them.
func (m *member) awaitRanks() {
	alive, err := os.OpenFile(filepath.Join(m.folder, "alive"), os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return
	}
	defer alive.Close()
	for unix.Flock(int(alive.Fd()), unix.LOCK_EX) == unix.EINTR {
	}
}

func sentence(err error) string {
	t := strings.TrimSuffix(err.Error(), ".") + "."
	return strings.ToUpper(t[:1]) + t[1:]
}

// listen takes the notes of ranks that others start here.
func (m *member) listen() error {
	name := filepath.Join(m.folder, "notes")
	if err := unix.Mkfifo(name, 0o600); err != nil {
		return fmt.Errorf("make %s: %w", name, err)
	}
	pipe, err := os.OpenFile(name, os.O_RDWR, 0) // so that it never ends
	if err != nil {
		return err
	}
	go func() {
		for in := bufio.NewScanner(pipe); in.Scan(); {
			var f rank.Failure
			if json.Unmarshal(in.Bytes(), &f) == nil {
				m.fail(f)
			}
		}
	}()
	return nil
}

// fail notes a failure; only the first counts.
func (m *member) fail(f rank.Failure) {
	select {
	case m.failures <- f:
	default:
	}
}

// failed says for the shim how the member failed, and returns its exit code.
func (m *member) failed(f rank.Failure) int {
	if f.At.IsZero() {
		f.At = time.Now().UTC()
	}
	if f.Message != "" {
		fmt.Fprintln(os.Stderr, f.Message)
	}
	b, err := json.Marshal(f)
	if err == nil {
		tmp := filepath.Join(m.folder, ".failed.json")
		if err = os.WriteFile(tmp, b, 0o600); err == nil {
			err = os.Rename(tmp, filepath.Join(m.folder, "failed.json"))
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ebb launch:", err)
	}
	return max(f.Code, 1)
}

// processes starts a member's processes and waits until those that do not serve
// have ended well, or one has failed.
func (m *member) processes(ctx context.Context) int {
	type end struct{ i, code int }
	ends := make(chan end, len(m.spec.Processes))
	var running []*rank.Running
	leading := 0
	for i, p := range m.spec.Processes {
		r, err := rank.Start(m.spec, p, os.Environ())
		if err != nil {
			m.fail(rank.NotStarted(p.Rank, m.spec.Argv, err))
			break
		}
		running = append(running, r)
		if !p.Serves {
			leading++
		}
		go func() { ends <- end{i, r.Wait()} }()
	}
	left := len(running)
	alone := leading == 0 // all serve others
	for left > 0 && (leading > 0 || alone) {
		select {
		case f := <-m.failures:
			m.finish(running, func() { <-ends }, left)
			return m.failed(f)
		case <-ctx.Done():
			for _, r := range running {
				if m.spec.Forward {
					r.Signal(unix.SIGTERM)
				}
			}
			for ; left > 0; left-- {
				<-ends // or the shim's patience ends
			}
			return stopped
		case e := <-ends:
			left--
			p := m.spec.Processes[e.i]
			if e.code != 0 {
				m.fail(rank.Failure{Rank: p.Rank, Code: e.code, At: time.Now().UTC()})
			} else if !p.Serves {
				leading--
			}
		}
	}
	select {
	case f := <-m.failures: // of the last one, or none was started
		return m.failed(f)
	default:
	}
	m.finish(running, func() { <-ends }, left)
	return 0
}

// finish asks what is left to end, and waits a moment. The shim ends the rest.
func (m *member) finish(running []*rank.Running, one func(), left int) {
	for _, r := range running {
		r.Signal(unix.SIGTERM)
	}
	done := make(chan struct{})
	go func() {
		for range left {
			one()
		}
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(endWithin):
	}
}
