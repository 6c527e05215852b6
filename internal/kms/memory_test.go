package kms_test

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"kastellan.dev/internal/store"
)

// memory is a metadata store in memory that fails as a test asks.
type memory struct {
	mu      sync.Mutex
	data    map[string][]byte
	commits []store.Change
	grew    chan struct{} // closed at the next commit
	broken  chan struct{} // closed when all watches break

	onUpdate func() error           // runs before every Update, which fails with its error; see errAfterCommit
	onScan   func(key string) error // runs for every entry that a Watch's snapshot reads
}

// errAfterCommit makes an Update fail although the change is made.
var errAfterCommit = errors.New("after the commit")

func newMemory() *memory {
	return &memory{data: map[string][]byte{}, grew: make(chan struct{}), broken: make(chan struct{})}
}

// fail sets onUpdate.
func (m *memory) fail(onUpdate func() error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.onUpdate = onUpdate
}

// breakWatches ends all watches; onScan applies to those that begin anew.
func (m *memory) breakWatches(onScan func(string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.onScan = onScan
	close(m.broken)
	m.broken = make(chan struct{})
}

func (m *memory) Exclusive() bool { return true }
func (m *memory) Close() error    { return nil }

func (m *memory) View(_ context.Context, fn func(store.Reader) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fn(memoryTx{data: m.data})
}

func (m *memory) Update(ctx context.Context, fn func(store.Tx) error) (store.Revision, error) {
	m.mu.Lock()
	before := m.onUpdate
	m.mu.Unlock()
	var trouble error
	if before != nil {
		trouble = before()
	}
	if trouble != nil && trouble != errAfterCommit {
		return 0, trouble
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	tx := memoryTx{data: maps.Clone(m.data), written: map[string][]byte{}}
	if err := errors.Join(fn(tx), ctx.Err()); err != nil {
		return 0, err
	}
	if len(tx.written) > 0 {
		c := store.Change{Revision: store.Revision(len(m.commits) + 1)}
		for key, value := range tx.written {
			c.Entries = append(c.Entries, store.Entry{Key: key, Value: value})
		}
		m.data, m.commits = tx.data, append(m.commits, c)
		close(m.grew)
		m.grew = make(chan struct{})
	}
	if trouble != nil {
		return 0, store.ErrUnavailable
	}
	return store.Revision(len(m.commits)), nil
}

func (m *memory) Watch(ctx context.Context, snapshot func(store.Revision, store.Reader) error, change func(store.Change) error) error {
	m.mu.Lock()
	at, broken := len(m.commits), m.broken
	first := memoryTx{data: maps.Clone(m.data), onScan: m.onScan}
	m.mu.Unlock()
	if err := snapshot(store.Revision(at), first); err != nil {
		return err
	}
	for {
		m.mu.Lock()
		news, grew := m.commits[at:], m.grew
		m.mu.Unlock()
		for _, c := range news {
			if err := change(c); err != nil {
				return err
			}
		}
		at += len(news)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-broken:
			return errors.New("the watch broke")
		case <-grew:
		}
	}
}

type memoryTx struct {
	data    map[string][]byte
	written map[string][]byte // nil for a deleted key
	onScan  func(string) error
}

func (t memoryTx) Get(key string) ([]byte, bool, error) {
	value, ok := t.data[key]
	return value, ok, nil
}

func (t memoryTx) Scan(prefix string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for _, key := range slices.Sorted(maps.Keys(t.data)) {
			if !strings.HasPrefix(key, prefix) {
				continue
			}
			if t.onScan != nil {
				if err := t.onScan(key); err != nil {
					yield(store.Entry{}, err)
					return
				}
			}
			if !yield(store.Entry{Key: key, Value: t.data[key]}, nil) {
				return
			}
		}
	}
}

func (t memoryTx) Put(key string, value []byte) error {
	t.data[key], t.written[key] = slices.Clone(value), slices.Clone(value)
	return nil
}

func (t memoryTx) Delete(key string) error {
	if _, ok := t.data[key]; ok {
		delete(t.data, key)
		t.written[key] = nil
	}
	return nil
}
