package control

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/store"
)

// request makes the key pair of a cluster in its first HSM, and asks for a certificate for it. The key pair stays there: what
// the certificate proves is that its owner has seen that HSM, and clusters that are made
// from one another's backups share the certificate, as on AWS.
func (s *Service) request(ctx context.Context, rec *clusterRecord, made *site) (string, error) {
	signer, err := made.shared.Identity(ctx, identityLabel(rec.ID))
	if err != nil {
		return "", err
	}
	info, err := made.shared.Info(ctx)
	if err != nil {
		return "", err
	}
	mode := "FIPS"
	if rec.Mode == cloudhsmapi.NonFIPS {
		mode = "non-FIPS"
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{
			Organization: []string{"Kastellan"}, OrganizationalUnit: []string{rec.ID},
			CommonName: fmt.Sprintf("HSM:%s:PARTN:1, for %s mode", info.Serial, mode),
		},
		SignatureAlgorithm: x509.SHA256WithRSA,
	}, signer)
	if err != nil {
		return "", fmt.Errorf("signing the request: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

func identityLabel(clusterID string) string { return "kastellan identity " + clusterID }

func (c *call) initializeCluster(ctx context.Context, in *cloudhsmapi.InitializeClusterRequest) (*cloudhsmapi.InitializeClusterResponse, error) {
	const message = "The cluster is being initialized. Its state will be INITIALIZED."
	rec, err := c.change(ctx, in.ClusterID, func(_ store.Tx, rec *clusterRecord) error {
		switch {
		case rec.State != cloudhsmapi.ClusterUninitialized || rec.SourceBackup != "":
			return rec.wrongState("UNINITIALIZED, and not made from a backup")
		case rec.CSR == "" || len(rec.active()) == 0:
			return invalid("Cluster %s has no certificate signing request yet. Create an HSM and wait until it is ACTIVE.", rec.ID)
		}
		if err := checkCertificates(rec.CSR, in.SignedCert, in.TrustAnchor, c.s.now()); err != nil {
			return invalid("The certificates do not fit: %s.", err)
		}
		rec.Certificate, rec.TrustAnchor, rec.CSR = in.SignedCert, in.TrustAnchor, ""
		rec.State, rec.StateMessage = cloudhsmapi.ClusterInitializeInProgress, message
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &cloudhsmapi.InitializeClusterResponse{State: rec.State, StateMessage: rec.StateMessage}, nil
}

// checkCertificates tells why a certificate and its trust anchor cannot initialize the cluster that made the request.
// AWS's rules: the anchor is self-signed, has an RSA key of 2,048 or 4,096 bits, and is itself the issuer.
func checkCertificates(csr, signed, anchor string, now time.Time) error {
	asked, err := parsePEM("CERTIFICATE REQUEST", "certificate signing request", csr)
	if err != nil {
		return err
	}
	request, err := x509.ParseCertificateRequest(asked)
	if err != nil {
		return errors.New("the certificate signing request cannot be read")
	}
	cert, err := parseCertificate("SignedCert", signed)
	if err != nil {
		return err
	}
	root, err := parseCertificate("TrustAnchor", anchor)
	if err != nil {
		return err
	}
	if !bytes.Equal(cert.RawSubjectPublicKeyInfo, request.RawSubjectPublicKeyInfo) {
		return errors.New("SignedCert has another key than the certificate signing request of the cluster")
	}
	if err := checkRoot(root); err != nil {
		return err
	}
	if err := cert.CheckSignatureFrom(root); err != nil {
		return errors.New("SignedCert was not signed by TrustAnchor")
	}
	if !validAt(root, now) {
		return errors.New("TrustAnchor is not valid at this time")
	}
	if !validAt(cert, now) {
		return errors.New("SignedCert is not valid at this time")
	}
	return nil
}

func validAt(c *x509.Certificate, now time.Time) bool {
	return !now.Before(c.NotBefore) && !now.After(c.NotAfter)
}

// checkRoot tells why a certificate cannot be a trust anchor.
func checkRoot(root *x509.Certificate) error {
	key, isRSA := root.PublicKey.(*rsa.PublicKey)
	switch {
	case !isRSA || key.N.BitLen() != 2048 && key.N.BitLen() != 4096:
		return errors.New("TrustAnchor does not have an RSA key of 2048 or 4096 bits")
	case !bytes.Equal(root.RawIssuer, root.RawSubject):
		return errors.New("TrustAnchor is not self-signed")
	case len(root.Extensions) > 0 && !root.BasicConstraintsValid:
		return errors.New("TrustAnchor has extensions, but no basic constraints")
	}
	if err := root.CheckSignatureFrom(root); err != nil {
		return errors.New("TrustAnchor is not a self-signed certificate of a certification authority")
	}
	return nil
}

func parseCertificate(name, text string) (*x509.Certificate, error) {
	der, err := parsePEM("CERTIFICATE", name, text)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read", name)
	}
	return cert, nil
}

// parsePEM reads a text that is one block, and nothing else.
func parsePEM(kind, name, text string) ([]byte, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%s is not a %s in PEM", name, strings.ToLower(kind))
	}
	if more, _ := pem.Decode(rest); more != nil {
		return nil, fmt.Errorf("%s has more than one PEM block", name)
	}
	if len(bytes.TrimSpace(rest)) > 0 || !strings.HasPrefix(strings.TrimSpace(text), "-----BEGIN ") {
		return nil, fmt.Errorf("%s has something beside its PEM block", name)
	}
	return block.Bytes, nil
}
