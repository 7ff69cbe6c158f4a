package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// maxBatch is the most requests that share one flush; more only make the
// first of them wait longer.
const maxBatch = 512

// request is one caller's commit, or something to do between commits.
type request struct {
	ops   []op
	do    func(*writer) error
	rev   int64
	err   error
	fold  []row.Change // what the view takes in once it is on disk
	reply chan struct{}
}

// op is one change, encoded.
type op struct {
	columns      // of a drop: kind and id only
	put     bool //
	only    bool // the condition is all
	cond    row.Condition
	hotRow  row.Row // a put of a hot kind: our own copy
}

// Commit writes changes, whole or not at all, and returns when they are on disk
// and in the view. Conditions are checked first, against the rows as they were
// before this commit; one that does not hold is a [fault.Precondition] with the
// row's ID as target. A context that ends while the disk works does not end the
// commit: its outcome would be unknown.
func (s *Store) Commit(ctx context.Context, changes ...row.Change) (rev int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	if len(changes) == 0 {
		return s.revision.Load(), nil
	}
	r := &request{ops: make([]op, 0, len(changes))}
	for _, c := range changes {
		o, err := encodeChange(c)
		if err != nil {
			return 0, fmt.Errorf("commit: %w", err)
		}
		r.ops = append(r.ops, o)
	}
	return s.submit(ctx, r)
}

// encodeChange works in the caller's goroutine, so that the writer has less to do.
func encodeChange(c row.Change) (op, error) {
	if c.Put == nil {
		return op{columns: columns{kind: c.Drop.Kind, id: c.Drop.ID}, cond: c.If, only: c.Only}, nil
	}
	cols, err := encode(c.Put)
	if err != nil {
		return op{}, err
	}
	o := op{columns: cols, put: true, cond: c.If}
	if hotKinds[o.kind] {
		// The view gets what a reader of the file would get: no slice that the
		// caller still holds, no clock reading that is lost on disk.
		o.hotRow, err = decode(cols)
	}
	return o, err
}

func (s *Store) submit(_ context.Context, r *request) (int64, error) {
	r.reply = make(chan struct{})
	s.mu.RLock()
	if s.closed {
		s.mu.RUnlock()
		return 0, fault.New(fault.Unavailable, "", "the server is stopping")
	}
	s.requests <- r
	s.mu.RUnlock()
	<-r.reply
	return r.rev, r.err
}

// writer is the only one that writes. Its fields belong to its goroutine.
type writer struct {
	s     *Store
	conn  *sql.Conn // nil: to be opened again
	stmts statements
	limit int64 // pages that the file may have; 0: no limit. Tests make a full disk of it.
}

type statements struct {
	begin, commit, rollback       *sql.Stmt
	find, put, drop, warm, runRow *sql.Stmt
	revise, time                  *sql.Stmt
}

// The run's hot column says that it and a live status are both there, whichever
// is written first.
const (
	putText = `INSERT INTO rows (kind, id, parent, sort, rev, term, hot, created, modified, writer, body)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ` + putHot + `, ?8, ?9, ?10, ?11)
ON CONFLICT (kind, id) DO UPDATE SET parent = excluded.parent, sort = excluded.sort, rev = excluded.rev, term = excluded.term,
  hot = excluded.hot, created = excluded.created, modified = excluded.modified, writer = excluded.writer, body = excluded.body`
	putHot = `CASE WHEN ?1 <> 'run' THEN ?7
  ELSE coalesce((SELECT s.hot FROM rows s WHERE s.kind = 'run.status' AND s.id = ?2), 0) END`
	warmText = `UPDATE rows SET hot = ?2 WHERE kind = 'run' AND id = ?1 AND hot <> ?2`
)

func (w *writer) start(ctx context.Context) error {
	if err := w.connect(ctx); err != nil {
		return err
	}
	if err := w.conn.QueryRowContext(ctx, "UPDATE site SET value = value + 1 WHERE name = 'term' RETURNING value").Scan(&w.s.term); err != nil {
		return fmt.Errorf("raise term: %w", err)
	}
	if err := w.conn.QueryRowContext(ctx, selectEpoch).Scan(&w.s.epoch); err != nil {
		return fmt.Errorf("read epoch: %w", err)
	}
	var rev int64
	if err := w.conn.QueryRowContext(ctx, "SELECT value FROM site WHERE name = 'rev'").Scan(&rev); err != nil {
		return fmt.Errorf("read revision: %w", err)
	}
	w.s.revision.Store(rev)
	view, err := w.rebuild(ctx)
	if err != nil {
		return err
	}
	w.s.view.Store(view)
	return nil
}

func (w *writer) connect(ctx context.Context) (err error) {
	if w.conn, err = w.s.writers.Conn(ctx); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if w.limit > 0 {
		if _, err := w.conn.ExecContext(ctx, fmt.Sprintf("PRAGMA max_page_count = %d", w.limit)); err != nil {
			return fmt.Errorf("limit: %w", err)
		}
	}
	for _, p := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&w.stmts.begin, "BEGIN IMMEDIATE"},
		{&w.stmts.commit, "COMMIT"},
		{&w.stmts.rollback, "ROLLBACK"},
		{&w.stmts.find, "SELECT rev FROM rows WHERE kind = ? AND id = ?"},
		{&w.stmts.put, putText},
		{&w.stmts.drop, "DELETE FROM rows WHERE kind = ? AND id = ?"},
		{&w.stmts.warm, warmText},
		{&w.stmts.runRow, selectColumns + " WHERE kind = 'run' AND id = ?"},
		{&w.stmts.revise, "UPDATE site SET value = ? WHERE name = 'rev'"},
		{&w.stmts.time, "INSERT INTO site VALUES ('time', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"},
	} {
		if *p.stmt, err = w.conn.PrepareContext(ctx, p.text); err != nil {
			w.disconnect()
			return fmt.Errorf("prepare: %w", err)
		}
	}
	return nil
}

// disconnect throws the connection away: after an error of the disk nothing is
// assumed of what it remembers.
func (w *writer) disconnect() {
	if w.conn == nil {
		return
	}
	_ = w.conn.Raw(func(any) error { return driver.ErrBadConn }) // closes it for good
	_ = w.conn.Close()
	w.conn, w.stmts = nil, statements{}
}

func (w *writer) run() {
	defer close(w.s.done)
	defer w.disconnect()
	for first := range w.s.requests {
		w.serve(w.gather(first))
	}
}

// gather takes what is waiting, without waiting for more: while the disk flushes
// one batch, the next one forms by itself.
func (w *writer) gather(first *request) []*request {
	batch := []*request{first}
	for len(batch) < maxBatch {
		select {
		case r, open := <-w.s.requests:
			if !open {
				return batch
			}
			batch = append(batch, r)
		default:
			return batch
		}
	}
	return batch
}

func (w *writer) serve(batch []*request) {
	err := w.try(batch)
	if err != nil && len(batch) > 1 {
		// One of them, or the disk: each for itself, so that none fails for another's sake.
		for _, r := range batch {
			w.serve([]*request{r})
		}
		return
	}
	for _, r := range batch {
		if err != nil {
			r.rev, r.err = 0, fmt.Errorf("commit: %w", explain(err))
			w.s.log.Error("commit failed", "error", err)
		}
		close(r.reply)
	}
}

// try commits a batch in one transaction. An error means that nothing of it was
// written; a condition that does not hold is its request's own affair.
func (w *writer) try(batch []*request) error {
	if w.conn == nil {
		if err := w.connect(context.Background()); err != nil {
			w.disconnect()
			return err
		}
	}
	rev := w.s.revision.Load()
	last, err := w.transact(batch, rev)
	if err != nil {
		w.disconnect()
		return err
	}
	if last > rev {
		w.s.revision.Store(last)
		view := w.s.view.Load()
		var all []row.Change
		for _, r := range batch {
			if len(r.fold) > 0 {
				view = view.Apply(r.fold...)
				all = append(all, r.fold...)
			}
		}
		w.s.view.Store(view)
		w.s.signal(all)
	}
	// Between transactions, on rows that are settled.
	for _, r := range batch {
		if r.do != nil {
			r.err = r.do(w)
		}
	}
	return nil
}

func (w *writer) transact(batch []*request, rev int64) (last int64, err error) {
	ctx := context.Background() // a caller that left does not stop the others
	if _, err := w.stmts.begin.ExecContext(ctx); err != nil {
		return 0, fmt.Errorf("begin: %w", err)
	}
	last = rev
	for _, r := range batch {
		if r.do != nil {
			continue
		}
		r.rev, r.fold = 0, r.fold[:0]
		if r.err = w.check(ctx, r.ops); r.err != nil {
			if fault.KindOf(r.err) != fault.Precondition {
				return 0, r.err
			}
			continue
		}
		for _, o := range statusesFirst(r.ops) {
			if err := w.apply(ctx, r, o, last+1); err != nil {
				return 0, fmt.Errorf("write %s %s: %w", o.kind, o.id, err)
			}
		}
		last++
		r.rev = last
	}
	if last == rev {
		_, err = w.stmts.rollback.ExecContext(ctx)
		return last, err
	}
	if _, err := w.stmts.revise.ExecContext(ctx, last); err != nil {
		return 0, fmt.Errorf("write revision: %w", err)
	}
	if now := w.s.now.Load(); now != nil {
		if _, err := w.stmts.time.ExecContext(ctx, (*now)().UnixNano()); err != nil {
			return 0, fmt.Errorf("write time: %w", err)
		}
	}
	if _, err := w.stmts.commit.ExecContext(ctx); err != nil {
		return 0, fmt.Errorf("flush: %w", err)
	}
	return last, nil
}

// statusesFirst puts statuses of runs before the runs: then a run's put finds
// whether it is live. They are different rows, so their order means nothing else.
func statusesFirst(ops []op) []op {
	if len(ops) < 2 {
		return ops
	}
	out := make([]op, 0, len(ops))
	for _, first := range []bool{true, false} {
		for _, o := range ops {
			if (o.kind == row.RunStatus) == first {
				out = append(out, o)
			}
		}
	}
	return out
}

func (w *writer) check(ctx context.Context, ops []op) error {
	for _, o := range ops {
		if o.cond == (row.Condition{}) {
			continue
		}
		var rev int64
		err := w.stmts.find.QueryRowContext(ctx, o.kind, o.id).Scan(&rev)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("check %s %s: %w", o.kind, o.id, err)
		}
		if words := Unmet(o.cond, rev); words != "" {
			return fault.New(fault.Precondition, o.id, "this %s %s", o.kind, words)
		}
	}
	return nil
}

// Unmet says why a condition does not hold for a row of revision rev (0: there
// is none), or "" if it does.
func Unmet(c row.Condition, rev int64) string {
	switch {
	case c.Absent && rev != 0:
		return "exists already"
	case (c.Exists || c.Rev != 0) && rev == 0:
		return "does not exist"
	case c.Rev != 0 && rev != c.Rev:
		return fmt.Sprintf("was changed meanwhile (it has revision %d, not %d)", rev, c.Rev)
	}
	return ""
}

func (w *writer) apply(ctx context.Context, r *request, o op, rev int64) error {
	if o.only {
		return nil
	}
	if !o.put {
		if _, err := w.stmts.drop.ExecContext(ctx, o.kind, o.id); err != nil {
			return err
		}
		if hotKinds[o.kind] {
			r.fold = append(r.fold, row.Drop(row.Key{Kind: o.kind, ID: o.id}))
		}
	} else {
		if _, err := w.stmts.put.ExecContext(ctx, o.kind, o.id, o.parent, o.sort, rev, w.s.term, o.hot, o.created, o.modified, o.writer, o.body); err != nil {
			return err
		}
		if o.hotRow != nil {
			r.fold = append(r.fold, row.Put(o.hotRow))
		}
	}
	if o.kind == row.RunStatus {
		return w.warm(ctx, r, o)
	}
	return nil
}

// warm makes the run's row as hot as its status. A run that was there before its
// first live status enters the view now: the view knows no cold rows.
func (w *writer) warm(ctx context.Context, r *request, o op) error {
	live := o.put && o.hotRow.(queue.Status).Hot()
	res, err := w.stmts.warm.ExecContext(ctx, o.id, live)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 || !live {
		return err
	}
	rec, err := scan(w.stmts.runRow.QueryRowContext(ctx, o.id))
	if err != nil {
		return err
	}
	r.fold = append(r.fold, row.Put(rec.Row))
	return nil
}

// rebuild makes the view from the rows.
func (w *writer) rebuild(ctx context.Context) (*pool.View, error) {
	rows, err := w.conn.QueryContext(ctx, selectColumns+" INDEXED BY rows_hot WHERE hot = 1 AND kind IN ("+hotList()+")")
	if err != nil {
		return nil, fmt.Errorf("read view: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var all []row.Change
	for rows.Next() {
		rec, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("read view: %w", err)
		}
		all = append(all, row.Put(rec.Row))
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read view: %w", err)
	}
	return pool.New().Apply(all...), nil
}

func hotList() string {
	var names []string
	for k := range hotKinds {
		names = append(names, "'"+string(k)+"'")
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
