package survival_test

import (
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// TestOversubscribe: a size larger than the machine runs with what the machine
// has, or waits and says why where that is switched off.
func TestOversubscribe(t *testing.T) {
	t.Parallel()
	const size = "STANDARD_M128S" // 128 vCPUs, 2,048 GiB
	make := func(w *world) {
		c := compute(0, 1, "PT1H")
		c.Properties.Properties.VMSize = size
		_, op, err := w.c.Computes().Create(t.Context(), "large", c)
		if err == nil {
			err = op.Wait(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	on := newWorld(t)
	make(on)
	on.submit("large", "runs", "echo ran")
	on.awaitStatus("runs", "Completed")

	off := newWorld(t, testkit.Config("local:\n  oversubscribe: false\n"))
	make(off)
	off.submit("large", "waits", "echo ran")
	var why string
	off.until("the job to say why it waits", func() bool {
		why = off.job("waits").Properties.Why
		return strings.Contains(why, size)
	})
	t.Logf("it says: %s", why)
	if !strings.Contains(why, "128") || off.status("waits") != "Queued" {
		t.Errorf("the job is %s and says %q; want Queued, and the 128 vCPUs named", off.status("waits"), why)
	}
}
