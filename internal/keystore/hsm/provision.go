package hsm

import (
	"context"
	"errors"
	"fmt"

	"kastellan.dev/internal/cloudhsm"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/secret"
)

// Provision makes the cluster key of a cluster, gets it to all members, and
// has the security officer mark it trusted there, so that KMS keys made from then on
// leave an HSM under no other key. It is for clusters that nobody
// uses yet, and may be repeated. password is the kmsuser's, soPIN the security
// officer's on every member; with an empty soPIN nothing is marked.
//
// SoftHSM2 cannot mark it: its security officer does not see keys that are
// private to the user. That is logged and no error, since the cluster key serves all
// the same; [MemberStatus] tells where it is trusted.
func (k *Kind) Provision(ctx context.Context, c cloudhsm.Cluster, password, soPIN secret.Text) error {
	if c.Replication == cloudhsm.ReplicationModule {
		return nil
	}
	logins, err := k.provisionLogins(ctx, c, password)
	defer func() {
		for _, l := range logins {
			l.close(ctx)
		}
	}()
	if err != nil {
		return err
	}
	stays, _ := staysOf(logins)
	if err := agree(ctx, stays, true); err != nil {
		return fmt.Errorf("making the cluster key: %w", err)
	}
	if soPIN.IsEmpty() {
		return nil
	}
	for _, m := range c.Members {
		if err := k.markTrusted(ctx, c, m, soPIN); err != nil {
			return fmt.Errorf("marking the cluster key of %s trusted: %w", m.ID, err)
		}
	}
	return nil
}

// markTrusted fails when the HSM refuses, not when its security officer does
// not get to see the key.
func (k *Kind) markTrusted(ctx context.Context, c cloudhsm.Cluster, m cloudhsm.Member, soPIN secret.Text) error {
	err := pkcs11.MarkTrusted(ctx, m.Token, soPIN, ClusterKeyLabel(c.ID))
	var refused *pkcs11.Error
	if err == nil || errors.As(err, &refused) || isLost(err) || ctx.Err() != nil {
		return err
	}
	k.cfg.Log.Info("a cluster key cannot be marked trusted", "cluster", c.ID, "member", m.ID, "error", err)
	return nil
}

// provisionLogins logs in at all members. What it gives is to be closed, also
// when it fails.
func (k *Kind) provisionLogins(ctx context.Context, c cloudhsm.Cluster, password secret.Text) ([]*login, error) {
	var logins []*login
	for _, decl := range c.Members {
		m := k.newMember("", c, decl)
		token, _, err := m.reach(ctx)
		if err != nil {
			return logins, fmt.Errorf("reaching %s: %w", decl.ID, err)
		}
		l, err := m.logIn(ctx, token, []secret.Text{password})
		if err != nil {
			m.close(ctx)
			return logins, fmt.Errorf("logging in at %s: %w", decl.ID, err)
		}
		logins = append(logins, l)
	}
	return logins, nil
}
