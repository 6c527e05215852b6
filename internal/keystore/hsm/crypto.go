package hsm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/tracing"
)

// Encrypt implements keystore.Store.
func (c *Connection) Encrypt(ctx context.Context, call keystore.Call, key keystore.Key, dst, plaintext, aad []byte) ([]byte, error) {
	var sealed pkcs11.GCM
	err := c.withKey(ctx, call, "Encrypt", key, func(ctx context.Context, l *login, h pkcs11.Handle) (err error) {
		sealed, err = l.token.EncryptGCM(ctx, h, plaintext, aad)
		return err
	})
	if err != nil {
		return nil, err
	}
	body, ok := appendBody(dst, sealed)
	if !ok {
		return nil, errBody
	}
	return body, nil
}

// Decrypt implements keystore.Store.
func (c *Connection) Decrypt(ctx context.Context, call keystore.Call, key keystore.Key, body, aad []byte) ([]byte, error) {
	sealed, ok := parseBody(body)
	if !ok {
		return nil, kmsapi.Errorf(kmsapi.InvalidCiphertext, "")
	}
	var plaintext []byte
	err := c.withKey(ctx, call, "Decrypt", key, func(ctx context.Context, l *login, h pkcs11.Handle) (err error) {
		plaintext, err = l.token.DecryptGCM(ctx, h, sealed, aad)
		return err
	})
	return plaintext, err
}

// Random implements keystore.Randomizer.
func (c *Connection) Random(ctx context.Context, call keystore.Call, n int) ([]byte, error) {
	var out []byte
	err := c.run(ctx, call, randomOperation, "", func(ctx context.Context, l *login) (err error) {
		out, err = l.token.Random(ctx, n)
		return err
	})
	return out, err
}

// withKey runs use with the key's object on one member after the other until it succeeds.
func (c *Connection) withKey(ctx context.Context, call keystore.Call, operation string, key keystore.Key, use func(context.Context, *login, pkcs11.Handle) error) error {
	return c.run(ctx, call, operation, key.ID, func(ctx context.Context, l *login) error {
		h, err := l.handle(ctx, key.ID, key.Data)
		if err != nil {
			return err
		}
		err = use(ctx, l, h)
		if isStale(err) { // deleted behind our back, perhaps
			l.handles.Delete(key.ID)
			if h, err = l.handle(ctx, key.ID, key.Data); err == nil {
				err = use(ctx, l, h)
			}
		}
		return l.explain(ctx, h, key, err)
	})
}

// explain finds out what an ambiguous failure means: whether the HSM can still do what
// it has done before. Bad requests cannot take an HSM out of
// service that way, and a bad HSM cannot make good ciphertexts look bad.
func (l *login) explain(ctx context.Context, h pkcs11.Handle, key keystore.Key, err error) error {
	switch {
	case err == nil, errors.Is(err, errKeyMissing), isLost(err), isBusy(err), ctx.Err() != nil:
		return err
	case pkcs11.IsAuthentication(err):
		return wrongCiphertext(err)
	}
	m, perr := parseMaterial(key.Data)
	if perr != nil {
		return perr
	}
	switch known := l.answers(ctx, h, m); {
	case known == nil && pkcs11.MaybeAuthentication(err):
		return wrongCiphertext(err)
	case known == nil, isLost(known), isBusy(known), ctx.Err() != nil:
		return err
	default:
		l.handles.Delete(key.ID)
		return fmt.Errorf("%w: %w", errSick, err)
	}
}

// tally is what members said in the course of one call.
type tally struct {
	operation, requestID        string
	members                     *[]*member // among whom
	tried                       uint32     // a bit for each of them: there are cloudhsm.MaxMembers at most
	attempts, busy, missing     int
	last                        error
	lastFailed, someUnreachable bool
}

// run tries one member after the other, the least busy ones first, until one
// does the call or all were tried.
func (c *Connection) run(ctx context.Context, call keystore.Call, operation, keyID string, try func(context.Context, *login) error) error {
	if !c.enter() {
		return notConnected()
	}
	defer c.leave()
	t := tally{operation: operation, requestID: call.RequestID}
	for ctx.Err() == nil {
		settled := c.isSettled()
		l, others := c.pick(&t)
		if l == nil && settled {
			break
		}
		if l == nil {
			c.awaitMembers(ctx, t.attempts == 0)
			continue
		}
		if t.attempts++; t.attempts > 1 {
			c.failovers.Inc()
		}
		err := l.attempt(ctx, operation, others, try)
		var told *kmsapi.Error
		if err == nil || errors.As(err, &told) {
			l.count(err)
			return err
		}
		if ctx.Err() == nil {
			t.note(l, err)
		}
	}
	return t.verdict(ctx, keyID)
}

// pick chooses the member that has least to do among those that serve and
// were not tried, and tells whether there are others. After a change of membership
// all may be tried again.
func (c *Connection) pick(t *tally) (best *login, others bool) {
	if now := c.roster.Load(); t.members != now {
		t.members, t.tried = now, 0
	}
	members := *t.members
	n := len(members)
	if n == 0 {
		return nil, false
	}
	start, index := int(c.next.Add(1)%uint32(n)), 0
	for i := range n {
		at := (start + i) % n
		l := members[at].serving.Load()
		if l == nil || t.tried&(1<<at) != 0 {
			continue
		}
		others = best != nil
		if best == nil || l.running.Load() < best.running.Load() {
			best, index = l, at
		}
	}
	if best != nil {
		t.tried |= 1 << index
	}
	return best, others
}

// awaitMembers waits, right after a restart, for members that were not tried yet:
// for the first one that serves if any will do, for all of them otherwise.
func (c *Connection) awaitMembers(ctx context.Context, anyone bool) {
	up := c.up
	if !anyone {
		up = nil
	}
	for {
		select {
		case <-up:
			if len(c.others(nil)) > 0 {
				return
			}
			up = nil // it was lost again
		case <-c.settled:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (c *Connection) isSettled() bool {
	select {
	case <-c.settled:
		return true
	default:
		return false
	}
}

// attempt makes one try. While there are other members, it has half of the
// time that is left, so that a member that hangs does not use up the caller's.
func (l *login) attempt(ctx context.Context, operation string, others bool, try func(context.Context, *login) error) error {
	if deadline, ok := ctx.Deadline(); ok && others {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	l.running.Add(1)
	defer l.running.Add(-1)
	ctx, span := tracing.Start(ctx, "HSM "+operation)
	started := time.Now()
	err := try(ctx, l)
	l.meters.took(operation, time.Since(started))
	span.Set(tracing.Member, l.decl.ID)
	span.End(pkcs11.Class(err))
	return err
}

func (l *login) count(err error) {
	outcome := outcomeOK
	if err != nil {
		outcome = outcomeRefused
	}
	l.meters.outcomes[outcome].Inc()
}

// note draws the consequences of a failure for the member.
func (t *tally) note(l *login, err error) {
	t.last = fmt.Errorf("%s: %w", l.decl.ID, err)
	outcome := outcomeFailed
	switch {
	case errors.Is(err, errKeyMissing):
		t.missing++
		outcome = outcomeMissing
		l.lag()
	case isBusy(err):
		t.busy++
		outcome = outcomeBusy
	case isLost(err):
		t.someUnreachable = true
		outcome = outcomeLost
		l.lose(l, err)
	case errors.Is(err, context.DeadlineExceeded):
		t.someUnreachable = true
		outcome = outcomeLost
		l.kick()
	default:
		t.lastFailed = true
	}
	l.meters.outcomes[outcome].Inc()
	l.meters.errors.WithLabelValues(errorClass(err)).Inc()
	l.log.Warn("an HSM failed a request", "requestId", t.requestID, "operation", t.operation, "outcome", outcome, "error", err)
}

// verdict is what the caller is told when no member did the call.
func (t *tally) verdict(ctx context.Context, keyID string) error {
	if err := ctx.Err(); errors.Is(err, context.Canceled) {
		return fmt.Errorf("waiting for an HSM: %w", err)
	}
	switch {
	case t.busy > 0:
		return saturated().Because(fmt.Errorf("%w: %w", keystore.ErrBusy, t.last))
	case t.lastFailed:
		return fmt.Errorf("no HSM did the %s: %w", t.operation, t.last)
	case t.missing > 0 && !t.someUnreachable:
		return missingKey(keyID).Because(t.last)
	case t.last == nil:
		return unreachable(t.operation).Because(errors.Join(errors.New("no HSM is in service"), ctx.Err()))
	default:
		return unreachable(t.operation).Because(t.last)
	}
}
