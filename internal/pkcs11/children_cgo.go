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

	mu       sync.Mutex
	current  *child
	epoch    uint32
	starting *start // under way, or nil
	failures int    // children that did not live long, in a row
	closed   bool
}

// start is one attempt to start a child, and how it went.
type start struct {
	done chan struct{}
	err  error
}

func (b *children) call(ctx context.Context, epoch uint32, question *message) (message, uint32, error) {
	if !question.fits() {
		return message{}, 0, fmt.Errorf("pkcs11: more than %d bytes in one call", maxFrame)
	}
	c, answered, err := b.child(ctx, epoch)
	if err != nil {
		return message{}, 0, err
	}
	answer, err := c.ask(ctx, question)
	return answer, answered, err
}

// child gives the running child, starting one if need be.
func (b *children) child(ctx context.Context, epoch uint32) (*child, uint32, error) {
	for {
		b.mu.Lock()
		switch alive := b.current != nil && b.current.alive(); {
		case b.closed:
			b.mu.Unlock()
			return nil, 0, errClosed
		case epoch != 0 && (!alive || epoch != b.epoch):
			b.mu.Unlock()
			return nil, 0, ErrLost
		case alive:
			c, now := b.current, b.epoch
			b.mu.Unlock()
			return c, now, nil
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
				return nil, 0, s.err
			}
		case <-ctx.Done():
			return nil, 0, waitError(ctx.Err())
		}
	}
}

// replace starts a child after the time that the last ones' fate demands.
func (b *children) replace(s *start) {
	time.Sleep(b.backoff())
	c, err := startChild(b.cfg, false, b.log)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.starting = nil
	s.err = err
	switch {
	case err != nil:
		b.failures++
	case b.closed:
		s.err = errClosed
		go c.stop()
	default:
		b.current = c
		b.epoch++
	}
	close(s.done)
}

// backoff judges the last child and tells how long to wait for the next.
func (b *children) backoff() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current != nil {
		if time.Since(b.current.started) > stableAfter {
			b.failures = 0
		} else {
			b.failures++
		}
		b.current = nil
	}
	if b.failures < 2 {
		return 0
	}
	return min(firstBackoff<<min(b.failures-2, 10), maxBackoff)
}

// startChild gives a child that has loaded its module; with bare it has not
// looked for a token.
func startChild(cfg Config, bare bool, log *slog.Logger) (*child, error) {
	s := cfg.settings()
	c, err := spawn(cfg.Env, s.sessions+s.queue, log)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModule, err)
	}
	if err := c.start(cfg, bare); err != nil {
		if errors.Is(err, ErrTimeout) {
			c.kill(ErrLost)
		}
		c.stop()
		return nil, err
	}
	go c.guard(2 * s.timeout)
	return c, nil
}

func (b *children) expire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.epoch++
}

func (b *children) close() error {
	b.mu.Lock()
	c, s := b.current, b.starting
	b.closed = true
	b.mu.Unlock()
	if s != nil {
		<-s.done
	}
	if c != nil {
		c.stop()
	}
	return nil
}

// abandon closes without waiting for a start that is under way.
func (b *children) abandon() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}
