package retention_test

import (
	"slices"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/app/retention"
)

func TestChoose(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	item := func(id string, bytes int64, days int, held bool) retention.Item {
		return retention.Item{ID: id, Bytes: bytes, At: now.Add(-time.Duration(days) * day), Held: held}
	}
	items := []retention.Item{item("new", 10, 0, false), item("old", 20, 9, false), item("middle", 30, 5, false), item("held", 40, 20, true)}
	for name, c := range map[string]struct {
		bound retention.Bound
		gone  []string
		left  int64
	}{
		"nothing is bounded":                         {retention.Unbounded, nil, 100},
		"what is old goes, oldest first":             {retention.Bound{Age: 5 * day, Size: -1}, []string{"old", "middle"}, 50},
		"an age nobody has reached":                  {retention.Bound{Age: 30 * day, Size: -1}, nil, 100},
		"no age at all leaves only what is held":     {retention.Bound{Age: 0, Size: -1}, []string{"old", "middle", "new"}, 40},
		"a size takes the oldest and no more":        {retention.Bound{Age: -1, Size: 85}, []string{"old"}, 80},
		"a size that is met takes nothing":           {retention.Bound{Age: -1, Size: 100}, nil, 100},
		"no size leaves what is held, above its own": {retention.Bound{Age: -1, Size: 0}, []string{"old", "middle", "new"}, 40},
		"age and size together":                      {retention.Bound{Age: 9 * day, Size: 60}, []string{"old", "middle"}, 50},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := slices.Clone(items)
			gone, left := retention.Choose(items, c.bound, now)
			var ids []string
			for _, it := range gone {
				ids = append(ids, it.ID)
			}
			if !slices.Equal(ids, c.gone) || left != c.left {
				t.Errorf("gone %v, left %d; want %v, %d", ids, left, c.gone, c.left)
			}
			if !slices.Equal(items, before) {
				t.Error("the items were changed")
			}
		})
	}
}
