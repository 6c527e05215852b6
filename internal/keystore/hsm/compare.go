package hsm

import (
	"context"
	"time"

	"kastellan.dev/internal/cloudhsm"
)

// comparison is what came of a comparison of all members.
type comparison int

const (
	resultEqual    comparison = iota
	resultRepaired            // members lacked keys, and have them now
	resultFailed              // members lack keys, or could not be asked
)

func (r comparison) String() string { return [...]string{"equal", "repaired", "failed"}[r] }

// compareForever compares the members again and again, and when the bell rings.
func (c *Connection) compareForever(ctx context.Context) {
	tick := time.NewTicker(c.kind.cfg.CompareEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.unequal:
		case <-tick.C:
		}
		c.equalise(ctx)
	}
}

// equalise lists the keys of all members in service and gives each what it
// lacks. A member that fails is left to its supervisor.
func (c *Connection) equalise(ctx context.Context) {
	c.syncing.Lock()
	defer c.syncing.Unlock()
	logins, result := c.others(nil), resultEqual
	shelves := make(map[*login]shelf)
	for _, l := range logins {
		keys, err := c.shelf(ctx, l)
		if err != nil {
			result = resultFailed
			c.leaveBehind(ctx, l, err)
			continue
		}
		shelves[l] = keys
	}
	if c.cluster.Replication == cloudhsm.ReplicationModule {
		return
	}
	for _, l := range logins {
		if mine := shelves[l]; mine != nil {
			result = max(result, c.complete(ctx, l, mine, shelves))
		}
	}
	if ctx.Err() == nil {
		c.kind.metrics.comparisons.WithLabelValues(c.cfg.ID, result.String()).Inc()
	}
}

// complete gives a member what the shelves of its peers have and its own has not.
func (c *Connection) complete(ctx context.Context, l *login, mine shelf, shelves map[*login]shelf) comparison {
	var all supplied
	failed := false
	for peer, theirs := range shelves {
		if peer == l {
			continue
		}
		n, err := c.supply(ctx, peer, theirs, l, mine)
		all.copied, all.failed = all.copied+n.copied, all.failed+n.failed
		if err != nil {
			failed = true
			c.leaveBehind(ctx, l, err)
			peer.kick() // it may be the one that failed
		}
	}
	if all != (supplied{}) {
		l.log.Warn("an HSM lacked keys that other HSMs of its cluster have", "copied", all.copied, "failed", all.failed)
	}
	switch {
	case failed || all.failed > 0:
		return resultFailed
	case all.copied > 0:
		return resultRepaired
	}
	return resultEqual
}

// leaveBehind has a member's supervisor find out what is wrong and repeat it.
func (c *Connection) leaveBehind(ctx context.Context, l *login, err error) {
	if ctx.Err() == nil {
		l.log.Warn("an HSM could not be compared with the others; it is tried again", "error", err)
		l.lag()
	}
}
