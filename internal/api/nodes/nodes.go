// Package nodes is the HTTP that agents call, as nodeproto's package comment
// has it: the connection with orders and reports, and bulk by requests of its
// own. A node may touch only the attempt that its row holds, and only while that
// is its run's newest: everything else is 410.
//
// Start at [Register].
package nodes

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/nodeproto"
	"github.com/ebb-compute/ebb/internal/token"
)

// Tokens says whose token a request has, and makes a run's.
type Tokens interface {
	VerifyNode(tok string) (node string, err error)
	SignRun(g token.RunGrant, now time.Time) (string, error)
	Unseal(about string, sealed []byte) ([]byte, error)
}

// Session is control's side of one agent's connection.
type Session interface {
	Desired() <-chan nodeproto.Desired // latest wins; closed when the session is over
	Report(nodeproto.Report)
	Alive() // any sign of life
	Close()
}

// Sessions is control as a connection sees it. A refusal that is
// fault.NotFound tells the agent to stop everything and end.
type Sessions interface {
	Connect(ctx context.Context, h nodeproto.Hello) (Session, error)
}

// Execs brings the commands that are wanted in a node's jobs, while its agent
// is connected.
type Execs interface {
	Attach(node string) (wanted <-chan nodeproto.Exec, detach func())
}

// Rows reads what is stored.
type Rows interface {
	View() *pool.View
	Get(ctx context.Context, key row.Key) (row.Record, error)
}

// Blobs keeps bytes. A key is "container/name".
type Blobs interface {
	// Append adds to a blob whose size is offset; otherwise fault.Conflict. It
	// returns the size in both cases. What it took is on disk.
	Append(ctx context.Context, key string, offset int64, data []byte) (size int64, err error)
	// Put writes a blob whole.
	Put(ctx context.Context, key string, body io.Reader, contentType string) (size int64, err error)
	// Open reads a blob from off on, n bytes of it; negative: to its end.
	Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error)
	// Stat says what is known of a blob; fault.NotFound.
	Stat(ctx context.Context, key string) (Blob, error)
	// Below lists the blob of a key and those below it as a folder, in order.
	Below(ctx context.Context, key string) ([]Blob, error)
	// Read reads a blob whole, if it has still this ETag; else fault.Precondition.
	Read(ctx context.Context, key, etag string) (io.ReadCloser, error)
	// Check says what is wrong with a key that no blob may have.
	Check(key string) error
	// Move gives a blob another name, in place of what has it; fault.NotFound.
	Move(ctx context.Context, from, to string) error
	// MoveAll is Move for all blobs below a prefix that ends in "/": at once, where
	// none is below the other.
	MoveAll(ctx context.Context, from, to string) error
	// Delete removes a blob; fault.NotFound.
	Delete(ctx context.Context, key string) error
}

// Blob is what is known of a blob.
type Blob struct {
	Key  string
	Size int64 // bytes
	ETag string
	// Written is as ETag, but another one only when the content is. Below leaves it out.
	Written string
}

// Assets is app/assets, for the code of runs and the files they leave.
type Assets interface {
	FilesOf(ctx context.Context, snapshot string) ([]assets.File, error)
	Record(ctx context.Context, p access.Principal, w assets.Place, container string, paths ...string) error
	Keep(ctx context.Context, p access.Principal, w assets.Place, o assets.Output) error
}

// Workspaces is app/workspaces.
type Workspaces interface {
	Lookup(ctx context.Context, id string) (workspaces.Info, error)
}

// Services is what the routes need. All fields but Execs and Log are required.
type Services struct {
	Tokens     Tokens
	Sessions   Sessions
	Rows       Rows
	Blobs      Blobs
	Assets     Assets
	Workspaces Workspaces
	Execs      Execs // default: none are brought
	// Aside reports whether a node is to be let alone, since a restore: it is told to
	// come again, and stops nothing. Default: none is.
	Aside func(node string) bool
	Epoch int64            // of the installation: raised by a restore of an older state
	Now   func() time.Time // site clock
	Log   *slog.Logger     // default: slog.Default()
}

type noExecs struct{}

func (noExecs) Attach(string) (<-chan nodeproto.Exec, func()) { return nil, func() {} }

// server answers the routes.
type server struct{ Services }

// Register adds the agents' routes. They are public to the router because a
// node's token is no principal's.
func Register(reg arm.Registrar, s Services) {
	if s.Log == nil {
		s.Log = slog.Default()
	}
	if s.Execs == nil {
		s.Execs = noExecs{}
	}
	if s.Aside == nil {
		s.Aside = func(string) bool { return false }
	}
	v := &server{s}
	reg.Public("GET "+nodeproto.Path+"connect", v.connect)
	reg.Public("GET "+nodeproto.Path+"attempts/{attempt}/task", v.task)
	reg.Public("POST "+nodeproto.Path+"attempts/{attempt}/log", v.log)
	reg.Public("PUT "+nodeproto.Path+"attempts/{attempt}/artifacts/{path...}", v.artifact)
	reg.Public("GET "+nodeproto.Path+"snapshots/{snapshot...}", v.snapshot)
	reg.Public("GET "+nodeproto.Path+"attempts/{attempt}/inputs/{name}", v.input)
	reg.Public("PUT "+nodeproto.Path+"attempts/{attempt}/outputs/{slot}/{path...}", v.output)
	reg.Public("POST "+nodeproto.Path+"attempts/{attempt}/outputs", v.settle)
}

// node returns the node that a request comes from.
func (s *server) node(r *http.Request) (string, error) {
	kind, tok, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(kind, "Bearer") || tok == "" {
		return "", fault.New(fault.Unauthorized, "", "The request has no node's bearer token.")
	}
	node, err := s.Tokens.VerifyNode(tok)
	if err != nil {
		return "", fault.New(fault.Unauthorized, "", "The bearer token is not a node's.")
	}
	if s.Aside(node) {
		return "", fault.New(fault.Unavailable, node, "The node is quarantined since a restore; its jobs may go on.")
	}
	return node, nil
}

// holding is an attempt and the node's part in it.
type holding struct {
	node    string
	attempt queue.Attempt
	run     queue.Run
	member  int
}

// errGone is answered 410: the attempt is over, whatever the agent believes.
var errGone = errors.New("the attempt is over")

// held returns the attempt that a request is about. It is errGone unless it is
// its run's newest, at the fence given, and the asking node a member of it.
func (s *server) held(r *http.Request) (holding, error) {
	node, err := s.node(r)
	if err != nil {
		return holding{}, err
	}
	fence, err := strconv.ParseInt(r.URL.Query().Get("fence"), 10, 64)
	if err != nil {
		return holding{}, fault.New(fault.Invalid, "fence", "The fence is not a number.")
	}
	view := s.Rows.View()
	a, ok := view.Attempt(r.PathValue("attempt"))
	if !ok || a.Phase == queue.Ended || a.Fence != fence {
		return holding{}, errGone
	}
	if newest, ok := view.AttemptOf(a.Run); !ok || newest.ID != a.ID {
		return holding{}, errGone
	}
	run, ok := view.Run(a.Run)
	if !ok {
		return holding{}, errGone
	}
	for i, m := range a.Members {
		if m.Node == node && m.Phase != queue.Ended {
			return holding{node: node, attempt: a, run: run, member: i}, nil
		}
	}
	return holding{}, errGone
}

// answer turns errGone into its status; other errors are the router's.
func answer(w http.ResponseWriter, err error) (int, any, error) {
	if errors.Is(err, errGone) {
		w.Header().Set("Connection", "close") // what is still being sent is not read
		return http.StatusGone, map[string]any{"error": arm.ErrorBody{Code: "AttemptOver", Message: "The attempt is over.", Details: []arm.ErrorBody{}}}, nil
	}
	return 0, nil, err
}

// place returns the workspace of a run as assets know it.
func (s *server) place(ctx context.Context, workspace string) (assets.Place, error) {
	info, err := s.Workspaces.Lookup(ctx, workspace)
	if err != nil {
		return assets.Place{}, err
	}
	return assets.Place{ID: info.ID, GUID: info.GUID}, nil
}
