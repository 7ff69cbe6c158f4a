package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/store"
)

// A copy is as of one commit, whatever is written meanwhile.
func TestCopyIsOfOneCommit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; !stop.Load(); i++ { // both, or neither
			a, b := document("a"), document("b")
			a.Body, b.Body = fmt.Appendf(nil, "%d", i), fmt.Appendf(nil, "%d", i)
			if _, err := s.Commit(context.Background(), row.Put(a), row.Put(b)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for i := range 5 {
		to := t.TempDir()
		snap, err := store.Snap(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		at := s.Revision()
		for s.Revision() < at+3 { // what is committed from here on is not in the copy
			select {
			case <-done:
				t.Fatal("nothing is committed any more")
			default:
				runtime.Gosched()
			}
		}
		if err := errors.Join(snap.Copy(t.Context(), to), snap.Close()); err != nil {
			t.Fatal(err)
		}
		if fi, err := os.Stat(filepath.Join(to, "ebb.db")); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("the copy is %v, %v; want it its owner's alone", fi.Mode(), err)
		}
		c := open(t, to)
		var body []string
		for _, id := range []string{"a", "b"} {
			if rec, err := c.Get(t.Context(), row.Key{Kind: row.Job, ID: id}); err == nil {
				body = append(body, string(rec.Row.(row.Document).Body))
			}
		}
		if c.Revision() > at+1 { // one may have been on its way to whoever reads revisions
			t.Errorf("copy %d is of revision %d, and was to be of %d", i, c.Revision(), at)
		}
		if len(body) == 1 || len(body) == 2 && body[0] != body[1] {
			t.Errorf("copy %d has half a commit: %q", i, body)
		}
		if err := c.Verify(t.Context()); err != nil {
			t.Error(err)
		}
	}
	stop.Store(true)
	<-done
}

// Whatever was told before a restore is older than what is told after it.
func TestAnEpochIsAboveAllBefore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := store.Open(t.Context(), dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, row.Put(document("a")))
	if s.Epoch() != 0 {
		t.Errorf("a new store is of epoch %d", s.Epoch())
	}
	term := s.Term()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := store.LastTerm(t.Context(), dir); err != nil || got != term {
		t.Errorf("the last term was %d, %v; want %d", got, err, term)
	}
	const epoch = 28_000_000
	if err := store.Restored(t.Context(), dir, epoch); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if s.Epoch() != epoch || s.Term() != epoch+1 || s.Revision() < epoch {
		t.Errorf("epoch %d, term %d, revision %d", s.Epoch(), s.Term(), s.Revision())
	}
	if _, err := s.Get(t.Context(), row.Key{Kind: row.Job, ID: "a"}); err != nil {
		t.Error(err)
	}
}

func TestADamagedCopyIsNotRestored(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ebb.db"), []byte("no database, though it has more than a hundred bytes, so that SQLite looks at the first of them and says so"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := store.Restored(t.Context(), dir, 5); err == nil {
		t.Error("it was taken for a database")
	}
}
