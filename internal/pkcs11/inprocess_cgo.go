//go:build cgo && unix

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var errClosed = errors.New("pkcs11: the token is closed")

// local is the backend that runs the module in this process.
type local struct {
	engine *engine
	epoch  atomic.Uint32

	mu     sync.RWMutex // held for reading while submitting
	closed bool
}

func openLocal(cfg Config) (*local, error) {
	for _, entry := range cfg.Env {
		name, value, _ := strings.Cut(entry, "=")
		if have, ok := os.LookupEnv(name); !ok || have != value {
			return nil, fmt.Errorf("pkcs11: a module in this process sees this process's environment, where %s is not as configured", name)
		}
	}
	e, err := startEngine(cfg.URI, cfg.settings())
	if err != nil {
		return nil, err
	}
	go e.watch(nil)
	l := &local{engine: e}
	l.epoch.Store(1)
	return l, nil
}

// startEngine loads the module and serves the token that the URI describes.
func startEngine(u URI, s settings) (*engine, error) {
	m, err := acquireModule(u.ModulePath)
	if err != nil {
		return nil, err
	}
	slot, err := m.findSlot(u)
	if err != nil {
		return nil, errors.Join(err, m.release())
	}
	return newEngine(m, slot, s), nil
}

type outcome struct {
	answer message
	err    error
}

func (l *local) call(ctx context.Context, epoch uint32, question *message) (message, uint32, error) {
	now := l.epoch.Load()
	if epoch != 0 && epoch != now {
		return message{}, 0, ErrLost
	}
	done := make(chan outcome, 1)
	j := &job{question: *question, queued: time.Now(), answer: func(m message, err error) { done <- outcome{m, err} }}
	j.deadline, _ = ctx.Deadline()
	if err := l.submit(j); err != nil {
		return message{}, 0, err
	}
	select {
	case o := <-done:
		if errors.Is(o.err, errExpired) {
			o.err = waitError(context.DeadlineExceeded)
		}
		return o.answer, now, o.err
	case <-ctx.Done():
		return message{}, 0, waitError(ctx.Err())
	}
}

func waitError(err error) error { return fmt.Errorf("pkcs11: waiting for the module: %w", err) }

func (l *local) submit(j *job) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return errClosed
	}
	l.engine.submit(j)
	return nil
}

func (l *local) expire() { l.epoch.Add(1) }

func (l *local) close() error {
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	l.mu.Unlock()
	if closed {
		return nil
	}
	return l.engine.close(closeWait)
}
