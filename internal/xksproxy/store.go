package xksproxy

import (
	"context"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
	"kastellan.dev/internal/xksapi"
)

// store is a StoreConfig at work. It does not change.
type store struct {
	name     string // for logs and metrics: the prefix, or "/"
	ring     *sharedRing
	verifier *sigv4.Verifier
	all      bool
	keys     map[string]storeKey
	rules    []Rule
	fallback Effect
	limits   Limits
	gate     gate
	limiter  *rate.Limiter // nil: no limit
}

type storeKey struct {
	labels           []string
	disabled         bool
	encrypt, decrypt bool
}

func newStore(cfg StoreConfig, ring *sharedRing, now func() time.Time) *store {
	s := &store{
		name: orDefault(cfg.Prefix, "/"), ring: ring, all: cfg.AllKeys, keys: map[string]storeKey{},
		rules: cfg.Rules, fallback: cfg.Default, limits: cfg.Limits, gate: newGate(cfg.Limits.Concurrent),
		verifier: newVerifier(cfg, now),
	}
	if cfg.Limits.Rate > 0 {
		s.limiter = rate.NewLimiter(rate.Limit(cfg.Limits.Rate), cfg.Limits.Burst)
	}
	for _, k := range cfg.Keys {
		labels := k.Labels
		if len(labels) == 0 {
			labels = []string{k.ID}
		}
		s.keys[k.ID] = storeKey{
			labels: labels, disabled: k.Disabled,
			encrypt: k.Usage == nil || slices.Contains(k.Usage, xksapi.UsageEncrypt),
			decrypt: k.Usage == nil || slices.Contains(k.Usage, xksapi.UsageDecrypt),
		}
	}
	return s
}

func newVerifier(cfg StoreConfig, now func() time.Time) *sigv4.Verifier {
	secrets := map[string]secret.Text{}
	for _, c := range cfg.Credentials {
		secrets[c.AccessKeyID] = c.Secret
	}
	v := &sigv4.Verifier{
		Service: xksapi.Service,
		Now:     now,
		Lookup: func(_ context.Context, id, _ string) (sigv4.Secret, bool) {
			text, ok := secrets[id]
			return sigv4.Secret{Key: text}, ok
		},
	}
	if len(cfg.Regions) > 0 {
		v.Region = func(name string) bool { return slices.Contains(cfg.Regions, name) }
	}
	return v
}

// storedKey is a key as the store shows it: the ring's, with the store's restrictions.
type storedKey struct {
	Key
	info KeyInfo
}

// lookup finds a key by its external id.
func (s *store) lookup(ctx context.Context, id string) (storedKey, error) {
	k, ok := s.keys[id]
	switch {
	case s.all && s.ring.reserved(id), !s.all && !ok:
		return storedKey{}, errNoKey
	case s.all:
		k = storeKey{labels: []string{id}, encrypt: true, decrypt: true}
	}
	found, err := s.ring.Lookup(ctx, k.labels)
	if err != nil {
		return storedKey{}, err
	}
	info := found.Info()
	info.Enabled = info.Enabled && !k.disabled
	info.Encrypt = info.Encrypt && k.encrypt
	info.Decrypt = info.Decrypt && k.decrypt
	return storedKey{found, info}, nil
}
