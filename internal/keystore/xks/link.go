package xks

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"kastellan.dev/internal/endpointservice"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/sigv4"
	"kastellan.dev/internal/xksapi"
)

// link is the way from one key store to its proxy.
type link struct {
	storeID   string
	host      string
	path      string // XksProxyUriPath
	timeout   time.Duration
	now       func() time.Time
	signer    *sigv4.Signer
	route     route
	transport *http.Transport
	metrics   *metrics
	log       *slog.Logger
}

// route makes connections to a proxy.
type route interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	// Silent tells that a request to the remote address got no answer since then.
	Silent(remote string, since time.Time)
	// Close drops all connections; there are no more.
	Close()
}

var (
	_ route = (*endpointservice.Endpoint)(nil)
	_ route = (*publicRoute)(nil)
)

// publicRoute leads to a public endpoint.
type publicRoute struct {
	dialer  *net.Dialer
	address string // overrides the address to dial; may be empty
	lines   endpointservice.Lines
}

// DialContext implements route.
func (r *publicRoute) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if r.address != "" {
		address = r.address
	}
	conn, err := r.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return r.lines.Add(conn)
}

// Silent implements route. It helps where a firewall forgot the pooled connections.
func (r *publicRoute) Silent(remote string, since time.Time) { r.lines.DropSilent(remote, since) }

// Close implements route.
func (r *publicRoute) Close() { r.lines.Close() }

// open makes the link of a store. It checks the endpoint service, if there is
// one, and does not touch the network.
func (k *Kind) open(cfg keystore.Config, trace *keystore.Trace) (*link, error) {
	if cfg.XKS == nil {
		return nil, errIncomplete(cfg)
	}
	if cfg.XKS.Connectivity == kmsapi.PublicEndpoint {
		return k.newLink(cfg, &publicRoute{dialer: &k.dialer, address: k.hosts[hostOf(cfg.XKS)].Address}), nil
	}
	s, err := k.checkService(cfg, trace)
	if err != nil {
		return nil, err
	}
	end := trace.Step("open interface endpoint", s.PrivateDNSName)
	endpoint := endpointservice.Open(s)
	end("", nil)
	return k.newLink(cfg, endpoint), nil
}

func (k *Kind) newLink(cfg keystore.Config, r route) *link {
	name := hostOf(cfg.XKS)
	return &link{
		storeID: cfg.ID, host: name, path: cfg.XKS.URIPath, timeout: k.cfg.Timeout, now: k.cfg.Now, route: r, metrics: k.metrics,
		log: k.log.With("keyStore", cfg.ID),
		signer: &sigv4.Signer{
			Credentials: sigv4.Credentials{AccessKeyID: cfg.XKS.AccessKeyID, Secret: cfg.XKS.SecretAccessKey},
			Service:     xksapi.Service, Region: cfg.Region, SignedHeaders: []string{"host", "x-amz-date"},
		},
		transport: &http.Transport{
			// The transport goes on connecting when the request that began it has given
			// up. To a proxy that stands still that would never end: it gets the time of a call.
			DialContext:         within(k.cfg.Timeout, r.DialContext),
			TLSHandshakeTimeout: k.cfg.Timeout,
			// Proxy stays nil: the environment's is not for key material.
			TLSClientConfig:        tlsConfig(name, k.hosts[name], k.cfg.Now),
			DisableCompression:     true,
			MaxIdleConnsPerHost:    k.cfg.MaxInFlight,
			IdleConnTimeout:        5 * time.Minute,
			MaxResponseHeaderBytes: 16 << 10,
		},
	}
}

type dial = func(ctx context.Context, network, address string) (net.Conn, error)

// within ends a dial when its time is up.
func within(limit time.Duration, d dial) dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return d(ctx, network, address)
	}
}

// tlsConfig allows what the specification does, as far as Go can: see the package comment.
func tlsConfig(name string, h host, now func() time.Time) *tls.Config {
	cfg := &tls.Config{
		ServerName: name, RootCAs: h.roots, MinVersion: tls.VersionTLS12, Time: now,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		},
		ClientSessionCache: tls.NewLRUClientSessionCache(8),
	}
	if h.ServerName != "" {
		cfg.ServerName = h.ServerName
	}
	if h.ClientCertificate != nil {
		cfg.Certificates = []tls.Certificate{*h.ClientCertificate}
	}
	return cfg
}

// close gives back what the link holds.
func (l *link) close() {
	l.route.Close()
	l.transport.CloseIdleConnections()
}

// url is where an operation is; the external key's id is empty for health.
func (l *link) url(op operation, externalKey string) *url.URL {
	path := l.path + "/health"
	if op != opHealth {
		path = l.path + "/keys/" + externalKey + "/" + op.path
	}
	return &url.URL{Scheme: "https", Host: l.host, Path: path}
}
