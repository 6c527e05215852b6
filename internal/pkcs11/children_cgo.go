//go:build cgo && unix

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Backing off: a child that lives shorter than stableAfter makes the next one
// wait, twice as long each time. The first replacement comes at once.
const (
	stableAfter  = 10 * time.Second
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = 2 * time.Second
)

// children is the backend that keeps a child process running.
type children struct {
	cfg Config
	log *slog.Logger

	quit chan struct{} // closed with the token

	mu       sync.Mutex
	current  *child
	epoch    uint32 // the first one of the current child
	starting *start // under way, or nil
	failures int    // children that did not live long, in a row
	adopted  uint64 // children that were there so far
	closed   bool
}

func newChildren(cfg Config, log *slog.Logger) *children {
	return &children{cfg: cfg, log: log, quit: make(chan struct{})}
}

// start is one attempt to start a child, and how it went.
type start struct {
	done chan struct{}
	err  error
}

func (b *children) call(ctx context.Context, question *message) (message, error) {
	if !question.fits() {
		return message{}, fmt.Errorf("pkcs11: more than %d bytes in one call", maxFrame)
	}
	c, err := b.child(ctx, question.epoch)
	if err != nil {
		return message{}, err
	}
	return c.ask(ctx, question)
}

// child gives the running child, starting one if need be. With an epoch it
// gives only a child that may have handles of that one.
func (b *children) child(ctx context.Context, epoch uint32) (*child, error) {
	for {
		b.mu.Lock()
		switch alive := b.current != nil && b.current.alive(); {
		case b.closed:
			b.mu.Unlock()
			return nil, errClosed
		case epoch != 0 && (!alive || epoch < b.epoch):
			b.mu.Unlock()
			return nil, ErrLost
		case alive:
			c := b.current
			b.mu.Unlock()
			return c, nil
		}
		s := b.starting
		if s == nil {
			s = &start{done: make(chan struct{})}
			b.starting = s
			go b.replace(s)
		}
		b.mu.Unlock()
		select {
		case <-s.done:
			if s.err != nil {
				return nil, s.err
			}
		case <-ctx.Done():
			return nil, waitError(ctx.Err())
		}
	}
}

// replace starts a child after the time that the last ones' fate demands.
func (b *children) replace(s *start) {
	defer close(s.done)
	pause, epoch := b.retire()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-b.quit:
			cancel()
		case <-ctx.Done():
		}
	}()
	var c *child
	if s.err = waitFor(ctx, pause); s.err == nil {
		c, s.err = startChild(ctx, b.cfg, false, epoch, b.log)
	}
	if !b.adopt(c, epoch) {
		s.err = errClosed
		if c != nil {
			c.stop()
		}
	}
}

func waitFor(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// adopt makes the child the current one, or notes that there is none. It is
// false when the token has been closed meanwhile.
func (b *children) adopt(c *child, epoch uint32) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.starting = nil
	switch {
	case b.closed:
		return false
	case c == nil:
		b.failures++
	default:
		b.current, b.epoch = c, epoch
		b.adopted++
	}
	return true
}

// restarts tells how many children came after the first.
func (b *children) restarts() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(b.adopted, 1) - 1
}

// retire judges the last child, and tells how long to wait for the next one and
// the next one's first epoch.
func (b *children) retire() (pause time.Duration, epoch uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current != nil {
		if time.Since(b.current.started) > stableAfter {
			b.failures = 0
		} else {
			b.failures++
		}
		b.epoch = max(b.epoch, b.current.lastEpoch())
		b.current = nil
	}
	if b.failures >= 2 {
		pause = min(firstBackoff<<min(b.failures-2, 10), maxBackoff)
	}
	return pause, b.epoch + 1
}

// startChild gives a child that has loaded its module; with bare it has not
// looked for a token. Nothing stays behind when it fails.
func startChild(ctx context.Context, cfg Config, bare bool, epoch uint32, log *slog.Logger) (*child, error) {
	if err := ctx.Err(); err != nil {
		return nil, waitError(err)
	}
	s := cfg.settings()
	c, err := spawn(cfg, s.sessions+s.queue, log)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModule, err)
	}
	if err := c.start(ctx, cfg, bare, epoch); err != nil {
		if errors.Is(err, ErrTimeout) || ctx.Err() != nil {
			c.kill(ErrLost)
		}
		c.stop()
		return nil, err
	}
	go c.guard(2 * s.timeout)
	return c, nil
}

// close ends the child, or the attempt to start one.
func (b *children) close() error {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.quit)
	}
	c, s := b.current, b.starting
	b.mu.Unlock()
	if s != nil {
		<-s.done
	}
	if c != nil {
		c.stop()
	}
	return nil
}
