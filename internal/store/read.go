package store

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

const selectColumns = "SELECT kind, id, parent, sort, rev, hot, created, modified, writer, body FROM rows"

// defaultLimit is the size of a page where the query names none.
const defaultLimit = 1000

// Get reads one row; [fault.NotFound] if there is none.
func (s *Store) Get(ctx context.Context, k row.Key) (row.Record, error) {
	rec, err := scan(s.get.QueryRowContext(ctx, k.Kind, k.ID))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return row.Record{}, fault.New(fault.NotFound, k.ID, "there is no such %s", k.Kind)
	case err != nil:
		return row.Record{}, fmt.Errorf("get %s %s: %w", k.Kind, k.ID, explain(err))
	}
	return rec, nil
}

// List reads rows in order of (Sort, ID). Pages are stable: rows that are put or
// dropped between two pages neither repeat nor hide others.
func (s *Store) List(ctx context.Context, q row.Query) (row.Page, error) {
	limit := q.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	text, args, err := statement(q, limit+1) // one more, to know whether there is a next page
	if err != nil {
		return row.Page{}, err
	}
	rows, err := s.readers.QueryContext(ctx, text, args...)
	if err != nil {
		return row.Page{}, fmt.Errorf("list %s: %w", q.Kind, explain(err))
	}
	defer func() { _ = rows.Close() }()
	var page row.Page
	var sort, id string
	for rows.Next() {
		if len(page.Records) == limit {
			page.Next = cursor(sort, id)
			break
		}
		rec, err := scan(rows)
		if err != nil {
			return row.Page{}, fmt.Errorf("list %s: %w", q.Kind, explain(err))
		}
		_, sort = rec.Row.Index()
		id = rec.Row.Key().ID
		page.Records = append(page.Records, rec)
	}
	if err := rows.Err(); err != nil {
		return row.Page{}, fmt.Errorf("list %s: %w", q.Kind, explain(err))
	}
	return page, nil
}

func statement(q row.Query, limit int) (string, []any, error) {
	var b strings.Builder
	b.WriteString(selectColumns + " WHERE kind = ?")
	args := []any{q.Kind}
	if q.Parent != "" {
		b.WriteString(" AND parent = ?")
		args = append(args, q.Parent)
	}
	if q.IDs != nil {
		b.WriteString(" AND id IN (" + strings.TrimPrefix(strings.Repeat(",?", len(q.IDs)), ",") + ")")
		for _, id := range q.IDs {
			args = append(args, id)
		}
	}
	if q.Prefix != "" {
		b.WriteString(" AND id >= ?")
		args = append(args, q.Prefix)
		if end := after(q.Prefix); end != "" {
			b.WriteString(" AND id < ?")
			args = append(args, end)
		}
	}
	compare, direction := ">", ""
	if q.Desc {
		compare, direction = "<", " DESC"
	}
	if q.After != "" {
		sort, id, err := position(q.After)
		if err != nil {
			return "", nil, err
		}
		b.WriteString(" AND (sort, id) " + compare + " (?, ?)")
		args = append(args, sort, id)
	}
	b.WriteString(" ORDER BY sort" + direction + ", id" + direction + " LIMIT ?")
	return b.String(), append(args, limit), nil
}

// after returns the least string greater than all that begin with prefix, or ""
// if there is none. Bytes, as SQLite compares text.
func after(prefix string) string {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return string(b[:i+1])
		}
	}
	return ""
}

// A cursor is the place after one row: its sort and id, each in base64.
func cursor(sort, id string) string {
	e := base64.RawURLEncoding
	return e.EncodeToString([]byte(sort)) + "." + e.EncodeToString([]byte(id))
}

func position(cursor string) (sort, id string, err error) {
	x, y, ok := strings.Cut(cursor, ".")
	a, err1 := base64.RawURLEncoding.DecodeString(x)
	b, err2 := base64.RawURLEncoding.DecodeString(y)
	if !ok || err1 != nil || err2 != nil {
		return "", "", fault.New(fault.Invalid, "", "the continuation token is not one that this server gave")
	}
	return string(a), string(b), nil
}

func scan(from interface{ Scan(...any) error }) (row.Record, error) {
	var c columns
	if err := from.Scan(&c.kind, &c.id, &c.parent, &c.sort, &c.rev, &c.hot, &c.created, &c.modified, &c.writer, &c.body); err != nil {
		return row.Record{}, err
	}
	r, err := decode(c)
	return row.Record{Row: r, Rev: c.rev}, err
}
