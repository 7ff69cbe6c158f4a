package assets_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/app/apptest"
	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/core/row"
)

// counting is a store that counts the pages that are read.
type counting struct {
	*apptest.Store
	pages int
}

func (c *counting) List(ctx context.Context, q row.Query) (row.Page, error) {
	c.pages++
	return c.Store.List(ctx, q)
}

// Of 301 versions every seventh is active. Pages of them follow each other without
// a gap, and none costs a query for each version that is passed over.
func TestWhatIsPassedOverCostsNoQueryOfItsOwn(t *testing.T) {
	t.Parallel()
	s, store, _ := service()
	s = ticking(s)
	watched := &counting{Store: store}
	s.Store = watched
	var want []string
	for n := 300; n >= 0; n-- {
		if n%7 == 0 {
			want = append(want, fmt.Sprint(n))
		}
	}
	for n := range 301 {
		props := dict{"dataUri": "azureml://x/y", "dataType": "uri_file", "isArchived": n%7 > 0}
		if _, _, err := s.PutVersion(t.Context(), me, place, assets.Data, "d", fmt.Sprint(n), props); err != nil {
			t.Fatal(err)
		}
	}
	for _, limit := range []int{1, 2, 9, 43, 100} {
		var got []string
		f := assets.Filter{Limit: limit}
		for turns := 0; ; turns++ {
			watched.pages = 0
			list, next, err := s.VersionsOf(t.Context(), place, assets.Data, "d", f)
			if err != nil || len(list) > limit || turns > 50 {
				t.Fatalf("by %d: %d versions, %v", limit, len(list), err)
			}
			if watched.pages > 6 {
				t.Errorf("by %d: a page took %d queries", limit, watched.pages)
			}
			for _, a := range list {
				got = append(got, a.Version)
			}
			if f.After = next; next == "" {
				break
			}
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("by %d: %v, want %v", limit, got, want)
		}
	}
}
