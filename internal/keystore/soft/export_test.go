package soft

import "kastellan.dev/internal/rootkey"

// NewWithLimit is New with generations of limit keys.
func NewWithLimit(sealer rootkey.Sealer, limit int) *Store {
	return &Store{sealer: sealer, cache: newCache(limit)}
}

// Cached counts the keys that are unsealed in memory.
func (s *Store) Cached() int {
	s.cache.mu.RLock()
	defer s.cache.mu.RUnlock()
	return len(s.cache.young) + len(s.cache.old)
}

// MaterialID is the one-way name of key material.
var MaterialID = materialID
