package kms

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
)

// meters are the domain's metrics: counters, and what is read off the mirror when
// somebody asks. Those that AWS has too are about the same things.
type meters struct {
	quotas    *prometheus.CounterVec
	throttles map[kmsapi.CustomKeyStoreType]*prometheus.CounterVec
	perKey    *perKey // nil: not counted
}

func newMeters(keys int) *meters {
	store := []string{"custom_key_store_id", "kms_operation", "key_spec"}
	m := &meters{
		quotas: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kastellan_request_quota_throttles_total",
			Help: "Requests beyond a request quota, by the name of the quota.",
		}, []string{"quota"}),
		throttles: map[kmsapi.CustomKeyStoreType]*prometheus.CounterVec{
			kmsapi.AWSCloudHSM: prometheus.NewCounterVec(prometheus.CounterOpts{
				Name: "kastellan_cloudhsm_key_store_throttles_total",
				Help: "Cryptographic requests that were throttled for an HSM key store, by KMS or by the cluster.",
			}, store),
			kmsapi.ExternalKeyStore: prometheus.NewCounterVec(prometheus.CounterOpts{
				Name: "kastellan_external_key_store_throttles_total",
				Help: "Cryptographic requests that KMS itself throttled for an external key store.",
			}, store),
		},
	}
	if keys > 0 {
		m.perKey = newPerKey(keys)
	}
	return m
}

func (m *meters) register(r prometheus.Registerer, s *Service) error {
	if r == nil {
		return nil
	}
	all := []prometheus.Collector{m.quotas, &gauges{s}}
	for _, c := range m.throttles {
		all = append(all, c)
	}
	if m.perKey != nil {
		all = append(all, m.perKey.successes)
	}
	var errs []error
	for _, c := range all {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}

// storeFailed counts a failed request to a custom key store if it was throttled.
func (m *meters) storeFailed(kind kmsapi.CustomKeyStoreType, id, operation string, spec kmsapi.KeySpec, err error) {
	if kmsapi.CodeOf(err) != kmsapi.Throttling && !errors.Is(err, keystore.ErrBusy) {
		return
	}
	if throttles := m.throttles[kind]; throttles != nil {
		throttles.WithLabelValues(id, operation, string(spec)).Inc()
	}
}

// gauges are read off the mirror.
type gauges struct{ s *Service }

var (
	revisionDesc = prometheus.NewDesc("kastellan_mirror_revision",
		"Revision of the stored metadata that requests are served from.", nil, nil)
	lagDesc = prometheus.NewDesc("kastellan_sweeper_lag_seconds",
		"For how long the deletion, rotation or expiry that is most overdue has been due; 0 if none is.", nil, nil)
	unclaimedDesc = prometheus.NewDesc("kastellan_unclaimed_key_materials",
		"Key materials that no key claims yet, or any more: they are being made or wait for their destruction.", nil, nil)
	stateDesc = prometheus.NewDesc("kastellan_custom_key_store_state",
		"1 for the connection state that the custom key store has on record.", []string{"custom_key_store_id", "type", "state"}, nil)
	credentialDesc = prometheus.NewDesc("kastellan_xks_proxy_credential_age_days",
		"Days since KMS was given the credential of the external key store proxy.", []string{"custom_key_store_id"}, nil)
	expirationDesc = prometheus.NewDesc("kastellan_seconds_until_key_material_expiration",
		"Seconds until the first of the imported key materials of a key expires, for the 1,000 keys that are next.", []string{"key_arn"}, nil)
)

// Describe implements prometheus.Collector.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{revisionDesc, lagDesc, unclaimedDesc, stateDesc, credentialDesc, expirationDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	m, now := g.s.mirror, g.s.now()
	revision, unclaimed, lag := m.sizes(now)
	gauge(revisionDesc, revision)
	gauge(unclaimedDesc, unclaimed)
	gauge(lagDesc, lag.Seconds())
	for _, rec := range m.keyStores(func(*keyStoreRecord) bool { return true }) {
		gauge(stateDesc, 1, rec.ID, string(rec.Type), string(rec.State))
		if rec.XKS != nil {
			gauge(credentialDesc, now.Sub(rec.XKS.CredentialSet).Hours()/24, rec.ID)
		}
	}
	for _, e := range m.expirations() {
		gauge(expirationDesc, e.at.Sub(now).Seconds(), e.arn)
	}
}

// sizes tells the revision, how many materials are unclaimed, and for how long the sweeper's
// work that is most overdue has been so.
func (m *mirror) sizes(now time.Time) (revision, unclaimed float64, lag time.Duration) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, k := range m.timed {
		lag = max(lag, now.Sub(k.due))
	}
	return float64(m.revision), float64(len(m.material)), lag
}

// maxExpirations bounds how many keys are shown with their expiry.
const maxExpirations = 1000

// expiration is when the first material of a key expires.
type expiration struct {
	arn string
	at  time.Time
}

// expirations gives those that are next.
func (m *mirror) expirations() []expiration {
	var out []expiration
	m.mu.RLock()
	for _, k := range m.timed {
		var first time.Time
		for i := range k.Materials {
			if at := k.Materials[i].ValidTo; !at.IsZero() && (first.IsZero() || at.Before(first)) {
				first = at
			}
		}
		if !first.IsZero() {
			out = append(out, expiration{k.ARN, first})
		}
	}
	m.mu.RUnlock()
	slices.SortFunc(out, func(a, b expiration) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.arn, b.arn)) })
	return out[:min(len(out), maxExpirations)]
}
