package kms

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// perKey counts successful cryptographic operations by key, for so many keys and no
// more: those that are used first. Whoever has more than that sees the rest together.
type perKey struct {
	successes *prometheus.CounterVec
	limit     int

	mu    sync.RWMutex
	shown map[string]bool // by ARN
}

// otherKeys stands for the keys beyond the limit.
const otherKeys = "other"

func newPerKey(limit int) *perKey {
	return &perKey{
		limit: limit, shown: make(map[string]bool),
		successes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kastellan_successful_requests_total",
			Help: "Successful cryptographic operations by key.",
		}, []string{"key_arn", "operation"}),
	}
}

// countSuccess counts the keys of a call that succeeded. ReEncrypt has two, and
// counts under the name of the permission that each of them needs.
func (p *perKey) countSuccess(operation string, keys []*keyEntry) {
	if p == nil {
		return
	}
	if operation == "ReEncrypt" && len(keys) == 2 {
		p.count("ReEncryptFrom", keys[0].ARN)
		p.count("ReEncryptTo", keys[1].ARN)
		return
	}
	for _, k := range keys {
		p.count(operation, k.ARN)
	}
}

func (p *perKey) count(operation, arn string) {
	p.mu.RLock()
	shown := p.shown[arn]
	p.mu.RUnlock()
	if !shown && !p.show(arn) {
		arn = otherKeys
	}
	p.successes.WithLabelValues(arn, operation).Inc()
}

// show makes room for a key, if there is any.
func (p *perKey) show(arn string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown[arn] {
		return true
	}
	if len(p.shown) >= p.limit {
		return false
	}
	p.shown[arn] = true
	return true
}

// forget takes a key away that is deleted.
func (p *perKey) forget(arn string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown[arn] {
		delete(p.shown, arn)
		p.successes.DeletePartialMatch(prometheus.Labels{"key_arn": arn})
	}
}
