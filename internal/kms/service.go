package kms

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/keywrap"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/nitro"
	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/store"
)

// Config is what a Service is made of. Store, Soft, Sealer and Audit are required.
type Config struct {
	Store  store.Store      // the metadata
	Soft   keystore.Keyring // the store of keys with the origins AWS_KMS and EXTERNAL
	Kinds  []keystore.Kind  // the custom key store types that this process can connect
	Sealer rootkey.Sealer   // seals passwords and credentials for storage
	Audit  audit.Writer     //
	Logger *slog.Logger     // nil means slog.Default
	Now    func() time.Time // nil means time.Now
	Quotas Quotas

	Metrics prometheus.Registerer // nil: nothing is counted
	// MetricKeys is how many keys have metrics of their own; zero means none.
	MetricKeys int

	// Exists tells whether there is a principal that a key policy or a grant is to name, by the id
	// of an account or an ARN; nil means that all are taken for real.
	Exists func(principal string) bool
	// Organization tells where in an organization an account is, or nil; nil means in none.
	Organization func(account string) *identity.Organization
	// Regions are those that keys can be in; none means any.
	Regions []string
	// Nitro verifies the attestation documents of recipients; nil trusts AWS's root alone.
	Nitro *nitro.Verifier

	// ConnectTimeout bounds one attempt to connect; zero means 20 min for
	// AWS_CLOUDHSM and 5 min for EXTERNAL_KEY_STORE stores, as on AWS.
	ConnectTimeout time.Duration
	// Lease is how long a process that died while it was connecting or
	// disconnecting a store keeps others from taking over; zero means 15 s.
	// A store that is Exclusive is taken over at once.
	Lease time.Duration
	// Sweep is how often due deletions, abandoned material and lost leases are
	// looked for; zero means 1 s.
	Sweep time.Duration

	// StoreUses is how often the last uses of keys are stored; zero means 1 min.
	// Close stores them too: only a crash loses any.
	StoreUses time.Duration

	// FaultPoint, if set, is told when durable steps are reached. Tests stop the process in it.
	FaultPoint func(point string)
}

// Quotas are the limits of one account in one Region; zero means AWS's default.
type Quotas struct {
	Keys          int     // 100,000
	AliasesPerKey int     // 50
	GrantsPerKey  int     // 50,000
	KeyStores     int     // 10
	KeyStoreRate  float64 // cryptographic requests per second and custom key store: 1,800
	Requests      RequestRates
}

func (q *Quotas) defaults() {
	for value, standard := range map[*int]int{&q.Keys: 100_000, &q.AliasesPerKey: 50, &q.GrantsPerKey: 50_000, &q.KeyStores: 10} {
		if *value == 0 {
			*value = standard
		}
	}
	if q.KeyStoreRate == 0 {
		q.KeyStoreRate = 1800
	}
}

// Service is the key management service. Start it with Open, end it with Close.
type Service struct {
	db           store.Store
	soft         keystore.Keyring
	wrapping     *keywrap.Pool // keys for imports
	nitro        *nitro.Verifier
	regions      []string
	exists       func(principal string) bool
	organization func(account string) *identity.Organization
	kinds        map[kmsapi.CustomKeyStoreType]keystore.Kind
	sealer       rootkey.Sealer
	audit        audit.Writer
	log          *slog.Logger
	now          func() time.Time
	quotas       Quotas
	sweep        time.Duration
	fault        func(point string)

	node   string // this process, among all that ever owned something
	mirror *mirror
	conns  *connections

	meters    *meters
	health    *healthChanges
	rates     *rates
	uses      pendingUses
	storeUses time.Duration

	ctx    context.Context // ends with the service; for work behind the calls
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// Open starts a Service. It returns once the stored metadata is in memory and
// custom key stores that were connected are resumed; they reach their other
// sides in the background.
func Open(ctx context.Context, cfg Config) (*Service, error) {
	cfg.Quotas.defaults()
	s := &Service{
		db: cfg.Store, soft: cfg.Soft, sealer: cfg.Sealer, audit: cfg.Audit,
		log: cfg.Logger, now: cfg.Now, quotas: cfg.Quotas, sweep: cfg.Sweep, fault: cfg.FaultPoint,
		regions: cfg.Regions, exists: cfg.Exists, organization: cfg.Organization, nitro: cfg.Nitro, wrapping: keywrap.NewPool(),
		kinds: make(map[kmsapi.CustomKeyStoreType]keystore.Kind),
		node:  randomHex(8), storeUses: cfg.StoreUses, meters: newMeters(cfg.MetricKeys),
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.health = newHealthChanges()
	s.rates = newRates(cfg.Quotas.Requests, s.now)
	s.rates.throttles = s.meters.quotas
	if s.sweep == 0 {
		s.sweep = time.Second
	}
	if s.storeUses == 0 {
		s.storeUses = time.Minute
	}
	if s.nitro == nil {
		byAWS, err := nitro.New(nitro.AWSRoot())
		if err != nil {
			return nil, err
		}
		s.nitro = byAWS
	}
	if s.organization == nil {
		s.organization = func(string) *identity.Organization { return nil }
	}
	if s.exists == nil {
		s.exists = func(string) bool { return true }
	}
	if s.fault == nil {
		s.fault = func(string) {}
	}
	for _, kind := range cfg.Kinds {
		s.kinds[kind.Type()] = kind
	}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.conns = newConnections(s, cfg.ConnectTimeout, cfg.Lease)
	s.mirror = newMirror(s.log, s.conns.kick)
	s.work.Go(func() { s.mirror.run(s.ctx, s.db) })
	select {
	case <-s.mirror.ready:
	case <-ctx.Done():
		s.cancel()
		s.work.Wait()
		return nil, fmt.Errorf("reading the stored metadata: %w", ctx.Err())
	}
	err := s.beginTracking(ctx)
	if err == nil {
		err = s.meters.register(cfg.Metrics, s)
	}
	if err != nil {
		s.cancel()
		s.work.Wait()
		return nil, err
	}
	s.conns.reconcile() // before the first call: a key of a connected store is not to be refused
	s.work.Go(s.conns.run)
	s.work.Go(s.runSweeper)
	s.work.Go(s.runUses)
	s.work.Go(s.runHealth)
	return s, nil
}

// Close ends the work behind the calls and closes the connections to key
// stores, without changing their state: a store that is CONNECTED is so again
// when the next process starts. No call may be running. It does not close the
// metadata store.
func (s *Service) Close() {
	s.cancel()
	s.work.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), 10*time.Second)
	defer cancel()
	s.flushUses(ctx)
	s.conns.closeAll()
	s.health.flush()
	s.wrapping.Close()
}

// serves tells whether keys can be in a Region.
func (s *Service) serves(region string) bool {
	return len(s.regions) == 0 || slices.Contains(s.regions, region)
}

// update commits fn and returns when the mirror shows it, so that a caller
// reads its own writes.
func (s *Service) update(ctx context.Context, fn func(store.Tx) error) error {
	rev, err := s.db.Update(ctx, fn)
	if err != nil {
		return err
	}
	return s.mirror.wait(ctx, rev)
}

// keyStoreOf gives what holds a key's material: the soft store, or the
// connection of its custom key store.
func (s *Service) keyStoreOf(k *keyEntry) (keystore.Store, error) {
	if k.StoreID == "" {
		return s.soft, nil
	}
	return s.conns.use(k.StoreID, kmsapi.KMSInvalidState)
}

// randomHex gives 2n hexadecimal digits.
func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
