package sigv4

// MaxKeys is the bound of the cache of derived keys.
const MaxKeys = maxKeys

// CachedKeys is how many derived keys v remembers.
func CachedKeys(v *Verifier) int {
	v.keys.mu.RLock()
	defer v.keys.mu.RUnlock()
	return len(v.keys.keys)
}
