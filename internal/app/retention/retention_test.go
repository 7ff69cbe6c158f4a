package retention_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/app/apptest"
	"github.com/ebb-compute/ebb/internal/app/retention"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

const day = 24 * time.Hour

var (
	now   = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	admin = access.Principal{ID: "someone", Kind: access.Application}
)

// files is a map of blobs.
type files map[string]retention.Blob

func (f files) List(_ context.Context, prefix string) ([]retention.Blob, error) {
	var out []retention.Blob
	for _, key := range slices.Sorted(maps.Keys(f)) {
		if strings.HasPrefix(key, prefix) {
			out = append(out, f[key])
		}
	}
	return out, nil
}

func (f files) Delete(_ context.Context, key string) error { delete(f, key); return nil }

func (f files) Stub(_ context.Context, key, words string) error {
	f[key] = retention.Blob{Key: key, Size: int64(len(words)), Modified: now, Stub: true}
	return nil
}

func (f files) put(key string, size int64, days int) {
	f[key] = retention.Blob{Key: key, Size: size, Modified: now.Add(-time.Duration(days) * day)}
}

func (f files) keys() string { return strings.Join(slices.Sorted(maps.Keys(f)), " ") }

// folder is a cache in which some things turn out to be in use.
type folder struct {
	items []retention.Item
	busy  string
	gone  []string
}

func (f *folder) List(context.Context) ([]retention.Item, error) { return f.items, nil }

func (f *folder) Remove(_ context.Context, id string) (bool, error) {
	if id != f.busy {
		f.gone = append(f.gone, id)
	}
	return id != f.busy, nil
}

type world struct {
	*retention.Service
	store *apptest.Store
	files files
	envs  *folder
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{store: &apptest.Store{}, files: files{}, envs: &folder{}}
	n := 0
	w.Service = &retention.Service{
		Store: w.store, Files: w.files, Envs: w.envs, Copies: &folder{}, Now: func() time.Time { return now },
		NewID: func() string { n++; return fmt.Sprint("id", n) }, Settle: time.Nanosecond,
	}
	return w
}

func (w *world) put(t *testing.T, rows ...row.Row) {
	t.Helper()
	for _, r := range rows {
		if _, err := w.store.Commit(t.Context(), row.Put(r)); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *world) prune(t *testing.T, dry bool, kind retention.Kind, b retention.Bound) retention.Set {
	t.Helper()
	sets, err := w.Prune(t.Context(), admin, dry, retention.Wish{Kind: kind, Bound: b})
	if err != nil || len(sets) != 1 {
		t.Fatalf("prune %s: %v, %v", kind, sets, err)
	}
	return sets[0]
}

func ended(run string, days int) queue.Status {
	return queue.Status{ID: run, State: queue.Completed, Ended: now.Add(-time.Duration(days) * day)}
}

func older(days int) retention.Bound {
	return retention.Bound{Age: time.Duration(days) * day, Size: -1}
}

// Logs go by when the job ended, not by when they were written; those of a job
// that goes on never do; a line tells readers what became of them.
func TestLogsOfEndedJobsGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(t, ended("old", 10), ended("new", 1), queue.Status{ID: "runs", State: queue.Running})
	for _, run := range []string{"old", "new", "runs", "deleted"} {
		w.files.put("logs-w/"+run+"/0001/user_logs/std_log.txt", 100, 20)
	}
	w.files.put("logs-w/old/0002/user_logs/std_log.txt", 11, 10)
	w.files.put("azureml-w/ExperimentRun/dcid.old/model.pkl", 1000, 20)

	before := w.files.keys()
	want := retention.Set{Kind: retention.Logs, Removed: 2, Bytes: 211, Kept: 200}
	if got := w.prune(t, true, retention.Logs, older(7)); got != want || w.files.keys() != before {
		t.Errorf("dry run: %+v, want %+v; files %s", got, want, w.files.keys())
	}
	if got := w.prune(t, false, retention.Logs, older(7)); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, want := w.files.keys(), "azureml-w/ExperimentRun/dcid.old/model.pkl logs-w/new/0001/user_logs/std_log.txt logs-w/old/0001/user_logs/std_log.txt logs-w/runs/0001/user_logs/std_log.txt"; got != want {
		t.Errorf("left: %s\nwant: %s", got, want)
	}
	if b := w.files["logs-w/old/0001/user_logs/std_log.txt"]; !b.Stub {
		t.Error("nothing says that the log was pruned")
	}
	if got := w.prune(t, false, retention.Logs, older(0)); got.Removed != 1 {
		t.Errorf("a second time, of any age: %+v; only \"new\" was left to go", got)
	}
	if n := len(w.store.Rows(row.Event)); n != 2 {
		t.Errorf("%d events, want one for each prune that removed something", n)
	}
}

func snapshotRow(id, files string, days int) row.Document {
	at := now.Add(-time.Duration(days) * day)
	return row.Document{Kind: row.Snapshot, ID: "ws/snapshots/" + id, Parent: "ws", Sort: id, Body: []byte(`{"files":[` + files + `]}`), Created: at, Modified: at}
}

func jobRow(name, run, snapshot string, days int) row.Document {
	at := now.Add(-time.Duration(days) * day)
	return row.Document{Kind: row.Job, ID: "ws/jobs/" + name, Parent: "ws", Body: fmt.Appendf(nil, `{"run":%q,"snapshot":%q}`, run, snapshot), Created: at, Modified: at}
}

// A snapshot goes when no job of that age used it; bytes that a younger one
// shares with it stay.
func TestSnapshotsGoWithTheBytesNobodyShares(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(t,
		snapshotRow("unused", `{"key":"snapshots-w/a","size":1},{"key":"snapshots-w/shared","size":10}`, 30),
		snapshotRow("reused", `{"key":"snapshots-w/b","size":100},{"key":"snapshots-w/shared","size":10}`, 30),
		snapshotRow("held", `{"key":"snapshots-w/c","size":1000}`, 30),
		snapshotRow("past", `{"key":"snapshots-w/d","size":10000}`, 30),
		jobRow("j1", "r1", "REUSED", 20), ended("r1", 2),
		jobRow("j2", "r2", "held", 29), queue.Status{ID: "r2", State: queue.Queued},
		jobRow("j3", "r3", "past", 29), ended("r3", 28),
	)
	for _, key := range []string{"a", "b", "c", "d", "shared", "orphan"} {
		w.files.put("snapshots-w/"+key, 1, 30)
	}
	w.files.put("snapshots-w/uploading", 1, 0)

	want := retention.Set{Kind: retention.Snapshots, Removed: 2, Bytes: 10001, Kept: 1110}
	if got := w.prune(t, true, retention.Snapshots, older(7)); got != want || len(w.store.Rows(row.Snapshot)) != 4 {
		t.Errorf("dry run: %+v, want %+v, and %d rows left", got, want, len(w.store.Rows(row.Snapshot)))
	}
	if got := w.prune(t, false, retention.Snapshots, older(7)); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, want := w.files.keys(), "snapshots-w/b snapshots-w/c snapshots-w/shared snapshots-w/uploading"; got != want {
		t.Errorf("left: %s\nwant: %s", got, want)
	}
	if n := len(w.store.Rows(row.Snapshot)); n != 2 {
		t.Errorf("%d snapshots are left, want 2", n)
	}
}

func TestUnfinishedUploadsAndOldEventsGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.files.put("$blocks/one/aa", 5, 8)
	w.files.put("$blocks/two/bb", 5, 1)
	w.files.put("$blocks/three/committed", 5, 80)
	if got := w.prune(t, false, retention.Blocks, older(7)); got.Removed != 1 || w.files.keys() != "$blocks/three/committed $blocks/two/bb" {
		t.Errorf("blocks: %+v, left %s", got, w.files.keys())
	}
	const events = 1200 // more than a page
	for i := range events {
		at := now.Add(-time.Duration(events-i) * day)
		w.put(t, row.Document{Kind: row.Event, ID: fmt.Sprintf("e%05d", i), Sort: at.Format("20060102T150405.000000000Z"), Body: []byte("{}"), Created: at})
	}
	kept := len(w.store.Rows(row.Event)) - events // of the prune before
	if got := w.prune(t, false, retention.Events, older(90)); got.Removed != events-89 {
		t.Errorf("events: %+v, want %d to go", got, events-89)
	}
	if n := len(w.store.Rows(row.Event)); n != 89+kept+1 {
		t.Errorf("%d events are left", n)
	}
}

// What comes into use between looking and removing stays, and is not counted.
func TestWhatIsInUseStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.envs.items = []retention.Item{{ID: "a", Bytes: 5}, {ID: "b", Bytes: 7}, {ID: "c", Bytes: 9, Held: true}}
	w.envs.busy = "b"
	if got, want := w.prune(t, false, retention.Environments, older(0)), (retention.Set{Kind: retention.Environments, Removed: 1, Bytes: 5, Kept: 16}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if !slices.Equal(w.envs.gone, []string{"a"}) {
		t.Errorf("gone: %v", w.envs.gone)
	}
}

func TestJobsMayNotPrune(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, p := range []access.Principal{{Kind: access.RunIdentity, Scope: "ws"}, {Kind: access.Application, Scope: "ws"}} {
		if _, err := w.Prune(t.Context(), p, false, retention.Wish{Kind: retention.Logs}); !errors.Is(err, fault.Forbidden) {
			t.Errorf("%s: %v", p.Kind, err)
		}
	}
	if _, err := w.Prune(t.Context(), admin, false, retention.Wish{Kind: "jobs"}); !errors.Is(err, fault.Invalid) {
		t.Errorf("an unknown kind: %v", err)
	}
}
