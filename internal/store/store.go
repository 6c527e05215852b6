// Package store is the contract of the metadata storage: an ordered key-value
// map with optimistic transactions and a watch. Package bolt implements it in
// one file for a single process, package etcd for a cluster; storetest holds
// the suite that all of them pass.
//
// Keys are non-empty strings of at most 1,024 bytes, ordered by bytes; values
// are at most 1 MiB. Nothing secret is stored in clear: that is the caller's duty.
package store

import (
	"context"
	"errors"
	"iter"
)

// Revision counts committed changes: every committed Update that changed
// something has a higher one than all before it. Zero is the empty store.
type Revision uint64

// Errors that callers branch on.
var (
	// ErrClosed: the store is closed.
	ErrClosed = errors.New("store: closed")
	// ErrUnavailable: the storage cannot be reached or has lost its majority;
	// the change may or may not have been made.
	ErrUnavailable = errors.New("store: unavailable")
	// ErrConflict: an Update met other writers too often.
	ErrConflict = errors.New("store: too many conflicting transactions")
)

// Entry is a key and its value.
type Entry struct {
	Key   string
	Value []byte
}

// Reader reads one consistent state of the store. It is valid only inside the
// function it was given to. Slices it returns must not be changed, and stay
// valid after that function returns.
type Reader interface {
	// Get gives the value of a key; ok tells whether the key exists.
	Get(key string) (value []byte, ok bool, err error)
	// Scan gives the entries whose keys begin with prefix, in order. It
	// stops after an error, which is the last pair.
	Scan(prefix string) iter.Seq2[Entry, error]
}

// Tx is a Reader that also writes. It sees its own writes.
type Tx interface {
	Reader
	Put(key string, value []byte) error
	Delete(key string) error // deleting what is not there succeeds
}

// Change is the outcome of one committed Update.
type Change struct {
	Revision Revision
	Entries  []Entry // Value is nil for a deleted key
}

// Store is the metadata storage. All methods may be called from many
// goroutines at once.
type Store interface {
	// View runs fn on a consistent state.
	View(ctx context.Context, fn func(Reader) error) error

	// Update runs fn and commits what it wrote, all or nothing, durably
	// before it returns, and serialisably: what fn read, by Get or Scan, still
	// holds at commit. fn may run several times and must have no other effects.
	// An error from fn is returned as it is, and nothing is written. The
	// revision is that of the commit, or the current one if fn wrote nothing.
	Update(ctx context.Context, fn func(Tx) error) (Revision, error)

	// Watch calls snapshot once with the state at some revision, and then
	// change for every commit after it, in order and without gaps, until
	// ctx is done or the watch breaks; it returns why. A caller that must go on
	// calls Watch again and gets a fresh snapshot. The callbacks run one at a time.
	Watch(ctx context.Context, snapshot func(Revision, Reader) error, change func(Change) error) error

	// Exclusive tells that no other process can have the store open: what
	// another owner left behind is then known to be abandoned.
	Exclusive() bool

	// Close releases the store; running calls end with ErrClosed.
	Close() error
}
