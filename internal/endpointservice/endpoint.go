package endpointservice

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// connectBudget is how long a dial waits for one target while there are
	// others: the round trip to a proxy should take 35 ms at most, and a
	// request has 250 ms for everything.
	connectBudget = 80 * time.Millisecond
	// lastBudget bounds the last target of a dial whose context has no deadline.
	lastBudget = 5 * time.Second
	// probePause is between two looks at a target that did not answer.
	probePause = time.Second
)

// Endpoint is an interface endpoint with its private hosted zone. It may be
// used from many goroutines at once.
type Endpoint struct {
	service Service
	lines   Lines
	dialer  net.Dialer
	ctx     context.Context // of the probes; ends with Close
	stop    context.CancelFunc
	probes  sync.WaitGroup

	mu      sync.Mutex
	targets []*target // zones take turns
	next    int       // which target the next dial begins with
}

// target is a Target and what is known of it.
type target struct {
	Target
	dead bool // did not answer; a probe looks after it
}

// Open makes an endpoint of a service. It does not touch the network.
func Open(s Service) *Endpoint {
	e := &Endpoint{service: s}
	e.ctx, e.stop = context.WithCancel(context.Background())
	for _, t := range interleave(s) {
		t.Address = unmapped(t.Address)
		e.targets = append(e.targets, &target{Target: t})
	}
	return e
}

// unmapped writes an address as connections to it show it.
func unmapped(address string) string {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return address
	}
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()).String()
}

// interleave orders the targets so that neighbours are of different zones.
func interleave(s Service) []Target {
	byZone := make(map[string][]Target)
	for _, t := range s.Targets {
		byZone[t.AvailabilityZone] = append(byZone[t.AvailabilityZone], t)
	}
	var out []Target
	for round := 0; len(out) < len(s.Targets); round++ {
		for _, zone := range s.Zones() {
			if round < len(byZone[zone]) {
				out = append(out, byZone[zone][round])
			}
		}
	}
	return out
}

// DialContext connects to a target of the service. address must be the
// private DNS name with any port; another name does not exist (*net.DNSError).
// Dials take turns over zones; a target that does not answer costs a dial 80 ms
// and is then passed over until a probe finds it back, unless all are like that.
func (e *Endpoint) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if e.service.PrivateDNSName == "" || canonicalHost(host) != canonicalHost(e.service.PrivateDNSName) {
		return nil, &net.DNSError{Err: "the private hosted zone has no such name", Name: host, IsNotFound: true}
	}
	var failures []error
	candidates := e.candidates()
	for i, t := range candidates {
		conn, err := e.try(ctx, network, t, i == len(candidates)-1)
		if err == nil {
			return conn, nil
		}
		failures = append(failures, fmt.Errorf("target in %s: %w", t.AvailabilityZone, err))
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			break
		}
	}
	return nil, errors.Join(failures...)
}

// candidates lists the targets in the order to try: the living ones from the next on, then the dead.
func (e *Endpoint) candidates() []*target {
	e.mu.Lock()
	defer e.mu.Unlock()
	var alive, dead []*target
	for i := range e.targets {
		t := e.targets[(e.next+i)%len(e.targets)]
		if t.dead {
			dead = append(dead, t)
		} else {
			alive = append(alive, t)
		}
	}
	e.next = (e.next + 1) % len(e.targets)
	return append(alive, dead...)
}

func (e *Endpoint) try(ctx context.Context, network string, t *target, last bool) (net.Conn, error) {
	if err := e.ctx.Err(); err != nil {
		return nil, net.ErrClosed
	}
	budget := connectBudget
	if last {
		budget = lastBudget
	}
	attempt, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()
	conn, err := e.dialer.DialContext(attempt, network, t.Address)
	switch {
	case err == nil:
		return e.lines.Add(conn)
	case e.ctx.Err() != nil:
		return nil, net.ErrClosed
	case ctx.Err() == nil: // else the caller gave up, which says nothing of the target
		e.bury(t)
	}
	return nil, err
}

// Silent tells the endpoint that a request to the remote address got no answer
// since then. If nobody else got one either, the address leads nowhere: the
// connections that it had then time out, and new ones go elsewhere until a probe finds it back.
func (e *Endpoint) Silent(remote string, since time.Time) {
	if !e.lines.DropSilent(remote, since) {
		return
	}
	for _, t := range e.targets {
		if t.Address == remote {
			e.bury(t)
		}
	}
}

// bury marks a target dead and starts its probe.
func (e *Endpoint) bury(t *target) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t.dead || e.ctx.Err() != nil {
		return
	}
	t.dead = true
	e.probes.Go(func() { e.probe(t) })
}

// probe connects to a dead target now and then until that works.
func (e *Endpoint) probe(t *target) {
	tick := time.NewTicker(probePause)
	defer tick.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-tick.C:
		}
		attempt, cancel := context.WithTimeout(e.ctx, probePause)
		conn, err := e.dialer.DialContext(attempt, "tcp", t.Address)
		cancel()
		if err == nil {
			_ = conn.Close()
			e.mu.Lock()
			t.dead = false
			e.mu.Unlock()
			return
		}
	}
}

// State tells which targets answer, by address.
func (e *Endpoint) State() map[string]bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	state := make(map[string]bool, len(e.targets))
	for _, t := range e.targets {
		state[t.Address] = !t.dead
	}
	return state
}

// Close drops all connections; dials fail from now on.
func (e *Endpoint) Close() {
	e.mu.Lock()
	e.stop()
	e.mu.Unlock()
	e.lines.Close()
	e.probes.Wait()
}
