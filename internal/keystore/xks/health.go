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

// saw notes a poll, and tells whether it changed how the store is.
func (s *state) saw(at time.Time, health *xksapi.HealthResponse, err error) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	failure := ""
	if err != nil {
		failure, s.h.LastFailure = err.Error(), at
	} else {
		s.h.LastSuccess = at
	}
	changed = (failure == "") != (s.h.Failure == "")
	s.h.Failure = failure
	if health != nil {
		s.h.Proxy = health
	}
	return changed
}

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
	changed := c.state.saw(c.now(), health, err)
	switch {
	case changed && err != nil:
		c.log.Warn("the external key store proxy cannot serve", "error", err)
	case changed:
		c.log.Info("the external key store proxy can serve")
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
