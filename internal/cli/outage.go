package cli

import (
	"sync"
	"time"
)

// outage is how long a server has not answered. Patience with it counts once,
// for whatever asks: an SDK repeats what was refused, and each of its requests
// would wait anew.
type outage struct {
	patience time.Duration

	mu    sync.Mutex // guards what follows
	since time.Time  // of the first failure in a row; zero: it answers
	told  bool
}

// failed notes that nobody answered. It reports whether patience is left, and
// whether this is the first time in this outage that there is none.
func (o *outage) failed(now time.Time) (left, first bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		o.since = now
	}
	if now.Sub(o.since) < o.patience {
		return true, false
	}
	first, o.told = !o.told, true
	return false, first
}

// over notes that the server answered.
func (o *outage) over() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.since, o.told = time.Time{}, false
}
