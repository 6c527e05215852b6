package hsm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"kastellan.dev/internal/cloudhsm"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/secret"
)

// State is what a member does for a connection.
type State string

// The states.
const (
	Healthy   State = "HEALTHY"   // it serves
	Syncing   State = "SYNCING"   // it is logged in, and gets the keys that it lacks
	Unhealthy State = "UNHEALTHY" // it does not serve
)

// member is one HSM as one connection sees it.
type member struct {
	decl     cloudhsm.Member
	format   cloudhsm.PINFormat
	keyLabel string // of the cluster key; empty where the module replicates
	log      *slog.Logger
	open     func(ctx context.Context, m cloudhsm.Member, log *slog.Logger) (pkcs11.Token, error)
	meters   memberMeters
	tell     *atomic.Pointer[func(keystore.HealthChange)] // of the connection; may be nil

	serving atomic.Pointer[login] // nil: the member does not serve
	running atomic.Int64          // operations on it right now
	wake    bell                  // asks the supervisor for a look
	objects chan struct{}         // see stay
	behind  atomic.Bool           // keys are missing on it
	stop    context.CancelFunc    // ends the supervisor
	idle    chan struct{}         // closed when the supervisor has ended
	gone    chan struct{}         // closed when the member is given up

	mu     sync.Mutex
	opened pkcs11.Token // the token; nil until it was opened
	closed bool         // no token is opened any more
	state  State
	since  time.Time
	told   State  // what was last told of it: healthy or not; empty: nothing
	fault  string // why it does not serve
	keys   int    // KMS keys on it when they were last counted

	refused []secret.Text // passwords that the HSM refused since it last accepted one; of who logs in
}

func (k *Kind) newMember(store string, c cloudhsm.Cluster, decl cloudhsm.Member) *member {
	m := &member{
		decl: decl, format: c.PINFormat, open: k.cfg.Open, log: k.cfg.Log.With("keyStore", store, "cluster", c.ID, "member", decl.ID),
		wake: newBell(), objects: make(chan struct{}, 1), idle: make(chan struct{}), gone: make(chan struct{}), state: Unhealthy, since: time.Now(),
	}
	if c.Replication != cloudhsm.ReplicationModule {
		m.keyLabel = ClusterKeyLabel(c.ID)
	}
	return m
}

// pin is the PIN that the HSM knows a password of the kmsuser by.
func (m *member) pin(password secret.Text) secret.Text {
	if m.format == cloudhsm.PINIsUserColonAndPass {
		return secret.NewText(kmsuser + ":" + password.Reveal())
	}
	return password
}

// kmsuser is the crypto user that key stores log in as.
const kmsuser = "kmsuser"

// reach gives the member's token, opened if need be, and what it says of itself.
func (m *member) reach(ctx context.Context) (pkcs11.Token, pkcs11.TokenInfo, error) {
	m.mu.Lock()
	token := m.opened
	m.mu.Unlock()
	if token == nil {
		var err error
		if token, err = m.open(ctx, m.decl, m.log); err != nil {
			return nil, pkcs11.TokenInfo{}, fmt.Errorf("opening the token: %w", err)
		}
		if !m.keep(token) {
			return nil, pkcs11.TokenInfo{}, errors.Join(errors.New("the key store has been closed"), token.Close())
		}
	}
	info, err := token.Info(ctx)
	if err != nil {
		return nil, pkcs11.TokenInfo{}, fmt.Errorf("asking the token: %w", err)
	}
	return token, info, nil
}

// keep makes the token the member's, unless that has been closed.
func (m *member) keep(token pkcs11.Token) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.opened = token
	return true
}

// renew gives the token up, so that it is opened anew: a module that fails with
// what takes neither a key nor a password need not recover by itself. SoftHSM2 does
// not when it has read its token at the moment that another process wrote it.
func (m *member) renew() {
	m.mu.Lock()
	token := m.opened
	m.opened = nil
	m.mu.Unlock()
	if token == nil {
		return
	}
	if err := token.Close(); err != nil {
		m.log.Warn("a token could not be closed", "error", err)
	}
}

// enter puts the member into a state; why is the reason for one that does not serve.
func (m *member) enter(state State, why error) {
	changed := m.setState(state, why)
	if !changed || m.tell == nil {
		return
	}
	tell := m.tell.Load()
	if tell == nil {
		return
	}
	cause := ""
	if why != nil {
		cause = why.Error()
	}
	(*tell)(keystore.HealthChange{Part: m.decl.ID, State: string(state), Cause: cause})
}

// setState tells whether the member is lost now, or is back.
func (m *member) setState(state State, why error) (changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state != state {
		m.state, m.since = state, time.Now()
	}
	m.fault = ""
	if why != nil {
		m.fault = why.Error()
	}
	if state == Syncing {
		return false
	}
	changed = state != m.told && (state != Healthy || m.told != "")
	m.told = state
	return changed
}

// kick asks the supervisor for a look.
func (m *member) kick() { m.wake.ring() }

// lag notes that the member lacks keys.
func (m *member) lag() {
	m.behind.Store(true)
	m.kick()
}

// lose takes a login out of service; later reports of the same loss change nothing.
func (m *member) lose(l *login, why error) {
	if !m.serving.CompareAndSwap(l, nil) {
		return
	}
	m.enter(Unhealthy, why)
	m.log.Warn("an HSM was lost and is taken out of service", "error", why)
	m.kick()
}

// close logs out and closes the token, and returns when ctx is done at the
// latest; a token that hangs is closed behind the caller.
func (m *member) close(ctx context.Context) {
	m.serving.Store(nil)
	m.mu.Lock()
	token := m.opened
	m.opened, m.closed = nil, true
	m.mu.Unlock()
	if token == nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := token.Logout(ctx); err != nil {
			m.log.Warn("an HSM did not let the user log out", "error", err)
		}
		if err := token.Close(); err != nil {
			m.log.Warn("a token could not be closed", "error", err)
		}
	}()
	select {
	case <-done:
	case <-ctx.Done():
		m.log.Warn("a token takes long to close")
	}
}
