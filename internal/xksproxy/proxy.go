package xksproxy

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kastellan.dev/internal/tracing"
)

// Proxy answers the XKS Proxy API.
type Proxy struct {
	log     *slog.Logger
	metrics *metrics
	tracer  *tracing.Tracer // nil: no traces

	reload sync.Mutex // one at a time; guards closed
	closed bool

	mu    sync.RWMutex
	state *state // nil when closed

	retired sync.WaitGroup // states that still have requests
}

// state is a Config at work. It does not change.
type state struct {
	cfg      Config
	now      func() time.Time
	stores   map[string]*store
	rings    []*sharedRing
	reading  gate // requests whose body is on its way
	gate     gate // requests that came whole
	requests sync.WaitGroup
	retiring context.Context // done when the state is no longer the present one
	retire   context.CancelFunc
}

// New makes a proxy. It does not touch the tokens: they are opened in the
// background, and a proxy whose HSM is away starts all the same.
func New(cfg Config) (*Proxy, error) {
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	registry := cfg.Registry
	if registry == nil {
		registry = prometheus.NewRegistry()
	}
	p := &Proxy{log: log, metrics: newMetrics(registry), tracer: cfg.Tracer}
	showBuild(registry, cfg.Version)
	if err := p.Reload(cfg); err != nil {
		return nil, err
	}
	return p, nil
}

// Reload puts a new configuration to work. Running requests finish with the old
// one; token rings whose configuration is the same stay open. If the new one
// is wrong nothing changes.
func (p *Proxy) Reload(cfg Config) error {
	p.reload.Lock()
	defer p.reload.Unlock()
	if p.closed {
		return errClosed
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		p.metrics.reloads.WithLabelValues("failed").Inc()
		return err
	}
	next := p.build(cfg)
	p.mu.Lock()
	old := p.state
	p.state = next
	for _, r := range next.rings {
		r.uses++
		next.requests.Go(func() { r.warm(next.retiring) })
	}
	p.mu.Unlock()
	p.metrics.reloads.WithLabelValues("ok").Inc()
	p.retire(old)
	return nil
}

// build makes a state, with the open rings of the present one where they fit. It cannot
// fail, since rings open later.
func (p *Proxy) build(cfg Config) *state {
	next := &state{cfg: cfg, now: cfg.Now, stores: map[string]*store{}, reading: newGate(4 * cfg.MaxRequests), gate: newGate(cfg.MaxRequests)}
	next.retiring, next.retire = context.WithCancel(context.Background())
	if next.now == nil {
		next.now = time.Now
	}
	rings := map[string]*sharedRing{}
	for _, rc := range cfg.Rings {
		r := p.reuse(rc)
		if r == nil {
			r = openRing(rc, p.log, p.metrics)
		}
		rings[rc.Name] = r
		next.rings = append(next.rings, r)
	}
	for _, sc := range cfg.Stores {
		next.stores[sc.Prefix] = newStore(sc, rings[sc.Ring], next.now)
	}
	return next
}

// reuse finds an open ring that was made with the same configuration.
func (p *Proxy) reuse(cfg RingConfig) *sharedRing {
	if p.state == nil { // only Reload and Close write it, and we hold their lock
		return nil
	}
	for _, r := range p.state.rings {
		if !r.cfg.same(cfg) {
			continue
		}
		if t, ok := r.Ring.(*tokenRing); ok {
			t.forgive()
		}
		return r
	}
	return nil
}

// retire closes what only the old state used, once its last request has ended.
func (p *Proxy) retire(old *state) {
	if old == nil {
		return
	}
	old.retire()
	p.retired.Go(func() {
		old.requests.Wait()
		for _, r := range p.release(old) {
			if err := r.close(); err != nil {
				p.log.Error("closing a key ring failed", "ring", r.cfg.Name, "error", err.Error())
			}
			if !p.serves(r.cfg.Name) {
				p.metrics.forgetTokens(r.cfg.Name)
			}
		}
	})
}

// release counts the state's rings down and gives those that nobody uses now.
func (p *Proxy) release(old *state) (unused []*sharedRing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range old.rings {
		if r.uses--; r.uses == 0 {
			unused = append(unused, r)
		}
	}
	return unused
}

// serves tells whether the present state has a ring of this name.
func (p *Proxy) serves(ring string) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.state != nil && slices.ContainsFunc(p.state.rings, func(r *sharedRing) bool { return r.cfg.Name == ring })
}

// acquire gives the present state and counts a request in; nil when the proxy is closed.
func (p *Proxy) acquire() *state {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.state == nil {
		return nil
	}
	p.state.requests.Add(1)
	return p.state
}

// Warm waits until every ring is open and was tested once, or could not be, or ctx is done.
func (p *Proxy) Warm(ctx context.Context) {
	st := p.acquire()
	if st == nil {
		return
	}
	defer st.requests.Done()
	for _, r := range st.rings {
		r.warm(ctx)
	}
}

// Close refuses new requests, waits for the running ones until ctx is done,
// and closes the rings.
func (p *Proxy) Close(ctx context.Context) error {
	p.reload.Lock()
	defer p.reload.Unlock()
	p.mu.Lock()
	old := p.state
	p.state, p.closed = nil, true
	p.mu.Unlock()
	p.retire(old)
	done := make(chan struct{})
	go func() {
		p.retired.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
