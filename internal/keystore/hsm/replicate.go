package hsm

import (
	"context"
	"fmt"
	"time"

	"kastellan.dev/internal/cloudhsm"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/pkcs11"
)

func keyTemplate(label, id string, underTrusted bool) pkcs11.Template {
	return pkcs11.Template{Label: label, ID: []byte(id), Token: true, Encrypt: true, Extractable: true, WrapWithTrusted: underTrusted}
}

// isKMSKey tells KMS keys of the store's account and Region from whatever else
// is on the HSM.
func (c *Connection) isKMSKey(o pkcs11.Object) bool {
	return len(o.ID) > 0 && o.Label == kmsapi.KeyARN(c.cfg.Region, c.cfg.Account, string(o.ID))
}

// resynchronise is pull, counted.
func (c *Connection) resynchronise(ctx context.Context, l *login, peers []*login) error {
	err := c.pull(ctx, l, peers)
	result := outcomeOK
	if err != nil {
		result = outcomeFailed
	}
	l.meters.resyncs.WithLabelValues(result).Inc()
	return err
}

// pull copies to a member the KMS keys that it lacks and any of the peers has. A
// key that cannot be copied at all is left out and reported; a peer
// that is lost is an error, and so is the member's own loss.
func (c *Connection) pull(ctx context.Context, l *login, peers []*login) error {
	mine, err := c.shelf(ctx, l)
	if err != nil || c.cluster.Replication == cloudhsm.ReplicationModule {
		return err
	}
	for _, peer := range peers {
		theirs, err := c.shelf(ctx, peer)
		if err != nil {
			return err
		}
		if _, err := c.supply(ctx, peer, theirs, l, mine); err != nil {
			return err
		}
	}
	return nil
}

// shelf is the KMS keys of the store on a member, by label.
type shelf map[string]pkcs11.Object

// shelf lists a member's keys. A deleted one that is there, because the member
// was not in the cluster when that was done, is destroyed.
func (c *Connection) shelf(ctx context.Context, l *login) (shelf, error) {
	objects, err := l.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing the keys of %s: %w", l.decl.ID, err)
	}
	keys := make(shelf)
	for _, o := range objects {
		switch {
		case !c.isKMSKey(o):
		case c.fates.of(o.Label) == deleted:
			if err := l.destroyAll(ctx, o.Label, o.ID); err != nil {
				return nil, fmt.Errorf("destroying a deleted key on %s: %w", l.decl.ID, err)
			}
			l.log.Info("a deleted key that the HSM had was destroyed", "key", o.Label)
		default:
			keys[o.Label] = o
		}
	}
	l.counted(len(keys))
	return keys, nil
}

// supplied tells how many keys that a member lacked were copied to it, and how
// many could not be.
type supplied struct{ copied, failed int }

// supply copies to a member what it lacks and a peer has.
func (c *Connection) supply(ctx context.Context, from *login, theirs shelf, to *login, mine shelf) (n supplied, err error) {
	defer func() { to.counted(len(mine)) }()
	for label, key := range theirs {
		if _, has := mine[label]; has || c.fates.of(label) != 0 {
			continue
		}
		has, err := to.gotMeanwhile(ctx, key)
		if err == nil && !has {
			has, err = c.pullOne(ctx, from, key, to, &n)
		}
		if err != nil {
			return n, err
		}
		if has {
			mine[label] = key
		}
	}
	return n, nil
}

// gotMeanwhile tells whether a member that serves was given a key after its keys
// were listed.
func (l *login) gotMeanwhile(ctx context.Context, key pkcs11.Object) (bool, error) {
	if l.member.serving.Load() != l {
		return false, nil
	}
	found, err := l.find(ctx, key.Label, key.ID)
	if err != nil {
		return false, fmt.Errorf("looking for a key on %s: %w", l.decl.ID, err)
	}
	return len(found) > 0, nil
}

// pullOne copies a key, and tells whether that was done. A key that is
// destroyed meanwhile is not.
func (c *Connection) pullOne(ctx context.Context, from *login, key pkcs11.Object, to *login, n *supplied) (copied bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.kind.cfg.Step)
	defer cancel()
	err = clone(ctx, &from.stay, key, &to.stay)
	if err == nil && c.fates.of(key.Label) != 0 { // whoever destroyed it may not have seen this copy
		return false, to.destroyAll(ctx, key.Label, key.ID)
	}
	switch {
	case err == nil:
		n.copied++
		to.meters.copies.WithLabelValues(outcomeOK).Inc()
		to.log.Info("a key that the HSM lacked was copied to it", "key", key.Label, "from", from.decl.ID)
		return true, nil
	case isStale(err):
		return false, nil
	case isLost(err), isBusy(err), ctx.Err() != nil:
		return false, fmt.Errorf("copying a key: %w", err)
	default:
		n.failed++
		to.meters.copies.WithLabelValues(outcomeFailed).Inc()
		to.log.Error("a key that the HSM lacks cannot be copied to it", "key", key.Label, "from", from.decl.ID, "error", err)
		return false, nil
	}
}

// appear waits until the vendor's replication has brought a key to a member.
func appear(ctx context.Context, l *login, m material) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		found, err := l.find(ctx, m.label, []byte(m.id))
		if err != nil {
			return err
		}
		if len(found) > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the replication of a key to %s: %w", l.decl.ID, ctx.Err())
		case <-tick.C:
		}
	}
}
