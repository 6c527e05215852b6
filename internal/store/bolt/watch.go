package bolt

import (
	"context"
	"fmt"
	"sync"

	"kastellan.dev/internal/store"
)

// watchLimit is how many changes a watcher may lag behind before its watch
// breaks: writers wait for nobody, and memory has an end.
const watchLimit = 4096

// Watch implements store.Store. It breaks when the watcher lags 4,096 changes
// behind. snapshot must not call Update.
func (s *Store) Watch(ctx context.Context, snapshot func(store.Revision, store.Reader) error, change func(store.Change) error) error {
	w, err := s.startWatch(ctx, snapshot)
	if err != nil {
		return err
	}
	defer s.watchers.remove(w)
	for {
		if err := s.usable(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-w.broken:
			return w.err
		case c := <-w.changes:
			if err := change(c); err != nil {
				return err
			}
		}
	}
}

// startWatch hands out the snapshot. No change is lost between it and the
// queue, because no Update runs while the one is begun and the other made.
func (s *Store) startWatch(ctx context.Context, snapshot func(store.Revision, store.Reader) error) (*watcher, error) {
	if err := s.lockWriter(ctx); err != nil {
		return nil, err
	}
	tx, err := s.begin(false)
	if err != nil {
		s.unlockWriter()
		return nil, err
	}
	defer rollback(tx)
	w := s.watchers.add()
	s.unlockWriter()

	usable := func() error { return s.usable(ctx) }
	if err := snapshot(revision(tx), &reader{bucket: tx.Bucket(dataBucket), usable: usable}); err != nil {
		s.watchers.remove(w)
		return nil, err
	}
	return w, nil
}

// watcher is the queue of one Watch.
type watcher struct {
	changes chan store.Change
	broken  chan struct{} // closed after err is set
	err     error
}

// watchers are the queues of all Watches.
type watchers struct {
	mu  sync.Mutex
	set map[*watcher]struct{}
}

func (ws *watchers) add() *watcher {
	w := &watcher{changes: make(chan store.Change, watchLimit), broken: make(chan struct{})}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.set == nil {
		ws.set = make(map[*watcher]struct{})
	}
	ws.set[w] = struct{}{}
	return w
}

func (ws *watchers) remove(w *watcher) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.set, w)
}

// publish queues a change for every watcher and breaks those whose queue is full.
func (ws *watchers) publish(c store.Change) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for w := range ws.set {
		select {
		case w.changes <- c:
		default:
			ws.breakOne(w, fmt.Errorf("the watcher lags %d changes behind", watchLimit))
		}
	}
}

func (ws *watchers) breakAll(err error) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for w := range ws.set {
		ws.breakOne(w, err)
	}
}

func (ws *watchers) breakOne(w *watcher, err error) {
	delete(ws.set, w)
	w.err = err
	close(w.broken)
}
