package xksproxy

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/xksapi"
)

const (
	loginAgain    = 500 * time.Millisecond // between attempts to open and log in
	recoverAfter  = 250 * time.Millisecond // first test of a suspected member
	recoverAtMost = 10 * time.Second       // between later ones
)

var errClosed = errors.New("the key ring is closed")

// errNoHealthKey: the token works as far as it can be told without a test key.
var errNoHealthKey = errors.New("the token has no key for health checks")

// member is one token of a ring. Opening it and logging in happens in the
// background, once for all who wait, and goes on when they have left.
type member struct {
	cfg       TokenMember
	healthKey string
	login     time.Duration // bounds opening and logging in
	timeout   time.Duration // bounds a test
	log       *slog.Logger
	metrics   tokenMetrics
	gate      gate
	suspected atomic.Bool

	stop       chan struct{} // closed by close
	background sync.WaitGroup

	mu      sync.Mutex
	token   pkcs11.Token // nil until it was opened
	info    pkcs11.TokenInfo
	session *session // nil: none
	refused error    // the PIN was refused: trying again would lock the token
	closed  bool
}

func newMember(cfg TokenMember, ring TokenRing, log *slog.Logger, metrics tokenMetrics) *member {
	return &member{
		cfg: cfg, healthKey: ring.HealthKey, login: ring.LoginTimeout, timeout: ring.Timeout,
		log: log.With("member", cfg.Name), gate: newGate(cfg.Concurrent), token: cfg.Token, stop: make(chan struct{}), metrics: metrics,
	}
}

func (m *member) tokenInfo() pkcs11.TokenInfo {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.info
}

// use runs fn in a session, and once more in a new one if the session was lost.
func (m *member) use(ctx context.Context, fn func(context.Context, *member, *session) error) error {
	if !m.gate.enter() {
		return pkcs11.ErrBusy
	}
	defer m.gate.leave()
	return m.watched(ctx, func(ctx context.Context) error { return m.tryUse(ctx, fn) })
}

func (m *member) tryUse(ctx context.Context, fn func(context.Context, *member, *session) error) error {
	for again := true; ; again = false {
		s, err := m.connect(ctx)
		if err != nil {
			return err
		}
		if err = fn(ctx, m, s); !lost(err) {
			return err
		}
		m.forget(s)
		if !again {
			return err
		}
	}
}

// lost tells errors after which login and handles must be had anew.
func lost(err error) bool {
	if errors.Is(err, pkcs11.ErrLost) {
		return true
	}
	var e *pkcs11.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.RV {
	case pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_SESSION_HANDLE_INVALID,
		pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_OBJECT_HANDLE_INVALID:
		return true
	}
	return false
}

func (m *member) forget(s *session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.session == s {
		m.session = nil
	}
}

// connect gives the session, waiting for the one in the making.
func (m *member) connect(ctx context.Context) (*session, error) {
	s, err := m.current()
	if err != nil {
		return nil, err
	}
	select {
	case <-s.done:
		return s, s.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *member) current() (*session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return nil, errClosed
	case m.refused != nil:
		return nil, m.refused
	case m.session == nil || m.session.stale():
		m.session = newSession()
		m.background.Add(1)
		go m.open(m.session)
	}
	return m.session, nil
}

// stale tells a session that failed long enough ago to try again.
func (s *session) stale() bool {
	select {
	case <-s.done:
		return s.err != nil && time.Since(s.ended) > loginAgain
	default:
		return false
	}
}

func (m *member) open(s *session) {
	defer m.background.Done()
	ctx, cancel := context.WithTimeout(context.Background(), m.login)
	defer cancel()
	go func() {
		select {
		case <-m.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	s.token, s.err = m.logIn(ctx)
	s.ended = time.Now()
	if s.err != nil {
		m.log.Error("cannot log in to the token", "error", s.err.Error())
	}
	if errors.Is(s.err, &pkcs11.Error{RV: pkcs11.CKR_GENERAL_ERROR}) || errors.Is(s.err, &pkcs11.Error{RV: pkcs11.CKR_FUNCTION_FAILED}) {
		m.renew()
	}
	close(s.done)
}

func (m *member) logIn(ctx context.Context) (pkcs11.Token, error) {
	m.mu.Lock()
	token := m.token
	m.mu.Unlock()
	if token == nil {
		opened, err := pkcs11.Open(ctx, m.cfg.PKCS11, m.log)
		if err != nil {
			return nil, fmt.Errorf("opening the token: %w", err)
		}
		m.mu.Lock()
		m.token, token = opened, opened
		m.mu.Unlock()
	}
	err := token.Login(ctx, m.cfg.PIN)
	if err != nil && !errors.Is(err, &pkcs11.Error{RV: pkcs11.CKR_USER_ALREADY_LOGGED_IN}) {
		if refusesPIN(err) {
			m.mu.Lock()
			m.refused = fmt.Errorf("logging in (not tried again until the configuration is reloaded): %w", err)
			m.mu.Unlock()
		}
		return nil, fmt.Errorf("logging in: %w", err)
	}
	info, err := token.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking the token what it is: %w", err)
	}
	m.mu.Lock()
	m.info = info
	m.mu.Unlock()
	return token, nil
}

// renew gives the token up, so that it is opened anew: a module that gives no
// reason for failing need not recover by itself. SoftHSM2 does not when it has read its token at
// the moment that another process wrote it.
func (m *member) renew() {
	if m.cfg.Token != nil { // brought ready-made
		return
	}
	m.mu.Lock()
	token := m.token
	m.token = nil
	m.mu.Unlock()
	if token == nil {
		return
	}
	if err := token.Close(); err != nil {
		m.log.Warn("a token could not be closed", "error", err.Error())
	}
}

func refusesPIN(err error) bool {
	var e *pkcs11.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.RV {
	case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_LOCKED:
		return true
	}
	return false
}

func (m *member) forgive() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refused = nil
}

// suspect takes the member out of the first row until a test succeeds.
func (m *member) suspect(why error) {
	if !m.suspected.CompareAndSwap(false, true) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.log.Warn("token under suspicion", "error", why.Error())
	m.background.Add(1)
	go m.recover()
}

func (m *member) recover() {
	defer m.background.Done()
	for wait := recoverAfter; ; wait = min(2*wait, recoverAtMost) {
		select {
		case <-m.stop:
			return
		case <-time.After(wait):
		}
		ctx, cancel := context.WithTimeout(context.Background(), m.timeout)
		err := m.use(ctx, func(ctx context.Context, m *member, s *session) error { return m.test(ctx, s) })
		cancel()
		if err == nil || errors.Is(err, errNoHealthKey) {
			m.suspected.Store(false)
			m.log.Info("token works again")
			return
		}
	}
}

// test encrypts and decrypts with the key for health checks.
func (m *member) test(ctx context.Context, s *session) error {
	key, err := s.find(ctx, m.healthKey)
	if err == errNoKey {
		return errNoHealthKey
	}
	if err != nil {
		return err
	}
	plaintext := make([]byte, 32)
	rand.Read(plaintext)
	sealed, err := s.token.EncryptGCM(ctx, key.handle, plaintext, nil)
	if err != nil {
		return err
	}
	back, err := s.token.DecryptGCM(ctx, key.handle, sealed, nil)
	if err != nil {
		return err
	}
	if !bytes.Equal(back, plaintext) {
		return errors.New("the test decryption gave another plaintext")
	}
	return nil
}

// health tests the member and names its state. Saturation and a missing test key
// are DEGRADED: the token serves, as far as one can tell.
func (m *member) health(ctx context.Context, slow time.Duration) (out Member) {
	started := time.Now()
	defer func() {
		if v := recover(); v != nil { // it runs in a goroutine of its own
			out = Member{ID: m.cfg.Name, Model: "unknown", Status: xksapi.Unavailable, Detail: panicked(v).Error()}
		}
	}()
	err := m.use(ctx, func(ctx context.Context, m *member, s *session) error { return m.test(ctx, s) })
	info := m.tokenInfo()
	out = Member{ID: m.cfg.Name, Model: info.Model, Status: xksapi.Active, Took: time.Since(started)}
	if out.Model == "" {
		out.Model = "unknown"
	}
	switch {
	case err == nil && out.Took <= slow:
	case err == nil:
		out.Status, out.Detail = xksapi.Degraded, "slow"
	case busy(err), errors.Is(err, errNoHealthKey):
		out.Status, out.Detail = xksapi.Degraded, err.Error()
	default:
		out.Status, out.Detail = xksapi.Unavailable, err.Error()
		m.suspect(err)
	}
	return out
}

// close ends the background work and gives the token back. A token that the
// configuration brought ready-made stays open.
func (m *member) close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	close(m.stop)
	m.background.Wait()
	if m.token == nil || m.cfg.Token != nil {
		return nil
	}
	return m.token.Close()
}
