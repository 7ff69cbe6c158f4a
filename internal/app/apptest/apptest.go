// Package apptest is a store in memory for the tests of use-cases and of the API above
// them. It holds rows as the real store does, with its conditions and its order, and
// keeps nothing.
package apptest

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Store is a store in memory. The zero Store is empty and ready.
type Store struct {
	// Before, if set, is called before every commit with its changes, outside the
	// lock: a test may let somebody else be first, or fail the commit.
	Before func(changes []row.Change) error

	mu   sync.Mutex
	rows map[row.Key]row.Record
	view *pool.View
	rev  int64
}

// Commit writes all changes, or none if a condition does not hold.
func (s *Store) Commit(_ context.Context, changes ...row.Change) (int64, error) {
	if s.Before != nil {
		if err := s.Before(changes); err != nil {
			return 0, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.init()
	for _, c := range changes {
		k := key(c)
		have, ok := s.rows[k]
		if c.If.Absent && ok || c.If.Exists && !ok || c.If.Rev != 0 && (!ok || have.Rev != c.If.Rev) {
			return 0, fault.New(fault.Precondition, k.ID, "The %s has changed.", k.Kind)
		}
	}
	s.rev++
	for _, c := range changes {
		if c.Put == nil {
			delete(s.rows, c.Drop)
			continue
		}
		s.rows[c.Put.Key()] = row.Record{Row: c.Put, Rev: s.rev}
	}
	s.view = s.view.Apply(changes...)
	return s.rev, nil
}

func (s *Store) init() {
	if s.rows == nil {
		s.rows, s.view = map[row.Key]row.Record{}, pool.New()
	}
}

func key(c row.Change) row.Key {
	if c.Put == nil {
		return c.Drop
	}
	return c.Put.Key()
}

// Get reads one row.
func (s *Store) Get(_ context.Context, k row.Key) (row.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec, ok := s.rows[k]
	if !ok {
		return row.Record{}, fault.New(fault.NotFound, k.ID, "There is no such %s.", k.Kind)
	}
	return rec, nil
}

// List reads a page of rows in order of (Sort, ID).
func (s *Store) List(_ context.Context, q row.Query) (row.Page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []row.Record
	for k, rec := range s.rows {
		parent, _ := rec.Row.Index()
		if k.Kind == q.Kind && (q.Parent == "" || parent == q.Parent) && strings.HasPrefix(k.ID, q.Prefix) {
			found = append(found, rec)
		}
	}
	slices.SortFunc(found, func(a, b row.Record) int {
		_, x := a.Row.Index()
		_, y := b.Row.Index()
		order := cmp.Or(strings.Compare(x, y), strings.Compare(a.Row.Key().ID, b.Row.Key().ID))
		if q.Desc {
			return -order
		}
		return order
	})
	from := 0
	if q.After != "" {
		n, err := strconv.Atoi(q.After)
		if err != nil || n < 0 || n > len(found) {
			return row.Page{}, fault.New(fault.Invalid, "", "The cursor %q is not one of this list's.", q.After)
		}
		from = n
	}
	limit := cmp.Or(q.Limit, 1000)
	page := row.Page{Records: found[from:min(from+limit, len(found))]}
	if from+limit < len(found) {
		page.Next = strconv.Itoa(from + limit)
	}
	return page, nil
}

// View returns the state of the last commit.
func (s *Store) View() *pool.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.init()
	return s.view
}

// Rows returns every row of a kind, in no order.
func (s *Store) Rows(kind row.Kind) []row.Row {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []row.Row
	for k, rec := range s.rows {
		if k.Kind == kind {
			found = append(found, rec.Row)
		}
	}
	return found
}
