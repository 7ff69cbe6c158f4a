package retention

import (
	"cmp"
	"slices"
	"time"
)

// Item is something that may go.
type Item struct {
	ID    string
	Bytes int64
	At    time.Time // last used
	Held  bool      // needed now: it stays, whatever its age
}

// Bound says how much of a kind may stay.
type Bound struct {
	Age  time.Duration // what was last used so long ago goes; negative: no age is too old
	Size int64         // bytes; then the oldest go until no more is left; negative: no bound
}

// Unbounded removes nothing.
var Unbounded = Bound{Age: -1, Size: -1}

// Choose returns what is to go, oldest first, and how many bytes stay. It
// changes nothing.
func Choose(items []Item, b Bound, now time.Time) (gone []Item, left int64) {
	items = slices.Clone(items)
	slices.SortFunc(items, func(x, y Item) int { return cmp.Or(x.At.Compare(y.At), cmp.Compare(x.ID, y.ID)) })
	for _, it := range items {
		left += it.Bytes
	}
	for _, it := range items {
		old := b.Age >= 0 && now.Sub(it.At) >= b.Age
		if !it.Held && (old || b.Size >= 0 && left > b.Size) {
			gone = append(gone, it)
			left -= it.Bytes
		}
	}
	return gone, left
}
