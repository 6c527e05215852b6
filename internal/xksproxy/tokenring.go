package xksproxy

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/xksapi"
)

// The answers that rings give by name.
var (
	errNoKey      = Errorf(xksapi.KeyNotFoundException, "there is no such key")
	errCiphertext = Errorf(xksapi.InvalidCiphertextException, "ciphertext, metadata, initialization vector, tag or additional data are not what this key encrypted")
	errUsage      = Errorf(xksapi.InvalidKeyUsageException, "the key manager does not allow this use of the key")
	errBusy       = Errorf(xksapi.ThrottlingException, "the key manager has no free session")
	errLate       = Errorf(xksapi.DependencyTimeoutException, "the key manager did not answer in time")
)

// tokenRing spreads work over tokens that hold the same keys, and moves on to
// the next token when one fails.
type tokenRing struct {
	members []*member
	slow    time.Duration
}

func newTokenRing(cfg TokenRing, log *slog.Logger, metrics tokenMetrics) *tokenRing {
	r := &tokenRing{slow: cfg.SlowAfter}
	for _, m := range cfg.Members {
		r.members = append(r.members, newMember(m, cfg, log, metrics))
	}
	return r
}

// Vendor is the manufacturer that the first reachable token names.
func (r *tokenRing) Vendor() string {
	for _, m := range r.members {
		if v := m.tokenInfo().Manufacturer; v != "" {
			return v
		}
	}
	return "PKCS#11"
}

func (r *tokenRing) Close() error {
	var errs []error
	for _, m := range r.members {
		errs = append(errs, m.close())
	}
	return errors.Join(errs...)
}

// forgive lets members whose PIN was refused try again.
func (r *tokenRing) forgive() {
	for _, m := range r.members {
		m.forgive()
	}
}

// open waits until every member is logged in or has failed to.
func (r *tokenRing) open(ctx context.Context) {
	for _, m := range r.members {
		if _, err := m.current(); err == nil {
			defer func() { _, _ = m.connect(ctx) }() // all open at the same time
		}
	}
}

func (r *tokenRing) Lookup(ctx context.Context, labels []string) (Key, error) {
	k := &tokenKey{ring: r, labels: labels}
	err := r.do(ctx, func(ctx context.Context, m *member, s *session) error {
		found, err := s.find(ctx, labels[len(labels)-1])
		k.info = found.info
		return err
	})
	if err != nil {
		return nil, err
	}
	return k, nil
}

func (r *tokenRing) Health(ctx context.Context) []Member {
	out := make([]Member, len(r.members))
	var wg sync.WaitGroup
	for i, m := range r.members {
		wg.Go(func() { out[i] = m.health(ctx, r.slow) })
	}
	wg.Wait()
	return out
}

// do runs fn on one member, or on the next if that one fails. Whatever a member says
// about the key or the ciphertext is final; only "no such key" is asked of all.
// All work that rings do may be repeated.
func (r *tokenRing) do(ctx context.Context, fn func(context.Context, *member, *session) error) error {
	members := r.order()
	var failure error
	for i, m := range members {
		attempt, cancel := share(ctx, i == len(members)-1)
		err := m.use(attempt, fn)
		cancel()
		var final *Error
		if err == nil || errors.As(err, &final) && final != errNoKey {
			return err
		}
		if err != errNoKey && ctx.Err() != context.Canceled && sick(err) {
			m.suspect(err)
		}
		failure = weightier(failure, err)
		if ctx.Err() != nil {
			break
		}
	}
	return answer(failure)
}

// share gives an attempt half of the time that is left, and the last one all of it. (The
// same time for each would be too little for any, in a ring of many.)
func share(ctx context.Context, last bool) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || last {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, time.Until(deadline)/2)
}

// order gives the members from a random one on, those under suspicion last. (In
// turn would not do: a request makes two calls, so that every second member would get the cheap ones.)
func (r *tokenRing) order() []*member {
	n := len(r.members)
	if n == 1 {
		return r.members
	}
	start := rand.IntN(n)
	order := make([]*member, 0, n)
	for _, suspected := range []bool{false, true} {
		for i := range n {
			if m := r.members[(start+i)%n]; m.suspected.Load() == suspected {
				order = append(order, m)
			}
		}
	}
	return order
}

// weightier picks which failure of several members is told. That a member has not got the
// key counts least: one that failed might have it.
func weightier(a, b error) error {
	if a == nil || a == errNoKey || busy(b) || late(b) && !busy(a) {
		return b
	}
	return a
}

func answer(err error) error {
	switch {
	case busy(err):
		return errBusy.Because(err)
	case late(err):
		return errLate.Because(err)
	default:
		return err
	}
}

func busy(err error) bool {
	return errors.Is(err, pkcs11.ErrBusy) || errors.Is(err, &pkcs11.Error{RV: pkcs11.CKR_SESSION_COUNT})
}

func late(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, pkcs11.ErrTimeout)
}

// sick tells errors that speak of the token's state from those that speak of
// the request: a caller must not be able to make healthy tokens look ill.
func sick(err error) bool {
	if busy(err) || errors.Is(err, context.Canceled) {
		return false
	}
	var e *pkcs11.Error
	if !errors.As(err, &e) {
		return true
	}
	switch e.RV {
	case pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_HOST_MEMORY, pkcs11.CKR_SLOT_ID_INVALID,
		pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_DEVICE_MEMORY, pkcs11.CKR_DEVICE_REMOVED,
		pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_TOKEN_NOT_RECOGNIZED,
		pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_USER_NOT_LOGGED_IN:
		return true
	}
	return false
}
