package store_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/store"
)

// filled is a data folder with 100,000 live runs, their documents, and 10,000 nodes.
func filled(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	s := open(b, dir)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var changes []row.Change
	for i := range 100_000 {
		id := fmt.Sprintf("%08x-0000-0000-0000-000000000000", uint32(i)*2654435761)
		d := document("/w/jobs/" + id)
		d.Sort, d.Body = fmt.Sprintf("%020d", i), []byte(`{"x":"`+strings.Repeat("y", 600)+`"}`)
		changes = append(changes, row.Put(d),
			row.Put(queue.Run{ID: id, Name: id, Workspace: "/w", Document: d.ID, Cluster: fmt.Sprint("/c", i%200), Nodes: 1, Submitted: at.Add(time.Duration(i))}),
			row.Put(queue.Status{ID: id, Document: d.ID, State: queue.Queued, Since: at, Why: "waits for nodes"}))
		if i%10 == 0 {
			changes = append(changes, row.Put(fleet.Node{ID: fmt.Sprint("n-", i), Cluster: fmt.Sprint("/c", i%200), Number: int64(i), State: fleet.Idle, Since: at, Created: at}))
		}
		if len(changes) > 2000 {
			mustCommit(b, s, changes...)
			changes = nil
		}
	}
	mustCommit(b, s, changes...)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	return dir
}

// BenchmarkScale: bar 3, the store's share. Restart, a page, a commit and a read
// with 100,000 live runs.
func BenchmarkScale(b *testing.B) {
	dir := filled(b)
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			s, err := store.Open(context.Background(), dir, store.Options{})
			if err != nil {
				b.Fatal(err)
			}
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "heap-MiB")
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	s := open(b, dir)
	b.Run("first page of 100", func(b *testing.B) {
		for b.Loop() {
			if page, err := s.List(b.Context(), row.Query{Kind: row.Job, Parent: "/w", Desc: true, Limit: 100}); err != nil || len(page.Records) != 100 {
				b.Fatal(len(page.Records), err)
			}
		}
	})
	b.Run("first page of 100 of every parent", func(b *testing.B) {
		for b.Loop() {
			if page, err := s.List(b.Context(), row.Query{Kind: row.Job, Desc: true, Limit: 100}); err != nil || len(page.Records) != 100 {
				b.Fatal(len(page.Records), err)
			}
		}
	})
	b.Run("commit of a run", func(b *testing.B) {
		i := 0
		for b.Loop() {
			id := fmt.Sprint("new", i)
			mustCommit(b, s, row.Create(document(id)), row.Create(queue.Run{ID: id, Cluster: "/c1"}), row.Create(queue.Status{ID: id, State: queue.Queued}))
			i++
		}
	})
	b.Run("get", func(b *testing.B) {
		k := document("/w/jobs/00000000-0000-0000-0000-000000000000").Key()
		for b.Loop() {
			if _, err := s.Get(b.Context(), k); err != nil {
				b.Fatal(err)
			}
		}
	})
}
