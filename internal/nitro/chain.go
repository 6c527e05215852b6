package nitro

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// trust checks the certificates of a document and gives the key that must have
// signed it. The chain must be the one that the document shows: the bundle from
// its trusted root downwards, then the certificate.
func (v *Verifier) trust(c *claims, now time.Time) (*ecdsa.PublicKey, error) {
	chain, err := parseChain(c)
	if err != nil {
		return nil, err
	}
	leaf, root := chain[0], chain[len(chain)-1]
	if !contains(v.roots, root) {
		return nil, fmt.Errorf("%w: cabundle does not begin with a trusted root", ErrUntrusted)
	}
	if err := checkUsages(chain); err != nil {
		return nil, err
	}
	options := x509.VerifyOptions{
		Roots:         x509.NewCertPool(),
		Intermediates: x509.NewCertPool(),
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, // the certificates of Nitro name none
	}
	options.Roots.AddCert(root)
	for _, issuer := range chain[1 : len(chain)-1] {
		options.Intermediates.AddCert(issuer)
	}
	found, err := leaf.Verify(options)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	shown := func(c []*x509.Certificate) bool { return slices.EqualFunc(c, chain, (*x509.Certificate).Equal) }
	if !slices.ContainsFunc(found, shown) {
		return nil, fmt.Errorf("%w: cabundle is not the chain of certificate, from its root downwards", ErrUntrusted)
	}
	return leaf.PublicKey.(*ecdsa.PublicKey), nil // checkUsages has seen to it
}

// contains tells whether a certificate itself is in a pool, whatever else in the
// pool may have issued it.
func contains(pool *x509.CertPool, c *x509.Certificate) bool {
	more := pool.Clone()
	more.AddCert(c)
	return more.Equal(pool)
}

// parseChain gives the certificate first and the root last.
func parseChain(c *claims) ([]*x509.Certificate, error) {
	ders := append([]byteString{c.Certificate}, c.CABundle...)
	slices.Reverse(ders[1:])
	chain := make([]*x509.Certificate, len(ders))
	for i, der := range ders {
		var err error
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			return nil, fmt.Errorf("%w: parsing the certificates: %w", ErrMalformed, err)
		}
	}
	return chain, nil
}

// checkUsages checks what x509.Verify leaves to its caller: that each
// certificate says expressly what it is for, and that all of them are of the
// one kind that the Nitro PKI issues.
func checkUsages(chain []*x509.Certificate) error {
	for i, c := range chain {
		name := c.Subject.CommonName
		key, ok := c.PublicKey.(*ecdsa.PublicKey)
		switch {
		case !ok || key.Curve != elliptic.P384():
			return fmt.Errorf("%w: the key of %q is not on P-384", ErrUntrusted, name)
		case c.SignatureAlgorithm != x509.ECDSAWithSHA384:
			return fmt.Errorf("%w: %q is not signed with ECDSA and SHA-384", ErrUntrusted, name)
		case i == 0 && (c.IsCA || c.KeyUsage&x509.KeyUsageDigitalSignature == 0):
			return fmt.Errorf("%w: %q is not for signing documents", ErrUntrusted, name)
		case i > 0 && (!c.BasicConstraintsValid || !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0):
			return fmt.Errorf("%w: %q is not for signing certificates", ErrUntrusted, name)
		}
	}
	return nil
}
