package hsm

import (
	"context"
	"fmt"
	"time"

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
	mine, err := l.list(ctx)
	if err != nil {
		return fmt.Errorf("listing the keys of %s: %w", l.decl.ID, err)
	}
	have := make(map[string]bool)
	for _, o := range mine {
		if c.isKMSKey(o) {
			have[o.Label] = true
		}
	}
	defer func() {
		l.mu.Lock()
		l.keys = len(have)
		l.mu.Unlock()
	}()
	if l.stay.keyLabel == "" {
		return nil // the module replicates
	}
	for _, peer := range peers {
		theirs, err := peer.list(ctx)
		if err != nil {
			return fmt.Errorf("listing the keys of %s: %w", peer.decl.ID, err)
		}
		for _, o := range theirs {
			if !c.isKMSKey(o) || have[o.Label] || c.isDoomed(o.Label) {
				continue
			}
			if err := c.pullOne(ctx, peer, o, l); err != nil {
				return err
			}
			have[o.Label] = true
		}
	}
	return nil
}

func (c *Connection) pullOne(ctx context.Context, from *login, key pkcs11.Object, to *login) error {
	ctx, cancel := context.WithTimeout(ctx, c.kind.cfg.Step)
	defer cancel()
	err := clone(ctx, &from.stay, key, &to.stay)
	switch {
	case err == nil:
		to.log.Info("a key that the HSM lacked was copied to it", "key", key.Label, "from", from.decl.ID)
		return nil
	case isLost(err), isBusy(err), ctx.Err() != nil:
		return fmt.Errorf("copying a key: %w", err)
	default:
		to.log.Error("a key that the HSM lacks cannot be copied to it", "key", key.Label, "from", from.decl.ID, "error", err)
		return nil
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
