//go:build cgo && unix

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

var errClosed = errors.New("pkcs11: the token is closed")

// local is the backend that runs the module in this process.
type local struct {
	engine *engine

	mu     sync.RWMutex // held for reading while submitting
	closed bool
}

// openLocal loads the module. One that hangs then is left alone in a
// goroutine when ctx is done or time is up.
func openLocal(ctx context.Context, cfg Config) (*local, error) {
	for _, entry := range cfg.Env {
		name, value, _ := strings.Cut(entry, "=")
		if have, ok := os.LookupEnv(name); !ok || have != value {
			return nil, fmt.Errorf("pkcs11: a module in this process sees this process's environment, where %s is not as configured", name)
		}
	}
	type result struct {
		engine *engine
		err    error
	}
	s := cfg.settings()
	opened, late := make(chan result), make(chan struct{})
	defer close(late)
	go func() {
		e, err := startEngine(cfg.URI, s, 1)
		select {
		case opened <- result{e, err}:
		case <-late:
			if err == nil {
				_ = e.close(closeWait) // nobody is left to be told
			}
		}
	}()
	timer := time.NewTimer(startPatience * s.timeout)
	defer timer.Stop()
	select {
	case o := <-opened:
		if o.err != nil {
			return nil, o.err
		}
		go o.engine.watch(nil)
		return &local{engine: o.engine}, nil
	case <-timer.C:
		return nil, errSlowStart(startPatience * s.timeout)
	case <-ctx.Done():
		return nil, waitError(ctx.Err())
	}
}

// startEngine loads the module and serves the token that the URI describes.
func startEngine(u URI, s settings, epoch uint32) (*engine, error) {
	m, err := acquireModule(u.ModulePath)
	if err != nil {
		return nil, err
	}
	slot, err := m.findSlot(u)
	if err != nil {
		return nil, errors.Join(err, m.release())
	}
	return newEngine(m, slot, s, epoch), nil
}

type outcome struct {
	answer message
	err    error
}

func (l *local) call(ctx context.Context, question *message) (message, error) {
	if err := ctx.Err(); err != nil {
		return message{}, waitError(err)
	}
	done := make(chan outcome, 1)
	// The module may still read after the caller has gone.
	j := &job{question: question.clone(), queued: time.Now(), answer: func(m message, err error) { done <- outcome{m, err} }}
	j.deadline, _ = ctx.Deadline()
	if err := l.submit(j); err != nil {
		return message{}, err
	}
	select {
	case o := <-done:
		if errors.Is(o.err, errExpired) {
			o.err = waitError(context.DeadlineExceeded)
		}
		return o.answer, o.err
	case <-ctx.Done():
		j.answered.Store(true) // so that it is not begun any more
		return message{}, waitError(ctx.Err())
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
