package kastellantest

import (
	"context"
	"runtime"
	"sync"

	"kastellan.dev/internal/store"
)

// crash makes a server die as a process that is killed does, as far as what it stores
// and what it does at the fault point are concerned.
type crash struct {
	at       func(point string) bool
	once     sync.Once
	happened chan struct{}
}

func newCrash(at func(point string) bool) *crash {
	return &crash{at: at, happened: make(chan struct{})}
}

// install puts the crash between a part of the server, its store and its fault points.
func (c *crash) install(db *store.Store, fault *func(point string)) {
	if c.at == nil {
		return
	}
	*db = mortal{Store: *db, dead: c.happened}
	told := *fault
	*fault = func(point string) {
		if told != nil {
			told(point)
		}
		if c.dead() || c.at(point) {
			c.once.Do(func() { close(c.happened) })
			runtime.Goexit()
		}
	}
}

func (c *crash) dead() bool {
	select {
	case <-c.happened:
		return true
	default:
		return false
	}
}

// mortal is a store that nothing reaches any more after the crash.
type mortal struct {
	store.Store
	dead <-chan struct{}
}

// Update implements store.Store.
func (m mortal) Update(ctx context.Context, fn func(store.Tx) error) (store.Revision, error) {
	select {
	case <-m.dead:
		return 0, store.ErrClosed
	default:
		return m.Store.Update(ctx, fn)
	}
}
