package kms

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
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

// use gives the connection of a store for a cryptographic request, which
// counts against the store's rate. Without one it fails with the code.
func (c *connections) use(id string, without kmsapi.Code) (keystore.Store, error) {
	conn := c.reach(id)
	if conn == nil {
		return nil, notReached(without, id)
	}
	if !conn.limit.AllowN(c.s.now(), 1) {
		return nil, throttled()
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
	c.followHealth(rec, conn)
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
