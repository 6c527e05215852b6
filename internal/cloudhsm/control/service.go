package control

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/cloudhsm"
	"kastellan.dev/internal/cloudhsm/rack"
	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/store"
)

// Config is what a Service is made of. The first five fields are required.
type Config struct {
	Store    store.Store
	Sealer   rootkey.Sealer
	Audit    audit.Writer
	Declared *cloudhsm.Declared // subnets, and clusters that are not managed here
	Rack     *rack.Rack

	Pools *rack.Pools // nil: there are no tokens to make HSMs of
	// Vault is the pool whose token is the backup HSM, which holds the cluster keys that backups are
	// wrapped under. Empty: backups cannot be taken.
	Vault string
	// Regions are those that backups can be copied to. None means any.
	Regions []string

	Logger  *slog.Logger          // nil: slog.Default()
	Metrics prometheus.Registerer // nil: nothing is registered
	Now     func() time.Time      // the clock; nil: time.Now
	Quotas  Quotas
	Timing  Timing

	// Chunk is how many keys one record of a backup's content has; zero means 500.
	Chunk int
	// PasswordRounds is the cost of verifying a user's password, in rounds of
	// PBKDF2-HMAC-SHA-512; zero means the package's own choice.
	PasswordRounds int
	// FaultPoint is called at named points between two steps, for tests that end the process there.
	FaultPoint func(point string)
}

// Quotas are the limits of an account in a Region. Zero values are those of AWS.
type Quotas struct {
	Clusters int // 4
	HSMs     int // 6, over all clusters
}

// Timing says how often the reconciler looks. Zero values are the ones given.
type Timing struct {
	Sweep        time.Duration // for work to do: 1 s
	Health       time.Duration // at each HSM: 10 s
	Compare      time.Duration // the keys of a cluster's HSMs: 1 h
	Backup       time.Duration // how old the last backup of a cluster may be: 24 h
	ReplaceAfter time.Duration // how long an HSM may be lost before another token takes its place: 5 min
	Step         time.Duration // how long one step with one HSM may take: 60 s
	Carry        time.Duration // how long one may that goes over all keys of an HSM: 15 min
	Retry        time.Duration // the pause after a step failed; it doubles up to a minute: 1 s
}

func (t *Timing) defaults() {
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{
		{&t.Sweep, time.Second},
		{&t.Health, 10 * time.Second},
		{&t.Compare, time.Hour},
		{&t.Backup, 24 * time.Hour},
		{&t.ReplaceAfter, 5 * time.Minute},
		{&t.Step, time.Minute},
		{&t.Carry, 15 * time.Minute},
		{&t.Retry, time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.standard
		}
	}
}

func (q *Quotas) defaults() {
	if q.Clusters == 0 {
		q.Clusters = 4
	}
	if q.HSMs == 0 {
		q.HSMs = 6
	}
}

// Service is the control plane. Start it with Open, end it with Close. It may be used from many goroutines at once.
type Service struct {
	db       store.Store
	sealer   rootkey.Sealer
	audit    audit.Writer
	declared *cloudhsm.Declared
	rack     *rack.Rack
	pools    *rack.Pools
	vaultIn  string // pool
	regions  []string
	node     string // this process
	log      *slog.Logger
	now      func() time.Time
	quotas   Quotas
	timing   Timing
	rounds   int
	chunk    int // of keys, in a record
	fault    func(point string)

	sessions *sessions
	hashing  chan struct{} // held by callers of the API who have a password hashed; has room for a few
	watcher  atomic.Pointer[func(clusterID string)]
	tending  *tending
	metrics  *metrics

	vaultTurn sync.Mutex // held by who initialises the backup HSM
	addresses sync.Mutex // held by who takes an address of a subnet, from counting those that are free until it is on record

	ctx    context.Context // ends with the service; for work behind the calls
	cancel context.CancelFunc
	work   sync.WaitGroup
	wake   chan struct{} // asks the reconciler for a look, holds one
}

// Open starts a Service, which goes on at once with what the process before it left.
func Open(cfg Config) (*Service, error) {
	s, err := newService(cfg)
	if err != nil {
		return nil, err
	}
	s.work.Go(s.reconcile)
	return s, nil
}

// newService makes a Service whose reconciler does not run.
func newService(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Sealer == nil || cfg.Audit == nil || cfg.Declared == nil || cfg.Rack == nil {
		return nil, errors.New("control: a store, a sealer, an audit log, a declaration and a rack are needed")
	}
	cfg.Quotas.defaults()
	cfg.Timing.defaults()
	s := &Service{
		db: cfg.Store, sealer: cfg.Sealer, audit: cfg.Audit, declared: cfg.Declared, rack: cfg.Rack, pools: cfg.Pools, vaultIn: cfg.Vault, regions: cfg.Regions, node: newHexID("node"),
		log: cfg.Logger, now: cfg.Now, quotas: cfg.Quotas, timing: cfg.Timing, rounds: cfg.PasswordRounds, chunk: cfg.Chunk, fault: cfg.FaultPoint,
		wake: make(chan struct{}, 1),
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.fault == nil {
		s.fault = func(string) {}
	}
	s.sessions, s.tending = newSessions(s.now), newTending()
	var err error
	if s.metrics, err = newMetrics(s, cfg.Metrics); err != nil {
		return nil, err
	}
	s.hashing = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Watch has changed called whenever the HSMs of a cluster are others than before, or in another state.
func (s *Service) Watch(changed func(clusterID string)) { s.watcher.Store(&changed) }

func (s *Service) changed(clusterID string) {
	if tell := s.watcher.Load(); tell != nil {
		(*tell)(clusterID)
	}
}

// kick asks the reconciler for a look.
func (s *Service) kick() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Close ends the reconciler. Running calls have returned by then.
func (s *Service) Close() {
	s.cancel()
	s.work.Wait()
}
