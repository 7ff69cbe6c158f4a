package jobs_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/fault"
)

// TestPagesOfExperiments: whatever the order, pages one after the other are all the
// experiments there were, each once, though others are made in between.
func TestPagesOfExperiments(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		orders []string
		filter string
		want   []string
	}{
		"newest first, of themselves":   {nil, "", []string{"e4", "e3", "e2", "e1", "e0"}},
		"by name":                       {[]string{"name"}, "", []string{"e0", "e1", "e2", "e3", "e4"}},
		"by name, backwards":            {[]string{"name DESC"}, "", []string{"e4", "e3", "e2", "e1", "e0"}},
		"by when they were made":        {[]string{"creation_time ASC"}, "", []string{"e0", "e1", "e2", "e3", "e4"}},
		"by a tag that some have":       {[]string{"tags.a"}, "", []string{"e1", "e3", "e4", "e2", "e0"}},
		"some of them, by when":         {[]string{"creation_time"}, "name != 'e2'", []string{"e0", "e1", "e3", "e4"}},
		"some of them, newest first":    {nil, "name != 'e2'", []string{"e4", "e3", "e1", "e0"}},
		"by a tag, and backwards by it": {[]string{"tags.a DESC", "name"}, "tags.a LIKE '%'", []string{"e3", "e1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for i := range 5 {
				e, err := w.s.CreateExperiment(t.Context(), me, w.ws, fmt.Sprint("e", i))
				if err == nil && i%2 == 1 {
					_, err = w.s.UpdateExperiment(t.Context(), me, w.ws, e.ID, jobs.ExperimentChange{Tags: map[string]string{"a": fmt.Sprint(i)}})
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			var got []string
			q := jobs.Search{Orders: c.orders, Filter: c.filter, Top: 2}
			for page := 0; ; page++ {
				list, next, err := w.s.SearchExperiments(t.Context(), w.ws, q)
				if err != nil || len(list) > 2 {
					t.Fatalf("page %d: %v, %v", page, list, err)
				}
				for _, e := range list {
					got = append(got, e.Name)
				}
				if q.After = next; next == "" {
					break
				}
				if _, err := w.s.CreateExperiment(t.Context(), me, w.ws, fmt.Sprint("later", page)); err != nil {
					t.Fatal(err)
				}
			}
			got = slices.DeleteFunc(got, func(name string) bool { return len(name) > 2 }) // made meanwhile: where the order has them
			if !slices.Equal(got, c.want) {
				t.Errorf("the pages are %v, want %v", got, c.want)
			}
			q.After = "2"
			if _, _, err := w.s.SearchExperiments(t.Context(), w.ws, q); !errors.Is(err, fault.Invalid) {
				t.Errorf("a page token of nobody's: %v", err)
			}
		})
	}
}
