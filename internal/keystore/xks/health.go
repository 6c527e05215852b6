package xks

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"sync"
	"time"

	"kastellan.dev/internal/endpointservice"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/xksapi"
)

// warmConnections is how many connections the first poll opens, so that the first
// requests need not wait for handshakes.
const warmConnections = 4

// Health is what a connection tells of itself. Times are zero for what never happened.
type Health struct {
	LastSuccess time.Time              `json:"lastSuccess,omitzero"` // when the proxy last said that it can serve
	LastFailure time.Time              `json:"lastFailure,omitzero"`
	Failure     string                 `json:"failure,omitempty"` // of the last poll; empty if it worked
	Proxy       *xksapi.HealthResponse `json:"proxy,omitempty"`   // what the proxy last said
	InFlight    int                    `json:"inFlight"`          // calls under way
	Targets     map[string]bool        `json:"targets,omitempty"` // of the endpoint service: which ones answer
}

// state is what the polls found.
type state struct {
	mu sync.Mutex
	h  Health
}

// saw notes a poll, and gives what is otherwise than before.
func (s *state) saw(at time.Time, health *xksapi.HealthResponse, err error) (changes []keystore.HealthChange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	failure := ""
	if err != nil {
		failure, s.h.LastFailure = err.Error(), at
	} else {
		s.h.LastSuccess = at
	}
	if (failure == "") != (s.h.Failure == "") {
		change := keystore.HealthChange{Part: "proxy", State: active}
		if err != nil {
			change.State, change.Cause = unavailable, failure
		}
		changes = append(changes, change)
	}
	s.h.Failure = failure
	if health != nil {
		changes = append(changes, fleetChanges(s.h.Proxy, health)...)
		s.h.Proxy = health
	}
	return changes
}

// The states of a proxy, in the words of the key managers.
const (
	active      = "ACTIVE"
	unavailable = "UNAVAILABLE"
)

// fleetChanges gives the key managers that are otherwise than before.
func fleetChanges(before, now *xksapi.HealthResponse) (changes []keystore.HealthChange) {
	known := make(map[string]string)
	if before != nil {
		for _, m := range before.EkmFleetDetails {
			known[m.ID] = m.HealthStatus
		}
	}
	for _, m := range now.EkmFleetDetails {
		was, heardOf := known[m.ID]
		if was != m.HealthStatus && (heardOf || m.HealthStatus != active) {
			changes = append(changes, keystore.HealthChange{Part: m.ID, State: m.HealthStatus})
		}
	}
	return changes
}

// TellHealth implements keystore.HealthTeller: the proxy, and its key managers by
// their ids, are ACTIVE, DEGRADED or UNAVAILABLE.
func (c *connection) TellHealth(tell func(keystore.HealthChange)) { c.tell.Store(&tell) }

// Health implements keystore.Reporter; it gives a [Health].
func (c *connection) Health() any {
	c.state.mu.Lock()
	h := c.state.h
	c.state.mu.Unlock()
	h.InFlight = len(c.slots)
	if e, ok := c.link.route.(*endpointservice.Endpoint); ok {
		h.Targets = e.State()
	}
	return h
}

// poll asks for the proxy's health until the connection is closed.
func (c *connection) poll() {
	c.warm()
	for {
		timer := time.NewTimer(jittered(c.interval))
		select {
		case <-c.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
			c.check()
		}
	}
}

// warm polls several times at once, which opens as many connections.
func (c *connection) warm() {
	var wg sync.WaitGroup
	for range warmConnections {
		wg.Go(c.check)
	}
	wg.Wait()
}

// check polls once.
func (c *connection) check() {
	health, err := c.link.health(c.ctx, keystore.Call{Operation: xksapi.HealthCheck, RequestID: newRequestID()}, nil)
	if c.ctx.Err() != nil {
		return
	}
	if health != nil {
		c.metrics.sawFleet(c.link.storeID, health)
	}
	for _, change := range c.state.saw(c.now(), health, err) {
		switch {
		case change.Part != "proxy":
			c.log.Info("a key manager behind the external key store proxy is otherwise than before", "keyManager", change.Part, "state", change.State)
		case change.State == active:
			c.log.Info("the external key store proxy can serve")
		default:
			c.log.Warn("the external key store proxy cannot serve", "error", err)
		}
		if tell := c.tell.Load(); tell != nil {
			(*tell)(change)
		}
	}
}

// jittered gives d, more or less by up to a fifth, so that stores and nodes do
// not poll in step.
func jittered(d time.Duration) time.Duration {
	var b [8]byte
	rand.Read(b[:])
	spread := max(1, int64(d)*2/5)
	return d - d/5 + time.Duration(binary.BigEndian.Uint64(b[:])%uint64(spread))
}

// newRequestID makes an id for a call that no KMS request stands behind.
func newRequestID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}
