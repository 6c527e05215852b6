package control

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/store"
)

var (
	hsmsDesc = prometheus.NewDesc("kastellan_cloudhsm_hsms",
		"HSMs of a cluster that was made through the CloudHSM API, by state.", []string{"cluster", "state"}, nil)
	backupDesc = prometheus.NewDesc("kastellan_cloudhsm_last_backup_timestamp_seconds",
		"When the last complete backup of the cluster was begun, as Unix time. Clusters without one have no such metric.", []string{"cluster"}, nil)
	tokensDesc = prometheus.NewDesc("kastellan_cloudhsm_tokens_free",
		"Tokens of the pool that an HSM can be made of.", []string{"pool"}, nil)
)

var hsmStates = []cloudhsmapi.HsmState{
	cloudhsmapi.HsmCreateInProgress, cloudhsmapi.HsmActive, cloudhsmapi.HsmDegraded, cloudhsmapi.HsmDeleteInProgress,
}

// metrics are the collectors of the control plane. But for what fails, they are read off the records when somebody asks.
type metrics struct {
	s        *Service
	failures *prometheus.CounterVec

	mu      sync.Mutex
	failing map[string]bool // clusters whose last attempt to back up failed
}

func newMetrics(s *Service, r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		s: s, failing: make(map[string]bool),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kastellan_cloudhsm_backup_failures_total", Help: "Attempts to back a cluster up that failed; they are repeated.",
		}, []string{"cluster"}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.failures, m} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) backedUp(cluster string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.failing, cluster)
}

// backupFailed tells whether it is the first failure in a row.
func (m *metrics) backupFailed(cluster string) (first bool) {
	m.failures.WithLabelValues(cluster).Inc()
	m.mu.Lock()
	defer m.mu.Unlock()
	first = !m.failing[cluster]
	m.failing[cluster] = true
	return first
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{hsmsDesc, backupDesc, tokensDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	err := m.s.db.View(m.s.ctx, func(r store.Reader) error {
		clusters, err := scan[clusterRecord](r, clusterPrefix)
		if err != nil {
			return err
		}
		for _, rec := range clusters {
			if rec.State == cloudhsmapi.ClusterDeleted {
				continue
			}
			if err := rec.collect(r, ch); err != nil {
				return err
			}
		}
		return m.s.collectTokens(r, ch)
	})
	if err != nil {
		ch <- prometheus.NewInvalidMetric(hsmsDesc, err)
	}
}

func (c *clusterRecord) collect(r store.Reader, ch chan<- prometheus.Metric) error {
	n := make(map[cloudhsmapi.HsmState]int)
	for _, h := range c.HSMs {
		n[h.State]++
	}
	for _, state := range hsmStates {
		ch <- prometheus.MustNewConstMetric(hsmsDesc, prometheus.GaugeValue, float64(n[state]), c.ID, string(state))
	}
	latest, err := latestIn(r, c)
	if err == nil && latest != nil {
		ch <- prometheus.MustNewConstMetric(backupDesc, prometheus.GaugeValue, float64(latest.Created.Unix()), c.ID)
	}
	return err
}

func (s *Service) collectTokens(r store.Reader, ch chan<- prometheus.Metric) error {
	if s.pools == nil {
		return nil
	}
	taken, err := takenTokens(r)
	if err != nil {
		return err
	}
	free := s.pools.Free(taken)
	delete(free, s.vaultIn) // no HSM is made of the backup HSM
	for pool, n := range free {
		ch <- prometheus.MustNewConstMetric(tokensDesc, prometheus.GaugeValue, float64(n), pool)
	}
	return nil
}
