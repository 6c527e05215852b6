//go:build cgo && unix

package pkcs11

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// engine runs calls on one token of a module in this process. A fixed number
// of runners take jobs from a bounded queue, each with a session of the pool while it runs one.
// Logging in counts for all sessions of an application and ends
// with the last of them, and session objects end with the session that made
// them: both belong to the control session, which has its own runner and stays open.
type engine struct {
	settings
	pool    *sessionPool
	jobs    chan *job
	control chan *job
	runners []*runner
	running sync.WaitGroup
	stop    chan struct{} // ends the watchdog

	orphaned atomic.Bool // nobody waits for the jobs that are queued

	// onHang is called, once, when a call took longer than it may.
	onHang func()
	// onDeviceLoss is called when no session opens because the token is gone.
	onDeviceLoss func()
}

// job is one question and the way back for its answer.
type job struct {
	question message
	deadline time.Time // of the caller; zero when it waits for ever
	queued   time.Time
	answer   func(message, error)
	answered atomic.Bool
}

// finish answers unless that has happened already.
func (j *job) finish(answer message, err error) {
	if !j.answered.Swap(true) {
		j.answer(answer, err)
	}
}

// runner is a goroutine of the engine, as the watchdog sees it.
type runner struct {
	current atomic.Pointer[job]
	until   atomic.Int64 // when current takes too long, in nanoseconds since start
	start   time.Time
}

// newEngine serves the slot of the module, which it releases at the end.
func newEngine(m *module, slot uint, s settings) *engine {
	e := &engine{
		settings: s,
		pool:     newSessionPool(m, slot, s.sessions),
		jobs:     make(chan *job, s.queue),
		control:  make(chan *job, s.queue),
		stop:     make(chan struct{}),
	}
	start := time.Now()
	for range s.sessions + 1 {
		e.runners = append(e.runners, &runner{start: start})
	}
	e.running.Go(func() { e.runControl(e.runners[0]) })
	for _, r := range e.runners[1:] {
		e.running.Go(func() { e.run(r) })
	}
	return e
}

// submit queues the job, or answers it with ErrBusy.
func (e *engine) submit(j *job) {
	queue := e.jobs
	if operations[j.question.code].control {
		queue = e.control
	}
	select {
	case queue <- j:
	default:
		j.finish(message{}, ErrBusy)
	}
}

// run does jobs until the queue is closed.
func (e *engine) run(r *runner) {
	for j := range e.jobs {
		if !e.begin(r, j) {
			continue
		}
		answer, err := e.perform(&j.question)
		r.current.Store(nil)
		j.finish(answer, err)
		e.checkDevice(err)
	}
}

// begin starts the watch over a job unless nobody waits for it any more.
func (e *engine) begin(r *runner, j *job) bool {
	now := time.Now()
	switch {
	case e.orphaned.Load(), !j.deadline.IsZero() && now.After(j.deadline):
		j.finish(message{}, errExpired)
		return false
	case now.Sub(j.queued) > e.timeout:
		j.finish(message{}, ErrBusy)
		return false
	}
	patience := e.timeout * time.Duration(max(1, operations[j.question.code].patience))
	r.until.Store(int64(now.Sub(r.start) + patience))
	r.current.Store(j)
	return true
}

// perform runs the operation on a session, and on a second one if the first
// turns out to be dead.
func (e *engine) perform(question *message) (message, error) {
	op := &operations[question.code]
	answer, err := e.attempt(op, question)
	if err != nil && mayRetry(err, op.idempotent) {
		return e.attempt(op, question)
	}
	return answer, err
}

func (e *engine) attempt(op *operation, question *message) (message, error) {
	s, err := e.pool.take()
	if err != nil {
		return message{}, err
	}
	answer, err := op.run(e, s, question)
	e.pool.give(s, isSound(err))
	return answer, err
}

// runControl does the jobs of the control session.
func (e *engine) runControl(r *runner) {
	var s *session
	for j := range e.control {
		if !e.begin(r, j) {
			continue
		}
		op := &operations[j.question.code]
		answer, err := e.attemptControl(&s, op, &j.question)
		if err != nil && s == nil && mayRetry(err, op.idempotent) {
			answer, err = e.attemptControl(&s, op, &j.question)
		}
		r.current.Store(nil)
		j.finish(answer, err)
		e.checkDevice(err)
	}
	if s != nil {
		e.pool.close(s.handle)
	}
}

// attemptControl runs the operation on the control session, which it opens if
// need be, and drops after a logout or when it is no longer sound.
func (e *engine) attemptControl(s **session, op *operation, question *message) (message, error) {
	if *s == nil {
		handle, err := e.pool.openSession()
		if err != nil {
			return message{}, err
		}
		*s = &session{module: e.pool.module, handle: handle}
	}
	answer, err := op.run(e, *s, question)
	if !isSound(err) || question.code == opLogout {
		e.pool.close((*s).handle)
		*s = nil
	}
	return answer, err
}

// checkDevice looks whether err says that no session can be had any more.
func (e *engine) checkDevice(err error) {
	var rv *Error
	if e.onDeviceLoss == nil || !errors.As(err, &rv) || rv.Function != "C_OpenSession" {
		return
	}
	if isDeviceLoss(rv.RV) || rv.RV == CKR_CRYPTOKI_NOT_INITIALIZED || rv.RV == CKR_SLOT_ID_INVALID {
		e.onDeviceLoss()
	}
}

// watch answers calls that take too long with ErrTimeout, and calls beat now
// and then as long as anything runs.
func (e *engine) watch(beat func()) {
	ticker := time.NewTicker(max(e.timeout/8, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-e.stop:
			return
		case <-ticker.C:
		}
		hung, busy := false, false
		for _, r := range e.runners {
			j := r.current.Load()
			if j == nil {
				continue
			}
			busy = true
			if int64(time.Since(r.start)) > r.until.Load() && r.current.Load() == j {
				hung = true
				j.finish(message{}, ErrTimeout)
			}
		}
		if hung && e.onHang != nil {
			e.onHang()
		}
		if busy && beat != nil {
			beat()
		}
	}
}

// close waits for the running calls at most for the time given, closes the
// sessions and releases the module. The caller submits nothing more.
func (e *engine) close(wait time.Duration) error {
	close(e.jobs)
	close(e.control)
	finished := make(chan struct{})
	go func() {
		e.running.Wait()
		close(finished)
	}()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-finished:
	case <-timer.C:
		close(e.stop)
		return fmt.Errorf("closing the module: %w", ErrTimeout)
	}
	close(e.stop)
	e.pool.drain()
	return e.pool.module.release()
}
