package config

import (
	"context"
	"fmt"
	"log/slog"

	"kastellan.dev/internal/cloudhsm"
	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/secret"
)

// Provision makes the cluster key of every cluster that has wrapped replication, gets it to
// all members and has it marked as trusted. It is for clusters that nobody uses
// yet; password is the kmsuser's and soPIN the security officer's on every member.
func (c *Config) Provision(ctx context.Context, password, soPIN secret.Text, log *slog.Logger) error {
	p := &problems{}
	declaration := c.declaration(p)
	if err := p.err(); err != nil {
		return err
	}
	clusters, err := cloudhsm.Declare(declaration)
	if err != nil {
		return err
	}
	kind, err := hsm.New(hsm.Config{Clusters: clusters, Network: clusters, Log: log})
	if err != nil {
		return err
	}
	for _, cluster := range declaration.Clusters {
		if err := kind.Provision(ctx, cluster, password, soPIN); err != nil {
			return fmt.Errorf("provisioning %s: %w", cluster.ID, err)
		}
	}
	return nil
}
