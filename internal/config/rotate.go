package config

import (
	"context"
	"fmt"
	"log/slog"

	"kastellan.dev/internal/audit/trail"
	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/store/bolt"
)

// RotateRootKey puts another root key in the place of the configured one, and makes a new
// key-encryption key under it, with which everything is sealed from now on. What
// is sealed stays as it is, but for the signing key of the audit log, which is
// sealed under the root key itself: the key stays the same. It fails while a server has the data directory open.
func (c *Config) RotateRootKey(ctx context.Context, next rootkey.Key) error {
	old, err := c.rootKey()
	if err != nil {
		return err
	}
	n := &Node{cfg: c, log: slog.New(slog.DiscardHandler)}
	defer n.Close()
	db, err := n.openStore(bolt.Open)
	if err != nil {
		return err
	}
	if err := rootkey.Rewrap(ctx, old, next, db); err != nil {
		return err
	}
	ring, err := rootkey.OpenKeyring(ctx, next, db)
	if err != nil {
		return err
	}
	if err := ring.Renew(ctx, next, db); err != nil {
		return fmt.Errorf("the root key is replaced, but: %w", err)
	}
	if c.Audit.Directory == "" {
		return nil
	}
	if err := trail.ResealKey(c.AuditDirectory(), old.Direct(), next.Direct()); err != nil {
		return fmt.Errorf("the root key is replaced, but not that of the audit log's signing key: %w", err)
	}
	return nil
}
