// Package storetest is the suite that every implementation of store.Store
// passes: the contract in that package, as tests.
package storetest

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"kastellan.dev/internal/store"
)

// Run runs the suite. open gives a new, empty store; reopen closes s and
// opens what it stored again, and may be nil for a store that keeps nothing.
// Both have what they open closed by t.Cleanup; closing twice must be possible.
func Run(t *testing.T, open func(t *testing.T) store.Store, reopen func(t *testing.T, s store.Store) store.Store) {
	for _, part := range []struct {
		name string
		test func(*testing.T, store.Store)
	}{
		{"an empty store has nothing", testEmpty},
		{"what was put is got until it is deleted", testPutGetDelete},
		{"scans are ordered by bytes and keep to the prefix", testScan},
		{"a transaction sees its own writes", testOwnWrites},
		{"a scan outlives writes between its entries", testWriteWhileScanning},
		{"any sequence of transactions agrees with a map", testModel},
		{"keys and values have limits", testLimits},
		{"an error from the function rolls everything back", testRollback},
		{"a panic rolls everything back and leaves the store usable", testPanic},
		{"revisions rise with every change and with nothing else", testRevisions},
		{"values belong to whom they were given", testCopies},
		{"a view does not change while it lasts", testStableView},
		{"concurrent counters lose nothing", testCounters},
		{"two transactions that rely on each other's reads do not both commit", testWriteSkew},
		{"a done context ends every call and writes nothing", testCancelled},
		{"a watch shows the state and then each commit", testWatch},
		{"watches miss nothing under concurrent writers", testWatchGapFree},
		{"an error from a watch callback ends the watch", testWatchCallbackError},
		{"a watcher that stands still does not stop writers", testSlowWatcher},
		{"a closed store refuses everything and ends what runs", testClose},
	} {
		t.Run(part.name, func(t *testing.T) {
			t.Parallel()
			part.test(t, open(t))
		})
	}
	if reopen != nil {
		t.Run("everything survives closing and opening", func(t *testing.T) {
			t.Parallel()
			testReopen(t, open(t), reopen)
		})
	}
}

// timeout bounds what would otherwise hang a test.
const timeout = 30 * time.Second

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	return ctx
}

// put writes pairs of keys and values in one Update.
func put(t *testing.T, s store.Store, pairs ...string) store.Revision {
	t.Helper()
	rev, err := s.Update(testContext(t), func(tx store.Tx) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := tx.Put(pairs[i], []byte(pairs[i+1])); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("putting %q: %v", pairs, err)
	}
	return rev
}

// dump gives everything under a prefix as text, one entry after the other.
func dump(r store.Reader, prefix string) (string, error) {
	text := ""
	for e, err := range r.Scan(prefix) {
		if err != nil {
			return "", err
		}
		text += fmt.Sprintf("%s=%s;", e.Key, e.Value)
	}
	return text, nil
}

func wantContent(t *testing.T, s store.Store, prefix, want string) {
	t.Helper()
	err := s.View(testContext(t), func(r store.Reader) error {
		got, err := dump(r, prefix)
		if err == nil && got != want {
			t.Errorf("under %q stands %q, want %q", prefix, got, want)
		}
		return err
	})
	if err != nil {
		t.Errorf("View: %v", err)
	}
}

// add adds one to the number under key.
func add(tx store.Tx, key string) error {
	v, _, err := tx.Get(key)
	if err != nil {
		return err
	}
	n := 0
	if len(v) > 0 {
		if _, err := fmt.Sscan(string(v), &n); err != nil {
			return err
		}
	}
	return tx.Put(key, fmt.Append(nil, n+1))
}

// watch runs a Watch whose callbacks are next; the returned function ends it and gives its error.
func watch(t *testing.T, s store.Store, snapshot func(store.Revision, store.Reader) error, change func(store.Change) error) (stop func() error) {
	ctx, cancel := context.WithCancel(testContext(t))
	done := make(chan error, 1)
	var running atomic.Int32
	alone := func(fn func() error) error {
		if running.Add(1) != 1 {
			t.Error("two callbacks of a watch run at once")
		}
		defer running.Add(-1)
		return fn()
	}
	go func() {
		done <- s.Watch(ctx,
			func(rev store.Revision, r store.Reader) error {
				return alone(func() error { return snapshot(rev, r) })
			},
			func(c store.Change) error { return alone(func() error { return change(c) }) })
	}()
	t.Cleanup(cancel)
	return func() error {
		cancel()
		return <-done
	}
}

// receive waits for a value.
func receive[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(timeout):
		t.Fatalf("%s did not come", what)
		panic("unreachable")
	}
}
