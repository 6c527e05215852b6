package hsm

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kastellan.dev/internal/pkcs11"
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

// metrics are the collectors of all HSM key stores of a process. How the
// members are is read off the open connections when somebody asks.
type metrics struct {
	operations  *prometheus.CounterVec
	errors      *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	resyncs     *prometheus.CounterVec
	copies      *prometheus.CounterVec
	comparisons *prometheus.CounterVec
	failovers   *prometheus.CounterVec

	mu   sync.Mutex
	open map[*Connection]bool
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kastellan_hsm_operations_total", Help: "Cryptographic operations by HSM and outcome.",
		}, []string{"custom_key_store_id", "member", "outcome"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kastellan_hsm_errors_total", Help: "Cryptographic operations that failed on an HSM, by its CKR_ return value or another reason.",
		}, []string{"custom_key_store_id", "member", "class"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kastellan_hsm_operation_duration_seconds", Help: "Time that cryptographic operations took on an HSM, waiting for a session included.",
			Buckets: []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5},
		}, []string{"custom_key_store_id", "member", "operation"}),
		resyncs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kastellan_hsm_resynchronisations_total", Help: "Comparisons of an HSM's keys with those of its peers, by whether it has got what it lacked.",
		}, []string{"custom_key_store_id", "member", "result"}),
		copies: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kastellan_hsm_copied_keys_total", Help: "KMS keys that an HSM lacked and others had, by whether it has got them.",
		}, []string{"custom_key_store_id", "member", "result"}),
		comparisons: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kastellan_hsm_comparisons_total", Help: "Comparisons of the keys of all HSMs in service, by what came of it.",
		}, []string{"custom_key_store_id", "result"}),
		failovers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kastellan_hsm_failovers_total", Help: "Operations that were repeated on another HSM.",
		}, []string{"custom_key_store_id"}),
		open: make(map[*Connection]bool),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.operations, m.errors, m.duration, m.resyncs, m.copies, m.comparisons, m.failovers, m} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// memberMeters are one member's metrics, looked up once as far as success needs them.
type memberMeters struct {
	outcomes  map[string]prometheus.Counter
	errors    *prometheus.CounterVec // by class
	resyncs   *prometheus.CounterVec // by result
	copies    *prometheus.CounterVec // by result
	durations map[string]prometheus.Observer
}

func (m *metrics) of(store, member string) memberMeters {
	labels := prometheus.Labels{"custom_key_store_id": store, "member": member}
	duration := m.duration.MustCurryWith(labels)
	out := memberMeters{
		outcomes: make(map[string]prometheus.Counter), durations: make(map[string]prometheus.Observer),
		errors: m.errors.MustCurryWith(labels), resyncs: m.resyncs.MustCurryWith(labels), copies: m.copies.MustCurryWith(labels),
	}
	for _, o := range outcomes {
		out.outcomes[o] = m.operations.WithLabelValues(store, member, o)
	}
	for _, operation := range []string{"Encrypt", "Decrypt", randomOperation} {
		out.durations[operation] = duration.WithLabelValues(operation)
	}
	return out
}

func (m *memberMeters) took(operation string, took time.Duration) {
	m.durations[operation].Observe(took.Seconds())
}

// errorClass is what a failure counts as.
func errorClass(err error) string {
	switch {
	case errors.Is(err, errKeyMissing):
		return "key-missing"
	case errors.Is(err, errSick):
		return "sick"
	default:
		return pkcs11.Class(err)
	}
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

// connections are the open ones.
func (m *metrics) connections() []*Connection {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.open))
}
