package jobs

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ebb-compute/ebb/internal/fault"
)

type thing struct {
	name string
	loss float64 // negative: none
}

func (x *thing) value(of subject) (value, bool) {
	if of.kind == "metric" {
		return value{number: x.loss}, x.loss >= 0 || math.IsNaN(x.loss)
	}
	return value{text: x.name[:1]}, true
}

// TestPagesOfAnOrderAreTheOrder: whatever the order, pages one after the other are
// all there is, sorted, and no more than a page is held at any time.
func TestPagesOfAnOrderAreTheOrder(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	const many = 2000
	var things []thing
	for i := range many {
		x := thing{fmt.Sprintf("%c%06d", 'a'+rune(random.IntN(3)), many-i), float64(random.IntN(40) - 2)}
		switch random.IntN(20) {
		case 0:
			x.loss = math.NaN()
		case 1:
			x.loss = math.Inf(1)
		}
		things = append(things, x) // as rows are read: the greatest first
	}
	for _, texts := range [][]string{{"metrics.loss"}, {"metrics.loss DESC"}, {"run_name", "metrics.loss DESC"}, {"run_name DESC"}} {
		orders, err := parseOrders(texts, runAttributes)
		if err != nil {
			t.Fatal(err)
		}
		want := slices.Clone(things)
		sortBy(orders, want, (*thing).value)
		var got []thing
		pages := 0
		for after := ""; ; pages++ {
			b, err := newBest(orders, 300, after, (*thing).value)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range things {
				b.offer(x, x.name[1:])
				if len(b.kept) > 301 {
					t.Fatalf("%v: %d are held for a page of 300", texts, len(b.kept))
				}
			}
			page, next := b.page()
			got = append(got, page...)
			if after = next; after == "" {
				break
			}
		}
		if !slices.EqualFunc(got, want, func(a, b thing) bool { return a.name == b.name }) || pages != (many-1)/300 {
			t.Errorf("%v: %d pages with %d things are not the %d in order", texts, pages+1, len(got), len(want))
		}
	}
	for _, bad := range []string{"300", "x", "e30", "eyJ0IjpbIiJdLCJuIjpbIngiXSwiaCI6W3RydWVdfQ"} {
		if _, err := newBest(make([]order, 1), 10, bad, (*thing).value); !errors.Is(err, fault.Invalid) {
			t.Errorf("the page token %q: %v", bad, err)
		}
	}
}

// sortBy is the order, said in another way.
func sortBy[T any](orders []order, list []T, get func(*T, subject) (value, bool)) {
	slices.SortStableFunc(list, func(a, b T) int {
		for _, o := range orders {
			x, hasX := get(&a, o.of)
			y, hasY := get(&b, o.of)
			if sign := o.compare(x, hasX, y, hasY); sign != 0 {
				return sign
			}
		}
		return 0
	})
}
