// Package memo remembers what was worked out of rows for as long as they stay as
// they are: lists are asked for again and again, and most of what is in them has
// not changed. Start at [Map].
package memo

import (
	"cmp"
	"sync"
)

// Map holds what was worked out for a key, of one version of it. It forgets what
// was not asked for lately. Any number of goroutines may use it; what they get
// is shared, and must not be changed. The zero Map is empty and ready.
type Map[K, V comparable, T any] struct {
	Size int // at most twice as much is held, in the units of Put; default 8 Mi

	mu         sync.Mutex
	young, old map[K]entry[V, T] // old is what young was when it was full
	used       int               // of Size, by young
}

type entry[V, T any] struct {
	at   V
	what T
	size int
}

// Get returns what was put for a key of this version.
func (m *Map[K, V, T]) Get(k K, at V) (T, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.young[k]
	if !ok {
		if e, ok = m.old[k]; ok {
			delete(m.old, k)
			m.put(k, e)
		}
	}
	if !ok || e.at != at {
		var none T
		return none, false
	}
	return e.what, true
}

// Put remembers what was worked out of a version; size is what it takes of Size.
func (m *Map[K, V, T]) Put(k K, at V, what T, size int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.old, k)
	m.put(k, entry[V, T]{at, what, size})
}

func (m *Map[K, V, T]) put(k K, e entry[V, T]) {
	m.used -= m.young[k].size
	delete(m.young, k) // out of date, even where there is no room for what comes
	most := cmp.Or(m.Size, 8<<20)
	if e.size > most {
		return
	}
	if m.used += e.size; m.used > most || m.young == nil {
		m.old, m.young, m.used = m.young, map[K]entry[V, T]{}, e.size
	}
	m.young[k] = e
}
