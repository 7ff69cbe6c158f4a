package nodes_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/api/nodes"
	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/nodeproto"
	"github.com/ebb-compute/ebb/internal/token"
)

const (
	ws      = "/subscriptions/s/resourceGroups/ebb/providers/Microsoft.MachineLearningServices/workspaces/main"
	cluster = "/subscriptions/s/resourcegroups/ebb/providers/microsoft.machinelearningservices/workspaces/main/computes/gpu"
	code    = "/subscriptions/s/resourcegroups/ebb/providers/microsoft.machinelearningservices/workspaces/main/snapshots/5e"
)

// bench is everything behind the routes, in memory.
type bench struct {
	mu       sync.Mutex
	view     *pool.View
	task     queue.Task
	blobs    map[string][]byte
	recorded []string
	refuse   error
	sessions []*session
	url      string
	mortal   bool // moves fail once moves is 0
	moves    int
}

func (b *bench) services() nodes.Services {
	return nodes.Services{Tokens: b, Sessions: b, Rows: b, Blobs: b, Assets: b, Workspaces: b, Epoch: 3, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
}

func (b *bench) VerifyNode(tok string) (string, error) {
	node, ok := strings.CutPrefix(tok, "node:")
	if !ok {
		return "", errors.New("not a node's")
	}
	return node, nil
}

func (b *bench) SignRun(g token.RunGrant, _ time.Time) (string, error) {
	return fmt.Sprintf("run:%s:%d", g.Run, g.Fence), nil
}

func (b *bench) Unseal(about string, sealed []byte) ([]byte, error) {
	password, ok := strings.CutPrefix(string(sealed), about+": ")
	if !ok {
		return nil, fault.New(fault.Conflict, about, "A secret does not open.")
	}
	return []byte(password), nil
}

func (b *bench) View() *pool.View {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.view
}

func (b *bench) apply(c ...row.Change) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.view = b.view.Apply(c...)
}

func (b *bench) Get(_ context.Context, k row.Key) (row.Record, error) {
	if k.Kind != row.Task || k.ID != b.task.Run {
		return row.Record{}, fault.New(fault.NotFound, k.ID, "There is none.")
	}
	body, err := json.Marshal(b.task)
	return row.Record{Row: row.Document{Kind: k.Kind, ID: k.ID, Body: body}}, err
}

func (b *bench) Append(_ context.Context, key string, offset int64, data []byte) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if size := int64(len(b.blobs[key])); size != offset {
		return size, fault.New(fault.Conflict, key, "The blob has %d bytes.", size)
	}
	b.blobs[key] = append(b.blobs[key], data...)
	return int64(len(b.blobs[key])), nil
}

func (b *bench) Put(_ context.Context, key string, body io.Reader, _ string) (int64, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.blobs[key] = data
	return int64(len(data)), nil
}

func (b *bench) Open(_ context.Context, key string, _, _ int64) (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	data, ok := b.blobs[key]
	if !ok {
		return nil, fault.New(fault.NotFound, key, "There is none.")
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (b *bench) FilesOf(context.Context, string) ([]assets.File, error) {
	return []assets.File{{Path: "train.py", Key: "snapshots-w/1", Size: 5}, {Path: "lib/a b.py", Key: "snapshots-w/2", Size: 3, Written: fmt.Sprint(crc32.ChecksumIEEE([]byte("x=1")))}}, nil
}

func (b *bench) Record(_ context.Context, p access.Principal, _ assets.Place, container string, paths ...string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.recorded = append(b.recorded, p.Run+" "+container+" "+strings.Join(paths, ","))
	return nil
}

func (b *bench) Lookup(context.Context, string) (workspaces.Info, error) {
	return workspaces.Info{ID: ws, Name: "main", GUID: "W", Region: "westus2", Subscription: "s", Group: "ebb"}, nil
}

func (b *bench) Connect(_ context.Context, h nodeproto.Hello) (nodes.Session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refuse != nil {
		return nil, b.refuse
	}
	s := &session{hello: h, desired: make(chan nodeproto.Desired, 1), reports: make(chan nodeproto.Report, 9), closed: make(chan struct{})}
	b.sessions = append(b.sessions, s)
	s.desired <- nodeproto.Desired{Term: 1, Revision: 7}
	return s, nil
}

type session struct {
	hello   nodeproto.Hello
	desired chan nodeproto.Desired
	reports chan nodeproto.Report
	closed  chan struct{}
}

func (s *session) Desired() <-chan nodeproto.Desired { return s.desired }
func (s *session) Report(r nodeproto.Report)         { s.reports <- r }
func (s *session) Alive()                            {}
func (s *session) Close()                            { close(s.closed) }

// attempt is the run's n-th try on node gpu-0.
func attempt(n int, phase queue.Phase) queue.Attempt {
	return queue.Attempt{
		ID: fmt.Sprintf("r.%d", n), Run: "r", N: n, Cluster: cluster, Fence: int64(10 + n), Phase: phase,
		Members: []queue.Member{{Node: "gpu-0", Phase: phase}},
	}
}

func open(t *testing.T) *bench {
	t.Helper()
	b := &bench{view: pool.New(), blobs: map[string][]byte{"snapshots-w/1": []byte("print"), "snapshots-w/2": []byte("x=1")}}
	b.task = queue.Task{Run: "r", Name: "digits_1", Experiment: "digits", ExperimentID: "e", Code: code, Script: "train.py"}
	b.apply(
		row.Put(fleet.Cluster{ID: cluster, Name: "gpu", Prefix: "gpu", Workspace: strings.ToLower(ws), Region: "westus2", Size: fleet.Size{Name: "STANDARD_NC6", VCPUs: 6, MemoryGiB: 56, GPUs: 1}}),
		row.Put(fleet.Node{ID: "gpu-0", Cluster: cluster, State: fleet.Busy, Attempt: "r.1"}),
		row.Put(fleet.Node{ID: "gpu-1", Cluster: cluster, State: fleet.Idle}),
		row.Put(queue.Run{ID: "r", Name: "digits_1", Workspace: strings.ToLower(ws), Cluster: cluster, Nodes: 1}),
		row.Put(queue.Status{ID: "r", State: queue.Running, Attempts: 1}),
		row.Put(attempt(1, queue.InRunning)),
	)
	log := slog.New(slog.DiscardHandler) // a connection ends after its test
	rt := &arm.Router{Log: log}
	services := b.services()
	services.Aside = func(node string) bool { return strings.HasPrefix(node, "aside-") }
	nodes.Register(rt, services)
	srv := httptest.NewServer(rt)
	t.Cleanup(srv.Close)
	b.url = srv.URL + nodeproto.Path
	return b
}

// ask makes one request as a node and returns status and body.
func (b *bench) ask(t *testing.T, node, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, b.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if node != "" {
		req.Header.Set("Authorization", "Bearer "+node)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(out)
}

func TestOrderHasTaskSizeAndVariables(t *testing.T) {
	t.Parallel()
	b := open(t)
	status, body := b.ask(t, "node:gpu-0", "GET", "attempts/r.1/task?fence=11", "")
	if status != http.StatusOK {
		t.Fatalf("status %d: %s", status, body)
	}
	var o nodeproto.Order
	if err := json.Unmarshal([]byte(body), &o); err != nil {
		t.Fatal(err)
	}
	if o.Task.Script != "train.py" || o.Number != 1 || o.VCPUs != 6 || o.LogName != "user_logs/std_log.txt" {
		t.Fatalf("order = %+v", o)
	}
	base := "https://" + strings.TrimSuffix(strings.TrimPrefix(b.url, "http://"), nodeproto.Path)
	want := map[string]string{
		"AZUREML_RUN_ID": "digits_1", "AZUREML_RUN_TOKEN": "run:r:11", "AZUREML_SERVICE_ENDPOINT": base,
		"AZUREML_DISCOVERY_SERVICE_ENDPOINT": base + "/discovery", "AZUREML_ARM_SUBSCRIPTION": "s", "AZUREML_ARM_RESOURCEGROUP": "ebb",
		"AZUREML_ARM_WORKSPACE_NAME": "main", "AZUREML_ARM_PROJECT_NAME": "digits", "AZUREML_EXPERIMENT_ID": "e", "AZUREML_WORKSPACE_ID": "W",
		"AZUREML_WORKSPACE_SCOPE": ws, "AZUREML_DATA_CONTAINER_ID": "dcid.digits_1", "AZUREML_NODE_COUNT": "1", "AZUREML_CR_NODE_RANK": "0",
		"AZ_BATCH_NODE_IS_DEDICATED": "true", "AZ_BATCH_IS_CURRENT_NODE_MASTER": "true",
		"MLFLOW_TRACKING_URI": strings.Replace(base, "https:", "azureml:", 1) + "/mlflow/v1.0" + ws, "MLFLOW_TRACKING_TOKEN": "run:r:11",
		"MLFLOW_RUN_ID": "digits_1", "MLFLOW_EXPERIMENT_ID": "e", "MLFLOW_EXPERIMENT_NAME": "digits",
	}
	for k, v := range want {
		if o.Variables[k] != v {
			t.Errorf("%s = %q, want %q", k, o.Variables[k], v)
		}
	}
	for k := range o.Variables {
		if strings.HasPrefix(k, "MSI") {
			t.Errorf("%s is set, and there is no such service", k)
		}
	}
}

// The password of a registry is opened for the node that pulls from it, and for nobody else.
func TestAnOrderHasThePasswordOfItsRegistry(t *testing.T) {
	t.Parallel()
	b := open(t)
	about := assets.AboutRegistry(strings.ToLower(ws), "r.example.com")
	b.task.Environment.Registry = &queue.Registry{Address: "r.example.com", Username: "u", Sealed: []byte(about + ": hunter2")}
	status, body := b.ask(t, "node:gpu-0", "GET", "attempts/r.1/task?fence=11", "")
	var o nodeproto.Order
	if err := json.Unmarshal([]byte(body), &o); status != http.StatusOK || err != nil {
		t.Fatalf("%d %s, %v", status, body, err)
	}
	if r := o.Task.Environment.Registry; r == nil || r.Password != "hunter2" || r.Username != "u" || r.Sealed != nil {
		t.Errorf("the order has %+v", r)
	}
	b.task.Environment.Registry.Address = "evil.example.com"
	if status, body := b.ask(t, "node:gpu-0", "GET", "attempts/r.1/task?fence=11", ""); status != http.StatusConflict || strings.Contains(body, "hunter2") {
		t.Errorf("for another registry: %d %s", status, body)
	}
}

func TestWhoMayDoWhat(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		node, method, path string
		change             []row.Change
		want               int
	}{
		"a request without a token is refused":           {"", "GET", "attempts/r.1/task?fence=11", nil, 401},
		"another's token is refused":                     {"user:x", "GET", "attempts/r.1/task?fence=11", nil, 401},
		"a node that is not a member is told it is over": {"node:gpu-1", "GET", "attempts/r.1/task?fence=11", nil, 410},
		"a lower fence is told it is over":               {"node:gpu-0", "POST", "attempts/r.1/log?fence=10&name=a&offset=0", nil, 410},
		"no fence is a bad request":                      {"node:gpu-0", "POST", "attempts/r.1/log?name=a&offset=0", nil, 400},
		"an unknown attempt is told it is over":          {"node:gpu-0", "PUT", "attempts/r.9/artifacts/outputs/a?fence=19", nil, 410},
		"an attempt with a newer one after it is over": {"node:gpu-0", "POST", "attempts/r.1/log?fence=11&name=a&offset=0",
			[]row.Change{row.Put(attempt(1, queue.Ended)), row.Put(attempt(2, queue.InRunning))}, 410},
		"a log name that climbs is refused":       {"node:gpu-0", "POST", "attempts/r.1/log?fence=11&name=../a&offset=0", nil, 400},
		"a negative offset is refused":            {"node:gpu-0", "POST", "attempts/r.1/log?fence=11&name=a&offset=-1", nil, 400},
		"an artifact path that climbs is refused": {"node:gpu-0", "PUT", "attempts/r.1/artifacts/outputs/%2e%2e/%2e%2e/a?fence=11", nil, 400},
		"code of another run is not shown":        {"node:gpu-0", "GET", "snapshots" + strings.Replace(code, "/5e", "/6f", 1), nil, 404},
		"a node without an attempt gets no code":  {"node:gpu-1", "GET", "snapshots" + code, nil, 410},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t)
			b.apply(c.change...)
			before := len(b.blobs)
			if status, body := b.ask(t, c.node, c.method, c.path, "x"); status != c.want {
				t.Fatalf("%s %s as %q = %d, want %d: %s", c.method, c.path, c.node, status, c.want, body)
			}
			if len(b.blobs) != before || len(b.recorded) != 0 {
				t.Fatalf("something was written: %v %v", b.blobs, b.recorded)
			}
		})
	}
}

func TestLogIsAppendedOnlyWhereItEnds(t *testing.T) {
	t.Parallel()
	b := open(t)
	steps := []struct {
		offset int
		body   string
		status int
		size   int64
	}{{0, "one\n", 200, 4}, {0, "one\n", 409, 4}, {4, "two\n", 200, 8}, {9, "late", 409, 8}, {8, "", 200, 8}}
	for _, s := range steps {
		status, body := b.ask(t, "node:gpu-0", "POST", fmt.Sprintf("attempts/r.1/log?fence=11&member=0&name=user_logs/std_log.txt&offset=%d", s.offset), s.body)
		var size nodeproto.LogSize
		if err := json.Unmarshal([]byte(body), &size); err != nil {
			t.Fatal(err)
		}
		if status != s.status || size.Size != s.size {
			t.Fatalf("append %q at %d = %d, size %d; want %d, %d", s.body, s.offset, status, size.Size, s.status, s.size)
		}
	}
	if got := string(b.blobs["logs-w/r/0001/user_logs/std_log.txt"]); got != "one\ntwo\n" {
		t.Fatalf("log = %q (blobs %v)", got, b.blobs)
	}
}

func TestALogRequestThatIsTooLargeIsRefused(t *testing.T) {
	t.Parallel()
	b := open(t)
	status, _ := b.ask(t, "node:gpu-0", "POST", "attempts/r.1/log?fence=11&name=a&offset=0", strings.Repeat("x", 5<<20))
	if status != http.StatusRequestEntityTooLarge {
		t.Fatalf("status %d, want 413", status)
	}
}

func TestArtifactIsKeptAndRecorded(t *testing.T) {
	t.Parallel()
	b := open(t)
	if status, body := b.ask(t, "node:gpu-0", "PUT", "attempts/r.1/artifacts/outputs/model%20a.pkl?fence=11&member=0", "weights"); status != http.StatusCreated {
		t.Fatalf("status %d: %s", status, body)
	}
	key := assets.ArtifactKey(assets.Place{ID: ws, GUID: "W"}, "dcid.digits_1", "outputs/model a.pkl")
	if got := string(b.blobs[key]); got != "weights" {
		t.Fatalf("blob %s = %q", key, got)
	}
	if got := strings.Join(b.recorded, ";"); got != "r dcid.digits_1 outputs/model a.pkl" {
		t.Fatalf("recorded %q", got)
	}
}

func TestAnArtifactThatEndsTooEarlyIsNotTheServersFault(t *testing.T) {
	t.Parallel()
	b := open(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(strings.TrimSuffix(b.url, nodeproto.Path), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "PUT %sattempts/r.1/artifacts/outputs/cut?fence=11&member=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer node:gpu-0\r\nContent-Length: 20\r\n\r\nhalf", nodeproto.Path)
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusBadRequest || len(b.recorded) > 0 {
		t.Errorf("status %d, recorded %v; want 400 and nothing", res.StatusCode, b.recorded)
	}
}

func TestSnapshotIsATarOfItsFiles(t *testing.T) {
	t.Parallel()
	b := open(t)
	status, body := b.ask(t, "node:gpu-0", "GET", "snapshots"+code, "")
	if status != http.StatusOK {
		t.Fatalf("status %d: %s", status, body)
	}
	got := map[string]string{}
	in := tar.NewReader(strings.NewReader(body))
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = string(data)
	}
	if len(got) != 2 || got["train.py"] != "print" || got["lib/a b.py"] != "x=1" {
		t.Fatalf("files %v", got)
	}
}

// TestChangedCodeIsRefused: in words, since an agent that is cut off asks again for ever.
func TestChangedCodeIsRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(blobs map[string][]byte){
		"a file that is gone":        func(blobs map[string][]byte) { delete(blobs, "snapshots-w/2") },
		"a file of another length":   func(blobs map[string][]byte) { blobs["snapshots-w/2"] = []byte("x=10") },
		"another file, just as long": func(blobs map[string][]byte) { blobs["snapshots-w/2"] = []byte("x=2") },
	} {
		b := open(t)
		change(b.blobs)
		if status, body := b.ask(t, "node:gpu-0", "GET", "snapshots"+code, ""); status != http.StatusBadRequest || !strings.Contains(body, "lib/a b.py") {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

// dial connects as an agent and says hello.
func (b *bench) dial(t *testing.T, tok, node string) *websocket.Conn {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), b.url+"connect", &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + tok}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	hello, _ := json.Marshal(nodeproto.Hello{Version: nodeproto.Version, Node: node})
	if err := conn.Write(t.Context(), websocket.MessageText, hello); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestConnectionCarriesOrdersAndReports(t *testing.T) {
	t.Parallel()
	b := open(t)
	conn := b.dial(t, "node:gpu-0", "gpu-0")
	read := func() (d nodeproto.Desired) {
		t.Helper()
		_, data, err := conn.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	if d := read(); d.Revision != 7 {
		t.Fatalf("first order %+v, want revision 7", d)
	}
	b.mu.Lock()
	s := b.sessions[0]
	b.mu.Unlock()
	s.desired <- nodeproto.Desired{Term: 1, Revision: 8, Drain: true}
	if d := read(); d.Revision != 8 || !d.Drain {
		t.Fatalf("second order %+v, want a drain at 8", d)
	}
	report, _ := json.Marshal(nodeproto.Report{Revision: 8, Empty: true})
	if err := conn.Write(t.Context(), websocket.MessageText, report); err != nil {
		t.Fatal(err)
	}
	if r := <-s.reports; r.Revision != 8 || !r.Empty {
		t.Fatalf("report %+v, want empty at 8", r)
	}
	close(s.desired)
	if _, _, err := conn.Read(t.Context()); websocket.CloseStatus(err) != nodeproto.CloseSuperseded {
		t.Fatalf("end = %v, want code %d", err, nodeproto.CloseSuperseded)
	}
	<-s.closed
}

func TestAnAgentThatLeavesEndsItsSession(t *testing.T) {
	t.Parallel()
	b := open(t)
	conn := b.dial(t, "node:gpu-0", "gpu-0")
	if _, _, err := conn.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn.CloseNow()
	b.mu.Lock()
	s := b.sessions[0]
	b.mu.Unlock()
	<-s.closed
}

func TestRefusedHellos(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		node   string
		refuse error
		want   websocket.StatusCode
	}{
		"an unknown node is told that it is gone":    {"gpu-0", fault.New(fault.NotFound, "", "No such node is wanted."), nodeproto.CloseGone},
		"another installation's node may come again": {"gpu-0", fault.New(fault.Forbidden, "", "Another's."), nodeproto.CloseRefused},
		"a token does for its own node only":         {"gpu-1", nil, nodeproto.CloseRefused},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t)
			b.refuse = c.refuse
			conn := b.dial(t, "node:gpu-0", c.node)
			if _, _, err := conn.Read(t.Context()); websocket.CloseStatus(err) != c.want {
				t.Fatalf("end = %v, want code %d", err, c.want)
			}
		})
	}
}

// A quarantined node's agent is to come again: 410, or a close for good, would make
// it stop what it runs.
func TestAQuarantinedNodeIsLetAlone(t *testing.T) {
	t.Parallel()
	b := open(t)
	for _, call := range []string{"GET connect", "GET attempts/r.1/task?fence=1", "POST attempts/r.1/log?fence=1&name=a&offset=0", "PUT attempts/r.1/artifacts/a?fence=1"} {
		method, path, _ := strings.Cut(call, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, b.url+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer node:aside-0")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: %d, want 503", call, res.StatusCode)
		}
	}
}
