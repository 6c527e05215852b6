package bolt_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"

	"kastellan.dev/internal/store"
	"kastellan.dev/internal/store/bolt"
)

func TestAFailedCommitStopsUpdatesAndWatchesUntilReopened(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := create(t, path)
	if err := put(t.Context(), s, "a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- s.Watch(t.Context(),
			func(store.Revision, store.Reader) error { close(ready); return nil },
			func(c store.Change) error { return fmt.Errorf("the watch shows %v", c) })
	}()
	<-ready
	makeReadOnly(t, path)
	if err := put(t.Context(), s, "a", []byte("2")); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("a commit that cannot write: %v", err)
	}
	if err := <-ended; !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("the watch ended with %v", err)
	}
	if err := put(t.Context(), s, "a", []byte("2")); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("an Update after the failed commit: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, path)
	wantValue(t, again, "a", "1")
	if err := put(t.Context(), again, "a", []byte("2")); err != nil {
		t.Errorf("an Update after opening anew: %v", err)
	}
}

// makeReadOnly swaps the descriptor that this process has of a file for one that
// cannot be written through, as if the disk had failed.
func makeReadOnly(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("descriptors cannot be listed: ", err)
	}
	swapped := 0
	for _, entry := range fds {
		fd, err := strconv.Atoi(entry.Name())
		target, linkErr := os.Readlink("/proc/self/fd/" + entry.Name())
		if err != nil || linkErr != nil || target != path || fd == int(f.Fd()) {
			continue
		}
		if err := syscall.Dup3(int(f.Fd()), fd, syscall.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		swapped++
	}
	if swapped != 1 {
		t.Fatalf("the store has %d descriptors of its file", swapped)
	}
}

func wantValue(t *testing.T, s store.Store, key, want string) {
	t.Helper()
	err := s.View(t.Context(), func(r store.Reader) error {
		got, ok, err := r.Get(key)
		if err == nil && (!ok || string(got) != want) {
			t.Errorf("%q is %q (there: %v), want %q", key, got, ok, want)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAWatchHoldsNoReadTransaction(t *testing.T) {
	t.Parallel()
	s := create(t, newPath(t))
	changed := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	ready := make(chan struct{})
	go func() {
		ended <- s.Watch(ctx,
			func(store.Revision, store.Reader) error { close(ready); return nil },
			func(store.Change) error { close(changed); return nil })
	}()
	<-ready
	if err := put(t.Context(), s, "a", nil); err != nil {
		t.Fatal(err)
	}
	<-changed
	if n := s.OpenReads(); n != 0 {
		t.Errorf("%d read transactions are open while a watch waits", n)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Watch: %v", err)
	}
}

func TestAWatcherThatLagsTooFarIsBrokenAndWritersGoOn(t *testing.T) {
	t.Parallel()
	s := create(t, newPath(t))
	s.Unsynced()
	ready, resume, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	seen := 0
	go func() {
		ended <- s.Watch(t.Context(),
			func(store.Revision, store.Reader) error { close(ready); return nil },
			func(store.Change) error { seen++; <-resume; return nil })
	}()
	<-ready
	const commits = bolt.WatchLimit + 2 // one is in the callback, the queue holds the limit
	for range commits {
		if err := put(t.Context(), s, "a", nil); err != nil {
			t.Fatal(err)
		}
	}
	close(resume)
	if err := <-ended; err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("Watch ended with %v", err)
	}
	if seen >= commits {
		t.Errorf("the watcher saw all %d changes: the queue has no bound", seen)
	}
}
