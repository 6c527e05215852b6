package xksproxy

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/tracing"
)

// tokenMetrics are about the tokens of all rings.
type tokenMetrics struct {
	duration *prometheus.HistogramVec
	errors   *prometheus.CounterVec
	inFlight *prometheus.GaugeVec
	restarts *prometheus.GaugeVec
}

func newTokenMetrics(namespace string) tokenMetrics {
	labels := []string{"ring", "member"}
	return tokenMetrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "token_use_seconds", Help: "Time that requests and health checks used a token for, logging in and waiting for a session included.",
			Buckets: []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .2, .5, 1},
		}, labels),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "token_errors_total", Help: "Uses of a token that failed in it, by its CKR_ return value or another reason.",
		}, append(labels, "class")),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "token_uses_in_flight", Help: "Requests and health checks that use a token now.",
		}, labels),
		restarts: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "worker_restarts", Help: "How often the process of a token's module was replaced since the token was opened.",
		}, labels),
	}
}

func (t tokenMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{t.duration, t.errors, t.inFlight, t.restarts}
}

// of gives those of one ring.
func (t tokenMetrics) of(ring string) tokenMetrics {
	labels := prometheus.Labels{"ring": ring}
	h := t.duration.MustCurryWith(labels)
	return tokenMetrics{
		duration: h.(*prometheus.HistogramVec), errors: t.errors.MustCurryWith(labels),
		inFlight: t.inFlight.MustCurryWith(labels), restarts: t.restarts.MustCurryWith(labels),
	}
}

// forget takes the members of a ring away that is no more.
func (t tokenMetrics) forget(ring string) {
	labels := prometheus.Labels{"ring": ring}
	t.duration.DeletePartialMatch(labels)
	t.errors.DeletePartialMatch(labels)
	t.inFlight.DeletePartialMatch(labels)
	t.restarts.DeletePartialMatch(labels)
}

// watched runs one use of the member, measured and in the trace. What the token
// says of a key or a ciphertext is no failure of its.
func (m *member) watched(ctx context.Context, use func(context.Context) error) error {
	inFlight := m.metrics.inFlight.WithLabelValues(m.cfg.Name)
	inFlight.Inc()
	defer inFlight.Dec()
	ctx, span := tracing.Start(ctx, "token")
	span.Set(tracing.Member, m.cfg.Name)
	began := time.Now()
	err := use(ctx)
	m.metrics.duration.WithLabelValues(m.cfg.Name).Observe(time.Since(began).Seconds())
	if answer, ok := errors.AsType[*Error](err); ok {
		span.End(string(answer.Name))
		return err
	}
	if err != nil {
		m.metrics.errors.WithLabelValues(m.cfg.Name, pkcs11.Class(err)).Inc()
	}
	span.End(pkcs11.Class(err))
	return err
}

// showRestarts brings the metric up to date.
func (r *tokenRing) showRestarts() {
	for _, m := range r.members {
		m.mu.Lock()
		token := m.token
		m.mu.Unlock()
		if token != nil {
			m.metrics.restarts.WithLabelValues(m.cfg.Name).Set(float64(pkcs11.Restarts(token)))
		}
	}
}

// showBuild says in a metric what runs.
func showBuild(registry *prometheus.Registry, version string) {
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "kastellan_proxy", Name: "build_info", Help: "1, for the version that runs.",
	}, []string{"version", "goversion"})
	registry.MustRegister(info)
	info.WithLabelValues(orDefault(version, "devel"), runtime.Version()).Set(1)
}
