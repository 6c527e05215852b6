package check

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"kastellan.dev/internal/xksapi"
)

const notTLS = skipped("the URL is plain HTTP")

// Certificates with less time left warn.
const certificateSoon = 10 * 24 * time.Hour

func tlsCases() []testCase {
	return []testCase{
		{
			id: "tls.version", title: "TLS 1.2 or 1.3", level: Must, expected: "TLS 1.2 or 1.3 is negotiated",
			run: func(ctx context.Context, p *prober) (string, error) {
				state, err := p.handshake(ctx, p.tlsConfig())
				if err != nil {
					return "", err
				}
				return tls.VersionName(state.Version), nil
			},
		},
		{
			id: "tls.old-versions", title: "TLS 1.0 and 1.1 are refused", level: Should, expected: "no handshake",
			run: func(ctx context.Context, p *prober) (string, error) {
				cfg := p.tlsConfig()
				cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
				state, err := p.handshake(ctx, cfg)
				var skip skipped
				switch {
				case errors.As(err, &skip):
					return "", err
				case err != nil:
					return "refused", nil
				default:
					return tls.VersionName(state.Version), errNotMet
				}
			},
		},
		{id: "tls.suites", title: "A cipher suite that KMS offers", level: Must, expected: "AES-256-GCM or ChaCha20 in TLS 1.3, or ECDHE with AES-256-GCM in TLS 1.2", run: suites},
		{
			id: "tls.certificate", title: "The certificate is valid for the host name", level: Must, expected: "a chain to a trusted CA, the host's name, a date in its time",
			run: func(ctx context.Context, p *prober) (string, error) {
				state, err := p.handshake(ctx, p.tlsConfig())
				if err != nil {
					return "", err
				}
				leaf := state.PeerCertificates[0]
				return fmt.Sprintf("%s, until %s", strings.Join(leaf.DNSNames, " "), leaf.NotAfter.Format(time.DateOnly)), nil
			},
		},
		{
			id: "tls.certificate-days", title: "The certificate does not expire soon", level: Should, expected: "at least 10 days left",
			run: func(ctx context.Context, p *prober) (string, error) {
				state, err := p.handshake(ctx, p.tlsConfig())
				if err != nil {
					return "", err
				}
				left := time.Until(state.PeerCertificates[0].NotAfter)
				seen := fmt.Sprintf("%d days", int(left.Hours()/24))
				if left < certificateSoon {
					return seen, errNotMet
				}
				return seen, nil
			},
		},
		// The specification demands that a wrong certificate ends the handshake, and says nothing of none.
		clientCase("tls.client-certificate", "Mutual TLS refuses a client without a certificate", noCertificate).should(),
		clientCase("tls.client-stranger", "Mutual TLS refuses a certificate of the right subject from another authority", copiedCertificate),
	}
}

// clientCase is for proxies that want a certificate: the options have one.
func clientCase(id, title string, wrong func(right *tls.Certificate) (*tls.Certificate, error)) testCase {
	return testCase{
		id: id, title: title, level: Must, expected: "the handshake ends",
		run: func(ctx context.Context, p *prober) (string, error) {
			if p.o.ClientCert == nil {
				return "", skipped("the options have no client certificate")
			}
			cert, err := wrong(p.o.ClientCert)
			if err != nil {
				return "", err
			}
			cfg := p.tlsConfig()
			// Certificates would be left out if the proxy does not name their authority.
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
			client := p.newClient(cfg, false)
			defer client.CloseIdleConnections()
			a, err := p.sendWith(ctx, client, request{path: healthPath, body: object{"requestMetadata": healthMetadata(xksapi.HealthCheck)}.json()})
			if err != nil {
				return "refused", nil
			}
			return a.String(), errNotMet
		},
	}
}

func noCertificate(*tls.Certificate) (*tls.Certificate, error) { return new(tls.Certificate), nil }

// copiedCertificate says what the right one says, and signs that itself.
func copiedCertificate(right *tls.Certificate) (*tls.Certificate, error) {
	leaf, err := x509.ParseCertificate(right.Certificate[0])
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: leaf.SerialNumber, Subject: leaf.Subject, DNSNames: leaf.DNSNames,
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, KeyUsage: leaf.KeyUsage, ExtKeyUsage: leaf.ExtKeyUsage,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// suites cannot ask for one suite of TLS 1.3, hence asks for those of TLS 1.2 first.
func suites(ctx context.Context, p *prober) (string, error) {
	cfg := p.tlsConfig()
	cfg.MaxVersion = tls.VersionTLS12
	cfg.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
	if state, err := p.handshake(ctx, cfg); err == nil {
		return tls.CipherSuiteName(state.CipherSuite), nil
	}
	cfg = p.tlsConfig()
	cfg.MinVersion = tls.VersionTLS13
	state, err := p.handshake(ctx, cfg)
	if err != nil {
		return "", err
	}
	seen := tls.CipherSuiteName(state.CipherSuite)
	if state.CipherSuite == tls.TLS_AES_128_GCM_SHA256 {
		return "", skipped("TLS 1.3 chose " + seen + "; whether it would take another cannot be told")
	}
	return seen, nil
}

func (p *prober) handshake(ctx context.Context, cfg *tls.Config) (tls.ConnectionState, error) {
	u, err := url.Parse(p.base)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	if u.Scheme != "https" {
		return tls.ConnectionState{}, notTLS
	}
	address := p.o.Address
	if address == "" {
		address = u.Host
		if u.Port() == "" {
			address = net.JoinHostPort(u.Hostname(), "443")
		}
	}
	cfg.ServerName = u.Hostname()
	ctx, cancel := context.WithTimeout(ctx, p.o.Timeout)
	defer cancel()
	conn, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", address)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState(), nil
}
