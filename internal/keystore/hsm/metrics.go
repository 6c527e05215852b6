package hsm

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Outcomes of an operation on a member.
const (
	outcomeOK      = "ok"
	outcomeRefused = "refused" // wrong ciphertext
	outcomeMissing = "missing" // the member does not have the key
	outcomeBusy    = "busy"
	outcomeLost    = "lost"
	outcomeFailed  = "failed"
)

var outcomes = []string{outcomeOK, outcomeRefused, outcomeMissing, outcomeBusy, outcomeLost, outcomeFailed}

var upDesc = prometheus.NewDesc("kastellan_hsm_member_up",
	"Whether the HSM serves the key store (1) or not (0).", []string{"key_store", "cluster", "member"}, nil)

// metrics are the collectors of all HSM key stores of a process. Whether
// members serve is read off the open connections when somebody asks.
type metrics struct {
	operations *prometheus.CounterVec
	failovers  *prometheus.CounterVec

	mu   sync.Mutex
	open map[*Connection]bool
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kastellan_hsm_operations_total", Help: "Cryptographic operations by HSM and outcome.",
		}, []string{"key_store", "member", "outcome"}),
		failovers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kastellan_hsm_failovers_total", Help: "Operations that were repeated on another HSM.",
		}, []string{"key_store"}),
		open: make(map[*Connection]bool),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.operations, m.failovers, m} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// counters are one member's, looked up once.
func (m *metrics) counters(store, member string) map[string]prometheus.Counter {
	out := make(map[string]prometheus.Counter, len(outcomes))
	for _, o := range outcomes {
		out[o] = m.operations.WithLabelValues(store, member, o)
	}
	return out
}

func (m *metrics) opened(c *Connection) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open[c] = true
}

func (m *metrics) closed(c *Connection) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.open, c)
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) { ch <- upDesc }

// Collect implements prometheus.Collector. While one connection of a store takes
// over from another one, a member that serves either counts as up.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	type place struct{ store, cluster, member string }
	up := make(map[place]float64)
	m.mu.Lock()
	for c := range m.open {
		for _, member := range c.members {
			at := place{c.cfg.ID, c.cluster.ID, member.decl.ID}
			value := 0.0
			if member.serving.Load() != nil {
				value = 1
			}
			up[at] = max(up[at], value)
		}
	}
	m.mu.Unlock()
	for at, value := range up {
		ch <- prometheus.MustNewConstMetric(upDesc, prometheus.GaugeValue, value, at.store, at.cluster, at.member)
	}
}
