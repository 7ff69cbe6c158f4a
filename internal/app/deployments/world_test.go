package deployments_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebb-compute/ebb/internal/app/apptest"
	"github.com/ebb-compute/ebb/internal/app/deployments"
	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// azure is a Resource Manager in memory: it keeps what is put, and does what tests
// tell it to on the way.
type azure struct {
	mu        sync.Mutex
	resources map[string]map[string]any // by id, lower case
	log       []string                  // "PUT name", in the order of arrival
	flying    int
	most      int // calls at the same time
	// on, if set, answers a call itself by returning ok.
	on func(ctx context.Context, c deployments.Call) (deployments.Answer, bool)
}

func last(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

func (a *azure) Do(ctx context.Context, _ access.Principal, c deployments.Call) (deployments.Answer, error) {
	a.mu.Lock()
	if c.Method != "GET" {
		a.log = append(a.log, c.Method+" "+last(c.Path))
		a.flying++
		a.most = max(a.most, a.flying)
		defer func() { a.mu.Lock(); a.flying--; a.mu.Unlock() }()
	}
	on := a.on
	a.mu.Unlock()
	if on != nil {
		if ans, ok := on(ctx, c); ok {
			return ans, ctx.Err()
		}
	}
	if c.Method == "PUT" { // that takes a while
		time.Sleep(time.Second)
	}
	if err := ctx.Err(); err != nil {
		return deployments.Answer{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	key := strings.ToLower(c.Path)
	switch {
	case c.Method == "PUT":
		body, _ := c.Body.(map[string]any)
		have := maps.Clone(body)
		have["id"], have["name"] = c.Path, last(c.Path)
		a.resources[key] = have
		return deployments.Answer{Status: http.StatusCreated, Body: have}, nil
	case c.Method == "DELETE":
		delete(a.resources, key)
		return deployments.Answer{Status: http.StatusNoContent}, nil
	case strings.HasSuffix(key, "/resources"):
		var list []any
		for _, k := range slices.Sorted(maps.Keys(a.resources)) {
			list = append(list, a.resources[k])
		}
		return deployments.Answer{Status: http.StatusOK, Body: map[string]any{"value": list}}, nil
	case a.resources[key] == nil:
		return refusal(http.StatusNotFound, "ResourceNotFound", "There is no "+c.Path+"."), nil
	}
	return deployments.Answer{Status: http.StatusOK, Body: a.resources[key]}, nil
}

func refusal(status int, code, words string) deployments.Answer {
	return deployments.Answer{Status: status, Body: map[string]any{"error": map[string]any{"code": code, "message": words}}}
}

// calls are the PUTs and DELETEs that arrived.
func (a *azure) calls() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.log)
}

// veil is a seal that can be looked through by those who know, and by no grep.
type veil struct{}

func (veil) Seal(_ string, secret []byte) ([]byte, error) { return veil{}.turn(secret), nil }

func (veil) Unseal(_ string, sealed []byte) ([]byte, error) { return veil{}.turn(sealed), nil }

func (veil) turn(b []byte) []byte {
	out := make([]byte, len(b))
	for i := range b {
		out[i] = b[i] ^ 0x5a
	}
	return out
}

// disk is a store that keeps nothing while it is full.
type disk struct {
	*apptest.Store
	full *atomic.Bool
}

func (d disk) Commit(ctx context.Context, changes ...row.Change) (int64, error) {
	if d.full.Load() {
		return 0, fault.New(fault.Unavailable, "", "The disk is full.")
	}
	return d.Store.Commit(ctx, changes...)
}

// world is a service with an azure of its own.
type world struct {
	t     *testing.T
	st    *apptest.Store
	az    *azure
	s     *deployments.Service
	ws    *workspaces.Service
	owner access.Principal
	sub   string
	group string // ARM id
	ids   atomic.Int64
	full  atomic.Bool // the disk
	stop  func()
}

// inWorld runs a test in a bubble where an hour takes no time.
func inWorld(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, st: &apptest.Store{}, az: &azure{resources: map[string]map[string]any{}}}
		w.ws = &workspaces.Service{Store: w.st, Now: time.Now, NewID: w.newID, Log: w.logger()}
		c, err := w.ws.Seed(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.owner = access.Principal{ID: c.ObjectID, Name: "ebb", Kind: access.Application}
		w.sub, w.group = c.SubscriptionID, armid.Group(c.SubscriptionID, c.ResourceGroup)
		w.start()
		defer func() { w.stop() }()
		test(w)
	})
}

func (w *world) newID() string { return fmt.Sprintf("%08x-0000-4000-8000-000000000000", w.ids.Add(1)) }

func (w *world) logger() *slog.Logger { return slog.New(slog.NewTextHandler(w.t.Output(), nil)) }

// start starts a server on the store; stop then ends it, as a crash would as far
// as deployments can tell.
func (w *world) start() {
	w.s = &deployments.Service{Store: disk{w.st, &w.full}, Scopes: w.ws, Calls: w.az, Secrets: veil{}, Now: time.Now, NewID: w.newID, Log: w.logger()}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	s := w.s
	wg.Go(func() { s.Run(ctx) })
	w.stop = func() { cancel(); wg.Wait() }
}

// request is a deployment of resources, written as JSON, and of other parts.
func (w *world) request(name, parts string) deployments.Request {
	w.t.Helper()
	template := map[string]any{"$schema": "x", "contentVersion": "1.0.0.0", "resources": []any{}}
	body := map[string]any{"mode": "Incremental", "template": template}
	for k, v := range parse(w.t, parts) {
		switch k {
		case "mode", "parameters.given", "templateLink", "parametersLink", "onErrorDeployment":
			body[strings.TrimSuffix(k, ".given")] = v
		default:
			template[k] = v
		}
	}
	return deployments.Request{Scope: w.group, Name: name, Body: map[string]any{"properties": body}}
}

func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	var m map[string]any
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&m); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return m
}

// thing is a resource of a template.
func thing(name, more string) string {
	return fmt.Sprintf(`{"type": "A.B/things", "apiVersion": "2020-01-01", "name": %q%s}`, name, more)
}

func (w *world) create(name, parts string) deployments.Created {
	w.t.Helper()
	made, err := w.s.Create(w.t.Context(), w.owner, w.request(name, parts))
	if err != nil {
		w.t.Fatalf("Create(%s): %v", parts, err)
	}
	return made
}

// deploy creates a deployment and waits until it has ended, as clients do.
func (w *world) deploy(name, parts string) map[string]any {
	w.t.Helper()
	w.create(name, parts)
	return w.wait(name)
}

// wait waits for the end of a deployment and returns its properties.
func (w *world) wait(name string) map[string]any {
	w.t.Helper()
	for range 10_000 {
		props := w.get(name)
		switch props["provisioningState"] {
		case "Succeeded", "Failed", "Canceled":
			return props
		}
		time.Sleep(time.Second)
	}
	w.t.Fatalf("%s did not end: %v", name, w.get(name))
	return nil
}

func (w *world) get(name string) map[string]any {
	w.t.Helper()
	body, err := w.s.Get(w.t.Context(), w.owner, w.group, name)
	if err != nil {
		w.t.Fatalf("Get(%s): %v", name, err)
	}
	return plain(w.t, body)["properties"].(map[string]any)
}

// plain is a value as it goes over the wire.
func plain(t *testing.T, v any) map[string]any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, string(b))
}

// steps are the operations of a deployment: "name state code".
func (w *world) steps(name string) []string {
	w.t.Helper()
	list, _, err := w.s.Operations(w.t.Context(), w.owner, w.group, name, "", 100)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, o := range list {
		props := plain(w.t, o)["properties"].(map[string]any)
		line := fmt.Sprintf("%v %v", props["targetResource"].(map[string]any)["resourceName"], props["provisioningState"])
		if m, ok := props["statusMessage"].(map[string]any); ok {
			line += fmt.Sprintf(" %v", m["error"].(map[string]any)["code"])
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}

func wants[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func refusedAs(t *testing.T, err error, kind fault.Kind, word string) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind || !strings.Contains(fmt.Sprintf("%+v %s", err, codeOf(err)), word) {
		t.Errorf("error %v (%s), want %s with %q", err, codeOf(err), kind, word)
	}
}

func codeOf(err error) string {
	if e, ok := err.(*fault.Error); ok {
		return e.Code
	}
	return ""
}

// pass lets time pass, which takes none inside the bubble.
func (w *world) pass(d time.Duration) { time.Sleep(d) }
