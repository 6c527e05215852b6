package soft

import (
	"sync"

	"kastellan.dev/internal/xaes"
)

// entryID is all that decides which material a key has. The sealed bytes are
// compared themselves, not a hash of them: they are short.
type entryID struct{ arn, data string }

// cache holds unsealed keys in two generations: when the young one is full it
// becomes the old one, and what the old one held and nobody asked for meanwhile is
// forgotten. So it is bounded, and keys in use stay, without a list to keep in order.
type cache struct {
	limit int // of each generation

	mu         sync.RWMutex
	young, old map[entryID]*xaes.AEAD
}

func newCache(limit int) *cache {
	return &cache{limit: limit, young: make(map[entryID]*xaes.AEAD)}
}

// get gives nil for what it does not hold. It does not allocate for a key that
// was used lately.
func (c *cache) get(arn string, data []byte) *xaes.AEAD {
	c.mu.RLock()
	aead := c.young[entryID{arn, string(data)}]
	aged := c.old[entryID{arn, string(data)}]
	c.mu.RUnlock()
	if aead == nil && aged != nil {
		aead = aged
		c.put(entryID{arn, string(data)}, aead)
	}
	return aead
}

func (c *cache) put(id entryID, aead *xaes.AEAD) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.young) >= c.limit {
		c.young, c.old = make(map[entryID]*xaes.AEAD), c.young
	}
	c.young[id] = aead
}

func (c *cache) remove(id entryID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.young, id)
	delete(c.old, id)
}
