package nodes_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/api/nodes"
	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

func (b *bench) Below(_ context.Context, key string) ([]nodes.Blob, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []nodes.Blob
	for k, v := range b.blobs {
		if k == key || strings.HasPrefix(k, strings.TrimSuffix(key, "/")+"/") {
			out = append(out, nodes.Blob{Key: k, Size: int64(len(v)), ETag: fmt.Sprint(crc32.ChecksumIEEE(v))})
		}
	}
	slices.SortFunc(out, func(a, b nodes.Blob) int { return strings.Compare(a.Key, b.Key) })
	return out, nil
}

func (b *bench) Stat(_ context.Context, key string) (nodes.Blob, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v, ok := b.blobs[key]
	if !ok {
		return nodes.Blob{}, fault.New(fault.NotFound, key, "There is none.")
	}
	return nodes.Blob{Key: key, Size: int64(len(v)), Written: fmt.Sprint(crc32.ChecksumIEEE(v))}, nil
}

func (b *bench) Read(ctx context.Context, key, _ string) (io.ReadCloser, error) {
	return b.Open(ctx, key, 0, -1)
}

func (b *bench) Move(_ context.Context, from, to string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	v, ok := b.blobs[from]
	if !ok {
		return fault.New(fault.NotFound, from, "There is none.")
	}
	if b.mortal && b.moves == 0 {
		return errors.New("killed")
	}
	b.moves--
	b.blobs[to] = v
	delete(b.blobs, from)
	return nil
}

func (b *bench) MoveAll(ctx context.Context, from, to string) error {
	below, err := b.Below(ctx, from)
	for _, v := range below {
		if err := b.Move(ctx, v.Key, to+strings.TrimPrefix(v.Key, from)); err != nil {
			return err
		}
	}
	return err
}

// die fails every move after so many; negative: none.
func (b *bench) die(after int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mortal, b.moves = after >= 0, after
}

func (b *bench) Check(key string) error { return blob.Check(key) }

func (b *bench) Delete(_ context.Context, key string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.blobs, key)
	return nil
}

func (b *bench) Keep(_ context.Context, _ access.Principal, _ assets.Place, o assets.Output) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.recorded = append(b.recorded, "asset "+o.Name+" "+o.Type+" "+o.URI)
	return nil
}

func (b *bench) has(prefix string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for k, v := range b.blobs {
		if strings.HasPrefix(k, prefix) {
			out = append(out, k+"="+string(v))
		}
	}
	slices.Sort(out)
	return out
}

// holding puts blobs into the store and makes one of them, or those below one,
// an input.
func holding(t *testing.T, kind, key string, blobs ...string) *bench {
	t.Helper()
	b := open(t)
	b.task.Inputs = []queue.Input{{Name: "data", Type: kind, URI: "azureml://where/it/is", Mode: queue.ReadOnlyMount, Key: key}}
	for _, k := range blobs {
		k, v, _ := strings.Cut(k, "=")
		b.blobs[k] = []byte(v)
	}
	return b
}

// The files of an environment's build context travel as an input's do.
func TestABuildContextTravels(t *testing.T) {
	t.Parallel()
	b := holding(t, "uri_folder", "c/in", "c/in/a=1", "c/ctx/Dockerfile=FROM x", "c/ctx/src/a.py=2")
	at := "attempts/r.1/inputs/" + url.PathEscape(queue.ContextInput)
	if status, body := b.ask(t, "node:gpu-0", "GET", at+"?fence=11", ""); status != http.StatusNotFound {
		t.Errorf("a job without one: %d %s", status, body)
	}
	b.task.Environment.Build = &queue.Build{URI: "https://h/c/ctx/", Key: "c/ctx", Path: "Dockerfile"}
	status, body := b.ask(t, "node:gpu-0", "GET", at+"?fence=11", "")
	var c nodeproto.Content
	if err := json.Unmarshal([]byte(body), &c); status != http.StatusOK || err != nil || c.File != "" {
		t.Fatalf("%d %s, %v", status, body, err)
	}
	status, body = b.ask(t, "node:gpu-0", "GET", at+"?fence=11&etag="+url.QueryEscape(c.ETag), "")
	if status != http.StatusOK || !strings.Contains(body, "src/a.py") || !strings.Contains(body, "FROM x") || strings.Contains(body, "c/in") {
		t.Errorf("%d %q", status, body)
	}
	b.task.Environment.Build.Key = "c/nothing"
	if status, body := b.ask(t, "node:gpu-0", "GET", at+"?fence=11", ""); status != http.StatusBadRequest || !strings.Contains(body, "build context of the environment") || !strings.Contains(body, "https://h/c/ctx/") {
		t.Errorf("files that are gone: %d %s", status, body)
	}
}

func TestInputsTravelAsTheyAre(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		kind, key, file, want string
		blobs                 []string
	}{
		"a folder":                             {"uri_folder", "c/in", "", "a.csv=1 b/c.csv=2 ", []string{"c/in/a.csv=1", "c/in/b/c.csv=2", "c/inside=9", "c/other=9"}},
		"a folder written with a slash":        {"uri_folder", "c/in/", "", "a=1 ", []string{"c/in/a=1"}},
		"a whole container":                    {"uri_folder", "c/", "", "a=1 x/b=2 ", []string{"c/a=1", "c/x/b=2", "cc/a=9"}},
		"a file":                               {"uri_file", "c/in/a.csv", "a.csv", "a.csv=1 ", []string{"c/in/a.csv=1", "c/in/a.csv2=9"}},
		"a file that is asked for as a folder": {"uri_folder", "c/in/a.csv", "", "a.csv=1 ", []string{"c/in/a.csv=1"}},
		"a model that is one file":             {"custom_model", "c/m.pkl", "m.pkl", "m.pkl=1 ", []string{"c/m.pkl=1"}},
		"a model that is a folder":             {"mlflow_model", "c/m", "", "MLmodel=1 ", []string{"c/m/MLmodel=1"}},
		"a table":                              {"mltable", "c/t", "", "MLTable=1 ", []string{"c/t/MLTable=1"}},
		"a blob that stands for a folder":      {"uri_folder", "c/in", "", "d/a=1 ", []string{"c/in=", "c/in/d=", "c/in/d/a=1"}},
	} {
		b := holding(t, c.kind, c.key, c.blobs...)
		status, body := b.ask(t, "node:gpu-0", "GET", "attempts/r.1/inputs/data?fence=11", "")
		var content nodeproto.Content
		if err := json.Unmarshal([]byte(body), &content); status != http.StatusOK || err != nil || content.File != c.file {
			t.Errorf("%s: %d %s, want the file %q", what, status, body, c.file)
			continue
		}
		status, body = b.ask(t, "node:gpu-0", "GET", "attempts/r.1/inputs/data?fence=11&etag="+content.ETag, "")
		got := ""
		in := tar.NewReader(bytes.NewReader([]byte(body)))
		for h, err := in.Next(); err == nil; h, err = in.Next() {
			text, _ := io.ReadAll(in)
			got += h.Name + "=" + string(text) + " "
		}
		if status != http.StatusOK || got != c.want {
			t.Errorf("%s: %d, got %q, want %q", what, status, got, c.want)
		}
	}
}

func TestInputsThatCannotBeFilesAreRefusedByName(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		kind, key, says string
		blobs           []string
	}{
		"nothing there":            {"uri_folder", "c/in", "nothing at this path", []string{"c/inside=1"}},
		"a file that is a folder":  {"uri_file", "c/in", "is a folder", []string{"c/in/a=1"}},
		"a name that leads away":   {"uri_folder", "c/in", "cannot be that of a file", []string{"c/in/../a=1"}},
		"an empty name":            {"uri_folder", "c/in", "cannot be that of a file", []string{"c/in/a//b=1"}},
		"a file that has a folder": {"uri_folder", "c/in", "has others below it", []string{"c/in/a=1", "c/in/a/b=1"}},
		"a name no file can have":  {"uri_folder", "c/in", "cannot be that of a file", []string{"c/in/a\x00b=1"}},
	} {
		b := holding(t, c.kind, c.key, c.blobs...)
		status, body := b.ask(t, "node:gpu-0", "GET", "attempts/r.1/inputs/data?fence=11", "")
		if status != http.StatusBadRequest || !strings.Contains(body, c.says) || !strings.Contains(body, `input \"data\" (azureml://where/it/is)`) {
			t.Errorf("%s: %d %s, want the words %q", what, status, body, c.says)
		}
	}
	b := holding(t, "uri_folder", "c/in", "c/in/a=1")
	if status, body := b.ask(t, "node:gpu-0", "GET", "attempts/r.1/inputs/data?fence=11&etag=other", ""); status != http.StatusConflict {
		t.Errorf("an input that changed: %d %s", status, body)
	}
	for _, path := range []string{"attempts/r.1/inputs/other?fence=11", "attempts/r.1/inputs/data?fence=10"} {
		if status, _ := b.ask(t, "node:gpu-0", "GET", path, ""); status != http.StatusNotFound && status != http.StatusGone {
			t.Errorf("%s: %d", path, status)
		}
	}
	if status, _ := b.ask(t, "node:gpu-1", "GET", "attempts/r.1/inputs/data?fence=11", ""); status != http.StatusGone {
		t.Errorf("a node that does not hold the attempt reads its input: %d", status)
	}
}

func leaving(t *testing.T) *bench {
	t.Helper()
	b := open(t)
	b.task.Outputs = []queue.Output{
		{Name: "model", Type: "uri_folder", URI: "azureml://m/", Mode: queue.ReadWriteMount, Key: "c/out/model", Asset: "best"},
		{Name: "report", Type: "uri_file", URI: "azureml://r", Mode: queue.Upload, Key: "c/out/report.txt"},
		{Name: "where", Type: "uri_folder", URI: "azureml://w/", Mode: queue.Direct, Key: "c/where"},
	}
	b.task.Inputs = []queue.Input{{Name: "shared", Type: "uri_folder", Mode: queue.ReadWriteMount, Key: "c/shared"}, {Name: "fixed", Type: "uri_folder", Mode: queue.Download, Key: "c/fixed"}}
	return b
}

func (b *bench) put(t *testing.T, attempt, path, text string) {
	t.Helper()
	if status, body := b.ask(t, "node:gpu-0", "PUT", "attempts/"+attempt+"/outputs/"+path, text); status != http.StatusCreated {
		t.Fatalf("%s: %d %s", path, status, body)
	}
}

func TestOutputsShowWhenAllAreThere(t *testing.T) {
	t.Parallel()
	b := leaving(t)
	b.put(t, "r.1", "outputs.model/a/b.bin?fence=11", "1")
	b.put(t, "r.1", "outputs.report/report.txt?fence=11", "2")
	b.put(t, "r.1", "outputs.report/other.txt?fence=11", "9") // the output is one file
	b.put(t, "r.1", "inputs.shared/x?fence=11", "3")
	if got := b.has("c/"); len(got) != 0 {
		t.Fatalf("files show before all are there: %v", got)
	}
	for range 2 { // an agent that got no answer asks again
		if status, body := b.ask(t, "node:gpu-0", "POST", "attempts/r.1/outputs?fence=11&done=true", ""); status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
	}
	if got, want := fmt.Sprint(b.has("c/")), "[c/out/model/a/b.bin=1 c/out/report.txt=2 c/shared/x=3]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := b.has("$blocks"); len(got) != 0 {
		t.Errorf("left over: %v", got)
	}
	if got := b.recorded[0]; got != "asset best uri_folder azureml://m/" {
		t.Errorf("recorded %s", got)
	}
}

// What an agent began to send before a restore is not taken for whole after it.
func TestOutputsOfAnotherEpochDoNotSettle(t *testing.T) {
	t.Parallel()
	b := leaving(t)
	b.put(t, "r.1", "outputs.model/half?fence=11", "half")
	for q, want := range map[string]int{"&epoch=0": http.StatusPreconditionFailed, "&epoch=2": http.StatusPreconditionFailed, "&epoch=x": http.StatusBadRequest} {
		status, body := b.ask(t, "node:gpu-0", "POST", "attempts/r.1/outputs?fence=11&done=true"+q, "")
		if status != want || len(b.has("c/")) > 0 {
			t.Errorf("%s: %d %s; %v shows", q, status, body, b.has("c/"))
		}
	}
	for _, q := range []string{"&epoch=3", ""} { // an older agent names none
		if status, body := b.ask(t, "node:gpu-0", "POST", "attempts/r.1/outputs?fence=11&done=true"+q, ""); status != http.StatusOK {
			t.Errorf("%s: %d %s", q, status, body)
		}
	}
	if len(b.has("c/")) == 0 {
		t.Error("nothing shows")
	}
}

// The node of the first attempt is lost with half of the outputs sent: nothing
// of it is ever shown.
func TestOutputsOfALostNodeNeverShow(t *testing.T) {
	t.Parallel()
	b := leaving(t)
	b.put(t, "r.1", "outputs.model/half?fence=11", "half")
	b.apply(row.Put(attempt(1, queue.Ended)), row.Put(attempt(2, queue.InRunning)), row.Put(fleet.Node{ID: "gpu-0", Cluster: cluster, State: fleet.Busy, Attempt: "r.2"}))
	for _, path := range []string{"PUT attempts/r.1/outputs/outputs.model/rest?fence=11", "POST attempts/r.1/outputs?fence=11&done=true"} {
		method, path, _ := strings.Cut(path, " ")
		if status, body := b.ask(t, "node:gpu-0", method, path, "x"); status != http.StatusGone {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	b.put(t, "r.2", "outputs.model/whole?fence=12", "whole")
	if status, body := b.ask(t, "node:gpu-0", "POST", "attempts/r.2/outputs?fence=12&done=false", ""); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	if got, want := fmt.Sprint(b.has("c/"), b.has("$blocks"), len(b.recorded)), "[c/out/model/whole=whole] [] 0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestAMoveThatWasBrokenOffGoesOn: server and node die while outputs go to places
// that have files; nobody asks again, and the next server ends it by itself.
func TestAMoveThatWasBrokenOffGoesOn(t *testing.T) {
	t.Parallel()
	for _, died := range []int{0, 1, 2} { // moves that were made before
		b := leaving(t)
		b.put(t, "r.1", "outputs.model/a?fence=11", "1")
		b.put(t, "r.1", "outputs.model/b?fence=11", "2")
		b.put(t, "r.1", "inputs.shared/x?fence=11", "3")
		b.die(died)
		if status, _ := b.ask(t, "node:gpu-0", "POST", "attempts/r.1/outputs?fence=11&done=true", ""); status < 500 {
			t.Fatalf("after %d moves: answered %d", died, status)
		}
		b.die(-1)
		b.apply(row.Put(attempt(1, queue.Ended)), row.Put(queue.Status{ID: "r", State: queue.Failed}))
		for range 2 {
			if err := nodes.Resume(t.Context(), b.services()); err != nil {
				t.Fatal(err)
			}
		}
		if got, want := fmt.Sprint(b.has("c/"), b.has("$"), b.recorded), "[c/out/model/a=1 c/out/model/b=2 c/shared/x=3] [] [asset best uri_folder azureml://m/]"; got != want {
			t.Errorf("after %d moves: got %s, want %s", died, got, want)
		}
	}
}

// TestAMoveOfARunThatIsGoneIsForgotten: it would be tried at every start.
func TestAMoveOfARunThatIsGoneIsForgotten(t *testing.T) {
	t.Parallel()
	b := leaving(t)
	b.put(t, "r.1", "outputs.model/a?fence=11", "1")
	b.die(0)
	b.ask(t, "node:gpu-0", "POST", "attempts/r.1/outputs?fence=11&done=true", "")
	b.die(-1)
	b.task.Run = "another"
	if err := nodes.Resume(t.Context(), b.services()); err != nil || len(b.has("$settling")) != 0 {
		t.Errorf("left: %v, %v", b.has("$settling"), err)
	}
}

func TestOutputsThatAreNone(t *testing.T) {
	t.Parallel()
	b := leaving(t)
	for what, path := range map[string]string{
		"a name that the job does not have":  "outputs.other/x",
		"an address alone":                   "outputs.where/x",
		"an input that is not written back":  "inputs.fixed/x",
		"no slot":                            "model/x",
		"a path that leads away":             "outputs.model/..%2f..%2fx",
		"a path that leads away, by a slash": "outputs.model/%2e%2e/x",
		"a path too long for its place":      "outputs.model/" + strings.Repeat("n/", 600) + "x",
	} {
		if status, body := b.ask(t, "node:gpu-0", "PUT", "attempts/r.1/outputs/"+path+"?fence=11", "x"); status/100 != 4 {
			t.Errorf("%s: %d %s", what, status, body)
		}
	}
	if got := b.has("$blocks"); len(got) != 0 {
		t.Errorf("kept: %v", got)
	}
}
