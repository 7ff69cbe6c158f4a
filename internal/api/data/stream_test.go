package data_test

import (
	"cmp"
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/core/queue"
)

// look polls a run's details as a client of that name streams it.
func (w *world) look(agent, run string) any {
	w.Helper()
	return w.ask(agent, "/runs/"+run+"/details?api-version=v1.0")
}

// ask reads the status that a run, or its details, show to a client of that name.
func (w *world) ask(agent, path string) any {
	w.Helper()
	r := httptest.NewRequestWithContext(w.Context(), "GET", "/history/v1.0"+wsID+path, nil)
	r.Host = host
	r.Header.Set("Authorization", "Bearer "+w.token)
	r.Header.Set("User-Agent", agent)
	out := httptest.NewRecorder()
	w.router.ServeHTTP(out, r)
	var v map[string]any
	if err := json.Unmarshal(out.Body.Bytes(), &v); err != nil || out.Code != 200 {
		w.Fatalf("%d %s: %v", out.Code, out.Body, err)
	}
	return v["status"]
}

func TestSDKv2SeesTheLogOfARunThatIsOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const v2, v1 = "azure-ai-ml/1.35.2 azsdk-python-runhistory/1.0.0b1", "azureml-sdk-core/1.61"
	w.submit("x_1")
	if got := w.look(v2, "x_1"); got != "Queued" {
		t.Errorf("a stream that begins in time: %v", got)
	}
	w.status("x_1", queue.Completed, func(s *queue.Status) { s.Ended = w.now() })
	if got := w.look(v2, "x_1"); got != "Completed" {
		t.Errorf("it has seen the run in progress, and now: %v", got)
	}
	if got := w.look(v1, "x_1"); got != "Completed" {
		t.Errorf("another client: %v", got)
	}
	for range 2 { // two streams, one after the other
		for _, want := range []string{"Finalizing", "Completed"} {
			if got := w.look(v2, "x_1"); got != want {
				t.Errorf("a stream that begins at the end: %v, want %s", got, want)
			}
		}
	}
	if got := w.call(200, "GET", "/history/v1.0{WS}/experiments/x/runs/x_1/details", "")["status"]; got != "Completed" {
		t.Errorf("under its experiment: %v", got)
	}
}

func TestSDKv1SeesTheLogOfARunThatHasJustEnded(t *testing.T) {
	t.Parallel()
	const v1 = "azureml-sdk-core/1.61"
	for name, c := range map[string]struct {
		seen     string // what the client has looked at before the end
		after    string // and after it
		ago      time.Duration
		noLog    bool
		agent    string
		statuses []any
	}{
		"its first look":                     {statuses: []any{queue.Finalizing, queue.Completed, queue.Completed}},
		"it has seen the run in progress":    {seen: "/experiments/x/runs/x_1/details", statuses: []any{queue.Completed}},
		"it has been told that it is over":   {after: "/experiments/x/runs/x_1", statuses: []any{queue.Completed, queue.Completed}},
		"a look at the state, while it runs": {seen: "/experiments/x/runs/x_1", statuses: []any{queue.Finalizing, queue.Completed}},
		"a run that ended long ago":          {ago: 3 * time.Minute, statuses: []any{queue.Completed}},
		"a run without a log":                {noLog: true, statuses: []any{queue.Completed}},
		"another client":                     {agent: "curl/8", statuses: []any{queue.Completed}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.submit("x_1")
			agent := cmp.Or(c.agent, v1)
			if c.seen != "" {
				w.ask(agent, c.seen)
			}
			id := w.status("x_1", queue.Completed, func(s *queue.Status) { s.Ended = w.now().Add(-c.ago) })
			if !c.noLog {
				w.log(id, 1, stdLog, "hello\n")
			}
			if c.after != "" {
				if got := w.ask(agent, c.after); got != string(queue.Completed) {
					t.Errorf("the run itself: %v", got)
				}
			}
			for i, want := range c.statuses {
				if got := w.ask(agent, "/experiments/x/runs/x_1/details"); got != string(want.(queue.State)) {
					t.Errorf("look %d: %v, want %v", i+1, got, want)
				}
			}
		})
	}
}
