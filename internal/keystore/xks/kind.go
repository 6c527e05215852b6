package xks

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kastellan.dev/internal/endpointservice"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/rootkey"
)

// Config says how external key stores are reached. Only Sealer is required.
type Config struct {
	Hosts    map[string]HostConfig     // by the host of the XksProxyUriEndpoint, in lower case
	Services endpointservice.Directory // nil: there are no endpoint services
	Sealer   rootkey.Sealer            // seals inner keys

	MaxInFlight    int           // calls under way per store; 0 is 500
	Timeout        time.Duration // of one call to a proxy; 0 is 250 ms
	HealthInterval time.Duration // between two polls of a connected store, give or take a fifth; 0 is 1 minute

	Metrics prometheus.Registerer // nil: none
	Logger  *slog.Logger          // nil: none
	Now     func() time.Time      // nil: time.Now
}

// HostConfig is what cannot be said in an XksProxyUriEndpoint. The zero value
// is right for a proxy in public DNS with a certificate of a public CA.
type HostConfig struct {
	Address           string           // "host:port" to connect to; empty: the host, port 443. Endpoint services have targets instead
	CABundle          []byte           // PEM certificates of the only CAs to trust; nil: those of the system
	ClientCertificate *tls.Certificate // shown to a proxy that asks for one
	ServerName        string           // name in the proxy's certificate; empty: the host
}

// Kind makes external key stores.
type Kind struct {
	cfg     Config
	log     *slog.Logger
	hosts   map[string]host
	metrics *metrics
	dialer  net.Dialer
}

// host is a HostConfig that was checked.
type host struct {
	HostConfig
	roots *x509.CertPool // nil: those of the system
}

var _ keystore.Kind = (*Kind)(nil)

// New checks the configuration and registers the metrics.
func New(cfg Config) (*Kind, error) {
	if cfg.Sealer == nil {
		return nil, errors.New("external key stores: there is nothing to seal inner keys with")
	}
	if cfg.MaxInFlight <= 0 {
		cfg.MaxInFlight = 500
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 250 * time.Millisecond
	}
	if cfg.HealthInterval <= 0 {
		cfg.HealthInterval = time.Minute
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	k := &Kind{cfg: cfg, log: cfg.Logger, hosts: make(map[string]host)}
	if k.log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	for name, hc := range cfg.Hosts {
		h, err := checkHost(hc)
		if err != nil {
			return nil, fmt.Errorf("external key stores: host %q: %w", name, err)
		}
		k.hosts[canonicalHost(name)] = h
	}
	var err error
	if k.metrics, err = newMetrics(cfg.Metrics); err != nil {
		return nil, fmt.Errorf("external key stores: registering metrics: %w", err)
	}
	return k, nil
}

func checkHost(hc HostConfig) (host, error) {
	h := host{HostConfig: hc}
	if hc.Address != "" {
		if _, _, err := net.SplitHostPort(hc.Address); err != nil {
			return host{}, fmt.Errorf("the address is not a host and a port: %w", err)
		}
	}
	if hc.CABundle != nil {
		h.roots = x509.NewCertPool()
		if !h.roots.AppendCertsFromPEM(hc.CABundle) {
			return host{}, errors.New("the CA bundle holds no certificate")
		}
	}
	return h, nil
}

// Type implements keystore.Kind.
func (k *Kind) Type() kmsapi.CustomKeyStoreType { return kmsapi.ExternalKeyStore }

// Locate implements keystore.Kind: an endpoint service must exist for KMS.
func (k *Kind) Locate(_ context.Context, cfg keystore.Config) error {
	if cfg.XKS == nil {
		return errIncomplete(cfg)
	}
	if cfg.XKS.Connectivity != kmsapi.VPCEndpointService {
		return nil
	}
	_, err := k.findService(cfg)
	return explained(err, forKeyStore)
}

// Conflict implements keystore.Kind.
func (k *Kind) Conflict(cfg, other keystore.Config) error {
	a, b := cfg.XKS, other.XKS
	if a == nil || b == nil {
		return nil
	}
	sameHost := hostOf(a) == hostOf(b)
	switch {
	case sameHost && a.URIPath == b.URIPath && cfg.Account == other.Account:
		return kmsapi.Errorf(kmsapi.XksProxyUriInUse, "Another custom key store in this account and Region has this proxy URI endpoint and path.")
	case sameHost && (a.Connectivity != kmsapi.PublicEndpoint || b.Connectivity != kmsapi.PublicEndpoint):
		return kmsapi.Errorf(kmsapi.XksProxyUriEndpointInUse, "Another custom key store in this Region uses this proxy URI endpoint in a way that excludes this one.")
	case a.ServiceName != "" && a.ServiceName == b.ServiceName:
		return kmsapi.Errorf(kmsapi.XksProxyVpcEndpointServiceInUse, "Another custom key store in this Region uses this VPC endpoint service.")
	}
	return nil
}

// Related implements keystore.Kind: any proxy may follow any other.
func (k *Kind) Related(context.Context, keystore.Config, keystore.Config) error { return nil }

// Connectable implements keystore.Kind: connecting an external key store fails in the background only.
func (k *Kind) Connectable(context.Context, keystore.Config) error { return nil }

// Verify implements keystore.Kind. A VPC endpoint service must keep the rules;
// the proxy must be healthy, except that a new store with VPC connectivity
// is not asked before it is connected.
func (k *Kind) Verify(ctx context.Context, call keystore.Call, cfg keystore.Config) error {
	if cfg.XKS == nil {
		return errIncomplete(cfg)
	}
	if cfg.XKS.Connectivity == kmsapi.VPCEndpointService && call.Operation == "CreateCustomKeyStore" {
		_, err := k.checkService(cfg, nil)
		return explained(err, forKeyStore)
	}
	l, err := k.open(cfg, nil)
	if err != nil {
		return explained(err, forKeyStore)
	}
	defer l.close()
	_, err = l.health(ctx, call, nil)
	return explained(err, forKeyStore)
}

// findService finds the endpoint service of a store, if KMS may see it.
func (k *Kind) findService(cfg keystore.Config) (endpointservice.Service, error) {
	if k.cfg.Services == nil {
		return endpointservice.Service{}, failed(serviceNotFound, "no endpoint services are declared")
	}
	s, ok := k.cfg.Services.Find(cfg.XKS.ServiceName)
	if !ok {
		return endpointservice.Service{}, failed(serviceNotFound, "%s is not declared", cfg.XKS.ServiceName)
	}
	for _, v := range endpointservice.Check(s, requirements(cfg)) {
		if v.Rule.Hides() {
			return endpointservice.Service{}, failed(serviceNotFound, "%s", v)
		}
	}
	return s, nil
}

// checkService finds the endpoint service of a store and checks all rules.
func (k *Kind) checkService(cfg keystore.Config, trace *keystore.Trace) (endpointservice.Service, error) {
	end := trace.Step("find endpoint service", cfg.XKS.ServiceName)
	s, err := k.findService(cfg)
	end("", err)
	if err != nil {
		return s, err
	}
	end = trace.Step("check endpoint service", cfg.XKS.ServiceName)
	err = violated(endpointservice.Check(s, requirements(cfg)))
	end(fmt.Sprintf("%d targets in %s", len(s.Targets), strings.Join(s.Zones(), ", ")), err)
	return s, err
}

func requirements(cfg keystore.Config) endpointservice.Requirements {
	return endpointservice.Requirements{
		Region: cfg.Region, CallerAccount: cfg.Account, Owner: cfg.XKS.ServiceOwner, EndpointHost: hostOf(cfg.XKS),
	}
}

// violated makes an error of broken rules. The caller sees the rules; what
// the service has instead is its owner's business and goes to the log.
func violated(broken []endpointservice.Violation) error {
	if len(broken) == 0 {
		return nil
	}
	var rules, all []string
	for _, v := range broken {
		rules, all = append(rules, string(v.Rule)), append(all, v.String())
	}
	err := failed(serviceInvalid, "%s", strings.Join(all, "; "))
	err.shown = "It breaks: " + strings.Join(rules, "; ") + "."
	return err
}

// errIncomplete is for a record that lost its configuration: nobody's fault but ours.
func errIncomplete(cfg keystore.Config) error {
	return fmt.Errorf("key store %s has no proxy configuration", cfg.ID)
}

// hostOf is the host of the URI endpoint.
func hostOf(cfg *keystore.XKSConfig) string {
	return canonicalHost(strings.TrimPrefix(cfg.URIEndpoint, "https://"))
}

func canonicalHost(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
