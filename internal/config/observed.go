package config

import (
	"context"
	"crypto/fips140"
	"errors"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/store"
)

// observedAudit measures a writer of audit records.
type observedAudit struct {
	audit.Writer
	duration prometheus.Histogram
	failures prometheus.Counter
}

func observeAudit(w audit.Writer, r prometheus.Registerer) (audit.Writer, error) {
	o := &observedAudit{
		Writer: w,
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kastellan_audit_write_duration_seconds", Help: "Time until an audit record was handed over, waiting for others included.",
			Buckets: []float64{.00001, .000025, .0001, .00025, .001, .0025, .01, .05, .25, 1},
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kastellan_audit_write_failures_total", Help: "Audit records that could not be written: so many calls were refused.",
		}),
	}
	return o, errors.Join(r.Register(o.duration), r.Register(o.failures))
}

// Write implements audit.Writer.
func (o *observedAudit) Write(ctx context.Context, r *audit.Record) error {
	began := time.Now()
	err := o.Writer.Write(ctx, r)
	o.duration.Observe(time.Since(began).Seconds())
	if err != nil {
		o.failures.Inc()
	}
	return err
}

// observedStore measures the transactions of a metadata store.
type observedStore struct {
	store.Store
	duration *prometheus.HistogramVec
	failures *prometheus.CounterVec
}

// The kinds of transactions.
const (
	kindView   = "view"
	kindUpdate = "update"
)

func observeStore(s store.Store, r prometheus.Registerer) (store.Store, error) {
	o := &observedStore{
		Store: s,
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kastellan_store_transaction_duration_seconds", Help: "Time that transactions of the metadata store took, waiting for others included.",
			Buckets: []float64{.0001, .00025, .001, .0025, .005, .01, .025, .1, .25, 1, 5},
		}, []string{"kind"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kastellan_store_transaction_failures_total", Help: "Transactions that failed in the metadata store itself.",
		}, []string{"kind"}),
	}
	return o, errors.Join(r.Register(o.duration), r.Register(o.failures))
}

// View implements store.Store.
func (o *observedStore) View(ctx context.Context, fn func(store.Reader) error) error {
	began := time.Now()
	err := o.Store.View(ctx, fn)
	o.ended(kindView, began, err)
	return err
}

// Update implements store.Store.
func (o *observedStore) Update(ctx context.Context, fn func(store.Tx) error) (store.Revision, error) {
	began := time.Now()
	rev, err := o.Store.Update(ctx, fn)
	o.ended(kindUpdate, began, err)
	return rev, err
}

// ended counts a transaction. What its function refuses is no failure of the store.
func (o *observedStore) ended(kind string, began time.Time, err error) {
	o.duration.WithLabelValues(kind).Observe(time.Since(began).Seconds())
	if errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrConflict) {
		o.failures.WithLabelValues(kind).Inc()
	}
}

// buildInfo says in a metric what runs.
func buildInfo(version string) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "kastellan_build_info", Help: "1, for the version that runs.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version(), "fips140": strconv.FormatBool(fips140.Enabled())},
	}, func() float64 { return 1 })
}
