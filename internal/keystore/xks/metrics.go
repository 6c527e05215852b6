package xks

import (
	"crypto/tls"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/xksapi"
)

// metrics are AWS's metrics of external key stores, under Prometheus names.
type metrics struct {
	errors      *prometheus.CounterVec
	latency     *prometheus.HistogramVec
	states      *prometheus.GaugeVec
	certificate *prometheus.GaugeVec

	mu    sync.Mutex
	users map[string]int // connections by store: one may replace another
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kastellan_xks_proxy_errors_total", Help: "Calls to external key store proxies that failed.",
		}, []string{"custom_key_store_id", "kms_operation", "xks_operation", "key_spec", "error_type", "exception_name"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kastellan_xks_proxy_latency_seconds", Help: "Time that calls to external key store proxies took, second tries included.",
			Buckets: []float64{.001, .0025, .005, .01, .02, .035, .05, .075, .1, .15, .2, .25, .5},
		}, []string{"custom_key_store_id", "kms_operation", "xks_operation", "key_spec"}),
		states: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kastellan_xks_external_key_manager_states", Help: "External key managers by health state, as the proxy last said.",
		}, []string{"custom_key_store_id", "state"}),
		certificate: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kastellan_xks_proxy_certificate_days_to_expire", Help: "Days that the certificate of the external key store proxy is good for.",
		}, []string{"custom_key_store_id", "certificate_name"}),
		users: make(map[string]int),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.errors, m.latency, m.states, m.certificate} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// called notes a call to a proxy.
func (m *metrics) called(store string, r request, took time.Duration, err error) {
	m.latency.WithLabelValues(store, r.call.Operation, r.op.name, r.keySpec()).Observe(took.Seconds())
	if err == nil || isOutcome(err, allUnavailable) { // the latter the states tell
		return
	}
	if errorType, exception := classify(err); errorType != "" {
		m.errors.WithLabelValues(store, r.call.Operation, r.op.name, r.keySpec(), errorType, exception).Inc()
	}
}

// keySpec is that of all keys in external key stores; health requests are about none.
func (r request) keySpec() string {
	if r.op == opHealth {
		return ""
	}
	return string(kmsapi.SymmetricDefault)
}

// The types of errors of AWS's metric.
const (
	retryable    = "retryable"
	nonRetryable = "non-retryable"
)

// classify gives type and exception of an error as AWS's metric has them. An error that is not the
// proxy's has no type.
func classify(err error) (errorType, exception string) {
	var pe *proxyError
	if !errors.As(err, &pe) {
		return "", "Canceled"
	}
	errorType, exception = nonRetryable, "XksProxyUnreachableException"
	if meanings[pe.outcome].retryable {
		errorType = retryable
	}
	if _, ok := xksapi.ErrorName(pe.outcome).Status(); ok {
		exception = string(pe.outcome)
	} else if pe.outcome == malformed {
		exception = "XksProxyInvalidResponseException"
	}
	return errorType, exception
}

// sawFleet notes what the proxy says of its key managers.
func (m *metrics) sawFleet(store string, h *xksapi.HealthResponse) {
	counts := fleetCounts(h)
	for _, status := range []string{xksapi.Active, xksapi.Degraded, xksapi.Unavailable} {
		name := status[:1] + strings.ToLower(status[1:])
		m.states.WithLabelValues(store, name).Set(float64(counts[status]))
	}
}

// sawCertificate notes how long the certificate of a connected store's proxy is
// good for. Like AWS it has no value for wildcards.
func (m *metrics) sawCertificate(store string, state *tls.ConnectionState, now time.Time) {
	if len(state.PeerCertificates) == 0 {
		return
	}
	leaf := state.PeerCertificates[0]
	name := leaf.Subject.CommonName
	if name == "" && len(leaf.DNSNames) > 0 {
		name = leaf.DNSNames[0]
	}
	if strings.HasPrefix(name, "*") {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.users[store] == 0 { // it would stay for ever
		return
	}
	m.certificate.WithLabelValues(store, printable(name)).Set(leaf.NotAfter.Sub(now).Hours() / 24)
}

// connected and disconnected count connections, so that what a store once was
// is not shown after its last connection has gone.
func (m *metrics) connected(store string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users[store]++
}

func (m *metrics) disconnected(store string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.users[store]--; m.users[store] > 0 {
		return
	}
	delete(m.users, store)
	m.states.DeletePartialMatch(prometheus.Labels{"custom_key_store_id": store})
	m.certificate.DeletePartialMatch(prometheus.Labels{"custom_key_store_id": store})
}
