package data_test

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/queue"
)

// look polls a run's details as a client of that name streams it.
func (w *world) look(agent, run string) any {
	w.Helper()
	r := httptest.NewRequestWithContext(w.Context(), "GET", strings.ReplaceAll("/history/v1.0{WS}/runs/"+run+"/details?api-version=v1.0", "{WS}", wsID), nil)
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
	for range 2 {
		if got := w.look(v1, "x_1"); got != "Completed" {
			t.Errorf("another client: %v", got)
		}
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
