package xksproxy

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"kastellan.dev/internal/xksapi"
)

// metrics have labels that the configuration and the keys that exist bound, never ones that callers choose.
type metrics struct {
	registry  *prometheus.Registry
	requests  *prometheus.CounterVec
	encrypted *prometheus.CounterVec
	latency   *prometheus.HistogramVec
	inFlight  prometheus.Gauge
	members   *prometheus.GaugeVec
	reloads   *prometheus.CounterVec
	expires   prometheus.Gauge
	tokens    tokenMetrics
}

func newMetrics(registry *prometheus.Registry) *metrics {
	const namespace = "kastellan_proxy"
	m := &metrics{
		registry: registry,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "requests_total", Help: "Requests answered.",
		}, []string{"store", "operation", "status", "error"}),
		encrypted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "key_encryptions_total", Help: "Messages encrypted under a key; a key of a token has to be rotated before 2^32.",
		}, []string{"store", "key"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "request_seconds", Help: "Time to answer; KMS waits 0.25 s.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .15, .2, .25, .5, 1},
		}, []string{"store", "operation"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "requests_in_flight", Help: "Requests running now.",
		}),
		members: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "key_manager_state", Help: "1 for the state that the latest health check found.",
		}, []string{"ring", "member", "state"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "reloads_total", Help: "Configurations loaded.",
		}, []string{"result"}),
		expires: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "certificate_expires_seconds", Help: "When the TLS certificate expires, in seconds since 1970.",
		}),
		tokens: newTokenMetrics(namespace),
	}
	registry.MustRegister(m.tokens.all()...)
	registry.MustRegister(m.requests, m.encrypted, m.latency, m.inFlight, m.members, m.reloads, m.expires)
	return m
}

func (m *metrics) count(store string, op operation, status int, name xksapi.ErrorName, took time.Duration) {
	m.requests.WithLabelValues(store, string(op), strconv.Itoa(status), string(name)).Inc()
	m.latency.WithLabelValues(store, string(op)).Observe(took.Seconds())
}

// sawMembers shows the latest health check of a ring.
func (m *metrics) sawMembers(ring string, members []Member) {
	m.forgetRing(ring)
	for _, member := range members {
		for _, state := range []string{xksapi.Active, xksapi.Degraded, xksapi.Unavailable} {
			value := 0.0
			if member.Status == state {
				value = 1
			}
			m.members.WithLabelValues(ring, member.ID, state).Set(value)
		}
	}
}

// forgetRing takes away the members of a ring that is no more.
func (m *metrics) forgetRing(ring string) {
	m.members.DeletePartialMatch(prometheus.Labels{"ring": ring})
}

// forgetTokens takes away what is known of the tokens of a ring that is no more.
func (m *metrics) forgetTokens(ring string) {
	m.forgetRing(ring)
	m.tokens.forget(ring)
}

// MetricsHandler serves the metrics in Prometheus' text format. It has no authentication
// and does not belong on a public listener. The states of key managers are no older
// than the configured cache: KMS asks every few minutes at best, and not at all while
// the key store is disconnected.
func (p *Proxy) MetricsHandler() http.Handler {
	show := promhttp.HandlerFor(p.metrics.registry, promhttp.HandlerOpts{})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.lookAtRings(r.Context())
		show.ServeHTTP(w, r)
	})
}

// lookAtRings tests the rings that were not tested lately.
func (p *Proxy) lookAtRings(ctx context.Context) {
	st := p.acquire()
	if st == nil {
		return
	}
	defer st.requests.Done()
	var wg sync.WaitGroup
	for _, ring := range st.rings {
		wg.Go(func() { _, _ = ring.health(ctx, st.cfg.HealthCache) })
	}
	wg.Wait()
	for _, ring := range st.rings {
		if t, ok := ring.Ring.(*tokenRing); ok {
			t.showRestarts()
		}
	}
}
