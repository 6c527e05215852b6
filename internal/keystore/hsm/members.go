package hsm

import (
	"github.com/prometheus/client_golang/prometheus"

	"kastellan.dev/internal/pkcs11"
)

var memberLabels = []string{"custom_key_store_id", "cluster", "member"}

var (
	upDesc = prometheus.NewDesc("kastellan_hsm_member_up",
		"Whether the HSM serves the key store (1) or not (0).", memberLabels, nil)
	inFlightDesc = prometheus.NewDesc("kastellan_hsm_member_operations_in_flight",
		"Operations that hold a session of the HSM or wait for one.", memberLabels, nil)
	sessionsDesc = prometheus.NewDesc("kastellan_hsm_member_sessions_limit",
		"Sessions that the server may have with the HSM: operations in flight beyond them wait.", memberLabels, nil)
	keysDesc = prometheus.NewDesc("kastellan_hsm_member_keys",
		"KMS keys of the key store on the HSM, when they were last counted.", memberLabels, nil)
	restartsDesc = prometheus.NewDesc("kastellan_hsm_worker_restarts_total",
		"How often the process of the HSM's module was replaced since the key store was connected.", memberLabels, nil)
)

// condition is how a member is, over all connections of its store.
type condition struct{ up, inFlight, sessions, keys, restarts float64 }

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{upDesc, inFlightDesc, sessionsDesc, keysDesc, restartsDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. While one connection of a store takes
// over from another one, a member that serves either counts as up.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for at, is := range m.conditions() {
		send := func(d *prometheus.Desc, kind prometheus.ValueType, value float64) {
			ch <- prometheus.MustNewConstMetric(d, kind, value, at.store, at.cluster, at.member)
		}
		send(upDesc, prometheus.GaugeValue, is.up)
		send(inFlightDesc, prometheus.GaugeValue, is.inFlight)
		send(sessionsDesc, prometheus.GaugeValue, is.sessions)
		send(keysDesc, prometheus.GaugeValue, is.keys)
		send(restartsDesc, prometheus.CounterValue, is.restarts)
	}
}

type place struct{ store, cluster, member string }

func (m *metrics) conditions() map[place]condition {
	out := make(map[place]condition)
	for _, c := range m.connections() {
		for _, member := range c.members() {
			at := place{c.cfg.ID, c.cluster.ID, member.decl.ID}
			is := out[at]
			if member.serving.Load() != nil {
				is.up = 1
			}
			member.mu.Lock()
			is.keys = max(is.keys, float64(member.keys))
			if member.opened != nil {
				is.restarts += float64(pkcs11.Restarts(member.opened))
			}
			member.mu.Unlock()
			is.inFlight += float64(member.running.Load())
			is.sessions += float64(member.decl.Token.SessionLimit())
			out[at] = is
		}
	}
	return out
}
