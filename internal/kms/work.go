package kms

import (
	"context"
	"errors"
	"fmt"
	"time"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/store"
)

// worker does the work of CONNECTING or DISCONNECTING for one generation.
type worker struct {
	generation uint64
	cancel     context.CancelFunc
}

// advance sees to it that somebody works on a store that is CONNECTING or DISCONNECTING.
func (c *connections) advance(rec *keyStoreRecord) {
	if rec.State == kmsapi.Disconnecting && rec.Owner != c.s.node {
		c.drop(rec.ID)
	}
	switch {
	case rec.Owner == c.s.node:
		c.start(rec)
	case c.s.db.Exclusive() || rec.LeaseUntil.Before(c.s.now()):
		c.takeOver(rec)
	}
}

// stopOutdated ends work that the record no longer asks for.
func (c *connections) stopOutdated(rec *keyStoreRecord) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.workers[rec.ID]; w != nil && (w.generation != rec.Generation || rec.Owner != c.s.node && rec.Owner != "") {
		w.cancel()
	}
}

// takeOver makes this process the owner; the change of the record starts the work.
func (c *connections) takeOver(rec *keyStoreRecord) {
	took, err := c.swap(c.s.ctx, rec, func(r *keyStoreRecord) { c.own(r) })
	if err != nil && c.s.ctx.Err() == nil {
		c.s.log.Error("an abandoned key store cannot be taken over; it is tried again", "keyStore", rec.ID, "error", err)
	}
	if took {
		c.s.log.Info("taking over an abandoned key store", "keyStore", rec.ID, "state", rec.State)
	}
}

func (c *connections) own(r *keyStoreRecord) {
	r.Owner, r.LeaseUntil = c.s.node, c.s.now().UTC().Add(c.lease)
}

// swap changes the record if it still is in the same state, generation and
// hands as seen; it tells whether it did.
func (c *connections) swap(ctx context.Context, seen *keyStoreRecord, change func(*keyStoreRecord), also ...func(store.Tx) error) (done bool, err error) {
	err = c.s.update(ctx, func(tx store.Tx) error {
		done = false
		rec, err := load[keyStoreRecord](tx, seen.path())
		if err != nil {
			return err
		}
		if rec == nil || !rec.sameWork(seen) {
			return nil
		}
		done = true
		change(rec)
		for _, fn := range also {
			if err := fn(tx); err != nil {
				return err
			}
		}
		return save(tx, rec.path(), rec)
	})
	return done && err == nil, err
}

// sameWork tells that two versions of a record ask the same process for the same work.
func (r *keyStoreRecord) sameWork(other *keyStoreRecord) bool {
	return r.State == other.State && r.Generation == other.Generation && r.Owner == other.Owner
}

// start begins the work on a store unless it is under way.
func (c *connections) start(seen *keyStoreRecord) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.workers[seen.ID] != nil {
		return // this generation's, or one that is being stopped: its end asks for another look
	}
	// A worker that ended after the record was seen has left its outcome in the mirror.
	rec := c.s.mirror.keyStore(seen.Account, seen.Region, seen.ID)
	if rec == nil || !rec.sameWork(seen) {
		return
	}
	ctx, cancel := context.WithCancel(c.s.ctx)
	c.workers[rec.ID] = &worker{generation: rec.Generation, cancel: cancel}
	c.s.work.Go(func() {
		defer c.finished(rec.ID)
		defer cancel()
		stop := c.keepLease(ctx, rec, cancel)
		defer stop()
		if rec.State == kmsapi.Connecting {
			c.connect(ctx, rec)
		} else {
			c.disconnect(ctx, rec)
		}
	})
}

func (c *connections) finished(id string) {
	c.mu.Lock()
	delete(c.workers, id)
	c.mu.Unlock()
	c.kick()
}

// keepLease renews the lease until stop is called, and cancels the work if it is lost.
func (c *connections) keepLease(ctx context.Context, rec *keyStoreRecord, cancel context.CancelFunc) (stop func()) {
	done := make(chan struct{})
	c.s.work.Go(func() {
		tick := time.NewTicker(c.lease / 3)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if kept, err := c.swap(ctx, rec, c.own); err == nil && !kept {
				cancel()
				return
			}
		}
	})
	return func() { close(done) }
}

// connect makes one attempt and records its outcome and its evidence.
func (c *connections) connect(ctx context.Context, rec *keyStoreRecord) {
	c.s.fault("connect: begun")
	trace := keystore.NewTrace(rec.RequestID, c.s.now)
	trace.OnStep(func(step, target string) { c.s.fault("connect: " + step + " " + target) })
	conn, err := c.attempt(ctx, rec, trace)
	if ctx.Err() != nil { // stopped, fenced or at the end of the process: the record is somebody else's
		c.discard(conn)
		return
	}
	evidence := trace.End(err)
	if err != nil && evidence.Code == "" {
		evidence.Code = kmsapi.InternalError // a failure without a code is a failure
	}
	if err == nil {
		c.s.fault("connect: connected")
		c.install(rec, conn)
	}
	if c.settle(ctx, rec, evidence) {
		c.report(rec, evidence)
	} else if err == nil {
		c.drop(rec.ID)
	}
}

// attempt runs Connect within its time, and turns a panic into an error.
func (c *connections) attempt(ctx context.Context, rec *keyStoreRecord, trace *keystore.Trace) (conn keystore.Connection, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("connecting %w", secret.Panicked(r))
		}
	}()
	kind, cfg, err := c.s.kindAndConfig(rec)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.attemptTimeout(rec))
	defer cancel()
	call := keystore.Call{PrincipalARN: rec.Principal, Operation: "ConnectCustomKeyStore", RequestID: rec.RequestID}
	conn, err = kind.Connect(ctx, call, cfg, c.passwords(rec), trace)
	if err == nil && conn == nil {
		err = errors.New("connecting gave neither a connection nor an error")
	}
	return conn, err
}

func (c *connections) attemptTimeout(rec *keyStoreRecord) time.Duration {
	switch {
	case c.timeout != 0:
		return c.timeout
	case rec.HSM != nil:
		return 20 * time.Minute
	default:
		return 5 * time.Minute
	}
}

// settle ends CONNECTING as the evidence says.
func (c *connections) settle(ctx context.Context, rec *keyStoreRecord, evidence keystore.Evidence) bool {
	return c.conclude(ctx, rec, func(r *keyStoreRecord) {
		r.State, r.ErrorCode = kmsapi.Connected, ""
		if evidence.Code != "" {
			r.State, r.ErrorCode = kmsapi.Failed, evidence.Code
		}
		r.Owner, r.LeaseUntil = "", time.Time{}
	}, func(tx store.Tx) error { return save(tx, rec.evidencePath(), evidence) })
}

// The pauses before an outcome that could not be stored is stored again.
const (
	minPause = 100 * time.Millisecond
	maxPause = 5 * time.Second
)

// conclude stores the outcome of work, and tells whether the record was still
// waiting for it. While the storage fails it tries again: to do the work itself
// again would send an HSM the same wrong password, until it locks the user.
func (c *connections) conclude(ctx context.Context, rec *keyStoreRecord, change func(*keyStoreRecord), also ...func(store.Tx) error) bool {
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		done, err := c.swap(ctx, rec, change, also...)
		if err == nil {
			return done
		}
		if ctx.Err() == nil {
			c.s.log.Error("the new state of a key store could not be stored; it is tried again", "keyStore", rec.ID, "error", err)
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
}

func (c *connections) report(rec *keyStoreRecord, evidence keystore.Evidence) {
	attrs := []any{"keyStore", rec.ID, "requestId", rec.RequestID, "took", evidence.Ended.Sub(evidence.Started)}
	if evidence.Code == "" {
		c.s.log.Info("a key store is connected", attrs...)
	} else {
		c.s.log.Warn("a key store could not be connected", append(attrs, "code", evidence.Code, "failure", evidence.Failure)...)
	}
	c.recordAttempt(rec, evidence)
}

func (c *connections) discard(conn keystore.Connection) {
	if conn != nil {
		closeNow(conn)
	}
}

// disconnect closes the connection and records that it is gone. It has no way to fail.
func (c *connections) disconnect(ctx context.Context, rec *keyStoreRecord) {
	c.s.fault("disconnect: begun")
	c.mu.Lock()
	conn := c.live[rec.ID]
	delete(c.live, rec.ID)
	c.mu.Unlock()
	if conn != nil {
		closeNow(conn)
	}
	c.s.fault("disconnect: closed")
	concluded := c.conclude(ctx, rec, func(r *keyStoreRecord) {
		r.State, r.ErrorCode, r.Owner, r.LeaseUntil = kmsapi.Disconnected, "", "", time.Time{}
	})
	if concluded {
		c.recordDisconnected(rec)
	}
}
