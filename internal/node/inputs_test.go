package node_test

import (
	"archive/tar"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/node"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// shelf is a server with one input.
type shelf struct {
	file    string // server.json
	etag    atomic.Value
	refuse  string
	names   []string
	changes atomic.Int32 // so many tars are asked for too late
	tars    atomic.Int32
}

func newShelf(t *testing.T, names ...string) *shelf {
	t.Helper()
	s := &shelf{file: filepath.Join(t.TempDir(), "server.json"), names: names}
	s.etag.Store("one")
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content := nodeproto.Content{ETag: s.etag.Load().(string), File: "a.csv"}
		switch want := r.URL.Query().Get("etag"); {
		case s.refuse != "":
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"code": "UserError", "message": s.refuse}})
		case want == "":
			_ = json.NewEncoder(w).Encode(content)
		case s.changes.Add(-1) >= 0:
			w.WriteHeader(http.StatusConflict)
		default:
			s.tars.Add(1)
			out := tar.NewWriter(w)
			for _, name := range s.names {
				_ = out.WriteHeader(&tar.Header{Name: name, Size: 1, Mode: 0o444, Typeflag: tar.TypeReg})
				_, _ = out.Write([]byte("x"))
			}
			_ = out.Close()
		}
	}))
	t.Cleanup(srv.Close)
	if err := os.WriteFile(s.file, []byte(`{"url":"`+srv.URL+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func wanting(modes ...queue.Mode) nodeproto.Order {
	o := nodeproto.Order{Attempt: "r.1", Fence: 1}
	for _, m := range modes {
		o.Task.Inputs = append(o.Task.Inputs, queue.Input{Name: "in_" + strings.ToLower(string(m)), URI: "azureml://here", Mode: m})
	}
	return o
}

// What has travelled once is on the machine, for every job and mode; what may
// not be changed shares its bytes, and a copy does not.
func TestInputsTravelOnce(t *testing.T) {
	t.Parallel()
	s, cache, dir := newShelf(t, "a.csv", "deep/er/b"), t.TempDir(), t.TempDir()
	s.changes.Store(2) // the files change while they are asked for: again
	for _, attempt := range []string{"one", "two"} {
		if err := node.FetchInputs(t.Context(), s.file, cache, filepath.Join(dir, attempt), wanting(queue.ReadOnlyMount, queue.Download, queue.ReadWriteMount, queue.Direct)); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.tars.Load(); n != 1 {
		t.Errorf("the input travelled %d times", n)
	}
	stat := func(name string) os.FileInfo {
		t.Helper()
		fi, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return fi
	}
	first := stat("one/inputs/in_readonlymount/deep/er/b")
	if !os.SameFile(first, stat("two/inputs/in_readonlymount/deep/er/b")) || first.Mode().Perm() != 0o444 {
		t.Errorf("two jobs have two files, or one they may write to: %v", first.Mode())
	}
	for _, name := range []string{"one/copies/in_download/deep/er/b", "one/shared/in_readwritemount/deep/er/b"} {
		if fi := stat(name); os.SameFile(first, fi) || fi.Mode().Perm()&0o200 == 0 {
			t.Errorf("%s is no copy of the job's own: %v", name, fi.Mode())
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "one/inputs/in_readonlymount.file")); string(b) != "a.csv" {
		t.Errorf("the file to see is %q, %v", b, err)
	}
	s.etag.Store("other")
	if err := node.FetchInputs(t.Context(), s.file, cache, filepath.Join(dir, "three"), wanting(queue.Download)); err != nil || s.tars.Load() != 2 {
		t.Errorf("another content: %v, travelled %d times", err, s.tars.Load())
	}
}

func TestInputsThatCannotBeAreTheUsersToMend(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		refuse, says string
		names        []string
	}{
		"a refusal":               {`The input "data" (azureml://here) cannot be read: there is nothing at this path.`, "nothing at this path", nil},
		"a name that leads away":  {"", "leads outside", []string{"../evil"}},
		"a name twice":            {"", "cannot be kept on the node", []string{"a", "a"}},
		"a file that is a folder": {"", "cannot be kept on the node", []string{"a", "a/b"}},
		"a name that is too long": {"", "cannot be kept on the node", []string{strings.Repeat("n", 300)}},
	} {
		s, dir := newShelf(t, c.names...), t.TempDir()
		s.refuse = c.refuse
		err := node.FetchInputs(t.Context(), s.file, t.TempDir(), dir, wanting(queue.ReadOnlyMount))
		if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "azureml://here") {
			t.Errorf("%s: %v, want the words %q", what, err, c.says)
		}
		if _, err := os.Stat(filepath.Join(dir, "evil")); err == nil {
			t.Errorf("%s: a file outside", what)
		}
	}
}

// The context of an environment's build lies beside the job's folders, where the job
// does not see it, and is fetched once for the machine.
func TestABuildContextIsFetched(t *testing.T) {
	t.Parallel()
	s, cache, dir := newShelf(t, "Dockerfile", "src/a.py"), t.TempDir(), t.TempDir()
	o := nodeproto.Order{Attempt: "r.1", Fence: 1}
	o.Task.Environment.Build = &queue.Build{URI: "https://h/ctx/", Key: "c/ctx"}
	for _, attempt := range []string{"one", "two"} {
		if err := node.FetchContext(t.Context(), s.file, cache, filepath.Join(dir, attempt), o); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, attempt, "context", "src", "a.py")); err != nil {
			t.Error(err)
		}
	}
	if n := s.tars.Load(); n != 1 {
		t.Errorf("the context travelled %d times", n)
	}
	s.refuse = "there is nothing at this path"
	err := node.FetchContext(t.Context(), s.file, cache, filepath.Join(dir, "three"), o)
	if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "nothing at this path") {
		t.Errorf("a context that is gone: %v", err)
	}
}
