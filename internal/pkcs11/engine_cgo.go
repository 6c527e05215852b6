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
// them: both belong to the control session, which has its own lane and stays open.
type engine struct {
	settings
	pool    *sessionPool
	work    *lane
	control *lane
	running sync.WaitGroup
	stop    chan struct{} // ends the watchdog

	// epoch is counted up when handles may come to name other objects: at
	// every logout, and when session objects are lost. It counts up before the
	// module is told, so that a call which finds it unchanged at its end met the
	// objects that its handles were given for.
	epoch atomic.Uint32

	orphaned atomic.Bool // nobody waits for the jobs that are queued

	// onHang is called, once, when a call took longer than it may.
	onHang func()
	// onDeviceLoss is called when no session opens because the token is gone.
	onDeviceLoss func()
}

// newEngine serves the slot of the module, which it releases at the end.
func newEngine(m *module, slot uint, s settings, epoch uint32) *engine {
	e := &engine{
		settings: s,
		pool:     newSessionPool(m, slot, s.sessions),
		work:     newLane(s.sessions, s.queue),
		control:  newLane(1, s.queue),
		stop:     make(chan struct{}),
	}
	e.epoch.Store(epoch)
	control := &controlSession{pool: e.pool}
	e.running.Go(func() {
		e.run(e.control, e.control.runners[0], func(r *runner, j *job) (message, error) { return e.performControl(control, j) })
		control.close()
	})
	for _, r := range e.work.runners {
		e.running.Go(func() { e.run(e.work, r, e.perform) })
	}
	return e
}

// submit queues the job, or answers it with ErrBusy.
func (e *engine) submit(j *job) {
	l := e.work
	if operations[j.question.code].control {
		l = e.control
	}
	if !l.submit(j) {
		j.finish(message{}, ErrBusy)
	}
}

// run does jobs until the queue is closed.
func (e *engine) run(l *lane, r *runner, perform func(*runner, *job) (message, error)) {
	for j := range l.jobs {
		var answer message
		err := e.refuse(j)
		if err == nil {
			r.begin(j, e.timeout*time.Duration(max(1, operations[j.question.code].patience)))
			answer, err = perform(r, j)
			r.rest()
		}
		j.question.wipe()
		l.leave()
		j.finish(answer, err)
		e.checkDevice(err)
	}
}

// refuse tells why a job is not even begun.
func (e *engine) refuse(j *job) error {
	now := time.Now()
	switch {
	case e.orphaned.Load(), j.answered.Load(), !j.deadline.IsZero() && now.After(j.deadline):
		return errExpired
	case now.Sub(j.queued) > e.timeout:
		return ErrBusy
	}
	return nil
}

// perform runs the operation on a session, and on a fresh one if the first
// turns out to be dead.
func (e *engine) perform(r *runner, j *job) (message, error) {
	op := &operations[j.question.code]
	answer, err := e.attempt(r, j, op, false)
	if err != nil && mayRetry(err, op.idempotent) {
		return e.attempt(r, j, op, true)
	}
	return answer, err
}

func (e *engine) attempt(r *runner, j *job, op *operation, fresh bool) (message, error) {
	s, err := e.pool.take(r, fresh, j.queued.Add(e.timeout))
	if err != nil {
		return message{}, err
	}
	answer, err := e.use(op, s, &j.question)
	e.pool.give(s, err)
	return answer, err
}

// use runs the operation if the question's handles hold, and believes what it
// gave if they held all the time.
func (e *engine) use(op *operation, s *session, question *message) (message, error) {
	epoch := e.epoch.Load()
	if question.epoch != 0 && question.epoch != epoch {
		return message{}, ErrLost
	}
	if op.private {
		if err := s.checkUser(); err != nil {
			return message{}, err
		}
	}
	answer, err := op.run(e, s, question)
	if (question.epoch != 0 || op.private) && e.epoch.Load() != epoch {
		return message{}, ErrLost
	}
	answer.epoch = epoch
	return answer, err
}

// performControl runs the operation on the control session, and on a fresh
// one if that turns out to be dead.
func (e *engine) performControl(c *controlSession, j *job) (message, error) {
	op := &operations[j.question.code]
	answer, err := e.attemptControl(c, j, op)
	if err != nil && c.session == nil && mayRetry(err, op.idempotent) {
		return e.attemptControl(c, j, op)
	}
	return answer, err
}

func (e *engine) attemptControl(c *controlSession, j *job, op *operation) (message, error) {
	if err := c.open(); err != nil {
		return message{}, err
	}
	c.objects = c.objects || op.sessionObjects
	answer, err := e.use(op, c.session, &j.question)
	if !isSound(err) || j.question.code == opLogout {
		if c.objects { // their numbers may be given to others
			e.epoch.Add(1)
		}
		c.close()
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
		workHangs, workBusy := e.work.inspect()
		controlHangs, controlBusy := e.control.inspect()
		if (workHangs || controlHangs) && e.onHang != nil {
			e.onHang()
		}
		if (workBusy || controlBusy) && beat != nil {
			beat()
		}
		e.pool.wakeAll()
	}
}

// close waits for the running calls at most for the time given, closes the
// sessions and releases the module. The caller submits nothing more.
func (e *engine) close(wait time.Duration) error {
	close(e.work.jobs)
	close(e.control.jobs)
	finished := make(chan struct{})
	go func() {
		e.running.Wait()
		close(finished)
	}()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	defer close(e.stop)
	select {
	case <-finished:
	case <-timer.C:
		return fmt.Errorf("closing the module: %w", ErrTimeout)
	}
	e.pool.drain()
	return e.pool.module.release()
}
