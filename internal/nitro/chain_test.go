package nitro_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/nitro"
	"kastellan.dev/internal/nitro/nitrotest"
)

func TestNewRefusesToTrustNobody(t *testing.T) {
	t.Parallel()
	for _, roots := range []*x509.CertPool{nil, x509.NewCertPool()} {
		if v, err := nitro.New(roots); err == nil {
			t.Errorf("got %v", v)
		}
	}
}

func TestNewKeepsACopyOfThePool(t *testing.T) {
	t.Parallel()
	pool := nitrotest.NewRoot(t, now).Pool()
	v := newVerifier(t, pool)
	e, _ := newEnclave(t)
	pool.AddCert(e.Bundle[0])
	mustRefuse(t, v, e.Document(t, now), nitro.ErrUntrusted, "root")
}

func TestVerifyRefusesChains(t *testing.T) {
	t.Parallel()
	root := nitrotest.NewRoot(t, now)
	other := nitrotest.NewRoot(t, now)
	v := newVerifier(t, root.Pool())
	base := nitrotest.NewEnclave(t, root, now)
	p384 := elliptic.P384()

	// with makes a chain of one intermediate from changed templates.
	with := func(ca, leaf func(*x509.Certificate)) *nitrotest.Enclave {
		e, upper, lower := *base, nitrotest.CA("intermediate", now), nitrotest.Leaf("leaf", now)
		ca(upper)
		leaf(lower)
		issuer := root.Issue(t, upper, p384)
		e.Signer = issuer.Issue(t, lower, p384)
		e.Bundle = []*x509.Certificate{root.Certificate, issuer.Certificate}
		return &e
	}
	same := func(*x509.Certificate) {}
	bundle := func(change func([]*x509.Certificate) []*x509.Certificate) *nitrotest.Enclave {
		e := *base
		e.Bundle = change(slices.Clone(base.Bundle))
		return &e
	}
	curve := func(curve elliptic.Curve) *nitrotest.Enclave {
		e := *base
		e.Signer = root.Issue(t, nitrotest.Leaf("leaf", now), curve)
		e.Bundle = e.Bundle[:1]
		return &e
	}
	if _, err := v.Verify(with(same, same).Document(t, now), now); err != nil {
		t.Fatalf("the chain from which the others differ: %v", err)
	}

	tests := map[string]struct {
		enclave *nitrotest.Enclave
		text    string
	}{
		"another root":          {nitrotest.NewEnclave(t, other, now), "does not begin with a trusted root"},
		"another root in front": {bundle(func(b []*x509.Certificate) []*x509.Certificate { b[0] = other.Certificate; return b }), "trusted root"},
		"root missing":          {bundle(func(b []*x509.Certificate) []*x509.Certificate { return b[1:] }), "trusted root"},
		"root alone":            {bundle(func(b []*x509.Certificate) []*x509.Certificate { return b[:1] }), "unknown authority"},
		"link missing":          {bundle(func(b []*x509.Certificate) []*x509.Certificate { return slices.Delete(b, 1, 2) }), "unknown authority"},
		"another order":         {bundle(func(b []*x509.Certificate) []*x509.Certificate { b[1], b[2] = b[2], b[1]; return b }), "root downwards"},
		"reversed":              {bundle(func(b []*x509.Certificate) []*x509.Certificate { slices.Reverse(b); return b }), "trusted root"},
		"one too many":          {bundle(func(b []*x509.Certificate) []*x509.Certificate { return append(b, b[1]) }), "root downwards"},
		"leaf in the bundle": {bundle(func(b []*x509.Certificate) []*x509.Certificate { return append(b, base.Signer.Certificate) }),
			"not for signing certificates"},
		"expired leaf":                {with(same, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }), "expired"},
		"leaf not valid yet":          {with(same, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Second) }), "not yet valid"},
		"expired intermediate":        {with(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }, same), "expired"},
		"intermediate is no CA":       {with(func(c *x509.Certificate) { c.IsCA = false }, same), "not for signing certificates"},
		"intermediate without basics": {with(func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = false, false }, same), "not for signing certificates"},
		"intermediate without usage":  {with(func(c *x509.Certificate) { c.KeyUsage = 0 }, same), "not for signing certificates"},
		"intermediate for other uses": {with(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }, same), "not for signing certificates"},
		"leaf without usage":          {with(same, func(c *x509.Certificate) { c.KeyUsage = 0 }), "not for signing documents"},
		"leaf for other uses":         {with(same, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }), "not for signing documents"},
		"leaf is a CA":                {with(same, func(c *x509.Certificate) { c.IsCA = true }), "not for signing documents"},
		"signed with SHA-256":         {with(same, func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA256 }), "SHA-384"},
		"leaf on P-256":               {curve(elliptic.P256()), "P-384"},
		"leaf on P-521":               {curve(elliptic.P521()), "P-384"},
		"path too long":               {pathTooLong(t, base, root), "too many intermediates"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			e := test.enclave
			payload := e.Payload(t, now).Encode(t)
			document := e.Sign(t, payload)
			if strings.HasPrefix(name, "leaf on") { // so that the signature's size is not what is refused
				document = message(t, nitrotest.ES384, map[int]int{}, payload, make([]byte, 96))
			}
			mustRefuse(t, v, document, nitro.ErrUntrusted, test.text)
		})
	}
}

// pathTooLong has two intermediates where the first one allows none below it.
func pathTooLong(t *testing.T, base *nitrotest.Enclave, root *nitrotest.Authority) *nitrotest.Enclave {
	t.Helper()
	e, template := *base, nitrotest.CA("upper", now)
	template.MaxPathLenZero = true
	upper := root.Issue(t, template, elliptic.P384())
	lower := upper.Issue(t, nitrotest.CA("lower", now), elliptic.P384())
	e.Signer = lower.Issue(t, nitrotest.Leaf("leaf", now), elliptic.P384())
	e.Bundle = []*x509.Certificate{root.Certificate, upper.Certificate, lower.Certificate}
	return &e
}

func TestVerifyAtOtherTimes(t *testing.T) {
	t.Parallel()
	e, v := newEnclave(t)
	later := now.Add(2 * time.Hour)
	if _, err := v.Verify(e.Document(t, later), later); err != nil {
		t.Errorf("two hours later: %v", err)
	}
	v.MaxAge = time.Hour
	if _, err := v.Verify(e.Document(t, later.Add(-time.Hour)), later); err != nil {
		t.Errorf("an hour old, where that is allowed: %v", err)
	}
	if _, err := v.Verify(e.Document(t, now), later); err == nil {
		t.Error("two hours old, where one is allowed")
	}
	beyond := now.Add(4 * time.Hour)
	if _, err := v.Verify(e.Document(t, beyond), beyond); err == nil {
		t.Error("the certificate has expired")
	}
}
