package clock_test

import (
	"sync"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/clock"
)

var epoch = time.Date(2026, 3, 29, 0, 59, 0, 0, time.UTC) // a minute before Europe's clocks change

// machine is a machine whose two clocks the test moves.
type machine struct {
	wall time.Time
	mono time.Duration
}

func (m *machine) pass(d time.Duration) { m.wall, m.mono = m.wall.Add(d), m.mono+d }

func (m *machine) clock(saved time.Time) *clock.Clock {
	return clock.New(saved, clock.Options{Wall: func() time.Time { return m.wall }, Mono: func() time.Duration { return m.mono }})
}

func TestJumpsOfTheWallClockMoveNothing(t *testing.T) {
	t.Parallel()
	for name, jump := range map[string]time.Duration{
		"an hour forward": time.Hour, "an hour back": -time.Hour, "a day back": -24 * time.Hour, "a leap second": -time.Second, "none": 0,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &machine{wall: epoch, mono: 7 * time.Hour}
			c := m.clock(time.Time{})
			m.pass(time.Minute)
			m.wall = m.wall.Add(jump)
			m.pass(time.Minute)
			if got, want := c.Now(), epoch.Add(2*time.Minute); !got.Equal(want) {
				t.Errorf("Now = %v, want %v", got, want)
			}
			if got := c.Drift(); got != jump {
				t.Errorf("Drift = %v, want %v", got, jump)
			}
		})
	}
}

func TestARestartGoesOnFromWhatWasSaved(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ wall, saved, want time.Time }{
		"the wall clock went on":             {epoch.Add(time.Hour), epoch, epoch.Add(time.Hour)},
		"the wall clock went back":           {epoch.Add(-24 * time.Hour), epoch, epoch},
		"nothing was saved":                  {epoch, time.Time{}, epoch},
		"the wall clock starts in year 1970": {time.Unix(0, 0), epoch, epoch},
		"the wall clock is in another zone":  {epoch.In(time.FixedZone("x", 3600)), time.Time{}, epoch},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &machine{wall: tt.wall}
			c := m.clock(tt.saved)
			if got := c.Now(); !got.Equal(tt.want) || got.Location() != time.UTC {
				t.Errorf("Now = %v, want %v in UTC", got, tt.want)
			}
			m.pass(time.Second)
			if got := c.Now(); !got.Equal(tt.want.Add(time.Second)) {
				t.Errorf("a second later Now = %v", got)
			}
		})
	}
}

func TestAWallClockFarAheadIsBelievedUpToMax(t *testing.T) {
	t.Parallel()
	c := clock.New(epoch, clock.Options{Wall: func() time.Time { return epoch.Add(100 * time.Hour) }, Mono: func() time.Duration { return 0 }, Max: time.Hour})
	if got := c.Now(); !got.Equal(epoch.Add(time.Hour)) {
		t.Errorf("Now = %v, want an hour after what was saved", got)
	}
}

func TestTimeDoesNotGoBackForAnybody(t *testing.T) {
	t.Parallel()
	c := clock.New(time.Time{}, clock.Options{}) // the machine's own
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			last := c.Now()
			for range 1000 {
				now := c.Now()
				if now.Before(last) {
					t.Errorf("%v after %v", now, last)
					return
				}
				last = now
			}
		})
	}
	wg.Wait()
	if d := time.Since(c.Now()).Abs(); d > time.Minute {
		t.Errorf("a new site is %v away from the wall clock", d)
	}
}

func TestTimesCarryNoMonotonicReading(t *testing.T) {
	t.Parallel()
	now := clock.New(time.Time{}, clock.Options{}).Now()
	if now != now.Round(0) {
		t.Errorf("%v has a monotonic reading, which is lost on disk", now)
	}
}
