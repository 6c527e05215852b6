package main

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"time"

	hsmtypes "github.com/aws/aws-sdk-go-v2/service/cloudhsmv2/types"
)

// life is how long the certificates are valid.
const life = 3652 * 24 * time.Hour

// sign makes a CA and has it sign a certificate signing request. All are PEM. The CA's key is forgotten.
func sign(csr string) (signed, anchor string, err error) {
	block, _ := pem.Decode([]byte(csr))
	if block == nil {
		return "", "", errors.New("the cluster has no certificate signing request")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = request.CheckSignature()
	}
	if err != nil {
		return "", "", err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", "", err
	}
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "customer CA"}, NotBefore: now, NotAfter: now.Add(life),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	cluster := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: request.Subject, NotBefore: now, NotAfter: now.Add(life)}
	if anchor, err = issue(ca, ca, key.Public(), key); err != nil {
		return "", "", err
	}
	signed, err = issue(cluster, ca, request.PublicKey, key)
	return signed, anchor, err
}

func issue(certificate, by *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (string, error) {
	der, err := x509.CreateCertificate(rand.Reader, certificate, by, public, key)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), err
}

// zonesOf gives the availability zones that a cluster has subnets in, in their order.
func zonesOf(c *hsmtypes.Cluster) []string {
	zones := make([]string, 0, len(c.SubnetMapping))
	for zone := range c.SubnetMapping {
		zones = append(zones, zone)
	}
	slices.Sort(zones)
	return zones
}
