package computes_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

func size(n int) string {
	return fmt.Sprintf(`{"properties":{"computeType":"AmlCompute","properties":{"vmSize":"STANDARD_DS3_V2","scaleSettings":{"maxNodeCount":%d}}}}`, n)
}

func TestClustersAboveAHundredNodesAreListed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		large func(w *world) []string
		max   int
		ok    bool
	}{
		"a hundred are anybody's":             {func(*world) []string { return nil }, 100, true},
		"more are not":                        {func(*world) []string { return nil }, 101, false},
		"a subscription is named by its guid": {func(w *world) []string { return []string{strings.ToUpper(w.sub)} }, 5000, true},
		"or by its id":                        {func(w *world) []string { return []string{"/subscriptions/" + w.sub + "/"} }, 101, true},
		"a workspace may be":                  {func(w *world) []string { return []string{strings.ToUpper(w.ws)} }, 101, true},
		"a cluster may be":                    {func(w *world) []string { return []string{w.ws + "/computes/BIG"} }, 101, true},
		"another cluster is not it":           {func(w *world) []string { return []string{w.ws + "/computes/bigger", w.ws + "/computes/bi"} }, 101, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.s.Large = c.large(w)
			_, err := w.put("big", size(c.max))
			if c.ok != (err == nil) || !c.ok && (fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "large_clusters")) {
				t.Errorf("PUT: %v", err)
			}
		})
	}
}

// A cluster that was listed stays as large as it is, and may shrink, but not grow.
func TestAClusterThatIsNoLongerListed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.s.Large = []string{w.sub}
	w.mustPut("big", size(500))
	w.s.Large = nil
	w.mustPut("big", size(500))
	w.mustPatch("big", `{"properties":{"properties":{"scaleSettings":{"maxNodeCount":300}}}}`)
	if _, err := w.patch("big", `{"properties":{"properties":{"scaleSettings":{"maxNodeCount":301}}}}`); fault.KindOf(err) != fault.Invalid {
		t.Errorf("it grows: %v", err)
	}
}

func TestIsolationReachesTheQueue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mustPut("apart", strings.Replace(size(2), `"vmSize"`, `"isolatedNetwork":true,"vmSize"`, 1))
	w.mustPut("together", size(2))
	for _, r := range w.st.Rows(row.Cluster) {
		if c := r.(fleet.Cluster); c.Isolated != (c.Name == "apart") {
			t.Errorf("%s: isolated is %v", c.Name, c.Isolated)
		}
	}
}
