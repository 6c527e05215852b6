package hsm

import (
	"time"

	"kastellan.dev/internal/keystore"
)

// Status is how a connection is.
type Status struct {
	Cluster     string         `json:"cluster"`
	Replication string         `json:"replication"`
	Members     []MemberStatus `json:"members"`
}

// MemberStatus is how one member is.
type MemberStatus struct {
	ID               string    `json:"id"`
	AvailabilityZone string    `json:"availabilityZone"`
	IP               string    `json:"ip,omitempty"`
	Token            string    `json:"token"` // RFC 7512
	State            State     `json:"state"`
	Since            time.Time `json:"since"`
	LastError        string    `json:"lastError,omitempty"` // why it does not serve
	Keys             int       `json:"keys"`                // KMS keys when they were last counted
	ClusterKey       bool      `json:"clusterKey"`          // it has the cluster key
	Trusted          bool      `json:"trusted"`             // which is marked CKA_TRUSTED
	Behind           bool      `json:"behind,omitempty"`    // it lacks keys
	Running          int64     `json:"running"`             // operations on it right now
}

// Status tells how the members are.
func (c *Connection) Status() Status {
	s := Status{Cluster: c.cluster.ID, Replication: string(c.cluster.Replication)}
	for _, m := range c.members() {
		s.Members = append(s.Members, m.status())
	}
	return s
}

// Health implements keystore.Reporter with a [Status].
func (c *Connection) Health() any { return c.Status() }

// TellHealth implements keystore.HealthTeller: a member is HEALTHY or UNHEALTHY.
func (c *Connection) TellHealth(tell func(keystore.HealthChange)) {
	c.tell.Store(&tell)
}

func (m *member) status() MemberStatus {
	s := MemberStatus{
		ID: m.decl.ID, AvailabilityZone: m.decl.AvailabilityZone, IP: m.decl.IP, Token: m.decl.Token.URI.String(),
		Behind: m.behind.Load(), Running: m.running.Load(),
	}
	if l := m.serving.Load(); l != nil {
		if k := l.cluster.Load(); k != nil {
			s.ClusterKey, s.Trusted = true, k.trusted
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.State, s.Since, s.LastError, s.Keys = m.state, m.since, m.fault, m.keys
	return s
}

func (m *member) counted(keys int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys = keys
}

func (m *member) keyCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.keys
}
