package hsm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kastellan.dev/internal/cloudhsm"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/pkcs11"
)

// Config says what HSM key stores are made of.
type Config struct {
	Clusters cloudhsm.Directory    // required
	Network  cloudhsm.Network      // required
	Log      *slog.Logger          // nil: nothing is logged
	Metrics  prometheus.Registerer // nil: nothing is counted

	// Open opens a member's token; nil: pkcs11.Open with what the member is declared with.
	Open func(ctx context.Context, m cloudhsm.Member, log *slog.Logger) (pkcs11.Token, error)

	// Step bounds each thing that is done with one member while nobody
	// waits for it: reaching it, logging in, changing the password; zero means 15 s.
	Step time.Duration
	// Retry is the first pause before a member that was lost is tried again; it doubles
	// up to RetryMax. Zero means 200 ms and 30 s.
	Retry, RetryMax time.Duration
	// Poll is how often a member that serves is looked after, and the directory is asked
	// which members there are; zero means 10 s.
	Poll time.Duration
	// CompareEvery is how often the keys of all members are compared; zero means 1 h.
	CompareEvery time.Duration
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Open == nil {
		c.Open = func(ctx context.Context, m cloudhsm.Member, log *slog.Logger) (pkcs11.Token, error) {
			return pkcs11.Open(ctx, m.Token, log)
		}
	}
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{{&c.Step, 15 * time.Second}, {&c.Retry, 200 * time.Millisecond}, {&c.RetryMax, 30 * time.Second}, {&c.Poll, 10 * time.Second}, {&c.CompareEvery, time.Hour}} {
		if *d.value == 0 {
			*d.value = d.standard
		}
	}
	return c
}

// Kind makes key stores of the type AWS_CLOUDHSM.
type Kind struct {
	cfg     Config
	metrics *metrics
}

var _ keystore.Kind = (*Kind)(nil)

// New makes a Kind. It fails when the metrics cannot be registered.
func New(cfg Config) (*Kind, error) {
	if cfg.Clusters == nil || cfg.Network == nil {
		return nil, errors.New("HSM key stores need a directory of clusters and their network")
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("registering the metrics of HSM key stores: %w", err)
	}
	return &Kind{cfg: cfg.withDefaults(), metrics: m}, nil
}

// Type implements keystore.Kind.
func (k *Kind) Type() kmsapi.CustomKeyStoreType { return kmsapi.AWSCloudHSM }

func (k *Kind) cluster(ctx context.Context, cfg keystore.Config) (cloudhsm.Cluster, error) {
	c, err := k.cfg.Clusters.Cluster(ctx, cfg.Account, cfg.Region, cfg.HSM.ClusterID)
	if err == nil && len(c.Members) > cloudhsm.MaxMembers {
		err = fmt.Errorf("cluster %s has %d HSMs, more than %d", c.ID, len(c.Members), cloudhsm.MaxMembers)
	}
	return c, err
}

// Locate implements keystore.Kind.
func (k *Kind) Locate(ctx context.Context, cfg keystore.Config) error {
	c, err := k.cluster(ctx, cfg)
	switch {
	case errors.Is(err, cloudhsm.ErrNotFound):
		return kmsapi.Errorf(kmsapi.CloudHsmClusterNotFound, "The account has no CloudHSM cluster %s in this Region.", cfg.HSM.ClusterID).Because(err)
	case err != nil:
		return fmt.Errorf("finding cluster %s: %w", cfg.HSM.ClusterID, err)
	}
	return checkActive(c)
}

func checkActive(c cloudhsm.Cluster) error {
	if c.State != cloudhsmapi.ClusterActive {
		return kmsapi.Errorf(kmsapi.CloudHsmClusterNotActive, "The CloudHSM cluster %s is in the state %s. It must be ACTIVE.", c.ID, c.State)
	}
	return nil
}

// Conflict implements keystore.Kind: a cluster, and all clusters restored from
// one another's backups, back one key store of an account and Region.
func (k *Kind) Conflict(cfg, other keystore.Config) error {
	if other.HSM == nil {
		return nil
	}
	inUse := kmsapi.Errorf(kmsapi.CloudHsmClusterInUse,
		"The CloudHSM cluster %s, or a cluster with which it shares a backup history, is associated with a custom key store already.", cfg.HSM.ClusterID)
	if cfg.HSM.ClusterID == other.HSM.ClusterID {
		return inUse
	}
	if cfg.Account == other.Account && cfg.Region == other.Region && k.related(context.Background(), cfg, other) {
		return inUse
	}
	return nil
}

// Related implements keystore.Kind.
func (k *Kind) Related(ctx context.Context, old, cfg keystore.Config) error {
	if old.HSM.ClusterID == cfg.HSM.ClusterID || k.related(ctx, old, cfg) {
		return nil
	}
	return kmsapi.Errorf(kmsapi.CloudHsmClusterNotRelated,
		"The CloudHSM cluster %s does not share a backup history with the cluster of the custom key store.", cfg.HSM.ClusterID)
}

// related tells whether two clusters have the same certificate. If the cluster
// of the older store is gone, the trust anchor kept with the store stands for it.
func (k *Kind) related(ctx context.Context, a, b keystore.Config) bool {
	from, fromErr := k.cluster(ctx, a)
	to, toErr := k.cluster(ctx, b)
	if toErr != nil {
		return false
	}
	if fromErr != nil {
		return errors.Is(fromErr, cloudhsm.ErrNotFound) && to.CheckTrustAnchor(a.HSM.TrustAnchor) == nil
	}
	fromSum, fromOK := from.Fingerprint()
	toSum, toOK := to.Fingerprint()
	return fromOK && toOK && fromSum == toSum
}
