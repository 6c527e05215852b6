package xks_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kastellan.dev/internal/keystore/xks"
	"kastellan.dev/internal/keystore/xks/xkstest"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/xksapi"
)

// measured makes a rig with a registry.
func measured(t *testing.T, change ...func(*rig, *xks.Config)) (*rig, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	with := func(_ *rig, cfg *xks.Config) { cfg.Metrics = registry }
	return newRig(t, xkstest.Options{}, append(change, with)...), registry
}

// values gives what a metric counts, by its labels but for the store's:
// "name=value,…" in the order of their names. Of a histogram it is how many observations.
func values(t *testing.T, registry *prometheus.Registry, name string) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]float64)
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				if l.GetName() != "custom_key_store_id" {
					labels = append(labels, l.GetName()+"="+l.GetValue())
				}
			}
			out[strings.Join(labels, ",")] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return out
}

func TestErrorsOfTheProxyAreCounted(t *testing.T) {
	t.Parallel()
	r, registry := measured(t)
	c := r.connect(t)
	settled(t, r)
	k := createKey(t, c)
	for want, fault := range map[string]xkstest.Fault{
		"error_type=retryable,exception_name=ThrottlingException":                  xkstest.Error(xksapi.ThrottlingException),
		"error_type=non-retryable,exception_name=KeyNotFoundException":             xkstest.Error(xksapi.KeyNotFoundException),
		"error_type=retryable,exception_name=XksProxyUnreachableException":         xkstest.Cut(),
		"error_type=non-retryable,exception_name=XksProxyInvalidResponseException": xkstest.Edit(func(out *xksapi.EncryptResponse) { out.Ciphertext[0] ^= 1 }),
	} {
		r.proxy.Fail(xkstest.Encrypt, fault)
		_, err := c.Encrypt(t.Context(), call("GenerateDataKey"), k, nil, []byte("x"), nil)
		r.proxy.Heal()
		wantCode(t, want, err, kmsapi.KMSInvalidState)
		labels := want + ",key_spec=SYMMETRIC_DEFAULT,kms_operation=GenerateDataKey,xks_operation=Encrypt"
		if got := values(t, registry, "kastellan_xks_proxy_errors_total"); got[labels] != 1 {
			t.Errorf("%s: the errors are %v", labels, got)
		}
	}
	latencies := values(t, registry, "kastellan_xks_proxy_latency_seconds")
	if latencies["key_spec=SYMMETRIC_DEFAULT,kms_operation=GenerateDataKey,xks_operation=Encrypt"] != 4 || latencies["key_spec=SYMMETRIC_DEFAULT,kms_operation=CreateKey,xks_operation=GetKeyMetadata"] != 1 {
		t.Errorf("the latencies are %v", latencies)
	}
}

// A call and its second try are one in AWS's metrics, and take the time of both.
func TestTimeoutIsCountedOnce(t *testing.T) {
	t.Parallel()
	const limit = 1500 * time.Millisecond
	r := newRig(t, xkstest.Options{})
	k := createKey(t, r.connect(t))
	registry := prometheus.NewRegistry()
	c := r.hasty(t, limit, func(_ *rig, cfg *xks.Config) { cfg.Metrics = registry })
	r.proxy.Fail(xkstest.Encrypt, r.proxy.Hang())
	_, err := c.Encrypt(t.Context(), call("Encrypt"), k, nil, []byte("x"), nil)
	wantCode(t, "Encrypt", err, kmsapi.KMSInvalidState)
	const labels = "key_spec=SYMMETRIC_DEFAULT,kms_operation=Encrypt,xks_operation=Encrypt"
	if got := values(t, registry, "kastellan_xks_proxy_errors_total"); got["error_type=retryable,exception_name=XksProxyUnreachableException,"+labels] != 1 {
		t.Errorf("the errors are %v", got)
	}
	if got := values(t, registry, "kastellan_xks_proxy_latency_seconds"); got[labels] != 1 {
		t.Errorf("the latencies are %v", got)
	}
}

func TestThrottledCallsAreNoErrorsOfTheProxy(t *testing.T) {
	t.Parallel()
	r, registry := measured(t, func(_ *rig, cfg *xks.Config) { cfg.MaxInFlight = 1 })
	c := r.connect(t)
	k := createKey(t, c)
	release, done := make(chan struct{}), make(chan error)
	r.proxy.Fail(xkstest.Encrypt, r.proxy.Until(release))
	go func() {
		_, err := c.Encrypt(context.Background(), call("Encrypt"), k, nil, []byte("x"), nil)
		done <- err
	}()
	polltest.Until(t, "a call under way", func() bool { return r.proxy.Count(xkstest.Encrypt) == 1 })
	_, err := c.Encrypt(t.Context(), call("ReEncrypt"), k, nil, []byte("x"), nil)
	wantCode(t, "the second", err, kmsapi.Throttling)
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := values(t, registry, "kastellan_xks_proxy_errors_total"); len(got) != 0 {
		t.Errorf("what KMS itself throttles counts as errors of the proxy: %v", got)
	}
}

func TestStoreIsShownWhileItIsConnected(t *testing.T) {
	t.Parallel()
	r, registry := measured(t, func(_ *rig, cfg *xks.Config) { cfg.HealthInterval = 10 * time.Millisecond })
	right := r.proxy.Secret
	certificates := func() map[string]float64 {
		return values(t, registry, "kastellan_xks_proxy_certificate_days_to_expire")
	}
	states := func() map[string]float64 { return values(t, registry, "kastellan_xks_external_key_manager_states") }

	r.proxy.SetSecret(secret.NewText(strings.Repeat("x", 43)))
	if _, _, err := r.tryConnect(t); err == nil {
		t.Fatal("it connects with a wrong secret")
	}
	if got := certificates(); len(got) != 0 {
		t.Errorf("a store that did not connect shows %v", got)
	}
	r.proxy.SetSecret(right)
	r.proxy.Fleet(xksapi.Active, xksapi.Degraded, xksapi.Degraded, xksapi.Unavailable)
	c := r.connect(t)
	polltest.Until(t, "the states", func() bool {
		s := states()
		return s["state=Active"] == 1 && s["state=Degraded"] == 2 && s["state=Unavailable"] == 1
	})
	if days := certificates()["certificate_name="+host]; days < 29 || days > 30 {
		t.Errorf("the certificate is good for %v days", days)
	}
	r.proxy.Fleet(xksapi.Unavailable)
	polltest.Until(t, "the fall of the fleet", func() bool { return states()["state=Unavailable"] == 1 && states()["state=Active"] == 0 })
	if got := values(t, registry, "kastellan_xks_proxy_errors_total"); len(got) != 1 { // the wrong secret's
		t.Errorf("key managers that are unavailable count as errors of the proxy: %v", got)
	}

	second := r.resume(t) // takes the place of the first
	c.Close(context.Background())
	if len(certificates()) != 1 || len(states()) != 3 {
		t.Errorf("while its successor lives the store shows %v, %v", certificates(), states())
	}
	second.Close(context.Background())
	if len(certificates()) != 0 || len(states()) != 0 {
		t.Errorf("a store that was disconnected shows %v, %v", certificates(), states())
	}
}
