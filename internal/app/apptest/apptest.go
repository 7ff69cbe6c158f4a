// Package apptest is the store that tests of use-cases, and of the API above
// them, run on: the model of storetest, which keeps the store's promises, made
// safe for many goroutines and for accidents at the right moment.
package apptest

import (
	"context"
	"fmt"
	"sync"

	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/store/storetest"
)

// Store is a store in memory. The zero Store is empty and ready.
type Store struct {
	// Before, if set, is called before every commit with its changes, outside the
	// lock: a test may let somebody else be first, or fail the commit.
	Before func(changes []row.Change) error

	mu    sync.Mutex
	model *storetest.Model
}

// locked returns the model; the caller unlocks.
func (s *Store) locked() *storetest.Model {
	s.mu.Lock()
	if s.model == nil {
		s.model = storetest.NewModel()
	}
	return s.model
}

// Commit writes all changes, or none if a condition does not hold.
func (s *Store) Commit(ctx context.Context, changes ...row.Change) (int64, error) {
	if s.Before != nil {
		if err := s.Before(changes); err != nil {
			return 0, err
		}
	}
	m := s.locked()
	defer s.mu.Unlock()
	return m.Commit(ctx, changes...)
}

// Get reads one row.
func (s *Store) Get(ctx context.Context, k row.Key) (row.Record, error) {
	m := s.locked()
	defer s.mu.Unlock()
	return m.Get(ctx, k)
}

// List reads a page of rows.
func (s *Store) List(ctx context.Context, q row.Query) (row.Page, error) {
	m := s.locked()
	defer s.mu.Unlock()
	return m.List(ctx, q)
}

// View returns the state of the last commit.
func (s *Store) View() *pool.View {
	m := s.locked()
	defer s.mu.Unlock()
	return m.View()
}

// Rows returns every row of a kind, in order.
func (s *Store) Rows(kind row.Kind) []row.Row {
	var found []row.Row
	q := row.Query{Kind: kind}
	for {
		page, err := s.List(context.Background(), q)
		if err != nil {
			panic(fmt.Sprintf("apptest: list %s: %v", kind, err))
		}
		for _, rec := range page.Records {
			found = append(found, rec.Row)
		}
		if page.Next == "" {
			return found
		}
		q.After = page.Next
	}
}
