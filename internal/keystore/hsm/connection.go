package hsm

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"kastellan.dev/internal/cloudhsm"
	"kastellan.dev/internal/keystore"
)

// Connection is a connected HSM key store.
type Connection struct {
	kind      *Kind
	cfg       keystore.Config
	cluster   cloudhsm.Cluster
	pw        keystore.Passwords
	release   func()                    // gives the addresses back
	roster    atomic.Pointer[[]*member] // see members
	failovers prometheus.Counter

	next    atomic.Uint32 // where the search for a member begins
	up      chan struct{} // closed when a member serves for the first time
	serving sync.Once
	settled chan struct{} // closed when every member has been tried once
	untried atomic.Int32

	changing sync.Mutex                                  // held by who changes the membership, or ends it
	changed  bell                                        // the membership may have changed
	unequal  bell                                        // members may have different keys
	tell     atomic.Pointer[func(keystore.HealthChange)] // nil: nobody wants to know

	syncing sync.Mutex // held by who puts members in line with each other
	fates   fates

	closed   atomic.Bool
	inflight sync.RWMutex // read-held by running calls
	stop     context.CancelFunc
	work     sync.WaitGroup
}

var (
	_ keystore.Connection   = (*Connection)(nil)
	_ keystore.Randomizer   = (*Connection)(nil)
	_ keystore.Reporter     = (*Connection)(nil)
	_ keystore.HealthTeller = (*Connection)(nil)
)

func (k *Kind) newConnection(cfg keystore.Config, cluster cloudhsm.Cluster, pw keystore.Passwords, release func()) *Connection {
	c := &Connection{
		kind: k, cfg: cfg, cluster: cluster, pw: pw, release: release,
		failovers: k.metrics.failovers.WithLabelValues(cfg.ID),
		up:        make(chan struct{}), settled: make(chan struct{}), changed: newBell(), unequal: newBell(),
	}
	var members []*member
	for _, decl := range cluster.Members {
		members = append(members, c.newMember(decl))
	}
	c.roster.Store(&members)
	return c
}

func (c *Connection) newMember(decl cloudhsm.Member) *member {
	m := c.kind.newMember(c.cfg.ID, c.cluster, decl)
	m.meters, m.tell = c.kind.metrics.of(c.cfg.ID, decl.ID), &c.tell
	return m
}

// Resume implements keystore.Kind.
func (k *Kind) Resume(cfg keystore.Config, pw keystore.Passwords) (keystore.Connection, error) {
	cluster, err := k.cluster(context.Background(), cfg)
	if err != nil {
		return nil, err
	}
	release, err := k.cfg.Network.Reserve(cfg.ID, cluster)
	if err != nil { // a store that is connected has its addresses, whatever the books say now
		k.cfg.Log.Warn("the addresses of a connected key store cannot be accounted for", "keyStore", cfg.ID, "error", err)
		release = func() {}
	}
	c := k.newConnection(cfg, cluster, pw, release)
	c.start(len(c.members()))
	return c, nil
}

// start begins to look after the members, of which some were never tried.
func (c *Connection) start(untried int) {
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	c.untried.Store(int32(untried))
	if untried == 0 {
		close(c.settled)
	}
	c.kind.metrics.opened(c)
	for _, m := range c.members() {
		c.look(ctx, m, nil, c.tried)
	}
	c.work.Go(func() { c.follow(ctx) })
	c.work.Go(func() { c.compareForever(ctx) })
}

// serve puts a member into service.
func (c *Connection) serve(l *login) {
	l.enter(Healthy, nil)
	l.member.serving.Store(l)
	c.serving.Do(func() { close(c.up) })
}

// others gives the logins that serve, but for one member's.
func (c *Connection) others(than *member) []*login {
	var out []*login
	for _, m := range c.members() {
		if l := m.serving.Load(); l != nil && m != than {
			out = append(out, l)
		}
	}
	return out
}

// enter begins a call; it fails when the connection is closed. leave ends it.
func (c *Connection) enter() bool {
	if c.closed.Load() || !c.inflight.TryRLock() {
		return false
	}
	return true
}

func (c *Connection) leave() { c.inflight.RUnlock() }

// Close implements keystore.Connection.
func (c *Connection) Close(ctx context.Context) {
	if c.closed.Swap(true) {
		return
	}
	c.stop()
	idle := make(chan struct{})
	go func() {
		c.inflight.Lock() // for good
		c.work.Wait()
		close(idle)
	}()
	select {
	case <-idle:
	case <-ctx.Done():
		c.kind.cfg.Log.Warn("a key store is closed while calls are running", "keyStore", c.cfg.ID)
	}
	c.giveBack(ctx)
}

// abandon gives back what an attempt to connect holds.
func (c *Connection) abandon() {
	ctx, cancel := context.WithTimeout(context.Background(), abandonTimeout)
	defer cancel()
	c.giveBack(ctx)
}

func (c *Connection) giveBack(ctx context.Context) {
	c.changing.Lock()
	defer c.changing.Unlock()
	var wg sync.WaitGroup
	for _, m := range c.members() {
		wg.Go(func() { m.close(ctx) })
	}
	wg.Wait()
	c.kind.metrics.closed(c)
	c.release()
}
