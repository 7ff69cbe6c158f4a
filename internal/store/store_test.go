package store_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/store"
	"github.com/ebb-compute/ebb/internal/store/storetest"
)

// childDir names the data folder of a process that is there to be killed.
const childDir = "EBB_STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := writeUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("database/sql.(*DB).connectionOpener"))
}

func open(t testing.TB, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(context.Background(), dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestStoreKeepsTheContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Store { return open(t, t.TempDir()) })
}

func document(id string) row.Document {
	return row.Document{Kind: row.Job, ID: id, Parent: "/w", Body: []byte(`{}`)}
}

func mustCommit(t testing.TB, s *store.Store, changes ...row.Change) int64 {
	t.Helper()
	rev, err := s.Commit(context.Background(), changes...)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

// Rows that were written before tables had a rowid are all there after it.
func TestRowsOfTheFirstLayout(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const insert = "INSERT INTO rows (kind, id, parent, sort, rev, term, hot, created, modified, writer, body) VALUES "
	err := store.MakeBefore(t.Context(), dir, 2, insert+`
		('job', '/w/jobs/b', '/w', '2', 7, 1, 0, 5, 6, 'me', '{"x":1}'), ('job', '/w/jobs/a', '/w', '3', 8, 1, 0, 0, 0, '', '{}'),
		('run', 'r', '/c', '', 8, 1, 1, 0, 0, '', '{"ID":"r","Cluster":"/c"}'), ('run.status', 'r', '', '', 8, 1, 1, 0, 0, '', '{"ID":"r","State":"Queued"}');
		UPDATE site SET value = 8 WHERE name = 'rev'; UPDATE site SET value = 3 WHERE name = 'term'`)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	page, err := s.List(t.Context(), row.Query{Kind: row.Job, Parent: "/w"})
	if err != nil || len(page.Records) != 2 {
		t.Fatal(page, err)
	}
	want := row.Document{Kind: row.Job, ID: "/w/jobs/b", Parent: "/w", Sort: "2", Body: []byte(`{"x":1}`), Created: time.Unix(0, 5).UTC(), Modified: time.Unix(0, 6).UTC(), By: "me"}
	if got := page.Records[0]; got.Rev != 7 || !reflect.DeepEqual(got.Row, want) {
		t.Errorf("%+v; want %+v of 7", got, want)
	}
	if r, ok := s.View().Run("r"); !ok || r.Cluster != "/c" {
		t.Errorf("the live run is %+v, %v", r, ok)
	}
	if s.Term() != 4 {
		t.Errorf("the term is %d, want 4", s.Term())
	}
	if rev := mustCommit(t, s, row.Update(want, 7)); rev != 9 {
		t.Errorf("the next commit is %d, want 9", rev)
	}
	if err := s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestEverythingIsThereAfterReopening(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	term := s.Term()
	mustCommit(t, s, row.Put(fleet.Cluster{ID: "/c"}), row.Put(queue.Run{ID: "r", Cluster: "/c"}), row.Put(queue.Status{ID: "r", State: queue.Queued}))
	mustCommit(t, s, row.Put(queue.Run{ID: "x", Cluster: "/c"}), row.Put(queue.Status{ID: "x", State: queue.Queued}))
	mustCommit(t, s, row.Put(queue.Status{ID: "x", State: queue.Completed}))
	rev := mustCommit(t, s, row.Put(document("a")), row.Put(document("b")))
	mustCommit(t, s, row.Drop(document("b").Key())) // its revision is used up all the same
	before := s.View()
	if err := s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if s.Term() <= term {
		t.Errorf("term %d after %d", s.Term(), term)
	}
	if diff := pool.Differ(before, s.View()); diff != "" {
		t.Error(diff)
	}
	if got := mustCommit(t, s, row.Put(document("c"))); got != rev+2 {
		t.Errorf("revision %d after reopening, want %d", got, rev+2)
	}
}

func TestASecondServerIsToldWhoIsThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open(t, dir)
	_, err := store.Open(t.Context(), dir, store.Options{})
	if !errors.Is(err, fault.Conflict) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
		t.Errorf("second Open: %v, want a fault.Conflict with our pid", err)
	}
}

func TestDataOfANewerEbbIsLeftAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := open(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "ebb.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), dir, store.Options{}); !errors.Is(err, fault.Conflict) {
		t.Errorf("Open: %v, want a fault.Conflict", err)
	}
}

func TestAFileThatIsNoDatabaseIsRefusedByName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ebb.db"), []byte(strings.Repeat("not a database. ", 512)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), dir, store.Options{}); !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("Open: %v, want a fault.Unavailable that says damaged", err)
	}
}

func TestAFullDiskRefusesWritesAndHeals(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	mustCommit(t, s, row.Put(document("kept")), row.Put(fleet.Cluster{ID: "/c"}))
	if err := s.LimitPages(1); err != nil { // no more than it has
		t.Fatal(err)
	}
	big := document("big")
	big.Body = []byte(`"` + strings.Repeat("x", 1<<20) + `"`)
	if _, err := s.Commit(t.Context(), row.Put(big), row.Put(fleet.Cluster{ID: "/d"})); !errors.Is(err, fault.Unavailable) {
		t.Fatalf("Commit on a full disk: %v, want a fault.Unavailable", err)
	}
	if _, err := s.Get(t.Context(), document("kept").Key()); err != nil {
		t.Errorf("reading on a full disk: %v", err)
	}
	if _, ok := s.View().Cluster("/d"); ok {
		t.Error("the view has what is not on disk")
	}
	if err := s.LimitPages(0); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, row.Put(big))
	if err := s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// Big and small commits race on a full disk: the small ones that fit must not
// fail because a big one shared their flush.
func TestAFailedCommitDoesNotPoisonOthers(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	mustCommit(t, s, row.Put(document("small")))
	if err := s.LimitPages(1); err != nil {
		t.Fatal(err)
	}
	big := document("big")
	big.Body = []byte(`"` + strings.Repeat("x", 1<<20) + `"`)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := s.Commit(t.Context(), row.Put(big)); !errors.Is(err, fault.Unavailable) {
				t.Errorf("big: %v, want a fault.Unavailable", err)
			}
		})
		wg.Go(func() {
			if _, err := s.Commit(t.Context(), row.Put(document("small"))); err != nil {
				t.Errorf("small: %v", err)
			}
		})
	}
	wg.Wait()
}

func TestManyCallersAtOnce(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	mustCommit(t, s, row.Put(document("counter")))
	var wg sync.WaitGroup
	const callers, each = 64, 10
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				id := fmt.Sprintf("%d-%d", c, i)
				if _, err := s.Commit(t.Context(), row.Create(document(id)), row.Put(fleet.Node{ID: id, Cluster: "/c"})); err != nil {
					t.Error(err)
				}
				if _, ok := s.View().Node(id); !ok {
					t.Errorf("%s is not in the view after its commit", id)
				}
				if _, err := s.Get(t.Context(), document(id).Key()); err != nil {
					t.Errorf("%s is not read after its commit: %v", id, err)
				}
				for { // an update is lost by nobody
					rec, err := s.Get(t.Context(), document("counter").Key())
					if err != nil {
						t.Error(err)
						return
					}
					d := rec.Row.(row.Document)
					d.By += "x"
					if _, err = s.Commit(t.Context(), row.Update(d, rec.Rev)); err == nil {
						break
					} else if !errors.Is(err, fault.Precondition) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	rec, err := s.Get(t.Context(), document("counter").Key())
	if err != nil || len(rec.Row.(row.Document).By) != callers*each {
		t.Errorf("the counter stands at %d, %v; want %d", len(rec.Row.(row.Document).By), err, callers*each)
	}
	if err := s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// Close while commits are on their way: each is either refused or on disk.
func TestCloseWaitsForCommits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	acked := make([][]string, 16)
	var wg, under sync.WaitGroup
	for c := range acked {
		under.Add(1)
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d", c, i)
				_, err := s.Commit(context.Background(), row.Create(document(id)))
				if i == 0 {
					under.Done()
				}
				if err != nil {
					if !errors.Is(err, fault.Unavailable) {
						t.Errorf("%s: %v, want a fault.Unavailable", id, err)
					}
					return
				}
				acked[c] = append(acked[c], id)
			}
		})
	}
	under.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	s = open(t, dir)
	for _, ids := range acked {
		for _, id := range ids {
			if _, err := s.Get(t.Context(), document(id).Key()); err != nil {
				t.Errorf("acknowledged and lost: %v", err)
			}
		}
	}
}

// writeUntilKilled commits from many goroutines and prints the id of each commit
// once it is acknowledged.
func writeUntilKilled(dir string) error {
	s, err := store.Open(context.Background(), dir, store.Options{})
	if err != nil {
		return err
	}
	failed := make(chan error)
	for c := range 16 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d-%d", s.Term(), c, i)
				status := queue.Status{ID: id, State: queue.Queued}
				if i%2 == 1 {
					status.State = queue.Completed
				}
				if _, err := s.Commit(context.Background(), row.Create(document(id)), row.Create(queue.Run{ID: id, Cluster: "/c"}), row.Create(status)); err != nil {
					failed <- err
					return
				}
				fmt.Println(id) // one write: lines of goroutines do not mix
			}
		}()
	}
	return <-failed
}

func TestNothingAcknowledgedIsLostWhenKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var acked []string
	for kill := range 10 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			acked = append(acked, lines.Text())
			if n == 20+kill*37%200 { // at a different moment each time
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait() // killed: its error says so
	}
	if len(acked) < 200 {
		t.Fatalf("only %d commits were acknowledged", len(acked))
	}
	s := open(t, dir)
	for _, id := range acked {
		if _, err := s.Get(t.Context(), document(id).Key()); err != nil {
			t.Errorf("acknowledged and lost: %v", err)
		}
		if _, err := s.Get(t.Context(), row.Key{Kind: row.Run, ID: id}); err != nil {
			t.Errorf("half of an acknowledged commit is lost: %v", err)
		}
	}
	if err := s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	t.Logf("%d acknowledged commits over 10 kills", len(acked))
}

// BenchmarkCommit prints, beside commits per second, how many fdatasyncs of a
// page the same disk does in the same run, and the ratio (bar 2: 64 callers at
// least 4, one at least 0.6).
func BenchmarkCommit(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			dir := b.TempDir()
			s := open(b, dir)
			before := syncsPerSecond(b, dir)
			b.ResetTimer()
			start := time.Now()
			var wg sync.WaitGroup
			next := make(chan int)
			for range callers {
				wg.Go(func() {
					for i := range next {
						d := document(fmt.Sprintf("/subscriptions/s/workspaces/w/jobs/%08d", i*7919))
						d.Body = []byte(strings.Repeat(" ", 600))
						mustCommit(b, s, row.Put(d))
					}
				})
			}
			for i := range b.N {
				next <- i
			}
			close(next)
			wg.Wait()
			rate := float64(b.N) / time.Since(start).Seconds()
			b.StopTimer()
			syncs := (before + syncsPerSecond(b, dir)) / 2
			b.ReportMetric(rate, "commits/s")
			b.ReportMetric(syncs, "fdatasyncs/s")
			b.ReportMetric(rate/syncs, "ratio")
		})
	}
}

func TestTheDatabaseIsItsOwnersAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Commit(t.Context(), row.Put(row.Document{Kind: row.Datum, ID: "secret"})); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "ebb.db*"))
	if err != nil || len(files) < 2 {
		t.Fatalf("files %v, %v, want the database and its log", files, err)
	}
	for _, f := range files {
		if fi, err := os.Stat(f); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v (%v), want 0600", filepath.Base(f), fi.Mode(), err)
		}
	}
}

func TestALockThatOutlivesItsServerIsWaitedFor(t *testing.T) {
	t.Parallel()
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	for name, pid := range map[string]string{
		"a server that is dead":                    fmt.Sprintln(gone.Process.Pid),
		"a server that has not said yet who it is": "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			held, err := os.Create(filepath.Join(dir, "lock"))
			if err != nil {
				t.Fatal(err)
			}
			if err := syscall.Flock(int(held.Fd()), syscall.LOCK_EX); err != nil {
				t.Fatal(err)
			}
			if _, err := held.WriteString(pid); err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(100*time.Millisecond, func() { held.Close() })
			s, err := store.Open(t.Context(), dir, store.Options{})
			if err != nil {
				t.Fatalf("Open: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
