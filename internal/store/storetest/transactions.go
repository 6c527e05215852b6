package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"kastellan.dev/internal/store"
)

func testRollback(t *testing.T, s store.Store) {
	before := put(t, s, "a", "1")
	refused := errors.New("refused")
	_, err := s.Update(testContext(t), func(tx store.Tx) error {
		return errors.Join(tx.Put("a", []byte("2")), tx.Put("b", []byte("2")), refused)
	})
	if !errors.Is(err, refused) {
		t.Errorf("Update gives %v, not the function's error", err)
	}
	_, err = s.Update(testContext(t), func(store.Tx) error { return refused })
	if err != refused { //nolint:errorlint // "returned as it is" is the contract
		t.Errorf("Update gives %v, not the function's error as it is", err)
	}
	err = s.View(testContext(t), func(store.Reader) error { return refused })
	if err != refused { //nolint:errorlint // as above
		t.Errorf("View gives %v, not the function's error as it is", err)
	}
	wantContent(t, s, "", "a=1;")
	if after := put(t, s, "a", "3"); after <= before {
		t.Errorf("revision %d comes after %d", after, before)
	}
}

func testPanic(t *testing.T, s store.Store) {
	put(t, s, "a", "1")
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_, _ = s.Update(testContext(t), func(tx store.Tx) error {
			_ = tx.Put("a", []byte("2"))
			panic("in the function")
		})
	}()
	wantContent(t, s, "", "a=1;")
	put(t, s, "b", "1")
	wantContent(t, s, "", "a=1;b=1;")
}

func testRevisions(t *testing.T, s store.Store) {
	last := store.Revision(0)
	for i := range 5 {
		rev := put(t, s, "a", fmt.Sprint(i))
		if rev <= last {
			t.Fatalf("revision %d comes after %d", rev, last)
		}
		last = rev
		same, err := s.Update(testContext(t), func(tx store.Tx) error {
			_, err := dump(tx, "")
			return err
		})
		if err != nil || same != last {
			t.Fatalf("an Update that only reads gives revision %d, error %v, want %d", same, err, last)
		}
	}
}

// testStableView commits between the reads of one View.
func testStableView(t *testing.T, s store.Store) {
	put(t, s, "a", "1", "b", "1")
	err := s.View(testContext(t), func(r store.Reader) error {
		if got, err := dump(r, ""); err != nil || got != "a=1;b=1;" {
			t.Errorf("first: %q, %v", got, err)
		}
		written := make(chan error, 1)
		go func() { // not in this goroutine: a View may hold what an Update needs
			_, err := s.Update(context.WithoutCancel(testContext(t)), func(tx store.Tx) error {
				return errors.Join(tx.Put("a", []byte("2")), tx.Delete("b"))
			})
			written <- err
		}()
		if err := receive(t, "the Update beside the View", written); err != nil {
			return err
		}
		got, err := dump(r, "")
		if got != "a=1;b=1;" {
			t.Errorf("after a commit the same view has %q", got)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	wantContent(t, s, "", "a=2;")
}

// retry repeats an Update that met too many others, as a caller would.
func retry(ctx context.Context, s store.Store, fn func(store.Tx) error) error {
	for {
		if _, err := s.Update(ctx, fn); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

func testCounters(t *testing.T, s store.Store) {
	const workers, rounds = 8, 20
	ctx := testContext(t)
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			for range rounds {
				err := retry(ctx, s, func(tx store.Tx) error {
					return errors.Join(add(tx, "all"), add(tx, fmt.Sprint("own/", worker)))
				})
				if err != nil {
					t.Errorf("Update: %v", err)
				}
			}
		})
	}
	wg.Wait()
	wantContent(t, s, "all", fmt.Sprintf("all=%d;", workers*rounds))
	want := ""
	for worker := range workers {
		want += fmt.Sprintf("own/%d=%d;", worker, rounds)
	}
	wantContent(t, s, "own/", want)
}

// testWriteSkew lets two transactions each check, by a Get and by a Scan, that
// the other has not happened. Snapshot isolation would let both through.
func testWriteSkew(t *testing.T, s store.Store) {
	absent := map[string]func(store.Tx, string) (bool, error){
		"get": func(tx store.Tx, key string) (bool, error) {
			_, ok, err := tx.Get(key)
			return !ok, err
		},
		"scan": func(tx store.Tx, key string) (bool, error) {
			found, err := dump(tx, key[:len(key)-1]) // also a key that did not exist yet
			return found == "", err
		},
	}
	for name, isAbsent := range absent {
		for round := range 15 {
			base := fmt.Sprintf("%s/%d", name, round)
			claim := func(mine, others string) error {
				return retry(testContext(t), s, func(tx store.Tx) error {
					free, err := isAbsent(tx, base+others)
					if err != nil || !free {
						return err
					}
					return tx.Put(base+mine, []byte("claimed"))
				})
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := claim("/left/x", "/right/x"); err != nil {
					t.Errorf("Update: %v", err)
				}
			})
			wg.Go(func() {
				if err := claim("/right/x", "/left/x"); err != nil {
					t.Errorf("Update: %v", err)
				}
			})
			wg.Wait()
			err := s.View(testContext(t), func(r store.Reader) error {
				got, err := dump(r, base+"/")
				if n := strings.Count(got, "claimed"); n != 1 {
					t.Errorf("by %s, %d of two transactions claimed what only one may", name, n)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

func testCancelled(t *testing.T, s store.Store) {
	put(t, s, "a", "1")
	done, cancel := context.WithCancel(testContext(t))
	cancel()
	never := func(string) { t.Error("a function was called though the context was done") }
	_, err := s.Update(done, func(store.Tx) error { never("Update"); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Update: %v", err)
	}
	if err := s.View(done, func(store.Reader) error { never("View"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("View: %v", err)
	}
	err = s.Watch(done, func(store.Revision, store.Reader) error { never("Watch"); return nil }, func(store.Change) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Watch: %v", err)
	}

	ctx, cancel := context.WithCancel(testContext(t))
	_, err = s.Update(ctx, func(tx store.Tx) error {
		err := tx.Put("a", []byte("2"))
		cancel()
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Update whose context ends in the middle: %v", err)
	}
	wantContent(t, s, "", "a=1;")
}

// testReopen closes the store after many commits.
func testReopen(t *testing.T, s store.Store, reopen func(*testing.T, store.Store) store.Store) {
	var last store.Revision
	for i := range 20 {
		last = put(t, s, fmt.Sprintf("k/%02d", i), "v", "count", fmt.Sprint(i+1))
	}
	var before string
	if err := s.View(testContext(t), func(r store.Reader) (err error) {
		before, err = dump(r, "")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, s)
	wantContent(t, s, "", before)
	if rev := put(t, s, "k", "v"); rev <= last {
		t.Errorf("revision %d comes after %d and a restart", rev, last)
	}
}
