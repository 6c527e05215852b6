// Package nitrotest is Nitro hardware for tests: a public key infrastructure of
// its own, enclaves that make attestation documents, and the enclave's side of
// CiphertextForRecipient.
//
// It knows the formats from their specifications and shares no code with
// package nitro, so that a mistake of one is not made up for by the other.
package nitrotest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"
)

// Authority is a certificate and its key.
type Authority struct {
	Certificate *x509.Certificate
	Key         *ecdsa.PrivateKey
}

// NewRoot makes a root certificate that is valid for years around now.
func NewRoot(t testing.TB, now time.Time) *Authority {
	t.Helper()
	template := CA("test.nitro-enclaves", now)
	template.NotBefore, template.NotAfter = now.AddDate(-5, 0, 0), now.AddDate(25, 0, 0)
	key := newKey(t, elliptic.P384())
	return &Authority{Certificate: sign(t, template, template, &key.PublicKey, key), Key: key}
}

// Pool is a pool with this certificate alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.Certificate)
	return pool
}

// Issue signs a certificate for a new key on a curve.
func (a *Authority) Issue(t testing.TB, template *x509.Certificate, curve elliptic.Curve) *Authority {
	t.Helper()
	key := newKey(t, curve)
	return &Authority{Certificate: sign(t, template, a.Certificate, &key.PublicKey, a.Key), Key: key}
}

// CA is the template of a certificate that may issue others, valid for days around now.
func CA(name string, now time.Time) *x509.Certificate {
	c := template(name)
	c.NotBefore, c.NotAfter = now.AddDate(0, 0, -3), now.AddDate(0, 0, 17)
	c.IsCA = true
	c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	return c
}

// Leaf is the template of a certificate that signs documents, valid for about
// three hours around now.
func Leaf(name string, now time.Time) *x509.Certificate {
	c := template(name)
	c.NotBefore, c.NotAfter = now.Add(-time.Minute), now.Add(3*time.Hour)
	c.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
	return c
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{Country: []string{"US"}, Organization: []string{"Test"}, CommonName: name},
		BasicConstraintsValid: true,
		SignatureAlgorithm:    x509.ECDSAWithSHA384,
	}
}

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatalf("making a key: %v", err)
	}
	return key
}

func sign(t testing.TB, template, parent *x509.Certificate, public *ecdsa.PublicKey, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatalf("making a serial number: %v", err)
	}
	unsigned := *template
	unsigned.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, &unsigned, parent, public, key)
	if err != nil {
		t.Fatalf("signing the certificate of %s: %v", template.Subject.CommonName, err)
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("parsing the certificate of %s: %v", template.Subject.CommonName, err)
	}
	return signed
}
