package backup_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/backup"
	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/store"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// house is a data folder that is open, as by a server.
type house struct {
	t     *testing.T
	dir   string
	rows  *store.Store
	blobs *blob.Store
}

func open(t *testing.T, dir string) *house {
	t.Helper()
	h := &house{t: t, dir: dir}
	var err error
	if h.rows, err = store.Open(t.Context(), dir, store.Options{}); err != nil {
		t.Fatal(err)
	}
	if h.blobs, err = blob.Open(filepath.Join(dir, "blobs")); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) close() {
	h.t.Helper()
	if err := errors.Join(h.blobs.Close(), h.rows.Close()); err != nil {
		h.t.Error(err)
	}
}

func document(id string) row.Document {
	return row.Document{Kind: row.Artifact, ID: id, Body: []byte(`{}`)}
}

func key(id string) row.Key { return row.Key{Kind: row.Artifact, ID: id} }

// keep writes a blob, and then the row that names it.
func (h *house) keep(ctx context.Context, id string) error {
	if _, err := h.blobs.Put(ctx, id, strings.NewReader("content of "+id), blob.Meta{}); err != nil {
		return err
	}
	_, err := h.rows.Commit(ctx, row.Put(document(id)))
	return err
}

// lose drops the row, and then the blob.
func (h *house) lose(ctx context.Context, id string) error {
	if _, err := h.rows.Commit(ctx, row.Drop(key(id))); err != nil {
		return err
	}
	return h.blobs.Delete(ctx, id)
}

func quiet(string, ...any) {}

func make1(t *testing.T, data string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if _, err := backup.Make(t.Context(), data, to, "test", noon, quiet); err != nil {
		t.Fatal(err)
	}
	return to
}

// Blobs come and go while copies are made; none of a copy's rows names one that
// is not in it.
func TestNoRowNamesABlobThatIsNotCopied(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	h := open(t, data)
	defer h.close()
	var stop atomic.Bool
	var work sync.WaitGroup
	for w := range 4 {
		work.Go(func() {
			for i := 0; !stop.Load(); i++ {
				id := fmt.Sprintf("c%d/folder%d/%d", w, i%7, i)
				err := h.keep(context.Background(), id)
				if i >= 5 && err == nil {
					err = h.lose(context.Background(), fmt.Sprintf("c%d/folder%d/%d", w, (i-5)%7, i-5))
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	defer work.Wait()
	defer stop.Store(true)
	named := 0
	for range 5 {
		copied := open(t, restored(t, make1(t, data)))
		page, err := copied.rows.List(t.Context(), row.Query{Kind: row.Artifact})
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range page.Records {
			named++
			id := rec.Row.Key().ID
			if info, err := copied.blobs.Stat(t.Context(), id); err != nil || info.Size != int64(len("content of "+id)) {
				t.Errorf("a row names %s: %+v, %v", id, info, err)
			}
		}
		copied.close()
	}
	if named == 0 {
		t.Error("the copies had no rows")
	}
}

func restored(t *testing.T, from string) string {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	if _, err := backup.Restore(t.Context(), from, data, false, noon, quiet); err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	h := open(t, data)
	if err := h.keep(t.Context(), "c/a"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "keys"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	whole := make1(t, data)
	broken := func(breakIt func(dir string) error) string {
		dir := make1(t, data)
		if err := breakIt(dir); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	tests := map[string]struct {
		do   func() error
		kind fault.Kind
		want string
	}{
		"a backup of what is no data": {func() error {
			_, err := backup.Make(t.Context(), t.TempDir(), filepath.Join(t.TempDir(), "x"), "", noon, quiet)
			return err
		}, fault.NotFound, "no ebb.db"},
		"a backup into the data": {func() error {
			_, err := backup.Make(t.Context(), data, filepath.Join(data, "copy"), "", noon, quiet)
			return err
		}, fault.Invalid, "lost with it"},
		"a backup over another": {func() error { _, err := backup.Make(t.Context(), data, whole, "", noon, quiet); return err }, fault.Conflict, "not empty"},
		"a restore of half a backup": {func() error {
			from := broken(func(dir string) error { return os.Remove(filepath.Join(dir, "backup.json")) })
			_, err := backup.Restore(t.Context(), from, t.TempDir(), false, noon, quiet)
			return err
		}, fault.NotFound, "no whole backup"},
		"a restore without some of the blobs": {func() error {
			from := broken(func(dir string) error { return os.RemoveAll(filepath.Join(dir, "blobs", "blobs")) })
			_, err := backup.Restore(t.Context(), from, t.TempDir(), false, noon, quiet)
			return err
		}, fault.Conflict, "a.b is not there"},
		"a restore of a blob of which a byte has changed": {func() error {
			from := broken(func(dir string) error {
				return flip(filepath.Join(dir, "blobs", "blobs", "c.d", "a.b"))
			})
			_, err := backup.Restore(t.Context(), from, t.TempDir(), false, noon, quiet)
			return err
		}, fault.Conflict, "blobs/blobs/c.d/a.b is not what it was"},
		"a restore of a key of which a byte has changed": {func() error {
			from := broken(func(dir string) error { return flip(filepath.Join(dir, "keys")) })
			_, err := backup.Restore(t.Context(), from, t.TempDir(), false, noon, quiet)
			return err
		}, fault.Conflict, "keys is not what it was"},
		"a restore with checksums that were changed too": {func() error {
			from := broken(func(dir string) error { return flip(filepath.Join(dir, "SHA256SUMS")) })
			_, err := backup.Restore(t.Context(), from, t.TempDir(), false, noon, quiet)
			return err
		}, fault.Conflict, "SHA256SUMS"},
		"a restore of a blob that was not there": {func() error {
			from := broken(func(dir string) error {
				return os.WriteFile(filepath.Join(dir, "blobs", "blobs", "c.d", "other.b"), nil, 0o600)
			})
			_, err := backup.Restore(t.Context(), from, t.TempDir(), false, noon, quiet)
			return err
		}, fault.Conflict, "other.b was not in it"},
		"a backup beside a server that does not wait for backups": {func() error {
			old := t.TempDir()
			open(t, old).close()
			if err := os.Remove(filepath.Join(old, "blobs", "hold")); err != nil {
				return err
			}
			_, err := backup.Make(t.Context(), old, filepath.Join(t.TempDir(), "x"), "", noon, quiet)
			return err
		}, fault.Conflict, "Start the server with this version once"},
		"a restore of a damaged database": {func() error {
			from := broken(func(dir string) error {
				return os.WriteFile(filepath.Join(dir, "ebb.db"), []byte(strings.Repeat("x", 8192)), 0o600)
			})
			_, err := backup.Restore(t.Context(), from, t.TempDir(), false, noon, quiet)
			return err
		}, fault.Conflict, "ebb.db is not what it was"},
		"a restore by a clock that is far off": {func() error {
			_, err := backup.Restore(t.Context(), whole, t.TempDir(), false, time.Date(2078, 1, 1, 0, 0, 0, 0, time.UTC), quiet)
			return err
		}, fault.Conflict, "clock says 2078-01-01"},
		"a restore under a living server":               {func() error { _, err := backup.Restore(t.Context(), whole, data, true, noon, quiet); return err }, fault.Conflict, "another server"},
		"a restore where a server runs, without a word": {func() error { _, err := backup.Restore(t.Context(), whole, data, false, noon, quiet); return err }, fault.Conflict, "is running on this data folder"},
		"a restore over something, without a word": {func() error {
			old := t.TempDir()
			open(t, old).close()
			_, err := backup.Restore(t.Context(), whole, old, false, noon, quiet)
			return err
		}, fault.Conflict, "--replace"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := tt.do()
			if fault.KindOf(err) != tt.kind || !strings.Contains(fmt.Sprint(err), tt.want) {
				t.Errorf("got %v, want a %v with %q in it", err, tt.kind, tt.want)
			}
		})
	}
	if _, err := h.blobs.Stat(t.Context(), "c/a"); err != nil {
		t.Errorf("the data was not left alone: %v", err)
	}
	h.close()
}

// flip changes a byte in the middle of a file.
func flip(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text[len(text)/2] ^= 1
	return os.WriteFile(path, text, 0o600)
}

// Who is not the data folder's owner would leave files that its server cannot open.
func TestOnlyTheOwner(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	h := open(t, data)
	defer h.close()
	if err := backup.Own(data, os.Geteuid()); err != nil {
		t.Errorf("the owner: %v", err)
	}
	if err := backup.Own(filepath.Join(data, "not yet"), 0); err != nil {
		t.Errorf("a folder that is to be made: %v", err)
	}
	if err := backup.Own(data, os.Geteuid()+1); fault.KindOf(err) != fault.Forbidden || !strings.Contains(err.Error(), "sudo -u") {
		t.Errorf("another user: %v", err)
	}
	if os.Geteuid() != 0 {
		return // only root can make a folder another's
	}
	from := make1(t, data)
	if err := os.Chown(data, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Make(t.Context(), data, filepath.Join(t.TempDir(), "x"), "", noon, quiet); fault.KindOf(err) != fault.Forbidden {
		t.Errorf("a backup by root: %v", err)
	}
	if _, err := backup.Restore(t.Context(), from, data, true, noon, quiet); fault.KindOf(err) != fault.Forbidden {
		t.Errorf("a restore by root: %v", err)
	}
}

// The same backup may be restored again and again: no term comes twice, also where
// what it replaces cannot be read.
func TestEpochsRise(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	open(t, data).close()
	from := make1(t, data)
	last := int64(0)
	for i, wreck := range []bool{false, false, true, false} {
		if wreck {
			if err := os.WriteFile(filepath.Join(data, "ebb.db"), []byte("gone"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		// An hour between two, in which no server is started more than once a second.
		done, err := backup.Restore(t.Context(), from, data, true, noon.Add(time.Duration(i)*time.Hour), quiet)
		if err != nil {
			t.Fatal(err)
		}
		h := open(t, data)
		if h.rows.Epoch() != done.Epoch || h.rows.Term() <= last || done.Epoch <= last {
			t.Errorf("restore %d: epoch %d, term %d, after term %d", i, h.rows.Epoch(), h.rows.Term(), last)
		}
		last = h.rows.Term()
		h.close()
		if _, err := os.Stat(filepath.Join(done.Aside, "ebb.db")); err != nil {
			t.Errorf("what was replaced is not aside: %v", err)
		}
	}
	// A clock that goes back does not matter where the newer state can be read.
	done, err := backup.Restore(t.Context(), from, data, true, noon.Add(-24*time.Hour), quiet)
	if err != nil || done.Epoch <= last {
		t.Errorf("with an older clock: epoch %d after term %d, %v", done.Epoch, last, err)
	}
}

// What is kept of a later attempt is not in the way of the one that has its number
// next: its log, its outputs, and the word that they may be moved to their places.
func TestWhatIsOfLaterAttemptsGoes(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	h := open(t, data)
	_, err := h.rows.Commit(t.Context(), row.Put(queue.Status{ID: "r", State: queue.Running, Attempts: 1}), row.Put(queue.Run{ID: "r", Submitted: noon}))
	want := map[string]bool{}
	for _, at := range []string{"logs-w/%s/%s/log.txt", "$blocks/outputs-w/%s/%s/0/outputs.model/a/b.bin", "$settling/w/%s/%s/0"} {
		want[fmt.Sprintf(at, "r", "0001")] = true
		want[fmt.Sprintf(at, "r", "0002")] = false
		want[fmt.Sprintf(at, "over", "0002")] = true
	}
	for name := range want {
		if _, perr := h.blobs.Put(t.Context(), name, strings.NewReader("x"), blob.Meta{}); perr != nil {
			err = perr
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	from := make1(t, data)
	h.close()
	h = open(t, restored(t, from))
	defer h.close()
	for name, want := range want {
		if _, err := h.blobs.Stat(t.Context(), name); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %v", name, err, want)
		}
	}
}

// A restore that was cut short keeps servers away until it is done again.
func TestCutShort(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	open(t, data).close()
	from := make1(t, data)
	to := t.TempDir()
	for path, text := range map[string]string{"restoring": "99000000", "keys": "half"} {
		if err := os.WriteFile(filepath.Join(to, path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := backup.Check(to); fault.KindOf(err) != fault.Conflict {
		t.Errorf("a server would start: %v", err)
	}
	done, err := backup.Restore(t.Context(), from, to, true, noon, quiet)
	if err != nil || done.Epoch <= 99000000 {
		t.Fatalf("the same again: epoch %d, %v", done.Epoch, err)
	}
	if err := backup.Check(to); err != nil {
		t.Error(err)
	}
}
