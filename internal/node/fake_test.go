package node_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/node"
	"github.com/ebb-compute/ebb/internal/node/shim"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// site is a server as an agent sees it, and what it learned. Its address may
// change; what it holds stays, as on disk.
type site struct {
	t   *testing.T
	dir string // holds server.json
	srv *httptest.Server

	readable []string // of the node

	mu        sync.Mutex
	desired   nodeproto.Desired
	order     nodeproto.Order
	code      map[string]string // files of the snapshot
	report    nodeproto.Report
	logs      map[string][]byte
	artifacts map[string]string
	kept      map[string]string // files of named outputs
	settled   []string          // what was said of the process, each time
	over      bool              // attempts are answered 410
	gone      bool              // the node is not known
	moves     int               // connections of an earlier address end
	lose      func()            // called with the lock, once half of what was sent is there
	changed   chan struct{}
}

func newSite(t *testing.T) *site {
	s := &site{t: t, dir: t.TempDir(), logs: map[string][]byte{}, artifacts: map[string]string{}, kept: map[string]string{}, changed: make(chan struct{})}
	s.desired.Term = 1
	s.up()
	t.Cleanup(s.down)
	return s
}

// up starts the server at a new address; down takes it away.
func (s *site) up() {
	mux := http.NewServeMux()
	p := nodeproto.Path
	mux.HandleFunc("GET "+p+"connect", s.connect)
	mux.HandleFunc("GET "+p+"attempts/{a}/task", s.task)
	mux.HandleFunc("POST "+p+"attempts/{a}/log", s.log)
	mux.HandleFunc("PUT "+p+"attempts/{a}/artifacts/{path...}", s.artifact)
	mux.HandleFunc("PUT "+p+"attempts/{a}/outputs/{slot}/{path...}", s.output)
	mux.HandleFunc("POST "+p+"attempts/{a}/outputs", s.settle)
	mux.HandleFunc("GET "+p+"snapshots/{s...}", s.snapshot)
	s.srv = httptest.NewServer(mux)
	s.write("server.json", node.Server{URL: s.srv.URL})
}

func (s *site) down() {
	if s.srv != nil {
		s.mu.Lock()
		s.moves++
		s.mu.Unlock()
		s.srv.CloseClientConnections()
		s.poke()
		s.srv.Close()
		s.srv = nil
	}
}

func (s *site) write(name string, v any) {
	b, err := json.Marshal(v)
	if err == nil {
		err = os.WriteFile(filepath.Join(s.dir, name), b, 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// want changes what the node is to do, and tells it.
func (s *site) want(f func(*nodeproto.Desired)) {
	s.mu.Lock()
	s.desired.Revision++
	f(&s.desired)
	s.mu.Unlock()
	s.poke()
}

// poke wakes every connection.
func (s *site) poke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *site) connect(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	gone, moves := s.gone, s.moves
	s.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer secret" {
		http.Error(w, "who?", http.StatusUnauthorized)
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer conn.CloseNow()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	_, b, err := conn.Read(ctx)
	var h nodeproto.Hello
	if err != nil || json.Unmarshal(b, &h) != nil || h.Node != "n-0" {
		return
	}
	if gone {
		conn.Close(nodeproto.CloseGone, "unknown")
		return
	}
	s.took(h.Report)
	go func() {
		defer cancel()
		for {
			_, b, err := conn.Read(ctx)
			var rep nodeproto.Report
			if err != nil || json.Unmarshal(b, &rep) != nil {
				return
			}
			s.took(rep)
		}
	}()
	for {
		s.mu.Lock()
		d, changed, same := s.desired, s.changed, s.moves == moves
		s.mu.Unlock()
		b, _ := json.Marshal(d)
		if !same || conn.Write(ctx, websocket.MessageText, b) != nil {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func (s *site) took(r nodeproto.Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report = r
}

// held answers 410 where the attempt is over.
func (s *site) held(w http.ResponseWriter) bool {
	if s.over {
		http.Error(w, "over", http.StatusGone)
	}
	return !s.over
}

func (s *site) task(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.held(w) {
		return
	}
	o := s.order
	o.Attempt = r.PathValue("a")
	o.Fence, _ = strconv.ParseInt(r.URL.Query().Get("fence"), 10, 64)
	_ = json.NewEncoder(w).Encode(o)
}

func (s *site) log(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || !s.held(w) {
		return
	}
	name := r.PathValue("a") + " " + r.URL.Query().Get("name")
	if offset, _ := strconv.Atoi(r.URL.Query().Get("offset")); offset != len(s.logs[name]) {
		w.WriteHeader(http.StatusConflict)
	} else {
		s.logs[name] = append(s.logs[name], b...)
	}
	_ = json.NewEncoder(w).Encode(nodeproto.LogSize{Size: int64(len(s.logs[name]))})
}

func (s *site) artifact(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || !s.held(w) {
		return
	}
	if s.lose != nil && len(s.artifacts) == 4 {
		s.lose()
		s.lose = nil
	}
	s.artifacts[r.PathValue("path")] = string(b)
	w.WriteHeader(http.StatusCreated)
}

func (s *site) output(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || !s.held(w) {
		return
	}
	s.kept[r.PathValue("slot")+"/"+r.PathValue("path")] = string(b)
	w.WriteHeader(http.StatusCreated)
}

func (s *site) settle(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if epoch, err := strconv.ParseInt(r.URL.Query().Get("epoch"), 10, 64); err != nil || epoch < s.desired.Epoch {
		http.Error(w, "another epoch", http.StatusPreconditionFailed)
		return
	}
	if s.held(w) {
		s.settled = append(s.settled, "done="+r.URL.Query().Get("done"))
	}
}

func (s *site) snapshot(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := tar.NewWriter(w)
	for name, body := range s.code {
		_ = out.WriteHeader(&tar.Header{Name: name, Size: int64(len(body)), Mode: 0o755, Typeflag: tar.TypeReg})
		_, _ = out.Write([]byte(body))
	}
	_ = out.Close()
}

// phase returns how far an attempt has come, as last reported; empty: not there.
func (s *site) phase(attempt string) (queue.Phase, *queue.Exit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.report.Attempts {
		if p.Attempt == attempt {
			return p.Phase, p.Exit
		}
	}
	return "", nil
}

func (s *site) logOf(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.logs[name])
}

// shimmed is node/shim in memory: its shims outlive agents, as processes do.
type shimmed struct {
	mu     sync.Mutex
	state  map[string]*held
	starts map[string]int
}

type held struct {
	state shim.State
	ended chan struct{}
}

func newShims() *shimmed {
	return &shimmed{state: map[string]*held{}, starts: map[string]int{}}
}

func (f *shimmed) Start(dir string, _ shim.Spec) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.starts[filepath.Base(dir)]++
	if f.state[dir] != nil {
		return shim.ErrStarted
	}
	f.state[dir] = &held{shim.State{Phase: shim.Running, PID: 1, Process: 2, Started: time.Now()}, make(chan struct{})}
	return os.MkdirAll(filepath.Join(dir, "log", "user_logs"), 0o700)
}

func (f *shimmed) Look(dir string) (shim.State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if h := f.state[dir]; h != nil {
		return h.state, nil
	}
	return shim.State{Phase: shim.None}, nil
}

func (f *shimmed) Wait(ctx context.Context, dir string) (shim.State, error) {
	f.mu.Lock()
	h := f.state[dir]
	f.mu.Unlock()
	if h == nil {
		return shim.State{Phase: shim.None}, nil
	}
	select {
	case <-h.ended:
		return f.Look(dir)
	case <-ctx.Done():
		return shim.State{}, ctx.Err()
	}
}

func (f *shimmed) Stop(dir string, c queue.Cause, _ time.Duration) error {
	f.end(dir, shim.State{Phase: shim.Ended, Record: shim.Record{Exit: queue.Exit{Cause: c, Code: 143, Ended: time.Now()}}})
	return nil
}

func (f *shimmed) Kill(dir string) error {
	f.end(dir, shim.State{Phase: shim.Died})
	return nil
}

func (f *shimmed) Sweep(dir string) (shim.Record, error) {
	rec := shim.Record{Swept: true, Exit: queue.Exit{Cause: queue.ByNodeLoss}}
	f.end(dir, shim.State{Phase: shim.Ended, Record: rec})
	return rec, nil
}

// end is the end of a living shim; a dead one stays as it is.
func (f *shimmed) end(dir string, st shim.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.state[dir]
	if h == nil || h.state.Phase == shim.Ended {
		return
	}
	if h.state.Phase == shim.Running {
		close(h.ended)
	}
	h.state = st
}

func (f *shimmed) living() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, h := range f.state {
		if h.state.Phase == shim.Running {
			n++
		}
	}
	return n
}

// prepared is node/runner that has nothing to do.
type prepared struct {
	fail  error
	hold  chan struct{} // not nil: Prepare waits for it, or for its context
	words string        // of the build log
}

func (p *prepared) Isolation() string       { return "none" }
func (p *prepared) ContainerEngine() string { return "" }
func (p *prepared) Warnings() []string      { return nil }

func (p *prepared) Hurry() {}
func (p *prepared) Prepare(ctx context.Context, _ string, _ nodeproto.Order, log io.Writer) (shim.Spec, error) {
	if p.words != "" {
		fmt.Fprint(log, p.words)
	}
	if p.hold != nil {
		select {
		case <-p.hold:
		case <-ctx.Done():
			return shim.Spec{}, ctx.Err()
		}
	}
	return shim.Spec{}, p.fail
}

// machine is a node's folder with agents that come and go.
type machine struct {
	t     *testing.T
	site  *site
	dir   string
	shims node.Holder
	prep  node.Preparer
	end   func() error // of the living agent
}

func newMachine(t *testing.T, s *site, h node.Holder, p node.Preparer) *machine {
	m := &machine{t: t, site: s, dir: filepath.Join(s.dir, "nodes", "n-0"), shims: h, prep: p}
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s.write("nodes/n-0/node.json", node.Config{
		Node: "n-0", Installation: "i", Token: "secret", Server: filepath.Join(s.dir, "server.json"), Cache: filepath.Join(s.dir, "cache"),
	})
	m.start()
	t.Cleanup(func() { _ = m.stop() })
	return m
}

// start begins a new agent.
func (m *machine) start() {
	m.t.Helper()
	a, err := node.NewAgent(m.dir, slog.New(slog.NewTextHandler(m.t.Output(), nil)), m.shims, m.prep)
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	m.end = func() error { cancel(); err := <-done; done <- err; return err }
}

// stop ends the agent as SIGTERM does.
func (m *machine) stop() error { return m.end() }

func (m *machine) attempt(id string) string { return filepath.Join(m.dir, "attempts", id) }

// print writes to the log of an attempt as its process does.
func (m *machine) print(id, words string) {
	m.t.Helper()
	f, err := os.OpenFile(filepath.Join(m.attempt(id), "log", "user_logs", "std_log.txt"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		m.t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, bytes.NewReader([]byte(words))); err != nil {
		m.t.Fatal(err)
	}
}

// await waits until something is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(30 * time.Second)
	defer late.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-late.C:
			t.Fatalf("still waiting: %s", what)
		}
	}
}

func (m *machine) awaitPhase(id string, want queue.Phase) *queue.Exit {
	m.t.Helper()
	var exit *queue.Exit
	await(m.t, fmt.Sprintf("%s is %s", id, want), func() bool {
		var p queue.Phase
		p, exit = m.site.phase(id)
		return p == want
	})
	return exit
}
