package soft

import "sync"

// entryID is all that decides which material a key has. The sealed bytes are
// compared themselves, not a hash of them: they are short.
type entryID struct{ arn, data string }

// cache holds unsealed keys, as T, in two generations: when the young one is full it
// becomes the old one, and what the old one held and nobody asked for meanwhile is
// forgotten. So it is bounded, and keys in use stay, without a list to keep in order.
type cache[T any] struct {
	limit int // of each generation

	mu         sync.RWMutex
	young, old map[entryID]*T
}

func newCache[T any](limit int) *cache[T] {
	return &cache[T]{limit: limit, young: make(map[entryID]*T)}
}

// get gives nil for what it does not hold. It does not allocate for a key that
// was used lately.
func (c *cache[T]) get(arn string, data []byte) *T {
	c.mu.RLock()
	entry := c.young[entryID{arn, string(data)}]
	aged := c.old[entryID{arn, string(data)}]
	c.mu.RUnlock()
	if entry == nil && aged != nil {
		entry = aged
		c.put(entryID{arn, string(data)}, entry)
	}
	return entry
}

func (c *cache[T]) put(id entryID, entry *T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.young) >= c.limit {
		c.young, c.old = make(map[entryID]*T), c.young
	}
	c.young[id] = entry
}

func (c *cache[T]) remove(id entryID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.young, id)
	delete(c.old, id)
}
