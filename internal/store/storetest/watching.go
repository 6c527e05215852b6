package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/store"
)

func testWatch(t *testing.T, s store.Store) {
	first := put(t, s, "a", "1", "b", "1")
	type state struct {
		rev     store.Revision
		content string
	}
	snapshots, changes := make(chan state, 8), make(chan store.Change, 8)
	stop := watch(t, s,
		func(rev store.Revision, r store.Reader) error {
			content, err := dump(r, "")
			snapshots <- state{rev, content}
			return err
		},
		func(c store.Change) error { changes <- c; return nil })

	if got, want := receive(t, "the snapshot", snapshots), (state{first, "a=1;b=1;"}); got != want {
		t.Errorf("the snapshot is %v, want %v", got, want)
	}
	second, err := s.Update(testContext(t), func(tx store.Tx) error {
		return errors.Join(tx.Put("c", nil), tx.Put("a", []byte("2")), tx.Put("a", []byte("3")), tx.Delete("b"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(testContext(t), func(tx store.Tx) error {
		return errors.Join(tx.Put("a", []byte("never")), errors.New("refused"))
	}); err == nil {
		t.Error("Update lost the function's error")
	}
	third := put(t, s, "d", "1")

	got := receive(t, "the first change", changes)
	if got.Revision != second {
		t.Errorf("the change has revision %d, the Update gave %d", got.Revision, second)
	}
	asMap := make(map[string][]byte)
	for _, e := range got.Entries {
		asMap[e.Key] = e.Value
	}
	want := map[string][]byte{"a": []byte("3"), "b": nil, "c": {}}
	if diff := cmp.Diff(want, asMap); diff != "" || len(got.Entries) != len(want) {
		t.Errorf("the change has %d entries, want %d:\n%s", len(got.Entries), len(want), diff)
	}
	if got := receive(t, "the second change", changes); got.Revision != third {
		t.Errorf("the next change has revision %d, want %d", got.Revision, third)
	}
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("Watch ended with %v", err)
	}
	if len(snapshots) != 0 || len(changes) != 0 {
		t.Errorf("there were %d more snapshots and %d more changes", len(snapshots), len(changes))
	}
}

// replica is what a watcher believes the store to hold.
type replica struct {
	state map[string]string
	rev   store.Revision
}

func (p *replica) snapshot(rev store.Revision, r store.Reader) error {
	p.state, p.rev = make(map[string]string), rev
	for e, err := range r.Scan("") {
		if err != nil {
			return err
		}
		p.state[e.Key] = string(e.Value)
	}
	return nil
}

func (p *replica) change(c store.Change) error {
	if c.Revision <= p.rev {
		return fmt.Errorf("revision %d comes after %d", c.Revision, p.rev)
	}
	p.rev = c.Revision
	for _, e := range c.Entries {
		if e.Value == nil {
			delete(p.state, e.Key)
		} else {
			p.state[e.Key] = string(e.Value)
		}
	}
	return nil
}

// testWatchGapFree starts watches while writers write. Each writer's Update
// counts a total up, so that a missed or repeated change shows at once.
func testWatchGapFree(t *testing.T, s store.Store) {
	const workers, rounds, observers = 4, 40, 4
	ctx := testContext(t)
	var writers, watchers sync.WaitGroup
	written := make(chan struct{}, workers*rounds)
	for worker := range workers {
		writers.Go(func() {
			for round := range rounds {
				err := retry(ctx, s, func(tx store.Tx) error {
					own := fmt.Sprintf("own/%d/%d", worker, round%3)
					return errors.Join(add(tx, "total"), add(tx, own), tx.Delete(fmt.Sprintf("own/%d/%d", worker, (round+1)%3)))
				})
				if err != nil {
					t.Errorf("Update: %v", err)
				}
				written <- struct{}{}
			}
		})
	}
	replicas := make([]replica, observers)
	for i := range replicas {
		for range 10 { // so that each watch begins at another moment
			<-written
		}
		ready := make(chan struct{})
		watchers.Go(func() { replicas[i].follow(ctx, t, s, ready) })
		receive(t, "the snapshot", ready)
	}
	writers.Wait()
	put(t, s, "end", "")
	watchers.Wait()

	var truth replica
	if err := s.View(testContext(t), func(r store.Reader) error { return truth.snapshot(0, r) }); err != nil {
		t.Fatal(err)
	}
	for i := range replicas {
		if !maps.Equal(truth.state, replicas[i].state) {
			t.Errorf("watcher %d believes %v, the store holds %v", i, replicas[i].state, truth.state)
		}
	}
}

// follow watches until the key "end" appears, and wants each change to count
// the total up by one.
func (p *replica) follow(ctx context.Context, t *testing.T, s store.Store, ready chan<- struct{}) {
	ended := errors.New("the end appeared")
	total := func() int { n, _ := strconv.Atoi(p.state["total"]); return n }
	err := s.Watch(ctx,
		func(rev store.Revision, r store.Reader) error {
			close(ready)
			return p.snapshot(rev, r)
		},
		func(c store.Change) error {
			before := total()
			if err := p.change(c); err != nil {
				return err
			}
			if _, ok := p.state["end"]; ok {
				return ended
			}
			if total() != before+1 {
				return fmt.Errorf("the total went from %d to %d", before, total())
			}
			return nil
		})
	if !errors.Is(err, ended) {
		t.Errorf("Watch: %v", err)
	}
}

func testWatchCallbackError(t *testing.T, s store.Store) {
	put(t, s, "a", "1")
	enough := errors.New("enough")
	stay := func(store.Change) error { t.Error("a change came after the watch had ended"); return nil }
	err := s.Watch(testContext(t), func(store.Revision, store.Reader) error { return enough }, stay)
	if !errors.Is(err, enough) {
		t.Errorf("a failing snapshot ends the watch with %v", err)
	}
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- s.Watch(testContext(t),
			func(store.Revision, store.Reader) error { close(ready); return nil },
			func(store.Change) error { return enough })
	}()
	receive(t, "the snapshot", ready)
	put(t, s, "a", "2")
	if err := receive(t, "the end of the watch", done); !errors.Is(err, enough) {
		t.Errorf("a failing change ends the watch with %v", err)
	}
}

// testSlowWatcher blocks one watcher for the length of many commits. It may
// get them all later, or break, but not be told of one and miss another before it.
func testSlowWatcher(t *testing.T, s store.Store) {
	const commits = 200
	ready, resume, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	finished := errors.New("seen all")
	last := 0
	go func() {
		done <- s.Watch(testContext(t),
			func(store.Revision, store.Reader) error { close(ready); return nil },
			func(c store.Change) error {
				<-resume
				n, err := strconv.Atoi(string(c.Entries[0].Value))
				if err != nil || n != last+1 {
					return fmt.Errorf("%d comes after %d (%v)", n, last, err)
				}
				if last = n; n == commits {
					return finished
				}
				return nil
			})
	}()
	receive(t, "the snapshot", ready)
	for i := range commits {
		put(t, s, "n", fmt.Sprint(i+1))
	}
	close(resume)
	if err := receive(t, "the end of the watch", done); last != commits && err == nil || last == commits && !errors.Is(err, finished) {
		t.Errorf("Watch ended with %v after %d of %d changes", err, last, commits)
	}
}

// testClose closes the store while a View, an Update that waits and a Watch run.
func testClose(t *testing.T, s store.Store) {
	put(t, s, "a", "1")
	ctx := testContext(t)
	inside, closing := make(chan struct{}), make(chan struct{})
	ends := make(chan error, 2)
	go func() {
		ends <- s.View(ctx, func(r store.Reader) error {
			close(inside)
			<-closing
			for { // until the store is closed under it
				if _, _, err := r.Get("a"); err != nil {
					return err
				}
			}
		})
	}()
	watching := make(chan struct{})
	go func() {
		ends <- s.Watch(ctx,
			func(store.Revision, store.Reader) error { close(watching); return nil },
			func(store.Change) error { return nil })
	}()
	receive(t, "the view", inside)
	receive(t, "the snapshot", watching)
	close(closing)
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	for range 2 {
		if err := receive(t, "the end of a call", ends); !errors.Is(err, store.ErrClosed) {
			t.Errorf("a call that ran during Close ended with %v", err)
		}
	}

	if err := s.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
	if err := s.View(ctx, func(store.Reader) error { return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("View after Close: %v", err)
	}
	if _, err := s.Update(ctx, func(store.Tx) error { return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Update after Close: %v", err)
	}
	err := s.Watch(ctx, func(store.Revision, store.Reader) error { return nil }, func(store.Change) error { return nil })
	if !errors.Is(err, store.ErrClosed) {
		t.Errorf("Watch after Close: %v", err)
	}
}
