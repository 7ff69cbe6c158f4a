package cow_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/ebb-compute/ebb/internal/core/cow"
)

// The collections are compared with Go's own after every step, and every old
// version must still be what it was.
func TestMapIsAMapAndKeepsItsPast(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		type past struct {
			m    cow.Map[int]
			want map[string]int
		}
		var m cow.Map[int]
		want := map[string]int{}
		var history []past
		for step := range rapid.IntRange(1, 400).Draw(t, "steps") {
			key := fmt.Sprint("k", rapid.IntRange(0, 120).Draw(t, "key"))
			if rapid.IntRange(0, 2).Draw(t, "verb") == 0 {
				m = m.Without(key)
				delete(want, key)
			} else {
				m = m.With(key, step)
				want[key] = step
			}
			if step%50 == 0 {
				history = append(history, past{m, maps.Clone(want)})
			}
		}
		for _, p := range append(history, past{m, want}) {
			if p.m.Len() != len(p.want) || !maps.Equal(maps.Collect(p.m.All()), p.want) {
				t.Fatalf("holds %v, want %v", maps.Collect(p.m.All()), p.want)
			}
			for k := range 121 {
				key := fmt.Sprint("k", k)
				got, ok := p.m.Get(key)
				if w, has := p.want[key]; got != w || ok != has {
					t.Fatalf("Get(%s) = %d %v, want %d %v", key, got, ok, w, has)
				}
			}
			unlike := map[string]bool{}
			for k := range m.Unlike(p.m, func(a, b int) bool { return a == b }) {
				unlike[k] = true
			}
			for k := range 121 {
				key := fmt.Sprint("k", k)
				was, had := p.want[key]
				is, has := want[key]
				if differ := was != is || had != has; differ != unlike[key] {
					t.Fatalf("Unlike has %s: %v, want %v (%d %v, then %d %v)", key, unlike[key], differ, was, had, is, has)
				}
			}
		}
	})
}

func TestListIsSortedAndKeepsItsPast(t *testing.T) {
	t.Parallel()
	type item struct{ key, val int }
	byKey := func(a, b item) int { return cmp.Compare(a.key, b.key) }
	rapid.Check(t, func(t *rapid.T) {
		type past struct {
			l    cow.List[item]
			want []item
		}
		var l cow.List[item]
		var want []item
		var history []past
		span := rapid.SampledFrom([]int{3, 60, 2000}).Draw(t, "span")
		steps := rapid.IntRange(1, 1500).Draw(t, "steps")
		seed := rapid.IntRange(1, 1<<20).Draw(t, "seed")
		for step := range steps {
			seed = (seed*1103515245 + 12345) & 0x7fffffff
			v := item{seed / 7 % span, step}
			i, found := slices.BinarySearchFunc(want, v, byKey)
			if (seed/1000%5 == 0) || (step > steps/2 && seed/1000%5 < 4) {
				l = l.Without(v, byKey)
				if found {
					want = slices.Delete(slices.Clone(want), i, i+1)
				}
			} else {
				l = l.With(v, byKey)
				want = slices.Clone(want)
				if found {
					want[i] = v
				} else {
					want = slices.Insert(want, i, v)
				}
			}
			if step%300 == 0 {
				history = append(history, past{l, want})
			}
		}
		for _, p := range append(history, past{l, want}) {
			if got := slices.Collect(p.l.All()); p.l.Len() != len(p.want) || !slices.Equal(got, p.want) {
				t.Fatalf("holds %v (%d), want %v", got, p.l.Len(), p.want)
			}
		}
	})
}
