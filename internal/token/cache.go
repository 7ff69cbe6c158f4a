package token

import (
	"crypto/sha256"
	"sync"
)

// generation is how many tokens a half of the cache holds; a verified access token
// is about 2 kB of claims.
const generation = 1024

// cache remembers what tokens say whose signature was found good: checking one
// costs 50 to 80 µs, and clients send the same for an hour, agents for as long as
// they live. It keeps hashes, not tokens. It holds two generations; when the young
// one is full, the old one goes.
type cache[V any] struct {
	mu         sync.Mutex
	young, old map[[sha256.Size]byte]V
}

func (c *cache[V]) get(tok string) (V, bool) {
	key := sha256.Sum256([]byte(tok))
	c.mu.Lock()
	defer c.mu.Unlock()
	claims, ok := c.young[key]
	if ok {
		return claims, true
	}
	if claims, ok = c.old[key]; ok {
		c.add(key, claims)
	}
	return claims, ok
}

func (c *cache[V]) put(tok string, claims V) {
	key := sha256.Sum256([]byte(tok))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(key, claims)
}

func (c *cache[V]) add(key [sha256.Size]byte, claims V) {
	if c.young == nil || len(c.young) >= generation {
		c.young, c.old = make(map[[sha256.Size]byte]V), c.young
	}
	c.young[key] = claims
}
