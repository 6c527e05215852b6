package xksproxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// TLSConfig names the files of a listener. They are read again by Reload, and
// when they have changed.
type TLSConfig struct {
	CertFile string // PEM: the certificate and its chain
	KeyFile  string // PEM: PKCS#8, PKCS#1 or SEC 1; others must not have access to it
	// Certificate is used instead of the files, when it is not nil.
	Certificate *tls.Certificate

	// ClientCAFile turns mutual TLS on: PEM of the CAs that may issue client
	// certificates. ClientNames are the subjects that may connect: the
	// common name or one of the DNS names must be among them. Both or neither.
	ClientCAFile string
	ClientNames  []string
}

// cipherSuites12 are the suites of TLS 1.2 that the XKS Proxy API allows. Those of
// TLS 1.3 are the client's choice: Go has no switch for them.
var cipherSuites12 = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
}

// load reads the files and makes the configuration of new connections.
func (c TLSConfig) load() (*tls.Config, error) {
	cert, err := c.certificate()
	if err != nil {
		return nil, err
	}
	out := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		CipherSuites: cipherSuites12,
		Certificates: []tls.Certificate{*cert},
		NextProtos:   []string{"h2", "http/1.1"},
	}
	if c.ClientCAFile == "" && len(c.ClientNames) == 0 {
		return out, nil
	}
	if c.ClientCAFile == "" || len(c.ClientNames) == 0 {
		return nil, errors.New("mutual TLS needs both the client CA and the names of the clients")
	}
	pem, err := os.ReadFile(c.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("reading client CA: %w", err)
	}
	out.ClientCAs = x509.NewCertPool()
	if !out.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading client CA: %s has no certificate", c.ClientCAFile)
	}
	out.ClientAuth = tls.RequireAndVerifyClientCert
	names := slices.Clone(c.ClientNames)
	out.VerifyConnection = func(cs tls.ConnectionState) error { return checkClient(cs, names) }
	return out, nil
}

func (c TLSConfig) certificate() (*tls.Certificate, error) {
	if c.Certificate != nil {
		return c.Certificate, nil
	}
	info, err := os.Stat(c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("loading TLS key: %w", err)
	}
	if err := checkSecretFile(c.KeyFile, info); err != nil {
		return nil, fmt.Errorf("loading TLS key: %w", err)
	}
	cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("loading TLS certificate: %w", err)
	}
	return &cert, nil
}

// stamp changes when one of the files does.
func (c TLSConfig) stamp() string {
	var b strings.Builder
	for _, name := range []string{c.CertFile, c.KeyFile, c.ClientCAFile} {
		if info, err := os.Stat(name); err == nil {
			fmt.Fprintf(&b, "%d %d;", info.ModTime().UnixNano(), info.Size())
		}
	}
	return b.String()
}

// checkClient ends the handshake with a client whose certificate is valid but not of the
// required subject.
func checkClient(cs tls.ConnectionState, names []string) error {
	leaf := cs.PeerCertificates[0] // RequireAndVerifyClientCert has made sure
	if slices.Contains(names, leaf.Subject.CommonName) {
		return nil
	}
	for _, name := range leaf.DNSNames {
		if slices.Contains(names, name) {
			return nil
		}
	}
	return errors.New("the client certificate is of another subject")
}
