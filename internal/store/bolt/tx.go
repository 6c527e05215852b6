package bolt

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"strings"

	"go.etcd.io/bbolt"

	"kastellan.dev/internal/store"
)

// Limits of the contract, in bytes.
const (
	maxKeySize   = 1024
	maxValueSize = 1 << 20
)

// reader is a store.Reader on a bbolt transaction. What it returns is copied:
// bbolt's own slices end with the transaction.
type reader struct {
	bucket *bbolt.Bucket
	usable func() error // tells why the call must end
	writes int          // number of writes so far, each of which makes bbolt's cursors invalid
}

// Get implements store.Reader.
func (r *reader) Get(key string) ([]byte, bool, error) {
	if err := r.usable(); err != nil {
		return nil, false, err
	}
	k, v := r.bucket.Cursor().Seek([]byte(key))
	if k == nil || string(k) != key {
		return nil, false, nil
	}
	return copyOf(v), true, nil
}

// Scan implements store.Reader. Entries that are written during a scan are
// seen if they lie ahead of it.
func (r *reader) Scan(prefix string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		cursor, at := r.bucket.Cursor(), r.writes
		k, v := cursor.Seek([]byte(prefix))
		for k != nil && bytes.HasPrefix(k, []byte(prefix)) {
			if err := r.usable(); err != nil {
				yield(store.Entry{}, err)
				return
			}
			e := store.Entry{Key: string(k), Value: copyOf(v)}
			if !yield(e, nil) {
				return
			}
			if r.writes == at {
				k, v = cursor.Next()
				continue
			}
			cursor, at = r.bucket.Cursor(), r.writes
			k, v = cursor.Seek([]byte(e.Key + "\x00")) // the next possible key
		}
	}
}

// copyOf never gives nil: an empty value is not a missing one.
func copyOf(v []byte) []byte { return append([]byte{}, v...) }

// writer is a store.Tx on a bbolt transaction, which notes what it writes.
type writer struct {
	reader
	written map[string][]byte // nil for a deleted key
}

func newWriter(tx *bbolt.Tx, usable func() error) *writer {
	return &writer{
		reader:  reader{bucket: tx.Bucket(dataBucket), usable: usable},
		written: make(map[string][]byte),
	}
}

// Put implements store.Tx.
func (w *writer) Put(key string, value []byte) error {
	if err := w.usable(); err != nil {
		return err
	}
	if len(key) == 0 || len(key) > maxKeySize {
		return fmt.Errorf("a key has %d bytes, want 1 to %d", len(key), maxKeySize)
	}
	if len(value) > maxValueSize {
		return fmt.Errorf("the value of %q has %d bytes, want at most %d", key, len(value), maxValueSize)
	}
	value = copyOf(value) // bbolt and watchers keep it
	return w.write(key, value, w.bucket.Put([]byte(key), value))
}

// Delete implements store.Tx.
func (w *writer) Delete(key string) error {
	_, exists, err := w.Get(key)
	if err != nil || !exists {
		return err
	}
	return w.write(key, nil, w.bucket.Delete([]byte(key)))
}

func (w *writer) write(key string, value []byte, err error) error {
	if err != nil {
		return fmt.Errorf("writing %q: %w", key, err)
	}
	w.writes++
	w.written[key] = value
	return nil
}

// entries gives what was written, in the order of keys.
func (w *writer) entries() []store.Entry {
	entries := make([]store.Entry, 0, len(w.written))
	for key, value := range w.written {
		entries = append(entries, store.Entry{Key: key, Value: value})
	}
	slices.SortFunc(entries, func(a, b store.Entry) int { return strings.Compare(a.Key, b.Key) })
	return entries
}
