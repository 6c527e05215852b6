// Package bolt keeps the metadata in one file, for one process, with bbolt.
//
// The file has two buckets: "data" holds the entries as they are; "meta" holds
// "format" (the text "1") and "revision" (8 bytes, big-endian).
//
// Every Update is one bbolt transaction, written and fsynced before it
// returns. Updates run one after the other, so there are no conflicts. Making a
// store and opening one are different verbs: [Open] never makes an empty
// store where the real one was expected, [Create] never replaces one.
//
// A commit that fails leaves it open whether the file has the change, since
// nobody knows what the disk has after a failed fsync. The store then refuses
// further Updates, and watchers begin anew, until the process opens the file again.
//
// Up to 1 GiB of file, readers and writers never wait for each other; above,
// an Update that has to grow the file waits for running Views and snapshots.
package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"kastellan.dev/internal/store"
)

const (
	format = "1"

	// lockWait is how long to wait for another process to let go of the file.
	lockWait = time.Second

	// The address space set aside for the file: see the package comment.
	mapSize = 1 << 30
)

var (
	metaBucket  = []byte("meta")
	dataBucket  = []byte("data")
	formatKey   = []byte("format")
	revisionKey = []byte("revision")
)

// Store is a metadata store in a file.
type Store struct {
	db       *bbolt.DB
	writer   chan struct{} // holds one token, which the running Update has
	closed   chan struct{}
	watchers watchers

	closing  sync.Once
	closeErr error

	broken error // why Updates are refused; the writer's token guards it
}

var _ store.Store = (*Store)(nil)

// Open opens the store in the file path. A missing file is an error that
// wraps fs.ErrNotExist.
func Open(path string) (*Store, error) {
	db, err := openFile(path, false)
	if err != nil {
		return nil, fmt.Errorf("opening the metadata store: %w", err)
	}
	if err := db.View(checkFormat); err != nil {
		return nil, fmt.Errorf("opening the metadata store: %s: %w", path, errors.Join(err, db.Close()))
	}
	s := &Store{db: db, writer: make(chan struct{}, 1), closed: make(chan struct{})}
	s.writer <- struct{}{}
	return s, nil
}

// openFile opens a bbolt file that exists: bbolt itself would make one that is
// missing, and a database of one that is empty.
func openFile(path string, mayBeEmpty bool) (*bbolt.DB, error) {
	options := &bbolt.Options{
		Timeout:      lockWait,
		FreelistType: bbolt.FreelistMapType,
		OpenFile: func(path string, _ int, _ os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil || mayBeEmpty {
				return f, err
			}
			if info, err := f.Stat(); err != nil || info.Size() == 0 {
				return nil, errors.Join(fmt.Errorf("%s is no metadata store: it is empty or unreadable", path), err, f.Close())
			}
			return f, nil
		},
	}
	if strconv.IntSize == 64 {
		options.InitialMmapSize = mapSize
	}
	db, err := bbolt.Open(path, 0o600, options)
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("%s is in use by another process", path)
	}
	return db, err
}

func checkFormat(tx *bbolt.Tx) error {
	meta := tx.Bucket(metaBucket)
	if meta == nil || tx.Bucket(dataBucket) == nil {
		return errors.New("the file is no metadata store")
	}
	if got := string(meta.Get(formatKey)); got != format {
		return fmt.Errorf("the file has format %q, this version reads format %s", got, format)
	}
	return nil
}

// Exclusive implements store.Store: the file is locked.
func (s *Store) Exclusive() bool { return true }

// Close implements store.Store. It waits for running Views and Updates, which
// end as soon as they next read or write.
func (s *Store) Close() error {
	s.closing.Do(func() {
		close(s.closed)
		s.watchers.breakAll(store.ErrClosed)
		s.closeErr = s.db.Close()
	})
	return s.closeErr
}

// usable tells why a call should not go on.
func (s *Store) usable(ctx context.Context) error {
	select {
	case <-s.closed:
		return store.ErrClosed
	default:
		return ctx.Err()
	}
}

// begin starts a bbolt transaction.
func (s *Store) begin(writable bool) (*bbolt.Tx, error) {
	tx, err := s.db.Begin(writable)
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return nil, store.ErrClosed
	}
	return tx, err
}

// View implements store.Store. fn must not call Update.
func (s *Store) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	tx, err := s.begin(false)
	if err != nil {
		return err
	}
	defer rollback(tx)
	return fn(&reader{bucket: tx.Bucket(dataBucket), usable: func() error { return s.usable(ctx) }})
}

// Update implements store.Store. When ctx ends it before the commit, nothing
// is written; the commit itself is not interrupted. fn runs once, and must
// not call View or Update.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) (store.Revision, error) {
	if err := s.lockWriter(ctx); err != nil {
		return 0, err
	}
	defer s.unlockWriter()
	if s.broken != nil {
		return 0, s.broken
	}
	tx, err := s.begin(true)
	if err != nil {
		return 0, err
	}
	defer rollback(tx)
	w := newWriter(tx, func() error { return s.usable(ctx) })
	if err := fn(w); err != nil {
		return 0, err
	}
	if err := s.usable(ctx); err != nil {
		return 0, err
	}
	rev := revision(tx)
	if len(w.written) == 0 {
		return rev, nil
	}
	return s.commit(tx, store.Change{Revision: rev + 1, Entries: w.entries()})
}

// commit makes a change last and tells the watchers.
func (s *Store) commit(tx *bbolt.Tx, c store.Change) (store.Revision, error) {
	err := tx.Bucket(metaBucket).Put(revisionKey, binary.BigEndian.AppendUint64(nil, uint64(c.Revision)))
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		s.broken = fmt.Errorf("%w: a commit failed, the store must be opened anew: %w", store.ErrUnavailable, err)
		s.watchers.breakAll(s.broken)
		return 0, s.broken
	}
	s.watchers.publish(c)
	return c.Revision, nil
}

func revision(tx *bbolt.Tx) store.Revision {
	return store.Revision(binary.BigEndian.Uint64(tx.Bucket(metaBucket).Get(revisionKey)))
}

// lockWriter waits until no Update runs.
func (s *Store) lockWriter(ctx context.Context) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	select {
	case <-s.writer:
		return nil
	case <-s.closed:
		return store.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) unlockWriter() { s.writer <- struct{}{} }

// rollback ends a transaction. Of one that was committed, or whose store is
// closed, there is nothing left to end, and nothing to report.
func rollback(tx *bbolt.Tx) { _ = tx.Rollback() }
