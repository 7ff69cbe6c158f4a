package data_test

import (
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/core/queue"
)

const stdLog = "user_logs/std_log.txt"

// logOf returns the address of a log as the details give it.
func (w *world) logOf(run string) string {
	w.Helper()
	files := w.call(200, "GET", "/history/v1.0{WS}/experiments/x/runs/"+run+"/details", "")["logFiles"].(map[string]any)
	address, _ := files[stdLog].(string)
	if address == "" {
		w.Fatalf("logFiles: %v", files)
	}
	return address
}

func TestSignedLogGrowsByWholeLines(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.submit("x_1")
	id := w.status("x_1", queue.Running, nil)
	seen := ""
	look := func(want string) {
		t.Helper()
		out := w.fetch(w.logOf("x_1"), "")
		if got := out.Body.String(); got != want || !strings.HasPrefix(got, seen) {
			t.Errorf("log %q, want %q", got, want)
		}
		seen = out.Body.String()
	}
	w.log(id, 1, stdLog, "one\ntwo")
	look("one\n")
	w.log(id, 1, stdLog, "!\nhalf")
	look("one\ntwo!\n")
	w.log(id, 2, stdLog, "again\n")
	look("one\ntwo!\nhalf\n[ebb] attempt 2\nagain\n")
	w.log(id, 10, stdLog, "tail")
	look("one\ntwo!\nhalf\n[ebb] attempt 2\nagain\n[ebb] attempt 10\n")
	w.status("x_1", queue.Completed, nil)
	look("one\ntwo!\nhalf\n[ebb] attempt 2\nagain\n[ebb] attempt 10\ntail")

	out := w.fetch(w.logOf("x_1"), "bytes=13-19")
	if out.Code != 206 || out.Body.String() != "\n[ebb] " {
		t.Errorf("range: %d %q", out.Code, out.Body)
	}
	list := w.call(200, "GET", "/artifact/v2.0{WS}/artifacts/prefix/contentinfo/ExperimentRun/dcid.x_1/user_logs", "")["value"].([]any)
	if len(list) != 1 || list[0].(map[string]any)["path"] != stdLog {
		t.Fatalf("contentinfo: %v", list)
	}
	if out := w.fetch(list[0].(map[string]any)["contentUri"].(string), ""); out.Body.String() != seen {
		t.Errorf("by contentinfo: %q", out.Body)
	}
	if names := w.call(200, "GET", "/artifact/v2.0{WS}/artifacts/ExperimentRun/dcid.x_1", "")["value"].([]any); len(names) != 1 {
		t.Errorf("files: %v", names)
	}
}

func TestSignedLogNeedsItsSignature(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.submit("x_1")
	id := w.status("x_1", queue.Running, nil)
	w.log(id, 1, stdLog, "secret\n")
	w.log(id, 1, "user_logs/other.txt", "secret\n")
	good := w.logOf("x_1")
	path, query, _ := strings.Cut(good, "?")
	for name, address := range map[string]string{
		"no signature":   path,
		"another log":    strings.Replace(path, "std_log", "other", 1) + "?" + query,
		"a later expiry": path + "?" + strings.Replace(query, "se=", "se=9", 1),
		"an empty one":   path + "?se=&sig=",
	} {
		if out := w.fetch(address, ""); out.Code != 403 || strings.Contains(out.Body.String(), "secret\n") {
			t.Errorf("%s: %d %s", name, out.Code, out.Body)
		}
	}
	if out := w.fetch(good, ""); out.Code != 200 {
		t.Errorf("the good one: %d %s", out.Code, out.Body)
	}
}

func (w *world) tail(query string) *httptest.ResponseRecorder {
	w.Helper()
	return w.send("GET", "/ebb/v1"+wsID+"/jobs/x_1/log?"+query, "", nil)
}

func TestLogForTheCommandLine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.submit("x_1")
	id := w.status("x_1", queue.Running, nil)
	check := func(query, body, offset, final string) {
		t.Helper()
		out := w.tail(query)
		if out.Code != 200 || out.Body.String() != body || out.Header().Get("X-Ebb-Offset") != offset || out.Header().Get("X-Ebb-Final") != final {
			t.Errorf("%s: %d %q, offset %s, final %q", query, out.Code, out.Body, out.Header().Get("X-Ebb-Offset"), out.Header().Get("X-Ebb-Final"))
		}
	}
	check("offset=0&wait=0", "", "0", "")
	w.log(id, 1, stdLog, "one\ntw")
	check("", "one\ntw", "6", "")
	check("offset=4", "tw", "6", "")
	check("offset=99", "", "99", "")
	w.log(id, 2, stdLog, "x")
	check("offset=6", "\n[ebb] attempt 2\nx", "24", "")
	w.status("x_1", queue.Failed, nil)
	check("offset=23&wait=30", "x", "24", "true")
	check("offset=24&wait=30", "", "24", "true")
	check("name=system_logs/none.txt", "", "0", "true")
}

func TestLogWaitsForWhatComes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.submit("x_1")
	id := w.status("x_1", queue.Running, nil)
	got := make(chan string, 1)
	go func() { got <- w.tail("offset=0&wait=30").Body.String() }()
	w.log(id, 1, stdLog, "hello\n")
	if text := <-got; text != "hello\n" {
		t.Errorf("waited for %q", text)
	}
	go func() {
		out := w.tail("offset=6&wait=30")
		got <- out.Header().Get("X-Ebb-Final") + strconv.Itoa(out.Body.Len())
	}()
	w.status("x_1", queue.Completed, nil)
	if text := <-got; text != "true0" {
		t.Errorf("at the end: %q", text)
	}
	w.status("x_1", queue.Running, nil)
	began := time.Now()
	if out := w.tail("offset=6&wait=0.05"); out.Body.Len() != 0 || time.Since(began) < 40*time.Millisecond {
		t.Errorf("a wait with nothing to come: %q after %v", out.Body, time.Since(began))
	}
}

// Who asks for the log of a job that has several gets the first process's.
func TestTheLogOfSeveralIsTheFirstOnes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call(200, "POST", "/history/v1.0{WS}/experiments/x", "")
	w.call(200, "POST", "/execution/v1.0{WS}/experiments/x/snapshotrun?runId=x_1",
		`{"Configuration":{"script":"a","target":"cpu-cluster","nodeCount":2,"communicator":"Gloo","pytorch":{"processCount":4}}}`)
	id := w.status("x_1", queue.Running, nil)
	for rank, text := range []string{"zero\n", "one\n"} {
		w.log(id, 1, "user_logs/std_log_process_"+strconv.Itoa(rank)+".txt", text)
	}
	for query, want := range map[string]string{"": "zero\n", "name=" + stdLog: "zero\n", "name=user_logs/std_log_process_1.txt": "one\n"} {
		if got := w.tail(query).Body.String(); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
}
