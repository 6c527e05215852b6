package kms

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/store"
)

// connections brings the connections of this process in line with the
// connection states on record:
//
//	DISCONNECTED ─Connect→ CONNECTING ─→ CONNECTED   every process has a connection
//	     ↑                     │  └────→ FAILED      nobody has one
//	     └── DISCONNECTING ←───┴─Disconnect─ CONNECTED, FAILED
//
// Every transition is a compare-and-swap on the record. The calls make the
// ones on the outside; the work of CONNECTING and DISCONNECTING is done by the
// process that the record names as its owner, which renews a lease as
// long as it is alive. When the lease runs out, or at once in a store that is
// exclusive, another process takes over and begins the work anew.
type connections struct {
	s       *Service
	timeout time.Duration // of one attempt; 0: by type
	lease   time.Duration
	wake    chan struct{}

	mu      sync.RWMutex
	live    map[string]*live   // by store id
	workers map[string]*worker // by store id
	closing sync.WaitGroup
}

// live is a connection in use.
type live struct {
	keystore.Connection
	generation uint64 // of the record it was made for
	version    uint64
	limit      *rate.Limiter
}

// worker does the work of CONNECTING or DISCONNECTING for one generation.
type worker struct {
	generation uint64
	cancel     context.CancelFunc
}

// closeTimeout bounds the closing of a connection.
const closeTimeout = 30 * time.Second

func newConnections(s *Service, timeout, lease time.Duration) *connections {
	if lease == 0 {
		lease = 15 * time.Second
	}
	return &connections{
		s: s, timeout: timeout, lease: lease, wake: make(chan struct{}, 1),
		live: make(map[string]*live), workers: make(map[string]*worker),
	}
}

// kick asks for a look at the records. It never blocks.
func (c *connections) kick() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run looks at the records whenever they change, and now and then for leases
// that have run out.
func (c *connections) run() {
	tick := time.NewTicker(c.lease / 3)
	defer tick.Stop()
	for {
		c.reconcile()
		select {
		case <-c.s.ctx.Done():
			return
		case <-c.wake:
		case <-tick.C:
		}
	}
}

func (c *connections) reconcile() {
	known := make(map[string]bool)
	for _, rec := range c.s.mirror.keyStores(func(*keyStoreRecord) bool { return true }) {
		known[rec.ID] = true
		c.stopOutdated(rec)
		switch rec.State {
		case kmsapi.Connected:
			c.resume(rec)
		case kmsapi.Connecting, kmsapi.Disconnecting:
			c.advance(rec)
		default:
			c.drop(rec.ID)
		}
	}
	for _, id := range c.ids() {
		if !known[id] {
			c.drop(id)
		}
	}
}

// ids gives the stores that have a connection.
func (c *connections) ids() []string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	ids := make([]string, 0, len(c.live))
	for id := range c.live {
		ids = append(ids, id)
	}
	return ids
}

// stopOutdated ends work that the record no longer asks for.
func (c *connections) stopOutdated(rec *keyStoreRecord) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.workers[rec.ID]; w != nil && (w.generation != rec.Generation || rec.Owner != c.s.node && rec.Owner != "") {
		w.cancel()
	}
}

// use gives the connection of a store for a cryptographic request, which
// counts against the store's rate. Without one it fails with the code.
func (c *connections) use(id string, without kmsapi.Code) (keystore.Store, error) {
	conn := c.reach(id)
	if conn == nil {
		return nil, notReached(without, id)
	}
	if !conn.limit.AllowN(c.s.now(), 1) {
		return nil, kmsapi.Errorf(kmsapi.Throttling, "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.")
	}
	return conn.Connection, nil
}

// reach gives the connection of a store, if this process has one. It may have
// none although the record says CONNECTED, when it could not resume it.
func (c *connections) reach(id string) *live {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.live[id]
}

// resume makes the connection of a store that is CONNECTED, or replaces one whose
// configuration has changed.
func (c *connections) resume(rec *keyStoreRecord) {
	have := c.reach(rec.ID)
	if have != nil && have.generation == rec.Generation && have.version == rec.Version {
		return
	}
	kind, cfg, err := c.s.kindAndConfig(rec)
	if err != nil {
		c.s.log.Error("a connected key store cannot be used by this process", "keyStore", rec.ID, "error", err)
		return
	}
	conn, err := kind.Resume(cfg, c.passwords(rec))
	if err != nil {
		c.s.log.Error("a connected key store cannot be resumed", "keyStore", rec.ID, "error", err)
		return
	}
	c.install(rec, conn)
}

// passwords is the ledger for stores that have a password.
func (c *connections) passwords(rec *keyStoreRecord) keystore.Passwords {
	if rec.HSM == nil {
		return nil
	}
	return c.s.ledger(rec)
}

// install puts a connection in use in place of the one before.
func (c *connections) install(rec *keyStoreRecord, conn keystore.Connection) {
	perSecond := c.s.quotas.KeyStoreRate
	next := &live{
		Connection: conn, generation: rec.Generation, version: rec.Version,
		limit: rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond))),
	}
	c.mu.Lock()
	old := c.live[rec.ID]
	c.live[rec.ID] = next
	c.mu.Unlock()
	c.close(old)
}

// drop takes the connection of a store out of use and closes it behind the caller.
func (c *connections) drop(id string) {
	c.mu.Lock()
	old := c.live[id]
	delete(c.live, id)
	c.mu.Unlock()
	c.close(old)
}

func (c *connections) close(conn *live) {
	if conn == nil {
		return
	}
	c.closing.Go(func() { closeNow(conn) })
}

func closeNow(conn keystore.Connection) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	conn.Close(ctx)
}

// closeAll closes all connections, at the end of the service.
func (c *connections) closeAll() {
	for _, id := range c.ids() {
		c.drop(id)
	}
	c.closing.Wait()
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
			err = fmt.Errorf("connecting %w", panicked(r))
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
	c.s.recordEvent(rec.Account, rec.Region, "ConnectCustomKeyStoreAttempt", "", map[string]string{
		"customKeyStoreId": rec.ID, "connectionErrorCode": string(evidence.Code), "requestId": rec.RequestID,
	})
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
	c.conclude(ctx, rec, func(r *keyStoreRecord) {
		r.State, r.ErrorCode, r.Owner, r.LeaseUntil = kmsapi.Disconnected, "", "", time.Time{}
	})
}
