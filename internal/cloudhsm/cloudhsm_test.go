package cloudhsm_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/cloudhsm"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/pkcs11"
)

const (
	account = "111122223333"
	region  = "eu-central-1"
	id      = "cluster-abcdefghijk"
)

// authority is a CA that can sign a cluster's certificate.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "customerCA"}, NotBefore: time.Now().AddDate(-2, 0, 0),
		NotAfter: time.Now().AddDate(-1, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return sign(t, template, nil)
}

// sign makes a certificate, signed by the parent or by itself.
func sign(t *testing.T, template *x509.Certificate, parent *authority) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuer, signer := template, key
	if parent != nil {
		issuer, signer = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert: cert, key: key, pem: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

func leaf(t *testing.T, parent authority) string {
	return sign(t, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "HSM"}}, &parent).pem
}

func declaration(t *testing.T) cloudhsm.Declaration {
	t.Helper()
	member := func(name, zone, token string) cloudhsm.Member {
		return cloudhsm.Member{ID: "hsm-" + name, AvailabilityZone: zone, IP: "10.0.0.10",
			Token: pkcs11.Config{URI: pkcs11.URI{ModulePath: "/module.so", Token: token}}}
	}
	return cloudhsm.Declaration{
		Clusters: []cloudhsm.Cluster{{
			ID: id, Account: account, Region: region, TrustAnchor: newAuthority(t).pem,
			SubnetMapping: map[string]string{"a": "subnet-0000000a", "b": "subnet-0000000b"},
			Members:       []cloudhsm.Member{member("aaaaaaaaaaa", "a", "one"), member("bbbbbbbbbbb", "b", "two")},
		}},
		Subnets: []cloudhsm.Subnet{
			{ID: "subnet-0000000a", VPC: "vpc-1", AvailabilityZone: "a", CIDR: netip.MustParsePrefix("10.0.0.0/28")},
			{ID: "subnet-0000000b", VPC: "vpc-1", AvailabilityZone: "b", CIDR: netip.MustParsePrefix("10.0.1.0/28")},
		},
	}
}

func TestDeclarationIsChecked(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(d *cloudhsm.Declaration, c *cloudhsm.Cluster)
		text   string // of the error; empty: it is good
	}{
		{"a good one", func(*cloudhsm.Declaration, *cloudhsm.Cluster) {}, ""},
		{"nothing at all", func(d *cloudhsm.Declaration, _ *cloudhsm.Cluster) { *d = cloudhsm.Declaration{} }, ""},
		{"a subnet that is not declared", func(d *cloudhsm.Declaration, _ *cloudhsm.Cluster) { d.Subnets = nil }, ""},
		{"a malformed cluster id", func(_ *cloudhsm.Declaration, c *cloudhsm.Cluster) { c.ID = "cluster-1" }, "the id is not"},
		{"a malformed account", func(_ *cloudhsm.Declaration, c *cloudhsm.Cluster) { c.Account = "1" }, "12 digits"},
		{"no Region", func(_ *cloudhsm.Declaration, c *cloudhsm.Cluster) { c.Region = "" }, "Region"},
		{"no subnets", func(_ *cloudhsm.Declaration, c *cloudhsm.Cluster) { c.SubnetMapping = nil }, "no subnets"},
		{"a malformed subnet id", func(_ *cloudhsm.Declaration, c *cloudhsm.Cluster) { c.SubnetMapping["a"] = "net" }, "malformed"},
		{"a state that does not exist", func(_ *cloudhsm.Declaration, c *cloudhsm.Cluster) { c.State = "WELL" }, "WELL"},
		{"a network type that does not exist", func(_ *cloudhsm.Declaration, c *cloudhsm.Cluster) { c.NetworkType = "IPX" }, "IPX"},
		{"a PIN format that does not exist", func(_ *cloudhsm.Declaration, c *cloudhsm.Cluster) { c.PINFormat = "user" }, "PIN format"},
		{"a replication that does not exist", func(_ *cloudhsm.Declaration, c *cloudhsm.Cluster) { c.Replication = "fax" }, "fax"},
		{"no trust anchor", func(_ *cloudhsm.Declaration, c *cloudhsm.Cluster) { c.TrustAnchor = "" }, "trust anchor"},
		{"a cluster certificate of another authority", func(_ *cloudhsm.Declaration, c *cloudhsm.Cluster) {
			c.ClusterCertificate = leaf(t, newAuthority(t))
		}, "do not fit"},
		{"a malformed HSM id", func(_ *cloudhsm.Declaration, c *cloudhsm.Cluster) { c.Members[0].ID = "hsm-1" }, "hsm-1"},
		{"an HSM declared twice", func(_ *cloudhsm.Declaration, c *cloudhsm.Cluster) { c.Members[1].ID = c.Members[0].ID }, "declared twice"},
		{"an HSM where there is no subnet", func(_ *cloudhsm.Declaration, c *cloudhsm.Cluster) { c.Members[1].AvailabilityZone = "c" }, "no subnet"},
		{"an HSM without a module", func(_ *cloudhsm.Declaration, c *cloudhsm.Cluster) { c.Members[1].Token = pkcs11.Config{} }, "no PKCS#11 module"},
		{"a malformed address", func(_ *cloudhsm.Declaration, c *cloudhsm.Cluster) { c.Members[1].IP = "here" }, "address"},
		{"one token for two HSMs", func(_ *cloudhsm.Declaration, c *cloudhsm.Cluster) { c.Members[1].Token = c.Members[0].Token }, "same token"},
		{"one token for two HSMs of a vendor who replicates", func(_ *cloudhsm.Declaration, c *cloudhsm.Cluster) {
			c.Replication, c.Members[1].Token = cloudhsm.ReplicationModule, c.Members[0].Token
		}, ""},
		{"such a token in two clusters", func(d *cloudhsm.Declaration, c *cloudhsm.Cluster) {
			c.Replication = cloudhsm.ReplicationModule
			twin := *c
			twin.ID = "cluster-zzzzzzzzzzz"
			d.Clusters = append(d.Clusters, twin)
		}, "same token"},
		{"too many HSMs", func(_ *cloudhsm.Declaration, c *cloudhsm.Cluster) { c.Members = make([]cloudhsm.Member, 29) }, "more than 28"},
		{"a cluster declared twice", func(d *cloudhsm.Declaration, c *cloudhsm.Cluster) {
			twin := *c
			twin.Members = nil
			d.Clusters = append(d.Clusters, twin)
		}, "declared twice"},
		{"a subnet declared twice", func(d *cloudhsm.Declaration, _ *cloudhsm.Cluster) { d.Subnets[1].ID = d.Subnets[0].ID }, "declared twice"},
		{"a subnet of IPv6", func(d *cloudhsm.Declaration, _ *cloudhsm.Cluster) {
			d.Subnets[0].CIDR = netip.MustParsePrefix("fd00::/64")
		}, "IPv4"},
		{"a subnet with bits behind its mask", func(d *cloudhsm.Declaration, _ *cloudhsm.Cluster) {
			d.Subnets[0].CIDR = netip.MustParsePrefix("10.0.0.1/28")
		}, "behind its mask"},
		{"a subnet that is too small", func(d *cloudhsm.Declaration, _ *cloudhsm.Cluster) {
			d.Subnets[0].CIDR = netip.MustParsePrefix("10.0.0.0/29")
		}, "/28"},
		{"a subnet without a zone", func(d *cloudhsm.Declaration, _ *cloudhsm.Cluster) { d.Subnets[0].AvailabilityZone = "" }, "zone"},
		{"fewer than no addresses in use", func(d *cloudhsm.Declaration, _ *cloudhsm.Cluster) { d.Subnets[0].InUse = -1 }, "negative"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := declaration(t)
			tt.change(&d, &d.Clusters[0])
			_, err := cloudhsm.Declare(d)
			if tt.text == "" && err != nil || tt.text != "" && (err == nil || !strings.Contains(err.Error(), tt.text)) {
				t.Errorf("the error is %v, want %q in it", err, tt.text)
			}
		})
	}
}

func TestDirectory(t *testing.T) {
	t.Parallel()
	d := declaration(t)
	directory, err := cloudhsm.Declare(d)
	if err != nil {
		t.Fatal(err)
	}
	c, err := directory.Cluster(t.Context(), account, region, id)
	if err != nil || c.State != cloudhsmapi.ClusterActive || c.NetworkType != cloudhsmapi.IPv4 || c.PINFormat != cloudhsm.PINIsPassword ||
		c.Replication != cloudhsm.ReplicationWrapped || len(c.Members) != 2 {
		t.Errorf("the cluster is %+v, %v", c, err)
	}
	for _, who := range [][3]string{{"999999999999", region, id}, {account, "eu-west-1", id}, {account, region, "cluster-zzzzzzzzzzz"}} {
		if _, err := directory.Cluster(t.Context(), who[0], who[1], who[2]); !errors.Is(err, cloudhsm.ErrNotFound) {
			t.Errorf("%v gave %v", who, err)
		}
	}
	bad := d
	bad.Subnets = append(bad.Subnets, bad.Subnets[0])
	if err := directory.Replace(bad); err == nil {
		t.Error("a bad declaration was taken")
	}
	if _, err := directory.Cluster(t.Context(), account, region, id); err != nil {
		t.Errorf("after a declaration was refused: %v", err)
	}
	if err := directory.Replace(cloudhsm.Declaration{}); err != nil {
		t.Fatal(err)
	}
	if _, err := directory.Cluster(t.Context(), account, region, id); !errors.Is(err, cloudhsm.ErrNotFound) {
		t.Errorf("a cluster that is declared no more: %v", err)
	}
}

func TestAddressesAreCounted(t *testing.T) {
	t.Parallel()
	d := declaration(t)
	d.Subnets[1].InUse = 8 // of 11, and one is the HSM's
	network, err := cloudhsm.Declare(d)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := network.Cluster(t.Context(), account, region, id)
	free := func(want int) {
		t.Helper()
		if got, err := network.FreeAddresses("subnet-0000000b"); err != nil || got != want {
			t.Errorf("%d addresses are free (%v), want %d", got, err, want)
		}
	}
	reserve := func(store string) func() {
		t.Helper()
		release, err := network.Reserve(store, c)
		if err != nil {
			t.Fatalf("Reserve for %s: %v", store, err)
		}
		return release
	}
	free(2)
	first := reserve("cks-1")
	again := reserve("cks-1") // the same store takes no second address
	free(1)
	second := reserve("cks-2")
	free(0)
	if _, err := network.Reserve("cks-3", c); !errors.Is(err, cloudhsm.ErrNoFreeAddresses) || !strings.Contains(err.Error(), "subnet-0000000b") {
		t.Errorf("the third store got %v", err)
	}
	if got, _ := network.FreeAddresses("subnet-0000000a"); got != 11-1-2 {
		t.Errorf("the failed reservation holds addresses elsewhere: %d are free", got)
	}
	first()
	first()
	free(0)
	again()
	free(1)
	second()
	free(2)
	d.Subnets = d.Subnets[:1]
	if err := network.Replace(d); err != nil {
		t.Fatal(err)
	}
	if _, err := network.Reserve("cks-1", c); !errors.Is(err, cloudhsm.ErrSubnetNotFound) {
		t.Errorf("with a subnet deleted: %v", err)
	}
	if _, err := network.FreeAddresses("subnet-0000000b"); !errors.Is(err, cloudhsm.ErrSubnetNotFound) {
		t.Errorf("a subnet that is declared no more: %v", err)
	}
}

func TestTrustAnchors(t *testing.T) {
	t.Parallel()
	own, other := newAuthority(t), newAuthority(t)
	renewed := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(9), Subject: pkix.Name{CommonName: "customerCA"}, IsCA: true, BasicConstraintsValid: true,
	}, &own)
	noCA := sign(t, &x509.Certificate{SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "x"}, BasicConstraintsValid: true}, nil)
	signed := leaf(t, own)
	for _, tt := range []struct {
		name    string
		cluster cloudhsm.Cluster
		anchor  string
		text    string
	}{
		{"the cluster's own", cloudhsm.Cluster{TrustAnchor: own.pem, ClusterCertificate: signed}, own.pem, ""},
		{"with other line ends and text around it", cloudhsm.Cluster{TrustAnchor: own.pem}, "customerCA:\r\n" + strings.ReplaceAll(own.pem, "\n", "\r\n"), ""},
		{"known by the certificate that it signed", cloudhsm.Cluster{ClusterCertificate: signed}, own.pem, ""},
		{"of another cluster", cloudhsm.Cluster{TrustAnchor: own.pem}, other.pem, "another key"},
		{"that did not sign the certificate", cloudhsm.Cluster{ClusterCertificate: signed}, other.pem, "did not sign"},
		{"the cluster's certificate in its place", cloudhsm.Cluster{TrustAnchor: own.pem, ClusterCertificate: signed}, signed, "not self-signed"},
		{"with the right name and the wrong signature", cloudhsm.Cluster{TrustAnchor: renewed.pem}, renewed.pem, "self-signed CA"},
		{"that is no CA", cloudhsm.Cluster{TrustAnchor: noCA.pem}, noCA.pem, "self-signed CA"},
		{"two certificates", cloudhsm.Cluster{TrustAnchor: own.pem}, own.pem + other.pem, "more than one"},
		{"no PEM", cloudhsm.Cluster{TrustAnchor: own.pem}, "customerCA.crt", "no PEM"},
		{"PEM of nothing", cloudhsm.Cluster{TrustAnchor: own.pem}, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "parsing"},
	} {
		err := tt.cluster.CheckTrustAnchor(tt.anchor)
		if tt.text == "" && err != nil || tt.text != "" && (err == nil || !strings.Contains(err.Error(), tt.text)) {
			t.Errorf("a trust anchor %s: %v, want %q", tt.name, err, tt.text)
		}
	}
}

func TestClustersOfOneBackupHistoryHaveOneFingerprint(t *testing.T) {
	t.Parallel()
	own := newAuthority(t)
	signed := leaf(t, own)
	print := func(c cloudhsm.Cluster) [32]byte {
		sum, ok := c.Fingerprint()
		if !ok {
			t.Errorf("no fingerprint of %+v", c)
		}
		return sum
	}
	if print(cloudhsm.Cluster{ID: "1", TrustAnchor: own.pem, ClusterCertificate: signed}) != print(cloudhsm.Cluster{ID: "2", ClusterCertificate: signed}) {
		t.Error("the same certificate gave two fingerprints")
	}
	if print(cloudhsm.Cluster{TrustAnchor: own.pem, ClusterCertificate: signed}) == print(cloudhsm.Cluster{TrustAnchor: own.pem, ClusterCertificate: leaf(t, own)}) {
		t.Error("two certificates of one authority gave one fingerprint")
	}
	if _, ok := (cloudhsm.Cluster{}).Fingerprint(); ok {
		t.Error("a cluster without certificates has a fingerprint")
	}
}
