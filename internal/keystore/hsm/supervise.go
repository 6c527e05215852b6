package hsm

import (
	"context"
	"fmt"
	"sync"
	"time"

	"kastellan.dev/internal/cloudhsm"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// supervise keeps a member in service for as long as it belongs to the cluster
// and the connection is open. tried is called once it was tried.
func (c *Connection) supervise(ctx context.Context, m *member, tried func()) {
	pause, once := c.kind.cfg.Retry, sync.OnceFunc(tried)
	for {
		wait := c.kind.cfg.Poll
		if l := m.serving.Load(); l != nil {
			c.lookAfter(ctx, l)
		} else if err := c.bringUp(ctx, m); err == nil {
			m.log.Info("an HSM is in service")
			pause = c.kind.cfg.Retry
		} else if ctx.Err() == nil {
			m.log.Warn("an HSM cannot be put into service; it is tried again", "error", err, "pause", pause)
			m.enter(Unhealthy, err)
			wait, pause = pause, min(2*pause, c.kind.cfg.RetryMax)
		}
		once()
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-m.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// tried notes that a member was tried once after a restart.
func (c *Connection) tried() {
	if c.untried.Add(-1) == 0 {
		close(c.settled)
	}
}

// bringUp logs in again at a member, brings it in line with the ones that
// serve, and puts it into service.
func (c *Connection) bringUp(ctx context.Context, m *member) error {
	l, err := c.logInAgain(ctx, m)
	if err != nil {
		return err
	}
	m.enter(Syncing, nil)
	c.syncing.Lock()
	defer c.syncing.Unlock()
	peers := c.others(m)
	if err := c.alignWith(ctx, l, peers); err != nil {
		return err
	}
	m.behind.Store(false) // before its keys are listed: later ones may be made meanwhile
	if err := c.resynchronise(ctx, l, peers); err != nil {
		return err
	}
	c.serve(l)
	c.unequal.ring() // it may have what its peers lack
	return nil
}

// logInAgain finds out which password the member has, and gives it the current one.
func (c *Connection) logInAgain(ctx context.Context, m *member) (*login, error) {
	ctx, cancel := context.WithTimeout(ctx, c.kind.cfg.Step)
	defer cancel()
	candidates := c.pw.Candidates()
	l, err := m.enterAgain(ctx, candidates)
	if err != nil {
		if ctx.Err() == nil && !isBusy(err) && loginCode(err) == kmsapi.InternalError {
			m.renew()
		}
		return nil, err
	}
	err = l.changePassword(ctx, candidates[0])
	switch {
	case err == nil:
	case isLost(err), ctx.Err() != nil:
		return nil, fmt.Errorf("catching up with the password: %w", err)
	default: // as when connecting: it serves all the same
		m.log.Warn("an HSM did not let the user change its password and keeps the older one", "error", err)
	}
	return l, nil
}

// enterAgain opens the token, if need be, and logs in at it.
func (m *member) enterAgain(ctx context.Context, candidates []secret.Text) (*login, error) {
	token, _, err := m.reach(ctx)
	if err != nil {
		return nil, err
	}
	if err := token.Logout(ctx); err != nil {
		return nil, fmt.Errorf("logging out: %w", err)
	}
	l, err := m.logIn(ctx, token, candidates)
	if err != nil {
		return nil, fmt.Errorf("logging in: %w", err)
	}
	return l, nil
}

// alignWith makes the member's cluster key that of its peers.
func (c *Connection) alignWith(ctx context.Context, l *login, peers []*login) error {
	if c.cluster.Replication == cloudhsm.ReplicationModule {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*c.kind.cfg.Step)
	defer cancel()
	for _, peer := range peers {
		if peer.cluster.Load() == nil {
			continue
		}
		err := l.align(ctx, &peer.stay)
		if err != nil {
			peer.kick() // it may be the one that failed
			return fmt.Errorf("aligning the cluster key with %s: %w", peer.decl.ID, err)
		}
		return nil
	}
	return l.align(ctx, nil)
}

// lookAfter sees whether a member that serves still knows the login, and
// gives it what it lacks.
func (c *Connection) lookAfter(ctx context.Context, l *login) {
	if err := c.check(ctx, l); err != nil {
		if ctx.Err() == nil {
			l.lose(l, err)
			l.kick()
		}
		return
	}
	missing := l.behind.Swap(false)
	if !missing && (l.cluster.Load() != nil || c.cluster.Replication == cloudhsm.ReplicationModule) {
		return
	}
	c.syncing.Lock()
	defer c.syncing.Unlock()
	peers := c.others(l.member)
	err := error(nil)
	if l.cluster.Load() == nil {
		err = c.alignWith(ctx, l, peers)
	}
	if err == nil {
		err = c.resynchronise(ctx, l, peers)
	}
	if err == nil || ctx.Err() != nil {
		return
	}
	l.log.Warn("an HSM could not be given the keys that it lacks; it is tried again", "error", err)
	l.behind.Store(true)
	if isLost(err) {
		for _, peer := range peers {
			peer.kick()
		}
	}
}

// check tells why a member must be brought up again.
func (c *Connection) check(ctx context.Context, l *login) error {
	ctx, cancel := context.WithTimeout(ctx, c.kind.cfg.Step)
	defer cancel()
	if _, err := l.token.Info(ctx); err != nil && !isBusy(err) {
		return fmt.Errorf("looking after the HSM: %w", err)
	}
	if err := l.confirm(ctx); err != nil && !isBusy(err) {
		return fmt.Errorf("looking after the login: %w", err)
	}
	return nil
}
