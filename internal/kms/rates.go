package kms

import (
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"kastellan.dev/internal/keyspec"
	"kastellan.dev/internal/kmsapi"
)

// RequestRates are the request quotas of each account in each Region. The zero
// value has none.
type RequestRates struct {
	Enforced bool
	// PerSecond has other values than AWS's, by the name of the quota: see RequestQuotas.
	PerSecond map[string]float64
}

// How an operation is counted whose quota depends on more than its name.
const (
	byKey  = "by key"  // one quota for each group of key specs
	byPair = "by pair" // one for each spec of data key pairs
)

// standardRate is AWS's quota of an operation that has none of its own, per second.
const standardRate = 5

// groupRates are AWS's quotas of the groups of key specs, which all cryptographic
// operations share, per second. That of ML_KEM is not documented.
var groupRates = map[keyspec.Group]float64{
	keyspec.GroupSymmetric: 10_000, // more in large Regions
	keyspec.GroupRSA:       1000,
	keyspec.GroupECC:       1000,
	keyspec.GroupMLDSA:     1000,
	keyspec.GroupMLKEM:     1000,
}

// largeRegions are the Regions with another quota for symmetric keys.
var largeRegions = map[string]float64{
	"us-east-2": 20_000, "ap-southeast-1": 20_000, "ap-southeast-2": 20_000, "ap-northeast-1": 20_000, "eu-central-1": 20_000, "eu-west-2": 20_000,
	"us-east-1": 100_000, "us-west-2": 100_000, "eu-west-1": 100_000,
}

// pairRates are AWS's quotas of data key pairs, per second, in China Regions and elsewhere.
// Those of ML_KEM are not documented.
var pairRates = map[kmsapi.KeySpec]struct{ elsewhere, china float64 }{
	kmsapi.RSA2048: {20, 1}, kmsapi.RSA3072: {4, 0.5}, kmsapi.RSA4096: {1, 0.1},
	kmsapi.ECCNistP256: {100, 100}, kmsapi.ECCNistP384: {100, 100}, kmsapi.ECCNistP521: {100, 100},
	kmsapi.ECCSecgP256k1: {100, 100}, kmsapi.ECCNistEdwards: {100, 100},
	kmsapi.SM2:      {25, 25},
	kmsapi.MLKEM512: {100, 100}, kmsapi.MLKEM768: {100, 100}, kmsapi.MLKEM1024: {100, 100},
}

func pairQuota(spec kmsapi.KeySpec) string { return "GenerateDataKeyPair/" + string(spec) }

// requestQuotas gives AWS's request quotas in a Region, per second, by name.
func requestQuotas(table []*Operation, region string) map[string]float64 {
	out := make(map[string]float64)
	for group, perSecond := range groupRates {
		out[string(group)] = perSecond
	}
	if large, ok := largeRegions[region]; ok {
		out[string(keyspec.GroupSymmetric)] = large
	}
	for spec, perSecond := range pairRates {
		out[pairQuota(spec)] = perSecond.elsewhere
		if strings.HasPrefix(region, "cn-") {
			out[pairQuota(spec)] = perSecond.china
		}
	}
	for _, op := range table {
		if op.Quota == op.Name {
			out[op.Name] = op.Rate
		}
	}
	return out
}

// RequestQuotas gives AWS's request quotas in a Region, per second, by name:
// the name of an operation; of a group of key specs ("symmetric", "RSA", "ECC",
// "ML_DSA", "ML_KEM") for cryptographic operations; "GenerateDataKeyPair/" and a
// spec for data key pairs.
func RequestQuotas(region string) map[string]float64 {
	return requestQuotas(slices.Concat(operations, extensions), region)
}

// rates holds requests to the quotas. The zero value holds them to none.
type rates struct {
	enforced bool
	now      func() time.Time
	quotas   func(region string) map[string]float64

	throttles *prometheus.CounterVec // by quota; nil: not counted

	mu     sync.RWMutex
	places map[place]*buckets
}

// buckets are those of one account in one Region, by quota.
type buckets struct {
	limiters map[string]*rate.Limiter
	rest     time.Duration // after which all of them are full
	used     atomic.Int64  // Unix time in nanoseconds
}

func newRates(cfg RequestRates, now func() time.Time) *rates {
	return &rates{
		enforced: cfg.Enforced, now: now, places: make(map[place]*buckets),
		quotas: func(region string) map[string]float64 {
			all := RequestQuotas(region)
			for name, perSecond := range cfg.PerSecond {
				all[name] = perSecond
			}
			return all
		},
	}
}

// take counts one request of an account in a Region against a quota.
func (r *rates) take(account, region, quota string) error {
	if !r.enforced {
		return nil
	}
	now := r.now()
	b := r.of(place{account: account, region: region}, now)
	b.used.Store(now.UnixNano())
	if l := b.limiters[quota]; l == nil || l.AllowN(now, 1) {
		return nil
	}
	if r.throttles != nil {
		r.throttles.WithLabelValues(quota).Inc()
	}
	return throttled()
}

func throttled() error {
	return kmsapi.Errorf(kmsapi.Throttling, "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.")
}

func (r *rates) of(p place, now time.Time) *buckets {
	r.mu.RLock()
	b := r.places[p]
	r.mu.RUnlock()
	if b != nil {
		return b
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if b := r.places[p]; b != nil {
		return b
	}
	r.forgetIdle(now)
	b = newBuckets(r.quotas(p.region))
	b.used.Store(now.UnixNano())
	r.places[p] = b
	return b
}

// forgetIdle drops buckets that are as good as new, so that callers who sign
// for ever other Regions do not fill the memory.
func (r *rates) forgetIdle(now time.Time) {
	for p, b := range r.places {
		if now.Sub(time.Unix(0, b.used.Load())) > b.rest {
			delete(r.places, p)
		}
	}
}

// newBuckets allows bursts of what a second allows, and of one request at least.
func newBuckets(quotas map[string]float64) *buckets {
	b := &buckets{limiters: make(map[string]*rate.Limiter, len(quotas))}
	for name, perSecond := range quotas {
		burst := max(1, math.Ceil(perSecond))
		b.limiters[name] = rate.NewLimiter(rate.Limit(perSecond), int(burst))
		b.rest = max(b.rest, time.Duration(burst/perSecond*float64(time.Second)))
	}
	return b
}

// within counts the call against its operation's own quota.
func (c *call) within() error {
	if c.op.Quota == byKey || c.op.Quota == byPair {
		return nil // counted when the key, or the spec of the pair, is known
	}
	return c.s.rates.take(c.caller.Account, c.caller.Region, c.op.Quota)
}

// withinKeys counts the call against the quota that operations with such keys
// share. A call with two keys of one group counts once.
func (c *call) withinKeys(k *keyEntry) error {
	if c.op.Quota != byKey {
		return nil
	}
	group := k.spec.Group()
	if c.group == group {
		return nil
	}
	c.group = group
	return c.s.rates.take(c.caller.Account, c.caller.Region, string(group))
}
