package jobs_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/ebb-compute/ebb/internal/app/apptest"
	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
)

// watched is a store that counts single reads, and lets something happen after the
// first page of runs was read.
type watched struct {
	*apptest.Store
	gets  atomic.Int64
	after func()
}

func (s *watched) Get(ctx context.Context, k row.Key) (row.Record, error) {
	s.gets.Add(1)
	return s.Store.Get(ctx, k)
}

func (s *watched) List(ctx context.Context, q row.Query) (row.Page, error) {
	page, err := s.Store.List(ctx, q)
	if q.Kind == row.Job && s.after != nil {
		s.after()
		s.after = nil
	}
	return page, err
}

func TestAListReadsNoRunByItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 20 {
		j := w.submit(fmt.Sprint("j", i))
		w.move(j, []queue.State{queue.Running, queue.Completed, queue.Failed}[i%3])
	}
	for what, list := range map[string]func(*jobs.Service) ([]string, error){ // by a run that is deleted meanwhile
		"j4": func(s *jobs.Service) (names []string, err error) {
			list, _, err := s.List(t.Context(), me, w.ws, jobs.Query{Oldest: true})
			for _, j := range list {
				names = append(names, fmt.Sprint(j.Name, " ", j.Status.State))
			}
			return names, err
		},
		"j5": func(s *jobs.Service) (names []string, err error) {
			list, _, err := s.Search(t.Context(), w.ws, jobs.Search{Experiments: []string{w.get("j0").ExperimentID}, View: jobs.All})
			for _, j := range slices.Backward(list) {
				names = append(names, fmt.Sprint(j.Name, " ", j.Status.State))
			}
			return names, err
		},
	} {
		store := &watched{Store: w.store}
		names, err := list(&jobs.Service{Store: store, Now: w.clock, NewID: w.id})
		if err != nil || len(names) < 3 || fmt.Sprint(names[:3]) != "[j0 Running j1 Completed j2 Failed]" || store.gets.Load() != 0 {
			t.Errorf("before %s is deleted: %v, %v, with %d reads of one row", what, names, err, store.gets.Load())
		}
		store.after = func() {
			if removed, err := w.s.Delete(t.Context(), me, w.ws, what); err != nil || !removed {
				t.Errorf("delete %s: %v, %v", what, removed, err)
			}
		}
		left, err := list(&jobs.Service{Store: store, Now: w.clock, NewID: w.id})
		if err != nil || len(left) != len(names)-1 {
			t.Errorf("while %s is deleted: %v, %v", what, left, err)
		}
	}
}
