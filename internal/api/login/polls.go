package login

import (
	"sync"
	"time"
)

// polls remembers when each code was asked for last, to slow down those who ask
// too often. It is forgotten with the server: that only lets one ask once more.
type polls struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// tooOften reports whether a code was asked for less than half an interval ago.
func (p *polls) tooOften(code string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil || len(p.last) > 10_000 { // codes that nobody made, too
		p.last = map[string]time.Time{}
	}
	was, seen := p.last[code]
	p.last[code] = now
	return seen && now.Sub(was) < interval*time.Second/2
}
