package cloudhsm

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// Fingerprint identifies a cluster and all clusters that share its backup
// history: the SHA-256 of the cluster's certificate. ok is false when
// the cluster has no certificate that can be read.
func (c Cluster) Fingerprint() (sum [sha256.Size]byte, ok bool) {
	text := c.ClusterCertificate
	if text == "" {
		text = c.TrustAnchor
	}
	cert, err := parseCertificate(text)
	if err != nil {
		return sum, false
	}
	return sha256.Sum256(cert.Raw), true
}

// CheckTrustAnchor tells why anchor (PEM) is not the trust anchor of the
// cluster: it has to be a self-signed CA certificate with the key of the cluster's own
// anchor, and the signer of the cluster's certificate. Dates are not
// looked at: an anchor is replaced by decision, not by the calendar.
func (c Cluster) CheckTrustAnchor(anchor string) error {
	cert, err := parseAnchor(anchor)
	if err != nil {
		return err
	}
	if c.TrustAnchor != "" {
		own, err := parseCertificate(c.TrustAnchor)
		if err != nil {
			return fmt.Errorf("reading the cluster's trust anchor: %w", err)
		}
		if !bytes.Equal(own.RawSubjectPublicKeyInfo, cert.RawSubjectPublicKeyInfo) {
			return errors.New("the certificate has another key than the cluster's trust anchor")
		}
	}
	if c.ClusterCertificate == "" {
		return nil
	}
	cluster, err := parseCertificate(c.ClusterCertificate)
	if err != nil {
		return fmt.Errorf("reading the cluster's certificate: %w", err)
	}
	if err := cluster.CheckSignatureFrom(cert); err != nil {
		return fmt.Errorf("the certificate did not sign the cluster's certificate: %w", err)
	}
	return nil
}

// parseAnchor reads a self-signed CA certificate.
func parseAnchor(text string) (*x509.Certificate, error) {
	cert, err := parseCertificate(text)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(cert.RawIssuer, cert.RawSubject) {
		return nil, errors.New("the certificate is not self-signed: issuer and subject differ")
	}
	if err := cert.CheckSignatureFrom(cert); err != nil {
		return nil, fmt.Errorf("the certificate is not a self-signed CA certificate: %w", err)
	}
	return cert, nil
}

// parseCertificate reads exactly one PEM block that is a certificate.
func parseCertificate(text string) (*x509.Certificate, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("there is no PEM certificate")
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, errors.New("there is more than one PEM block")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parsing the certificate: %w", err)
	}
	return cert, nil
}
