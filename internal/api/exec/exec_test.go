package exec_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/api/exec"
	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
)

const path = "/ebb/v1/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/jobs/"

// everyJob knows jobs by their state.
type everyJob struct{}

func (everyJob) Workspace(context.Context, access.Principal, string) (jobs.Workspace, error) {
	return jobs.Workspace{}, nil
}

func (everyJob) Get(_ context.Context, _ access.Principal, _ jobs.Workspace, name string) (*jobs.Job, error) {
	j := &jobs.Job{}
	j.Name, j.Run, j.Status.State = name, "run", queue.State(name)
	return j, nil
}

// tokens are the names of those who have them.
type tokens struct{}

func (tokens) Verify(tok string) (access.Principal, error) {
	if tok == "job" {
		return access.Principal{ID: tok, Kind: access.RunIdentity}, nil
	}
	return access.Principal{ID: tok, Kind: access.Application}, nil
}

func node(tok string) (string, error) {
	if !strings.HasPrefix(tok, "cpu-") {
		return "", errors.New("not a node's")
	}
	return tok, nil
}

func boot(t *testing.T) (*httptest.Server, *exec.Broker) {
	t.Helper()
	a := queue.Attempt{ID: "run.1", Run: "run", N: 1, Phase: queue.InRunning, Members: []queue.Member{{Node: "cpu-1"}}}
	gang := queue.Attempt{ID: "gang.1", Run: "gang", N: 1, Fence: 7, Phase: queue.InRunning, Members: []queue.Member{{Node: "cpu-4"}, {Node: "cpu-5"}}}
	r := queue.Run{ID: "run", Cluster: "c"}
	st := queue.Status{ID: "run", State: queue.Running}
	view := pool.New().Apply(row.Put(r), row.Put(st), row.Put(a), row.Put(gang))
	b := &exec.Broker{}
	rt := &arm.Router{Auth: tokens{}, Log: slog.New(slog.DiscardHandler)}
	exec.Register(rt, exec.Services{Jobs: everyJob{}, View: func() *pool.View { return view }, VerifyNode: node, Broker: b})
	s := httptest.NewServer(rt)
	t.Cleanup(s.Close)
	return s, b
}

// dial opens a WebSocket, or returns how it was refused.
func dial(t *testing.T, url, token string) (*websocket.Conn, int, string) {
	t.Helper()
	conn, res, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}})
	if err == nil {
		t.Cleanup(func() { _ = conn.CloseNow() })
		return conn, http.StatusSwitchingProtocols, ""
	}
	if res == nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	return nil, res.StatusCode, string(body)
}

func TestWhoMayRunCommandsInWhichJobs(t *testing.T) {
	t.Parallel()
	s, _ := boot(t)
	for name, c := range map[string]struct {
		token, job string
		status     int
		words      string
	}{
		"a job may not":                  {"job", "Running?arg=ls", 403, "AuthorizationFailed"},
		"a job that waits has no world":  {"me", "Queued?arg=ls", 409, "is Queued"},
		"nor has one that is over":       {"me", "Failed?arg=ls", 409, "is Failed"},
		"a command is needed":            {"me", "Running", 400, "InvalidCommand"},
		"the node is away":               {"me", "Running?arg=ls", 409, "cpu-1 is not connected"},
		"a node that the job has not":    {"me", "Running?arg=ls&node=1", 409, "JobNotOnNode"},
		"more arguments than are served": {"me", "Running?arg=ls" + strings.Repeat("&arg=a", 300), 400, "InvalidCommand"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			job, query, _ := strings.Cut(c.job, "?")
			if _, status, words := dial(t, s.URL+path+job+"/exec?"+query, c.token); status != c.status || !strings.Contains(words, c.words) {
				t.Errorf("%d %s; want %d with %q", status, words, c.status, c.words)
			}
		})
	}
}

// Messages go through as they are; only the node that was asked may answer, and
// once; when one side leaves the other is told.
func TestTheAgentDialsBackAndMessagesGoThrough(t *testing.T) {
	t.Parallel()
	s, b := boot(t)
	wanted, detach := b.Attach("cpu-1")
	type dialed struct {
		conn   *websocket.Conn
		status int
	}
	user := make(chan dialed)
	go func() {
		conn, status, _ := dial(t, s.URL+path+"Running/exec?arg=echo&arg=a+b&tty=true&rows=30&cols=100&term=vt100", "me")
		user <- dialed{conn, status}
	}()
	x := <-wanted
	if x.Attempt != "run.1" || len(x.Argv) != 2 || x.Argv[1] != "a b" || !x.Terminal || x.Rows != 30 || x.Cols != 100 || x.Term != "vt100" || len(x.ID) < 20 {
		t.Errorf("asked for: %+v", x)
	}
	for token, want := range map[string]int{"cpu-2": 404, "me": 401} {
		if _, status, _ := dial(t, s.URL+"/ebb/nodes/v1/execs/"+x.ID, token); status != want {
			t.Errorf("%s dials: %d, want %d", token, status, want)
		}
	}
	agent, status, words := dial(t, s.URL+"/ebb/nodes/v1/execs/"+x.ID, "cpu-1")
	if agent == nil {
		t.Fatalf("the agent dials: %d %s", status, words)
	}
	u := <-user
	if u.conn == nil {
		t.Fatalf("the user dials: %d", u.status)
	}
	for from, to := range map[*websocket.Conn]*websocket.Conn{agent: u.conn, u.conn: agent} {
		if err := from.Write(t.Context(), websocket.MessageBinary, []byte{3, 'x'}); err != nil {
			t.Fatal(err)
		}
		if _, got, err := to.Read(t.Context()); err != nil || string(got) != "\x03x" {
			t.Errorf("%q, %v", got, err)
		}
	}
	_ = u.conn.CloseNow()
	if _, _, err := agent.Read(t.Context()); err == nil {
		t.Error("the agent was not told that its user left")
	}
	if _, status, _ := dial(t, s.URL+"/ebb/nodes/v1/execs/"+x.ID, "cpu-1"); status != http.StatusNotFound {
		t.Errorf("a second answer: %d", status)
	}
	detach()
	if _, status, _ := dial(t, s.URL+path+"Running/exec?arg=ls", "me"); status != 409 {
		t.Errorf("after the agent left: %d", status)
	}
}

// A node may start a command on another member of the gang that it has, and
// nowhere else.
func TestWhichNodesMayStartCommandsOnWhich(t *testing.T) {
	t.Parallel()
	s, b := boot(t)
	at := s.URL + "/ebb/nodes/v1/attempts/"
	for name, c := range map[string]struct {
		token, url string
		status     int
	}{
		"a stranger":                  {"me", "gang.1/members/1/exec?id=ABCDEFGHIJKLMNOPQRSTUVWXYZ&fence=7&arg=ls", 401},
		"a node of another job":       {"cpu-1", "gang.1/members/1/exec?id=ABCDEFGHIJKLMNOPQRSTUVWXYZ&fence=7&arg=ls", 404},
		"on itself":                   {"cpu-4", "gang.1/members/0/exec?id=ABCDEFGHIJKLMNOPQRSTUVWXYZ&fence=7&arg=ls", 404},
		"on one that is not there":    {"cpu-4", "gang.1/members/2/exec?id=ABCDEFGHIJKLMNOPQRSTUVWXYZ&fence=7&arg=ls", 404},
		"on one before the first":     {"cpu-4", "gang.1/members/-1/exec?id=ABCDEFGHIJKLMNOPQRSTUVWXYZ&fence=7&arg=ls", 404},
		"with an old fence":           {"cpu-4", "gang.1/members/1/exec?fence=6&arg=ls", 409},
		"of an attempt that is over":  {"cpu-4", "gang.0/members/1/exec?id=ABCDEFGHIJKLMNOPQRSTUVWXYZ&fence=7&arg=ls", 409},
		"without a command":           {"cpu-4", "gang.1/members/1/exec?id=ABCDEFGHIJKLMNOPQRSTUVWXYZ&fence=7", 400},
		"without an id":               {"cpu-4", "gang.1/members/1/exec?fence=7&arg=ls", 400},
		"while the other is not here": {"cpu-4", "gang.1/members/1/exec?id=ABCDEFGHIJKLMNOPQRSTUVWXYZ&fence=7&arg=ls", 409},
	} {
		if _, status, words := dial(t, at+c.url, c.token); status != c.status {
			t.Errorf("%s: %d %s, want %d", name, status, words, c.status)
		}
	}
	wanted, detach := b.Attach("cpu-5")
	defer detach()
	go func() { // ends with the test, refused
		_, _, _ = websocket.Dial(t.Context(), at+"gang.1/members/1/exec?id=ABCDEFGHIJKLMNOPQRSTUVWXYZ&fence=7&arg=orted", &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer cpu-4"}}})
	}()
	if x := <-wanted; x.Attempt != "gang.1" || !x.Keep || len(x.Argv) != 1 || x.Argv[0] != "orted" {
		t.Errorf("asked for: %+v", x)
	}
}
