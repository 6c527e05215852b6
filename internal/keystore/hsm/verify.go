package hsm

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"kastellan.dev/internal/cloudhsm"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
)

// Verify implements keystore.Kind.
func (k *Kind) Verify(ctx context.Context, _ keystore.Call, cfg keystore.Config) error {
	c, err := k.cluster(ctx, cfg)
	if err != nil {
		return fmt.Errorf("finding cluster %s: %w", cfg.HSM.ClusterID, err)
	}
	if err := checkConfiguration(c); err != nil {
		return err
	}
	if err := k.checkHSMs(ctx, c); err != nil {
		return err
	}
	if err := c.CheckTrustAnchor(cfg.HSM.TrustAnchor); err != nil {
		return kmsapi.Errorf(kmsapi.IncorrectTrustAnchor, "The certificate is not the trust anchor certificate of the CloudHSM cluster %s.", c.ID).Because(err)
	}
	return nil
}

// Connectable implements keystore.Kind. That a cluster does not exist or has no
// active HSM is left to Connect: see docs/decisions/hsm-connect.md.
func (k *Kind) Connectable(ctx context.Context, cfg keystore.Config) error {
	c, err := k.cluster(ctx, cfg)
	switch {
	case errors.Is(err, cloudhsm.ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("finding cluster %s: %w", cfg.HSM.ClusterID, err)
	}
	if err := checkActive(c); err != nil {
		return err
	}
	return checkConfiguration(c)
}

// checkConfiguration checks what the description of a cluster shows.
func checkConfiguration(c cloudhsm.Cluster) error {
	switch {
	case len(c.SubnetMapping) < 2:
		return badConfiguration(c, "It must have private subnets in at least two Availability Zones.")
	case c.SecurityGroupAltered:
		return badConfiguration(c, "Its security group must allow TCP traffic on ports 2223-2225 from and to itself.")
	case c.MTLS:
		return badConfiguration(c, "It must not ask its clients for certificates (mutual TLS).")
	case c.NetworkType != "" && c.NetworkType != cloudhsmapi.IPv4:
		return badConfiguration(c, "Its network type must be IPV4.")
	}
	return nil
}

func badConfiguration(c cloudhsm.Cluster, what string) error {
	return kmsapi.Errorf(kmsapi.CloudHsmClusterInvalidConfiguration, "The configuration of the CloudHSM cluster %s does not fit. %s", c.ID, what)
}

// checkHSMs asks for two HSMs that answer, in two availability zones.
func (k *Kind) checkHSMs(ctx context.Context, c cloudhsm.Cluster) error {
	failures := make([]error, len(c.Members))
	var asking sync.WaitGroup
	for i, m := range c.Members {
		asking.Go(func() { failures[i] = k.ask(ctx, m) })
	}
	asking.Wait()
	zones := make(map[string]bool)
	for i, m := range c.Members {
		if failures[i] == nil {
			zones[m.AvailabilityZone] = true
		}
	}
	if len(zones) < 2 {
		return tooFewHSMs().Because(errors.Join(failures...))
	}
	return nil
}

// ask tells why a member is not active.
func (k *Kind) ask(ctx context.Context, m cloudhsm.Member) error {
	ctx, cancel := context.WithTimeout(ctx, k.cfg.Step)
	defer cancel()
	token, err := k.cfg.Open(ctx, m, k.cfg.Log)
	if err != nil {
		return fmt.Errorf("opening %s: %w", m.ID, err)
	}
	_, err = token.Info(ctx)
	if cerr := token.Close(); cerr != nil {
		k.cfg.Log.Warn("a token could not be closed", "member", m.ID, "error", cerr)
	}
	if err != nil {
		return fmt.Errorf("asking %s: %w", m.ID, err)
	}
	return nil
}
