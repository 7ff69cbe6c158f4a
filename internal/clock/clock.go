// Package clock is the time of the site. It starts at what was saved, or at the
// machine's wall clock if that is later, and from then on advances by monotonic
// differences only: a wall clock that jumps moves no timeout, no lease and no order.
//
// What it does not follow it says: [Clock.Drift] is how far the wall clock has
// gone from it. A restart takes the wall clock's time over, forward only.
package clock

import (
	"sync"
	"time"
)

// Options of [New]. The zero value is the machine's clocks.
type Options struct {
	Wall func() time.Time     // default: time.Now
	Mono func() time.Duration // time since some fixed moment; never goes back. Default: the process's monotonic clock
	Max  time.Duration        // how far the wall clock may be ahead of the saved time at start. Default: no limit
}

// Clock is a clock that never goes back. It may be used by any goroutine.
type Clock struct {
	wall func() time.Time
	mono func() time.Duration
	base time.Time     // UTC, without a monotonic reading
	zero time.Duration // mono at base

	mu   sync.Mutex
	last time.Time // what Now returned last
}

// New returns a clock that goes on from saved, the last time that was persisted
// (zero: there is none).
func New(saved time.Time, opts Options) *Clock {
	c := &Clock{wall: opts.Wall, mono: opts.Mono}
	if c.wall == nil {
		c.wall = time.Now
	}
	if c.mono == nil {
		start := time.Now()
		c.mono = func() time.Duration { return time.Since(start) }
	}
	c.base, c.zero = plain(c.wall()), c.mono()
	// The server was away for wall-clock time, as far as it can know; a wall
	// clock that has gone back since then does not take the site with it.
	if !saved.IsZero() {
		if opts.Max > 0 && c.base.After(saved.Add(opts.Max)) {
			c.base = plain(saved.Add(opts.Max))
		}
		if c.base.Before(saved) {
			c.base = plain(saved)
		}
	}
	c.last = c.base
	return c
}

// Now returns the site's time, in UTC. It never returns less than it did before.
// This is also what to persist, now and then and at a clean stop.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.base.Add(c.mono() - c.zero); now.After(c.last) {
		c.last = now
	}
	return c.last
}

// Drift returns how far the wall clock is ahead of the site's.
func (c *Clock) Drift() time.Duration { return plain(c.wall()).Sub(c.Now()) }

// plain strips the monotonic reading: a Time with one is compared by it, and by
// nothing else.
func plain(t time.Time) time.Time { return t.Round(0).UTC() }
