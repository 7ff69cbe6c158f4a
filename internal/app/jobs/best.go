package jobs

import (
	"cmp"
	"container/heap"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
)

// best keeps the first so many, in an order, of what it is offered, and nothing
// of the rest: a page of a search is held in memory, and not all that was found.
type best[T any] struct {
	orders []order
	get    func(*T, subject) (value, bool)
	after  *rank // where the page before ended; nil: nowhere
	top    int
	kept   []ranked[T] // a heap, the last in order at its top
}

// ranked is something with what it is ordered by.
type ranked[T any] struct {
	item T
	rank
}

// rank is a place in the order.
type rank struct {
	values []value
	has    []bool
	row    string // tells equals apart: the greater row comes first, as rows are read
}

// newBest makes one for a page of at most top (0: 1000), behind a cursor.
func newBest[T any](orders []order, top int, after string, get func(*T, subject) (value, bool)) (*best[T], error) {
	if top <= 0 || top > 1000 {
		top = 1000
	}
	b := &best[T]{orders: orders, get: get, top: top}
	if after == "" {
		return b, nil
	}
	r, ok := parseRank(after, len(orders))
	if !ok {
		return nil, badSearch("The page token %.40q is not one that this server gave for this order.", after)
	}
	b.after = &r
	return b, nil
}

// offer takes what is found in a row.
func (b *best[T]) offer(item T, row string) {
	r := ranked[T]{item, rank{row: row}}
	for _, o := range b.orders {
		v, has := b.get(&item, o.of)
		r.values, r.has = append(r.values, v), append(r.has, has)
	}
	switch {
	case b.after != nil && b.compare(r.rank, *b.after) <= 0: // of a page before
	case len(b.kept) <= b.top: // one more, to know whether there is a next page
		heap.Push(b, r)
	case b.compare(r.rank, b.kept[0].rank) < 0:
		b.kept[0] = r
		heap.Fix(b, 0)
	}
}

// page returns what was kept, in order, and the cursor of the next page.
func (b *best[T]) page() (list []T, next string) {
	slices.SortFunc(b.kept, func(x, y ranked[T]) int { return b.compare(x.rank, y.rank) })
	list = []T{}
	for i, r := range b.kept {
		if i == b.top {
			return list, b.kept[i-1].cursor()
		}
		list = append(list, r.item)
	}
	return list, ""
}

func (b *best[T]) compare(x, y rank) int {
	for i, o := range b.orders {
		if sign := o.compare(x.values[i], x.has[i], y.values[i], y.has[i]); sign != 0 {
			return sign
		}
	}
	return -cmp.Compare(x.row, y.row)
}

// Len, Less, Swap, Push and Pop implement [heap.Interface].
func (b *best[T]) Len() int           { return len(b.kept) }
func (b *best[T]) Less(i, j int) bool { return b.compare(b.kept[i].rank, b.kept[j].rank) > 0 }
func (b *best[T]) Swap(i, j int)      { b.kept[i], b.kept[j] = b.kept[j], b.kept[i] }
func (b *best[T]) Push(x any)         { b.kept = append(b.kept, x.(ranked[T])) }
func (b *best[T]) Pop() any {
	last := b.kept[len(b.kept)-1]
	b.kept = b.kept[:len(b.kept)-1]
	return last
}

// spot is a rank as it is written. Numbers are text, since some are not JSON's.
type spot struct {
	Texts   []string `json:"t"`
	Numbers []string `json:"n"`
	Has     []bool   `json:"h"`
	Row     string   `json:"r"`
}

func (r rank) cursor() string {
	s := spot{Has: r.has, Row: r.row}
	for _, v := range r.values {
		s.Texts, s.Numbers = append(s.Texts, v.text), append(s.Numbers, strconv.FormatFloat(v.number, 'g', -1, 64))
	}
	raw, err := json.Marshal(s)
	if err != nil {
		panic("jobs: texts cannot fail to encode: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

func parseRank(cursor string, orders int) (r rank, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	var s spot
	if err != nil || json.Unmarshal(raw, &s) != nil || len(s.Texts) != orders || len(s.Numbers) != orders || len(s.Has) != orders {
		return r, false
	}
	r.has, r.row = s.Has, s.Row
	for i, text := range s.Texts {
		n, err := strconv.ParseFloat(s.Numbers[i], 64)
		if err != nil {
			return r, false
		}
		r.values = append(r.values, value{text: text, number: n})
	}
	return r, true
}
