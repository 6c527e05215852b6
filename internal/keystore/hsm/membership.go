package hsm

import (
	"context"
	"reflect"
	"slices"
	"time"

	"kastellan.dev/internal/cloudhsm"
)

// members gives the members as they are now. Nobody changes the slice: a change
// of membership puts another one in its place.
func (c *Connection) members() []*member { return *c.roster.Load() }

// isMember tells whether an HSM still belongs to the cluster.
func (c *Connection) isMember(m *member) bool {
	return slices.Contains(c.members(), m)
}

// Refresh has connections to a cluster ask the directory at once which HSMs it has.
func (k *Kind) Refresh(clusterID string) {
	for _, c := range k.metrics.connections() {
		if c.cluster.ID == clusterID {
			c.changed.ring()
		}
	}
}

// bell asks a goroutine for a look; it holds one asking.
type bell chan struct{}

func newBell() bell { return make(bell, 1) }

func (b bell) ring() {
	select {
	case b <- struct{}{}:
	default:
	}
}

// follow keeps the members what the directory says that they are.
func (c *Connection) follow(ctx context.Context) {
	tick := time.NewTicker(c.kind.cfg.Poll)
	defer tick.Stop()
	unknown := ""
	for ctx.Err() == nil {
		cluster, err := c.lookUp(ctx)
		switch {
		case err == nil:
			unknown = ""
			c.adapt(ctx, cluster)
		case ctx.Err() == nil && err.Error() != unknown:
			unknown = err.Error()
			c.kind.cfg.Log.Warn("a key store goes on with the HSMs that it has, because its cluster cannot be looked up",
				"keyStore", c.cfg.ID, "cluster", c.cluster.ID, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-c.changed:
		case <-tick.C:
		}
	}
}

func (c *Connection) lookUp(ctx context.Context) (cloudhsm.Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, c.kind.cfg.Step)
	defer cancel()
	return c.kind.cluster(ctx, c.cfg)
}

// adapt takes up the members that are new and gives up the ones that are gone. One that is
// declared otherwise than before is given up, and taken up after that.
func (c *Connection) adapt(ctx context.Context, cluster cloudhsm.Cluster) {
	c.changing.Lock()
	defer c.changing.Unlock()
	if c.closed.Load() {
		return
	}
	left := make(map[string]*member)
	for _, m := range c.members() {
		left[m.decl.ID] = m
	}
	var next []*member
	before := make(map[*member]*member) // whose place a new member takes
	for _, decl := range cluster.Members {
		m := left[decl.ID]
		if m != nil && reflect.DeepEqual(m.decl, decl) {
			delete(left, decl.ID)
		} else {
			old := m
			m = c.newMember(decl)
			before[m] = old
		}
		next = append(next, m)
	}
	if slices.Equal(next, c.members()) {
		return
	}
	c.roster.Store(&next)
	for _, m := range left {
		m.log.Info("an HSM has left the cluster, or is declared otherwise")
		c.work.Go(func() { c.retire(ctx, m) })
	}
	for m, old := range before {
		m.log.Info("an HSM has joined the cluster, or is declared otherwise")
		c.look(ctx, m, old, func() {})
	}
}

// look begins to look after a member, once the one whose place it takes is gone.
// first is called when it has been tried.
func (c *Connection) look(ctx context.Context, m, old *member, first func()) {
	ctx, m.stop = context.WithCancel(ctx)
	c.work.Go(func() {
		defer close(m.idle)
		if old != nil {
			<-old.gone
		}
		c.supervise(ctx, m, first)
	})
}

// retire gives up a member that does not belong to the cluster any more: the others get
// what keys only it has, the calls on it end, and its token is closed.
func (c *Connection) retire(ctx context.Context, m *member) {
	defer close(m.gone)
	m.stop()
	<-m.idle
	if l := m.serving.Load(); l != nil {
		c.rescue(ctx, l)
	}
	m.serving.Store(nil)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.kind.cfg.Step)
	defer cancel()
	m.drain(ctx)
	m.close(ctx)
}

// rescue gives those that serve what keys only a leaving member has.
func (c *Connection) rescue(ctx context.Context, leaving *login) {
	c.syncing.Lock()
	defer c.syncing.Unlock()
	for _, l := range c.others(leaving.member) {
		if err := c.resynchronise(ctx, l, []*login{leaving}); err != nil && ctx.Err() == nil {
			l.log.Warn("an HSM could not be given the keys of one that leaves", "from", leaving.decl.ID, "error", err)
			l.lag()
		}
	}
}

// drain waits for the operations that run on the member.
func (m *member) drain(ctx context.Context) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for m.running.Load() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
