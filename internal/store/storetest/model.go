// Package storetest says what a store promises: [Run] is the contract as tests,
// [Model] the shortest thing that keeps it. The store is compared with the model;
// the simulation of the control plane runs on the model.
package storetest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/store"
)

// Store is what is promised of [store.Store].
type Store interface {
	Commit(ctx context.Context, changes ...row.Change) (rev int64, err error)
	Get(ctx context.Context, k row.Key) (row.Record, error)
	List(ctx context.Context, q row.Query) (row.Page, error)
	View() *pool.View
	Changed() <-chan struct{}
	Term() int64
}

var (
	_ Store = (*store.Store)(nil)
	_ Store = (*Model)(nil)
)

// Model is a store in memory: the same answers, no disk, no goroutines. The same
// calls always give the same answers. It is not safe for concurrent use.
type Model struct {
	// Fail is asked before each commit; an error is the commit's, and nothing is
	// written. Default: commits do not fail.
	Fail func(changes []row.Change) error

	rows    map[row.Key]row.Record
	view    *pool.View
	rev     int64
	term    int64
	changed chan struct{}
}

// NewModel returns an empty model in its first term.
func NewModel() *Model {
	return &Model{rows: map[row.Key]row.Record{}, view: pool.New(), term: 1, changed: make(chan struct{}, 1)}
}

// Reopen is a restart of the server: the term rises, the view is made anew from
// the rows.
func (m *Model) Reopen() {
	m.term++
	m.view = m.Rebuild()
}

// Rebuild returns the view that the rows make.
func (m *Model) Rebuild() *pool.View {
	var all []row.Change
	for _, rec := range m.rows {
		if rec.Row.Hot() {
			all = append(all, row.Put(rec.Row))
		}
	}
	return pool.New().Apply(all...)
}

// View returns what is hot.
func (m *Model) View() *pool.View { return m.view }

// Changed is signalled after commits that touched the view.
func (m *Model) Changed() <-chan struct{} { return m.changed }

// Term is one more than the number of reopenings.
func (m *Model) Term() int64 { return m.term }

// Commit writes changes, whole or not at all.
func (m *Model) Commit(ctx context.Context, changes ...row.Change) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	if len(changes) == 0 {
		return m.rev, nil
	}
	if m.Fail != nil {
		if err := m.Fail(changes); err != nil {
			return 0, err
		}
	}
	for _, c := range changes {
		k := keyOf(c)
		if words := store.Unmet(c.If, m.rows[k].Rev); words != "" {
			return 0, fault.New(fault.Precondition, k.ID, "this %s %s", k.Kind, words)
		}
	}
	m.rev++
	changes = slices.DeleteFunc(slices.Clone(changes), func(c row.Change) bool { return c.Only })
	fold := slices.Clone(changes)
	for _, c := range changes {
		if c.Put == nil {
			delete(m.rows, c.Drop)
			continue
		}
		m.rows[c.Put.Key()] = row.Record{Row: c.Put, Rev: m.rev}
	}
	for _, c := range changes { // a run that waited for its first status
		if s, ok := c.Put.(queue.Status); ok && s.Hot() {
			if run, ok := m.rows[row.Key{Kind: row.Run, ID: s.ID}]; ok {
				fold = append(fold, row.Put(run.Row))
			}
		}
	}
	m.view = m.view.Apply(fold...)
	if slices.ContainsFunc(changes, func(c row.Change) bool { return typed[keyOf(c).Kind] }) {
		select {
		case m.changed <- struct{}{}:
		default:
		}
	}
	return m.rev, nil
}

// typed are the kinds that a view may hold.
var typed = map[row.Kind]bool{
	row.Cluster: true, row.ClusterStatus: true, row.Node: true, row.Run: true,
	row.RunStatus: true, row.Attempt: true, row.Operation: true,
}

func keyOf(c row.Change) row.Key {
	if c.Put != nil {
		return c.Put.Key()
	}
	return c.Drop
}

// Get reads one row.
func (m *Model) Get(_ context.Context, k row.Key) (row.Record, error) {
	rec, ok := m.rows[k]
	if !ok {
		return row.Record{}, fault.New(fault.NotFound, k.ID, "there is no such %s", k.Kind)
	}
	return rec, nil
}

// List reads rows in order of (Sort, ID).
func (m *Model) List(_ context.Context, q row.Query) (row.Page, error) {
	var found []row.Record
	for k, rec := range m.rows {
		parent, _ := rec.Row.Index()
		if k.Kind == q.Kind && (q.Parent == "" || q.Parent == parent) && strings.HasPrefix(k.ID, q.Prefix) && (q.IDs == nil || slices.Contains(q.IDs, k.ID)) {
			found = append(found, rec)
		}
	}
	compare := byPlace
	if q.Desc {
		compare = func(a, b row.Record) int { return byPlace(b, a) }
	}
	slices.SortFunc(found, compare)
	if q.After != "" {
		sort, id, ok := strings.Cut(q.After, "\x00")
		if !ok {
			return row.Page{}, fault.New(fault.Invalid, "", "the continuation token is not one that this server gave")
		}
		last := row.Record{Row: row.Document{ID: id, Sort: sort}}
		found = slices.DeleteFunc(found, func(r row.Record) bool { return compare(r, last) <= 0 })
	}
	limit := q.Limit
	if limit <= 0 {
		limit = 1000
	}
	page := row.Page{Records: found}
	if len(found) > limit {
		page.Records = found[:limit]
		last := page.Records[limit-1].Row
		_, sort := last.Index()
		page.Next = sort + "\x00" + last.Key().ID
	}
	return page, nil
}

func byPlace(a, b row.Record) int {
	_, x := a.Row.Index()
	_, y := b.Row.Index()
	return cmp.Or(cmp.Compare(x, y), cmp.Compare(a.Row.Key().ID, b.Row.Key().ID))
}
