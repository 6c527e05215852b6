//go:build cgo && unix

package pkcs11

import (
	"errors"
	"sync"
	"time"

	p11 "github.com/miekg/pkcs11"
)

// shrunkFor is how long the pool keeps to fewer sessions after the token said
// CKR_SESSION_COUNT.
const shrunkFor = time.Minute

// sessionPool keeps the R/W sessions of one token.
type sessionPool struct {
	module *module
	slot   uint
	max    int // Config.Sessions

	mu         sync.Mutex
	returned   sync.Cond // a session came back, or may be opened, or time has passed
	idle       []uint
	open       int       // idle or in use
	generation int       // counts drains; sessions of earlier ones are closed on return
	full       int       // what the token allowed at last
	fullUntil  time.Time // when full is forgotten
}

// session is one session in use.
type session struct {
	*module
	handle     uint
	generation int
}

func newSessionPool(m *module, slot uint, size int) *sessionPool {
	p := &sessionPool{module: m, slot: slot, max: size}
	p.returned.L = &p.mu
	return p
}

// take gives an idle session, opens one, or waits for one when there are as
// many as the token allows: until the time given, when it fails with ErrBusy.
// While it waits r is not watched. A fresh session is not one that was idle, which may be as
// dead as another one was found to be.
func (p *sessionPool) take(r *runner, fresh bool, until time.Time) (*session, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch mayOpen := p.open < p.limit(); {
		case len(p.idle) > 0 && !fresh:
			return p.lend(p.pop()), nil
		case mayOpen:
			s, err := p.openOne()
			if err == nil || p.open == 0 || !isRV(err, CKR_SESSION_COUNT) {
				return s, err
			}
			p.full, p.fullUntil = p.open, time.Now().Add(shrunkFor)
		case len(p.idle) > 0:
			p.dropOne()
		default:
			r.rest()
			p.returned.Wait()
			r.resume()
			if time.Now().After(until) {
				p.returned.Signal() // for the next one, should that have been for us
				return nil, ErrBusy
			}
		}
	}
}

// The following are called with mu held, and let go of it while they call the module.

func (p *sessionPool) pop() uint {
	n := len(p.idle) - 1
	handle := p.idle[n]
	p.idle = p.idle[:n]
	return handle
}

func (p *sessionPool) lend(handle uint) *session {
	return &session{module: p.module, handle: handle, generation: p.generation}
}

func (p *sessionPool) openOne() (*session, error) {
	s := p.lend(0)
	p.open++
	p.mu.Unlock()
	handle, err := p.openSession()
	p.mu.Lock()
	if err != nil {
		p.open--
		return nil, err
	}
	s.handle = handle
	return s, nil
}

// dropOne closes an idle session to make room for a fresh one.
func (p *sessionPool) dropOne() {
	handle := p.pop()
	p.mu.Unlock()
	p.close(handle)
	p.mu.Lock()
	p.open--
}

// wakeAll lets those who wait for a session look at the clock.
func (p *sessionPool) wakeAll() { p.returned.Broadcast() }

// limit is called with mu held.
func (p *sessionPool) limit() int {
	if p.full > 0 && time.Now().Before(p.fullUntil) {
		return min(p.full, p.max)
	}
	return p.max
}

func (p *sessionPool) openSession() (uint, error) {
	handle, err := p.module.ctx.OpenSession(p.slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	return uint(handle), rvError("C_OpenSession", err)
}

// give puts a session back after a call that ended with err, or closes it when
// it is not sound.
func (p *sessionPool) give(s *session, err error) {
	p.mu.Lock()
	sound := isSound(err) && s.generation == p.generation
	if sound {
		p.idle = append(p.idle, s.handle)
	} else {
		p.open--
	}
	p.mu.Unlock()
	p.returned.Signal()
	if !sound && !isClosed(err) {
		p.close(s.handle)
	}
}

func (p *sessionPool) close(handle uint) {
	// A session that is dead already says so here, and nobody needs to know.
	_ = p.module.ctx.CloseSession(p11.SessionHandle(handle))
}

// drain closes all sessions, those in use when they come back.
func (p *sessionPool) drain() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.open = nil, p.open-len(p.idle)
	p.generation++
	p.mu.Unlock()
	p.returned.Broadcast()
	for _, handle := range idle {
		p.close(handle)
	}
}

// controlSession is the session that stays open. Only the runner of the
// control lane touches it.
type controlSession struct {
	pool    *sessionPool
	session *session // nil while it is not open
	objects bool     // session objects may exist
}

func (c *controlSession) open() error {
	if c.session != nil {
		return nil
	}
	handle, err := c.pool.openSession()
	if err == nil {
		c.session = &session{module: c.pool.module, handle: handle}
	}
	return err
}

func (c *controlSession) close() {
	if c.session != nil {
		c.pool.close(c.session.handle)
		c.session, c.objects = nil, false
	}
}

// isRV tells whether err is the return value, of whatever function.
func isRV(err error, rv uint) bool { return errors.Is(err, &Error{RV: rv}) }

// isSound tells whether a session may be used again after a call that ended
// with err. An error of a function that begins or is a whole operation leaves
// nothing behind; one in the middle of an operation does, unless the data was
// to blame.
func isSound(err error) bool {
	if err == nil {
		return true
	}
	var e *Error
	if !errors.As(err, &e) {
		return true // it is ours: the module was content
	}
	if isDead(e.RV) {
		return false
	}
	switch e.Function {
	case "C_Encrypt", "C_Decrypt", "C_Sign", "C_FindObjects", "C_FindObjectsFinal":
		return IsAuthentication(err)
	}
	return true
}

// isClosed tells that the session does not exist any more. Its number may name another
// one already.
func isClosed(err error) bool {
	return isRV(err, CKR_SESSION_HANDLE_INVALID) || isRV(err, CKR_SESSION_CLOSED)
}

// isDead tells the return values after which a session is not trusted.
func isDead(rv uint) bool {
	switch rv {
	case CKR_SESSION_HANDLE_INVALID, CKR_SESSION_CLOSED,
		CKR_OPERATION_ACTIVE, CKR_OPERATION_NOT_INITIALIZED,
		CKR_HOST_MEMORY, CKR_GENERAL_ERROR, CKR_FUNCTION_FAILED,
		CKR_CRYPTOKI_NOT_INITIALIZED, CKR_SLOT_ID_INVALID:
		return true
	}
	return isDeviceLoss(rv)
}

// isDeviceLoss tells the return values that speak of the token as a whole.
func isDeviceLoss(rv uint) bool {
	switch rv {
	case CKR_DEVICE_ERROR, CKR_DEVICE_MEMORY, CKR_DEVICE_REMOVED, CKR_TOKEN_NOT_PRESENT, CKR_TOKEN_NOT_RECOGNIZED:
		return true
	}
	return false
}

// mayRetry tells whether a call that failed is worth another session: always
// when the session was gone before anything could happen, and for idempotent calls also when the
// session or the device failed.
func mayRetry(err error, idempotent bool) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.RV {
	case CKR_SESSION_HANDLE_INVALID, CKR_SESSION_CLOSED, CKR_OPERATION_ACTIVE:
		return true
	case CKR_OPERATION_NOT_INITIALIZED:
		return idempotent
	}
	return idempotent && isDeviceLoss(e.RV)
}
