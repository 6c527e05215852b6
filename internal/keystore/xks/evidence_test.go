package xks_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/keystore/xks"
	"kastellan.dev/internal/keystore/xks/xkstest"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/xksapi"
)

// What an operator reads who asks why a store did not connect: how far it came,
// where, what the other side said, and how long each step took.
func TestEvidenceOfFailedConnections(t *testing.T) {
	t.Parallel()
	const limit = 1500 * time.Millisecond
	expired := time.Now().Add(-time.Hour).UTC()
	for name, tt := range map[string]struct {
		options xkstest.Options
		change  func(*rig, *xks.Config)
		spoil   func(*testing.T, *rig)

		steps   []string      // their names
		target  string        // of the last one; empty: the proxy's address
		detail  string        // of the last one
		failure string        // of the last one
		took    time.Duration // by the last one, at least
	}{
		"nobody listens": {change: at(xkstest.Nowhere)(t),
			steps: []string{"connect"}, target: "127.0.0.1:", failure: "connection refused"},
		"an expired certificate": {options: withLeaf(t, xkstest.Leaf{Host: host, NotAfter: expired}),
			steps: []string{"connect", "TLS handshake"}, target: "-",
			detail: "certificate for " + host + " from xkstest CA, good until " + expired.Format(time.RFC3339), failure: "certificate has expired"},
		"a wrong secret": {spoil: func(_ *testing.T, r *rig) { r.proxy.SetSecret(secret.NewText(strings.Repeat("x", 43))) },
			steps: []string{"connect", "TLS handshake", "send request"}, detail: "GetHealthStatus: HTTP status 401", failure: "AuthenticationFailedException"},
		"an answer in nonsense": {spoil: answers(200, "<html>"),
			steps: []string{"connect", "TLS handshake", "send request"}, detail: "GetHealthStatus: HTTP status 200", failure: "no JSON"},
		"no answer, twice": {change: timeout(limit), spoil: func(_ *testing.T, r *rig) { r.proxy.Fail(xkstest.Health, r.proxy.Hang()) },
			steps: []string{"connect", "TLS handshake", "send request", "connect", "TLS handshake", "send request"}, failure: "timed out", took: limit / 4},
		"a handshake without an answer, twice": {change: timeout(limit), spoil: onConnections(new(stopped).connection),
			steps: []string{"connect", "TLS handshake", "connect", "TLS handshake"}, target: "-", failure: "time", took: limit / 4},
		"no key manager": {spoil: func(_ *testing.T, r *rig) { r.proxy.Fleet(xksapi.Unavailable) },
			steps: []string{"connect", "TLS handshake", "send request", "check key managers"}, target: host,
			detail: "1 key managers: 0 active, 0 degraded, 1 unavailable", failure: "all key managers unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.change == nil {
				tt.change = func(*rig, *xks.Config) {}
			}
			r := newRig(t, tt.options, tt.change)
			if tt.spoil != nil {
				tt.spoil(t, r)
			}
			_, evidence, err := r.tryConnect(t)
			if err == nil || evidence.Code != keystore.CodeOf(err) || evidence.Failure != err.Error() {
				t.Fatalf("the evidence says %s, %q of %v", evidence.Code, evidence.Failure, err)
			}
			var names []string
			for _, s := range evidence.Steps {
				names = append(names, s.Name)
				if s.Started.Before(evidence.Started) || s.Started.Add(s.Took).After(evidence.Ended) {
					t.Errorf("the step %+v is outside of the attempt", s)
				}
			}
			if !slices.Equal(names, tt.steps) {
				t.Fatalf("the steps are %q, want %q", names, tt.steps)
			}
			want := tt.target
			switch want {
			case "":
				want = r.proxy.Address
			case "-":
				want = ""
			}
			last := evidence.Steps[len(evidence.Steps)-1]
			if !strings.HasPrefix(last.Target, want) || last.Detail != tt.detail || !strings.Contains(last.Failure, tt.failure) || last.Took < tt.took {
				t.Errorf("the last step is %+v", last)
			}
		})
	}
}
