package bolt

// WatchLimit is how many changes a watcher may lag behind.
const WatchLimit = watchLimit

// OpenReads counts the read transactions that bbolt has open.
func (s *Store) OpenReads() int { return s.db.Stats().OpenTxN }

// Unsynced makes commits fast and not durable.
func (s *Store) Unsynced() { s.db.NoSync = true }
