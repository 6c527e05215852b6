package control

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"kastellan.dev/internal/cloudhsmapi"
)

// rsaKey gives one key of a size for all tests: making them takes long.
func rsaKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	rsaKeys.Lock()
	defer rsaKeys.Unlock()
	if rsaKeys.by[bits] == nil {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		must(t, err)
		rsaKeys.by[bits] = key
	}
	return rsaKeys.by[bits]
}

var rsaKeys = struct {
	sync.Mutex
	by map[int]*rsa.PrivateKey
}{by: map[int]*rsa.PrivateKey{}}

// pki is what the owner of a cluster has: a CA of their own, and the request of the cluster.
type pki struct {
	t    testing.TB
	now  time.Time
	hsm  *rsa.PrivateKey // of the cluster
	csr  string
	ca   *x509.Certificate
	key  crypto.Signer
	leaf *x509.Certificate
}

func newPKI(t testing.TB) *pki {
	t.Helper()
	p := &pki{t: t, now: time.Unix(1_800_000_000, 0), hsm: rsaKey(t, 3072), key: rsaKey(t, 2048)}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "HSM:1:PARTN:1, for FIPS mode"}}, p.hsm)
	must(t, err)
	p.csr = block("CERTIFICATE REQUEST", der)
	p.ca = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "customer CA"}, NotBefore: p.now.Add(-time.Hour), NotAfter: p.now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	p.leaf = &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "the cluster"}, NotBefore: p.ca.NotBefore, NotAfter: p.ca.NotAfter}
	return p
}

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func (p *pki) issue(cert, by *x509.Certificate, public crypto.PublicKey, key crypto.Signer) string {
	p.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, cert, by, public, key)
	must(p.t, err)
	return block("CERTIFICATE", der)
}

func (p *pki) anchor() string { return p.issue(p.ca, p.ca, p.key.Public(), p.key) }
func (p *pki) signed() string { return p.issue(p.leaf, p.ca, p.hsm.Public(), p.key) }

func TestWhichCertificatesInitializeACluster(t *testing.T) {
	t.Parallel()
	both := func(p *pki) (string, string) { return p.signed(), p.anchor() }
	for name, tc := range map[string]struct {
		given func(p *pki) (signed, anchor string)
		text  string // of the refusal
	}{
		"an RSA key of 2048 bits signs": {both, ""},
		"an RSA key of 4096 bits signs": {func(p *pki) (string, string) { p.key = rsaKey(t, 4096); return both(p) }, ""},
		"an RSA key of 3072 bits signs": {func(p *pki) (string, string) { p.key = rsaKey(t, 3072); return both(p) }, "RSA key of 2048 or 4096 bits"},
		"an EC key signs": {func(p *pki) (string, string) {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			must(t, err)
			p.key = key
			return both(p)
		}, "RSA key of 2048 or 4096 bits"},
		"the anchor is from another CA": {func(p *pki) (string, string) {
			other := *p.ca
			other.Subject.CommonName = "another"
			return p.signed(), p.issue(p.ca, &other, p.key.Public(), rsaKey(t, 4096))
		}, "not self-signed"},
		"the anchor has its name signed by another key": {func(p *pki) (string, string) {
			return p.signed(), p.issue(p.ca, p.ca, p.key.Public(), rsaKey(t, 4096))
		}, "not a self-signed certificate"},
		"an intermediate CA signs": {func(p *pki) (string, string) {
			middle := *p.ca
			middle.Subject.CommonName = "intermediate"
			return p.issue(p.leaf, &middle, p.hsm.Public(), rsaKey(t, 4096)), p.anchor()
		}, "not signed by TrustAnchor"},
		"the anchor is another one of the same name": {func(p *pki) (string, string) {
			signed := p.signed()
			p.key = rsaKey(t, 4096)
			return signed, p.anchor()
		}, "not signed by TrustAnchor"},
		"the certificate is for another key": {func(p *pki) (string, string) {
			return p.issue(p.leaf, p.ca, rsaKey(t, 4096).Public(), p.key), p.anchor()
		}, "another key than"},
		"the anchor has ended":        {func(p *pki) (string, string) { p.ca.NotAfter = p.now.Add(-time.Minute); return both(p) }, "TrustAnchor is not valid at this time"},
		"the anchor has not begun":    {func(p *pki) (string, string) { p.ca.NotBefore = p.now.Add(time.Minute); return both(p) }, "TrustAnchor is not valid at this time"},
		"the certificate has ended":   {func(p *pki) (string, string) { p.leaf.NotAfter = p.now.Add(-time.Minute); return both(p) }, "SignedCert is not valid at this time"},
		"the certificate begins then": {func(p *pki) (string, string) { p.leaf.NotBefore = p.now; return both(p) }, ""},
		"the anchor has extensions without basic constraints": {func(p *pki) (string, string) {
			p.ca.IsCA, p.ca.BasicConstraintsValid = false, false
			return both(p)
		}, "no basic constraints"},
		"the anchor is not a CA":               {func(p *pki) (string, string) { p.ca.IsCA = false; return both(p) }, "of a certification authority"},
		"the anchor may not sign certificates": {func(p *pki) (string, string) { p.ca.KeyUsage = x509.KeyUsageDigitalSignature; return both(p) }, "of a certification authority"},
		"the arguments are swapped":            {func(p *pki) (string, string) { return p.anchor(), p.signed() }, "another key than"},
		"the anchor is given twice":            {func(p *pki) (string, string) { return p.anchor(), p.anchor() }, "another key than"},
		"the anchor is two blocks":             {func(p *pki) (string, string) { return p.signed(), p.anchor() + p.anchor() }, "more than one PEM block"},
		"the certificate is two blocks":        {func(p *pki) (string, string) { return p.signed() + p.anchor(), p.anchor() }, "more than one PEM block"},
		"there is something behind":            {func(p *pki) (string, string) { return p.signed() + "garbage", p.anchor() }, "something beside its PEM block"},
		"there is something before":            {func(p *pki) (string, string) { return p.signed(), "Certificate\n" + p.anchor() }, "something beside its PEM block"},
		"there is white space around":          {func(p *pki) (string, string) { return "\n\n" + p.signed() + "\n\n", p.anchor() + " " }, ""},
		"lines end as on Windows": {func(p *pki) (string, string) {
			return strings.ReplaceAll(p.signed(), "\n", "\r\n"), strings.ReplaceAll(p.anchor(), "\n", "\r\n")
		}, ""},
		"the certificate is the request": {func(p *pki) (string, string) { return p.csr, p.anchor() }, "SignedCert is not a certificate in PEM"},
		"the anchor is not PEM":          {func(p *pki) (string, string) { return p.signed(), "none" }, "TrustAnchor is not a certificate in PEM"},
		"the anchor is empty":            {func(p *pki) (string, string) { return p.signed(), "" }, "TrustAnchor is not a certificate in PEM"},
		"the anchor cannot be read":      {func(p *pki) (string, string) { return p.signed(), block("CERTIFICATE", []byte("none")) }, "TrustAnchor cannot be read"},
		"the signature is damaged": {func(p *pki) (string, string) {
			der, _ := pem.Decode([]byte(p.signed()))
			der.Bytes[len(der.Bytes)-1] ^= 1
			return block("CERTIFICATE", der.Bytes), p.anchor()
		}, "not signed by TrustAnchor"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPKI(t)
			signed, anchor := tc.given(p)
			err := checkCertificates(p.csr, signed, anchor, p.now)
			if tc.text == "" && err != nil || tc.text != "" && (err == nil || !strings.Contains(err.Error(), tc.text)) {
				t.Errorf("got %v, want %q", err, tc.text)
			}
		})
	}
}

// TestAClusterIsInitializedOnceWithItsOwnRequest goes through the operation.
func TestAClusterIsInitializedOnceWithItsOwnRequest(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	s := newStill(t)
	s.clock.seconds.Store(p.now.Unix())
	in := &cloudhsmapi.InitializeClusterRequest{ClusterID: theCluster, SignedCert: p.signed(), TrustAnchor: p.anchor()}
	fresh := inState(uninitialized)
	s.put(t, fresh)
	if _, code := s.ask(t, "InitializeCluster", in); code != refused {
		t.Errorf("without a request: %q", code)
	}
	fresh.CSR, fresh.SourceBackup = p.csr, theBackup
	s.put(t, fresh)
	if _, code := s.ask(t, "InitializeCluster", in); code != refused {
		t.Errorf("a cluster of a backup: %q", code)
	}
	fresh.SourceBackup = ""
	s.put(t, fresh)
	out, code := s.ask(t, "InitializeCluster", in)
	if answer, ok := out.(*cloudhsmapi.InitializeClusterResponse); !ok || answer.State != cloudhsmapi.ClusterInitializeInProgress || answer.StateMessage == "" {
		t.Fatalf("%+v %s", out, code)
	}
	if _, code := s.ask(t, "InitializeCluster", in); code != refused {
		t.Errorf("again: %q", code)
	}
	rec, err := s.cluster(fresh.path())
	must(t, err)
	must(t, s.tendNow(t, rec))
	rec, err = s.cluster(fresh.path())
	must(t, err)
	if c := rec.shown(); c.State != initialized || c.Certificates.ClusterCertificate != in.SignedCert || c.Certificates.ClusterCSR != "" {
		t.Errorf("%+v", c)
	}
}

func FuzzCertificates(f *testing.F) {
	p := newPKI(f)
	f.Add(p.signed(), p.anchor())
	f.Add(p.anchor(), p.signed())
	f.Add("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----", "")
	f.Fuzz(func(t *testing.T, signed, anchor string) {
		if checkCertificates(p.csr, signed, anchor, p.now) != nil {
			return
		}
		leaf, _ := pem.Decode([]byte(signed))
		root, _ := pem.Decode([]byte(anchor))
		if leaf == nil || root == nil {
			t.Fatal("something that is not PEM was taken")
		}
		cert, err := x509.ParseCertificate(leaf.Bytes)
		must(t, err)
		by, err := x509.ParseCertificate(root.Bytes)
		must(t, err)
		if !bytes.Equal(cert.RawIssuer, by.RawSubject) || cert.CheckSignatureFrom(by) != nil || by.CheckSignatureFrom(by) != nil || !p.hsm.PublicKey.Equal(cert.PublicKey) {
			t.Error("certificates were taken that do not fit")
		}
	})
}
