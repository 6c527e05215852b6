package hsm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"kastellan.dev/internal/cloudhsm"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/pkcs11"
)

// abandonTimeout bounds giving back what a failed attempt to connect holds.
const abandonTimeout = 5 * time.Second

// Connect implements keystore.Kind. One member that lets the kmsuser in is
// enough; the others are taken up when they can be.
func (k *Kind) Connect(ctx context.Context, _ keystore.Call, cfg keystore.Config, pw keystore.Passwords, trace *keystore.Trace) (keystore.Connection, error) {
	cluster, err := k.discover(ctx, cfg, trace)
	if err != nil {
		return nil, err
	}
	release, err := k.reserve(cfg, cluster, trace)
	if err != nil {
		return nil, err
	}
	c := k.newConnection(cfg, cluster, pw, release)
	if err := c.establish(ctx, trace); err != nil {
		c.abandon()
		return nil, err
	}
	c.start(0)
	return c, nil
}

// step records one step.
func step(trace *keystore.Trace, name, target string, do func() (detail string, err error)) error {
	end := trace.Step(name, target)
	detail, err := do()
	end(detail, err)
	return err
}

func fail(code kmsapi.ConnectionErrorCode, err error) error {
	return &keystore.ConnectError{Code: code, Err: err}
}

// discover finds the cluster and checks its state.
func (k *Kind) discover(ctx context.Context, cfg keystore.Config, trace *keystore.Trace) (c cloudhsm.Cluster, err error) {
	err = step(trace, "find cluster", cfg.HSM.ClusterID, func() (string, error) {
		c, err = k.cluster(ctx, cfg)
		return fmt.Sprintf("%d HSMs", len(c.Members)), err
	})
	if errors.Is(err, cloudhsm.ErrNotFound) {
		return c, fail(kmsapi.ClusterNotFound, err)
	}
	if err != nil {
		return c, fail(kmsapi.InternalError, err)
	}
	err = step(trace, "check cluster state", c.ID, func() (string, error) { return string(c.State), checkActive(c) })
	switch {
	case err == nil:
		return c, nil
	case c.State == cloudhsmapi.ClusterDeleteInProgress, c.State == cloudhsmapi.ClusterDeleted:
		return c, fail(kmsapi.ClusterNotFound, err)
	default:
		return c, fail(kmsapi.InternalError, err)
	}
}

// reserve takes addresses in the cluster's subnets and checks its trust anchor.
func (k *Kind) reserve(cfg keystore.Config, c cloudhsm.Cluster, trace *keystore.Trace) (release func(), err error) {
	err = step(trace, "reserve addresses", c.ID, func() (string, error) {
		release, err = k.cfg.Network.Reserve(cfg.ID, c)
		return fmt.Sprintf("%d subnets", len(c.SubnetMapping)), err
	})
	switch {
	case errors.Is(err, cloudhsm.ErrSubnetNotFound):
		return nil, fail(kmsapi.SubnetNotFound, err)
	case errors.Is(err, cloudhsm.ErrNoFreeAddresses):
		return nil, fail(kmsapi.InsufficientFreeAddressesInSubnet, err)
	case err != nil:
		return nil, fail(kmsapi.InternalError, err)
	}
	err = step(trace, "verify trust anchor", c.ID, func() (string, error) { return "", c.CheckTrustAnchor(cfg.HSM.TrustAnchor) })
	if err != nil {
		release()
		return nil, fail(kmsapi.InternalError, err)
	}
	return release, nil
}

// establish does what is done with the members themselves.
func (c *Connection) establish(ctx context.Context, trace *keystore.Trace) error {
	tokens, err := c.reachAll(ctx, trace)
	if err != nil {
		return err
	}
	logins, err := c.logInAll(ctx, tokens, trace)
	if err != nil {
		return err
	}
	if logins, err = c.rotate(ctx, logins, trace); err != nil {
		return err
	}
	if logins, err = c.uniteAll(ctx, logins, trace); err != nil {
		return err
	}
	return c.level(ctx, logins, trace)
}

// each runs do for every member at the same time, each within its own time.
func (c *Connection) each(ctx context.Context, do func(ctx context.Context, i int, m *member)) {
	var wg sync.WaitGroup
	for i, m := range c.members() {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, c.kind.cfg.Step)
			defer cancel()
			do(ctx, i, m)
		})
	}
	wg.Wait()
}

// reachAll opens the tokens of all members; the tokens of those out of reach are nil.
func (c *Connection) reachAll(ctx context.Context, trace *keystore.Trace) ([]pkcs11.Token, error) {
	tokens, failures := make([]pkcs11.Token, len(c.members())), make([]error, len(c.members()))
	c.each(ctx, func(ctx context.Context, i int, m *member) {
		failures[i] = step(trace, "reach HSM", m.decl.ID, func() (string, error) {
			token, info, err := m.reach(ctx)
			tokens[i] = token
			return fmt.Sprintf("%s %s, serial %s, firmware %s", info.Manufacturer, info.Model, info.Serial, info.FirmwareVersion), err
		})
		m.enter(Unhealthy, failures[i])
	})
	for _, token := range tokens {
		if token != nil {
			return tokens, nil
		}
	}
	if len(c.members()) == 0 {
		return nil, fail(kmsapi.InsufficientCloudHSMHSMs, errors.New("the cluster has no HSM"))
	}
	code, err := mostTelling(failures, reachCode)
	return nil, fail(code, fmt.Errorf("no HSM can be reached: %w", err))
}

// logInAll logs the kmsuser in wherever it can.
func (c *Connection) logInAll(ctx context.Context, tokens []pkcs11.Token, trace *keystore.Trace) ([]*login, error) {
	candidates := c.pw.Candidates()
	all, failures := make([]*login, len(c.members())), make([]error, len(c.members()))
	c.each(ctx, func(ctx context.Context, i int, m *member) {
		if tokens[i] == nil {
			return
		}
		failures[i] = step(trace, "log in", m.decl.ID, func() (detail string, err error) {
			all[i], err = m.logIn(ctx, tokens[i], candidates)
			if all[i] != nil && !all[i].password.Equal(candidates[0]) {
				detail = "with an older password"
			}
			return detail, err
		})
		if failures[i] != nil {
			m.enter(Unhealthy, failures[i])
		}
	})
	var logins []*login
	for _, l := range all {
		if l != nil {
			logins = append(logins, l)
		}
	}
	if len(logins) > 0 {
		return logins, nil
	}
	code, err := mostTelling(failures, loginCode)
	return nil, fail(code, fmt.Errorf("no HSM lets the user %s in: %w", kmsuser, err))
}

// rotate gives the kmsuser a password that only this server knows. Before it
// changes anything the new password is on record, and before it forgets the
// old one every member has the new one. While a member is away for long it changes nothing.
func (c *Connection) rotate(ctx context.Context, logins []*login, trace *keystore.Trace) ([]*login, error) {
	end := trace.Step("prepare password", "")
	if c.cluster.KeepPassword {
		end("kept: the cluster is declared so", nil)
		return logins, nil
	}
	fresh, err := c.pw.Prepare(ctx, len(logins) == len(c.members()))
	if errors.Is(err, keystore.ErrKeepPassword) {
		end("kept: "+err.Error(), nil)
		return logins, nil
	}
	end("", err)
	if err != nil {
		return nil, fail(kmsapi.InternalError, fmt.Errorf("preparing a password: %w", err))
	}
	var changed, kept []*login
	var failures []error
	for _, l := range logins {
		err := step(trace, "change password", l.decl.ID, func() (string, error) {
			ctx, cancel := context.WithTimeout(ctx, c.kind.cfg.Step)
			defer cancel()
			return "", l.changePassword(ctx, fresh)
		})
		switch {
		case err == nil:
			changed, kept = append(changed, l), append(kept, l)
		case isLost(err) || ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded):
			l.enter(Unhealthy, err)
		default:
			l.log.Warn("an HSM did not let the user change its password and keeps the older one", "error", err)
			kept = append(kept, l)
		}
		failures = append(failures, err)
	}
	if len(changed) == 0 {
		code, err := mostTelling(failures, loginCode)
		return nil, fail(code, fmt.Errorf("no HSM lets the user %s change its password: %w", kmsuser, err))
	}
	err = step(trace, "commit password", "", func() (string, error) {
		return fmt.Sprintf("%d of %d HSMs have it", len(changed), len(c.members())), c.pw.Commit(ctx, len(changed) == len(c.members()))
	})
	if err != nil {
		return nil, fail(kmsapi.InternalError, fmt.Errorf("committing the password: %w", err))
	}
	return kept, nil
}

// uniteAll makes sure of the cluster key, where there is one.
func (c *Connection) uniteAll(ctx context.Context, logins []*login, trace *keystore.Trace) ([]*login, error) {
	if c.cluster.Replication == cloudhsm.ReplicationModule {
		return logins, nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(1+len(logins))*c.kind.cfg.Step)
	defer cancel()
	var failures []error
	stays, byStay := staysOf(logins)
	// HSMs of the control plane have a cluster key from the beginning: if all of them have lost it, so have their keys.
	complete := len(logins) == len(c.members()) && !slices.ContainsFunc(logins, func(l *login) bool { return l.decl.Managed })
	same, err := unite(ctx, stays, complete, func(s *stay, what string, err error) {
		trace.Step("cluster key", s.id)(what, err)
		if err != nil {
			failures = append(failures, err)
			byStay[s].enter(Unhealthy, err)
		}
	})
	if err != nil {
		return nil, fail(kmsapi.InternalError, err)
	}
	var united []*login
	for _, s := range same {
		united = append(united, byStay[s])
	}
	if len(united) == 0 {
		code, err := mostTelling(failures, reachCode)
		return nil, fail(code, fmt.Errorf("no HSM can be asked for its cluster key: %w", err))
	}
	if united[0].cluster.Load() == nil {
		trace.Step("cluster key", c.cluster.ID)("not made, because not all HSMs are reached: keys can be used, but not created", nil)
		c.kind.cfg.Log.Warn("a cluster has no cluster key, which is made only when all HSMs can be reached", "cluster", c.cluster.ID)
	}
	return united, nil
}

// level gives each member the KMS keys that it lacks, and puts it into service.
func (c *Connection) level(ctx context.Context, logins []*login, trace *keystore.Trace) error {
	var failures []error
	for i, l := range logins {
		peers := make([]*login, 0, len(logins))
		for j, peer := range logins {
			if i != j {
				peers = append(peers, peer)
			}
		}
		err := step(trace, "synchronise keys", l.decl.ID, func() (string, error) {
			err := c.resynchronise(ctx, l, peers)
			return fmt.Sprintf("%d keys", l.keyCount()), err
		})
		if err != nil {
			failures = append(failures, err)
			l.enter(Unhealthy, err)
			continue
		}
		c.serve(l)
	}
	if len(failures) == len(logins) {
		code, err := mostTelling(failures, reachCode)
		return fail(code, fmt.Errorf("no HSM can be put into service: %w", err))
	}
	return nil
}
