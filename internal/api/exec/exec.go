// Package exec lets a user run a command inside a running job. Nodes only dial
// out, so the server asks the job's agent over its connection, the agent dials
// back, and the server carries messages between the two without looking at them.
//
// A command is a session of its two connections and nothing else: when either
// ends, so does the other, and the agent kills the command. Start at [Broker].
package exec

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

const (
	dialBack   = 15 * time.Second // within which an agent answers
	maxMessage = 1 << 20          // bytes
	maxArgs    = 256
	workspace  = "/subscriptions/{sub}/resourceGroups/{rg}/providers/Microsoft.MachineLearningServices/workspaces/{ws}"
)

// Jobs is app/jobs.
type Jobs interface {
	Workspace(ctx context.Context, p access.Principal, id string) (jobs.Workspace, error)
	Get(ctx context.Context, p access.Principal, w jobs.Workspace, name string) (*jobs.Job, error)
}

// Services is what the routes need. All fields are required.
type Services struct {
	Jobs       Jobs
	View       func() *pool.View
	VerifyNode func(tok string) (node string, err error)
	Broker     *Broker
}

type server struct{ Services }

// Register adds the routes: the user's, and the agents'.
func Register(reg arm.Registrar, s Services) {
	v := &server{s}
	reg.Handle("GET /ebb/v1"+workspace+"/jobs/{run}/exec", v.user)
	reg.Public("GET "+nodeproto.Path+"execs/{id}", v.agent)
	reg.Public("GET "+nodeproto.Path+"attempts/{attempt}/members/{member}/exec", v.member)
}

// Broker knows which agents are connected, and who waits for one to dial back.
// The zero value works.
type Broker struct {
	mu      sync.Mutex
	agents  map[string]chan nodeproto.Exec
	pending map[string]*pending // by id
}

// pending is a user who waits for an agent.
type pending struct {
	node   string
	dialed chan *websocket.Conn
	over   chan struct{} // closed when the user's side has ended
}

// Attach says that a node's agent is connected; the newest connection counts.
func (b *Broker) Attach(node string) (wanted <-chan nodeproto.Exec, detach func()) {
	ch := make(chan nodeproto.Exec)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.agents == nil {
		b.agents = map[string]chan nodeproto.Exec{}
	}
	b.agents[node] = ch
	return ch, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.agents[node] == ch {
			delete(b.agents, node)
		}
	}
}

// open asks a node's agent for a command, and returns its connection. The caller
// closes over when it is done with it.
func (b *Broker) open(ctx context.Context, node string, x nodeproto.Exec) (*websocket.Conn, func(), error) {
	p := &pending{node: node, dialed: make(chan *websocket.Conn), over: make(chan struct{})}
	b.mu.Lock()
	agent, ok := b.agents[node]
	if ok {
		if b.pending == nil {
			b.pending = map[string]*pending{}
		}
		b.pending[x.ID] = p
	}
	b.mu.Unlock()
	if !ok {
		return nil, nil, fault.Coded(fault.Conflict, "NodeUnreachable", node, "The job's node %s is not connected just now; try again in a moment.", node)
	}
	end := sync.OnceFunc(func() {
		b.mu.Lock()
		delete(b.pending, x.ID)
		b.mu.Unlock()
		close(p.over)
	})
	ctx, cancel := context.WithTimeout(ctx, dialBack)
	defer cancel()
	for {
		select {
		case agent <- x:
			agent = nil // once
		case conn := <-p.dialed:
			return conn, end, nil
		case <-ctx.Done():
			end()
			return nil, nil, fault.Coded(fault.Conflict, "NodeUnreachable", node,
				"The agent of the job's node %s did not answer within %s; an agent that is older than the server may not know of commands in jobs.", node, dialBack)
		}
	}
}

// agent is an agent that dials back.
func (s *server) agent(w http.ResponseWriter, r *http.Request) (int, any, error) {
	_, tok, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	node, err := s.VerifyNode(tok)
	if err != nil {
		return 0, nil, fault.New(fault.Unauthorized, "", "The bearer token is not a node's.")
	}
	b := s.Broker
	b.mu.Lock()
	p, ok := b.pending[r.PathValue("id")]
	b.mu.Unlock()
	if !ok || p.node != node {
		return 0, nil, fault.New(fault.NotFound, "", "Nobody waits for this command.")
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return 0, nil, nil // Accept has answered
	}
	defer conn.CloseNow()
	select {
	case p.dialed <- conn:
		<-p.over
	case <-p.over:
	}
	return 0, nil, nil
}

// user is a user who wants a command: query arg (again for each argument), tty,
// term, rows, cols, and node (which of the job's, from 0).
func (s *server) user(w http.ResponseWriter, r *http.Request) (int, any, error) {
	node, x, err := s.wish(r)
	if err != nil {
		return 0, nil, err
	}
	return s.serve(w, r, node, x)
}

// serve brings a command to a node, and carries its bytes.
func (s *server) serve(w http.ResponseWriter, r *http.Request, node string, x nodeproto.Exec) (int, any, error) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return 0, nil, fault.Coded(fault.Invalid, "UpgradeRequired", "", "A command in a job needs a WebSocket.")
	}
	agent, end, err := s.Broker.open(r.Context(), node, x)
	if err != nil {
		return 0, nil, err
	}
	defer end()
	user, err := websocket.Accept(w, r, nil)
	if err != nil {
		return 0, nil, nil // Accept has answered
	}
	defer user.CloseNow()
	relay(r.Context(), user, agent, end)
	return 0, nil, nil
}

func (s *server) wish(r *http.Request) (node string, x nodeproto.Exec, err error) {
	ctx := r.Context()
	p := arm.Caller(ctx)
	if p.Kind == access.RunIdentity {
		return "", x, fault.Coded(fault.Forbidden, "AuthorizationFailed", "", "A run's token may not run commands in jobs.")
	}
	ws, err := s.Jobs.Workspace(ctx, p, armid.Workspace(r.PathValue("sub"), r.PathValue("rg"), r.PathValue("ws")))
	if err != nil {
		return "", x, err
	}
	job, err := s.Jobs.Get(ctx, p, ws, r.PathValue("run"))
	if err != nil {
		return "", x, err
	}
	q := r.URL.Query()
	x = nodeproto.Exec{ID: rand.Text(), Argv: q["arg"], Terminal: q.Get("tty") == "true", Term: q.Get("term"), Rows: size(q, "rows"), Cols: size(q, "cols")}
	if len(x.Argv) == 0 || len(x.Argv) > maxArgs || x.Argv[0] == "" {
		return "", x, fault.Coded(fault.Invalid, "InvalidCommand", "arg", "Name a command, with at most %d arguments.", maxArgs-1)
	}
	if job.Status.State != queue.Running {
		return "", x, fault.Coded(fault.Conflict, "JobNotRunning", job.Name, "The job %q is %s; a command can be run in it only while it is Running.", job.Name, job.State())
	}
	a, ok := s.View().AttemptOf(job.Run)
	n := size(q, "node")
	if !ok || n >= len(a.Members) {
		return "", x, fault.Coded(fault.Conflict, "JobNotOnNode", job.Name, "The job %q has no process on a node %d of this server.", job.Name, n)
	}
	x.Attempt = a.ID
	return a.Members[n].Node, x, nil
}

// member is a node of a gang that wants a command on another one: mpirun's daemon.
// The command goes on when either connection ends, as when a server starts anew.
func (s *server) member(w http.ResponseWriter, r *http.Request) (int, any, error) {
	_, tok, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	from, err := s.VerifyNode(tok)
	if err != nil {
		return 0, nil, fault.New(fault.Unauthorized, "", "The bearer token is not a node's.")
	}
	q := r.URL.Query()
	fence, _ := strconv.ParseInt(q.Get("fence"), 10, 64)
	a, ok := s.View().Attempt(r.PathValue("attempt"))
	if !ok || a.Fence != fence || a.Phase == queue.Ended || a.Stop != "" {
		return 0, nil, fault.Coded(fault.Conflict, "AttemptOver", "", "The attempt is over, or to end.")
	}
	n, err := strconv.Atoi(r.PathValue("member"))
	me := slices.IndexFunc(a.Members, func(m queue.Member) bool { return m.Node == from })
	if err != nil || me < 0 || n < 0 || n >= len(a.Members) || n == me {
		return 0, nil, fault.New(fault.NotFound, "", "The node is no other member of the attempt.")
	}
	x := nodeproto.Exec{ID: q.Get("id"), Attempt: a.ID, Argv: q["arg"], Keep: true}
	if len(x.ID) < 20 {
		return 0, nil, fault.Coded(fault.Invalid, "InvalidCommand", "id", "The command has no id of its own.")
	}
	if len(x.Argv) == 0 || len(x.Argv) > maxArgs {
		return 0, nil, fault.Coded(fault.Invalid, "InvalidCommand", "arg", "No command is named.")
	}
	return s.serve(w, r, a.Members[n].Node, x)
}

// size reads a small number; 0 where there is none.
func size(q url.Values, name string) int {
	n, err := strconv.ParseUint(q.Get(name), 10, 15)
	if err != nil {
		return 0
	}
	return int(n)
}

// relay carries messages both ways until either side ends, and lets the other
// know how. From then on nobody waits for the agent, which end says.
func relay(ctx context.Context, user, agent *websocket.Conn, end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	over := make(chan struct{}, 2)
	carry := func(from, to *websocket.Conn) {
		defer func() { over <- struct{}{} }()
		from.SetReadLimit(maxMessage)
		for {
			kind, b, err := from.Read(ctx)
			if err != nil {
				if websocket.CloseStatus(err) == websocket.StatusNormalClosure {
					_ = to.Close(websocket.StatusNormalClosure, "")
				}
				return
			}
			if to.Write(ctx, kind, b) != nil {
				return
			}
		}
	}
	wg.Go(func() { carry(user, agent) })
	wg.Go(func() { carry(agent, user) })
	<-over
	end()
	_ = user.CloseNow()
	_ = agent.CloseNow()
}
