package xks_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kastellan.dev/internal/endpointservice"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/keystore/xks"
	"kastellan.dev/internal/keystore/xks/xkstest"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/polltest"
)

func TestServicesThatBreakARule(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		spoil func(*endpointservice.Service)
		says  endpointservice.Rule
	}{
		"of the type Gateway":              {func(s *endpointservice.Service) { s.Type = "Gateway" }, endpointservice.InterfaceType},
		"with a gateway load balancer":     {func(s *endpointservice.Service) { s.LoadBalancer = "gateway" }, endpointservice.NetworkBalancer},
		"in one zone":                      {func(s *endpointservice.Service) { s.Targets = s.Targets[:1] }, endpointservice.TwoZones},
		"of another owner":                 {func(s *endpointservice.Service) { s.Owner = "999999999999" }, endpointservice.OwnerMatches},
		"that accepts endpoints by hand":   {func(s *endpointservice.Service) { s.AcceptanceRequired = true }, endpointservice.NoAcceptance},
		"without a private DNS name":       {func(s *endpointservice.Service) { s.PrivateDNSName = "" }, endpointservice.HasPrivateDNS},
		"with a top-level private domain":  {func(s *endpointservice.Service) { s.PrivateDNSName = "example.com" }, endpointservice.PublicSubdomain},
		"whose domain is not verified":     {func(s *endpointservice.Service) { s.PrivateDNSVerified = false }, endpointservice.PrivateDNSVerified},
		"whose name is not the endpoint's": {func(s *endpointservice.Service) { s.PrivateDNSName = "other.xks.example.com" }, endpointservice.EndpointMatches},
		"with IPv6":                        {func(s *endpointservice.Service) { s.IPAddressType = "ipv6" }, endpointservice.IPv4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, xkstest.Options{}, throughService(t, tt.spoil))
			err := r.kind.Verify(t.Context(), call("CreateCustomKeyStore"), r.store)
			wantCode(t, "CreateCustomKeyStore", err, kmsapi.XksProxyVpcEndpointServiceInvalidConfig)
			if err != nil && !strings.Contains(err.Error(), string(tt.says)) {
				t.Errorf("%v does not name the rule %q", err, tt.says)
			}
			var ke *kmsapi.Error
			if errors.As(err, &ke) && strings.Contains(ke.Message, "found:") {
				t.Errorf("the caller is told what the owner of the service has: %s", ke.Message)
			}
			_, evidence, err := r.tryConnect(t)
			if keystore.CodeOf(err) != kmsapi.XksVPCEndpointServiceInvalidConfiguration || !says(evidence, string(tt.says)) {
				t.Errorf("Connect: %v, %+v", err, evidence)
			}
			if n := r.proxy.Connections(); n != 0 {
				t.Errorf("the proxy was connected to %d times", n)
			}
		})
	}
}

func TestStoresThatExcludeEachOther(t *testing.T) {
	t.Parallel()
	r := newRig(t, xkstest.Options{})
	for name, tt := range map[string]struct {
		change func(*keystore.Config)
		want   kmsapi.Code
	}{
		"the same URI":             {func(*keystore.Config) {}, kmsapi.XksProxyUriInUse},
		"the same URI in capitals": {func(c *keystore.Config) { c.XKS.URIEndpoint = "https://" + strings.ToUpper(host) }, kmsapi.XksProxyUriInUse},
		"another path":             {func(c *keystore.Config) { c.XKS.URIPath = "/other/kms/xks/v1" }, ""},
		"another account":          {func(c *keystore.Config) { c.Account = "999999999999" }, ""},
		"another host":             {func(c *keystore.Config) { c.XKS.URIEndpoint = "https://other.example.com" }, ""},
		"the same host by an endpoint service": {func(c *keystore.Config) {
			c.XKS.URIPath, c.XKS.Connectivity = "/o/kms/xks/v1", kmsapi.VPCEndpointService
		}, kmsapi.XksProxyUriEndpointInUse},
		"a store of HSMs": {func(c *keystore.Config) { c.XKS, c.HSM = nil, new(keystore.HSMConfig) }, ""},
	} {
		other := r.store
		x := *r.store.XKS
		other.XKS = &x
		tt.change(&other)
		if got := kmsapi.CodeOf(r.kind.Conflict(r.store, other)); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
	one, two := r.store, r.store
	a, b := *r.store.XKS, *r.store.XKS
	a.Connectivity, a.ServiceName = kmsapi.VPCEndpointService, serviceName
	b.Connectivity, b.ServiceName, b.URIEndpoint = kmsapi.VPCEndpointService, serviceName, "https://other.example.com"
	one.XKS, two.XKS = &a, &b
	wantCode(t, "the same service", r.kind.Conflict(one, two), kmsapi.XksProxyVpcEndpointServiceInUse)
}

// One of two targets dies under load, in each of the ways in which machines
// die: no call fails, and the dead target is found back.
func TestTargetThatDiesUnderLoadFailsNoCall(t *testing.T) {
	t.Parallel()
	for name, die := range map[string]func(r *rig, address string) (revive func()){
		"closed": func(r *rig, address string) func() {
			r.proxy.Shut(address)
			return func() { r.proxy.ListenAt(address) }
		},
		"hung": func(r *rig, address string) func() {
			for _, op := range []xkstest.Op{xkstest.Encrypt, xkstest.Decrypt} {
				r.proxy.Fail(op, r.proxy.HangAt(address))
			}
			return r.proxy.Heal
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, xkstest.Options{}, throughService(t, nil), timeout(time.Second))
			c := r.connect(t)
			k := createKey(t, c)
			ctx, stop := context.WithCancel(context.Background())
			var done atomic.Int64
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for ctx.Err() == nil {
						sealed, err := c.Encrypt(context.Background(), call("Encrypt"), k, nil, []byte("x"), nil)
						if err == nil {
							_, err = decrypt(context.Background(), c, k, sealed, "")
						}
						if err != nil {
							t.Errorf("a call failed: %v", err)
							return
						}
						done.Add(1)
					}
				})
			}
			served := func(n int64) func() bool {
				from := done.Load()
				return func() bool { return done.Load() >= from+n || t.Failed() }
			}
			polltest.Until(t, "calls before", served(100))
			revive := die(r, r.proxy.Address)
			polltest.Until(t, "calls without it", served(200))
			revive()
			targets := func() map[string]bool { return c.(keystore.Reporter).Health().(xks.Health).Targets }
			polltest.Until(t, "the target to be found back", func() bool { return targets()[r.proxy.Address] || t.Failed() })
			polltest.Until(t, "calls afterwards", served(100))
			stop()
			wg.Wait()
		})
	}
}

func TestDisconnectingRemovesTheEndpoint(t *testing.T) {
	t.Parallel()
	r := newRig(t, xkstest.Options{}, throughService(t, nil))
	c, evidence, err := r.tryConnect(t)
	if err != nil {
		t.Fatal(err)
	}
	if s := evidence.Steps; len(s) < 3 || s[0].Name != "find endpoint service" || s[1].Name != "check endpoint service" || s[2].Name != "open interface endpoint" {
		t.Errorf("the steps are %+v", s)
	}
	c.Close(context.Background())
	c.Close(context.Background())
	before := r.proxy.Connections()
	if _, err := c.CreateKey(t.Context(), call("CreateKey"), newKey(externalKey)); err == nil {
		t.Error("a key is made through an endpoint that was removed")
	}
	if n := r.proxy.Connections(); n != before {
		t.Error("the proxy was connected to")
	}
}
