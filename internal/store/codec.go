package store

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
)

// hotKinds are those that [row.Row] Hot may be true for: only they are folded
// into the view.
var hotKinds = map[row.Kind]bool{
	row.Cluster: true, row.ClusterStatus: true, row.Node: true, row.Run: true,
	row.RunStatus: true, row.Attempt: true, row.Operation: true,
}

// columns is a row as the database has it.
type columns struct {
	kind              row.Kind
	id, parent, sort  string
	rev               int64
	hot               bool
	created, modified int64 // nanoseconds since 1970; 0: none
	writer            string
	body              []byte
}

// encode turns a row into columns. What it cannot encode is a bug of the caller's.
func encode(r row.Row) (columns, error) {
	k := r.Key()
	c := columns{kind: k.Kind, id: k.ID, hot: r.Hot()}
	c.parent, c.sort = r.Index()
	d, document := r.(row.Document)
	if document == hotKinds[k.Kind] {
		return columns{}, fmt.Errorf("encode %s %s: a %T is not kept under this kind", k.Kind, k.ID, r)
	}
	if document {
		c.created, c.modified, c.writer, c.body = nanos(d.Created), nanos(d.Modified), d.By, d.Body
		if c.body == nil {
			c.body = []byte{}
		}
		return c, nil
	}
	body, err := json.Marshal(r)
	if err != nil {
		return columns{}, fmt.Errorf("encode %s %s: %w", k.Kind, k.ID, err)
	}
	c.body = body
	return c, nil
}

// decode turns columns back into a row.
func decode(c columns) (row.Row, error) {
	switch c.kind {
	case row.Cluster:
		return typed[fleet.Cluster](c)
	case row.ClusterStatus:
		return typed[fleet.Status](c)
	case row.Node:
		return typed[fleet.Node](c)
	case row.Run:
		return typed[queue.Run](c)
	case row.RunStatus:
		return typed[queue.Status](c)
	case row.Attempt:
		return typed[queue.Attempt](c)
	case row.Operation:
		return typed[operation.Operation](c)
	}
	return row.Document{
		Kind: c.kind, ID: c.id, Parent: c.parent, Sort: c.sort, Body: c.body,
		Created: moment(c.created), Modified: moment(c.modified), By: c.writer,
	}, nil
}

func typed[T row.Row](c columns) (row.Row, error) {
	var r T
	if err := json.Unmarshal(c.body, &r); err != nil {
		return nil, fmt.Errorf("decode %s %s: %w", c.kind, c.id, err)
	}
	return r, nil
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func moment(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
