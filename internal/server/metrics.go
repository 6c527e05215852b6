package server

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// meters are the server's metrics.
type meters struct {
	requests  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	inFlight  prometheus.Gauge
	refusals  *prometheus.CounterVec
	overloads *prometheus.CounterVec
	unknown   meter // of requests for no operation that exists
}

// meter is the part of the metrics that belongs to one operation, looked up
// once.
type meter struct {
	requests *prometheus.CounterVec // by code
	ok       prometheus.Counter
	duration prometheus.Observer
}

// codeOK is the outcome of requests that did not fail.
const codeOK = "OK"

func newMeters(registry prometheus.Registerer) (*meters, error) {
	m := &meters{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kastellan_requests_total",
			Help: "Requests by API, operation and outcome: OK, the code of the exception, or Canceled if the client went away.",
		}, []string{"api", "operation", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "kastellan_request_duration_seconds",
			Help:    "Time from a request's header to its answer, by API and operation.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 30},
		}, []string{"api", "operation"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kastellan_requests_in_flight",
			Help: "Requests that are being worked on.",
		}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kastellan_authentication_failures_total",
			Help: "Requests whose caller could not be authenticated, by the code of the exception.",
		}, []string{"code"}),
		overloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kastellan_overload_throttles_total",
			Help: "Requests that were throttled because the server had too many at once, by the setting that bounds them.",
		}, []string{"limit"}),
	}
	m.unknown = m.of("", "unknown")
	var errs []error
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.inFlight, m.refusals, m.overloads} {
		errs = append(errs, registry.Register(c))
	}
	return m, errors.Join(errs...)
}

// The limits of a server, by the names of their settings.
const (
	limitOpen     = "connections"
	limitRequests = "concurrent-requests"
	limitBuffered = "buffered-bytes"
)

func (m *meters) of(api, operation string) meter {
	labels := prometheus.Labels{"api": api, "operation": operation}
	requests := m.requests.MustCurryWith(labels)
	return meter{requests, requests.WithLabelValues(codeOK), m.duration.With(labels)}
}

// count adds one request. Codes are those of package kmsapi, hence few.
func (m *meter) count(code string, took time.Duration) {
	m.duration.Observe(took.Seconds())
	if code == codeOK {
		m.ok.Inc()
		return
	}
	m.requests.WithLabelValues(code).Inc()
}
