package soft

import (
	"kastellan.dev/internal/keyspec"
	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/xaes"
)

// NewWithLimit is New with generations of limit keys.
func NewWithLimit(sealer rootkey.Sealer, limit int) *Store {
	return &Store{sealer: sealer, ciphers: newCache[xaes.AEAD](limit), keys: newCache[keyspec.Key](limit)}
}

// Cached counts the keys that are unsealed in memory.
func (s *Store) Cached() int {
	s.ciphers.mu.RLock()
	defer s.ciphers.mu.RUnlock()
	return len(s.ciphers.young) + len(s.ciphers.old)
}

// MaterialID is the one-way name of key material.
var MaterialID = materialID
