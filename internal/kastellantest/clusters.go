package kastellantest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudhsmv2"
	hsmtypes "github.com/aws/aws-sdk-go-v2/service/cloudhsmv2/types"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"kastellan.dev/internal/cloudhsm/control"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/config"
	"kastellan.dev/internal/kmsclient"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
)

// AdminPassword is that of the admin of clusters that Ready makes.
const AdminPassword = "admin-Password1"

// WithPools gives a server a pool of SoftHSM2 tokens and a subnet in each of the
// zones of Region, which are named by their letters, and a backup HSM. It skips the test where SoftHSM2 is missing.
func WithPools(t testing.TB, letters string) Options {
	t.Helper()
	pkcs11test.Require(t)
	module, dir := pkcs11test.Module, t.TempDir()
	return Options{
		Config: func(cfg *config.Config) {
			for i, letter := range strings.Split(letters, "") {
				zone := Region + letter
				cfg.HSM.Subnets = append(cfg.HSM.Subnets, config.Subnet{
					ID: Subnet(letter), VPC: "vpc-22222222", AvailabilityZone: zone, CIDR: "10.0." + strconv.Itoa(i+1) + ".0/24",
				})
				cfg.HSM.Pools = append(cfg.HSM.Pools, config.Pool{
					Name: "pool-" + letter, AvailabilityZone: zone, SoftHSM2: &config.SoftHSM2{Module: module, Directory: filepath.Join(dir, letter)},
				})
			}
			cfg.HSM.Vault = &config.Vault{SoftHSM2: &config.SoftHSM2{Module: module, Directory: filepath.Join(dir, "vault")}}
		},
		Control: quicken,
	}
}

// quicken makes the control plane as fast as tests like it.
func quicken(cfg *control.Config) {
	cfg.PasswordRounds = 1000
	cfg.Timing.Sweep, cfg.Timing.Health, cfg.Timing.Retry = 20*time.Millisecond, 100*time.Millisecond, 50*time.Millisecond
}

// Subnet is the id of the subnet of WithPools in a zone.
func Subnet(letter string) string { return "subnet-2222222" + letter }

// CloudHSM is a client of the CloudHSM API for a user.
func (s *Server) CloudHSM(user string) *cloudhsmv2.Client { return s.CloudHSMIn(user, Region) }

// CloudHSMIn is CloudHSM in another Region.
func (s *Server) CloudHSMIn(user, region string) *cloudhsmv2.Client {
	id, text := Credentials(user)
	cfg := s.SDK(credentials.NewStaticCredentialsProvider(id, text, ""))
	cfg.Region = region
	return cloudhsmv2.NewFromConfig(cfg)
}

// AtHSM asks as Admin for an operation that clients of an HSM do at the HSM itself.
func (s *Server) AtHSM(operation string, in, out any) error {
	accessKey, text := Credentials(Admin)
	client := kmsclient.New(s.Endpoint, Region, sigv4.Credentials{AccessKeyID: accessKey, Secret: secret.NewText(text)}).For(cloudhsmapi.Service)
	return client.Call(s.t.Context(), cloudhsmapi.Extensions+"."+operation, in, out)
}

// LogIn begins a session of a user at the HSMs of a cluster, and gives its id.
func (s *Server) LogIn(cluster, user, password string) (session string, err error) {
	var out struct {
		SessionID string `json:"SessionId"`
	}
	err = s.AtHSM("Login", map[string]string{"ClusterId": cluster, "UserName": user, "Password": password}, &out)
	return out.SessionID, err
}

// DescribeCluster gives a cluster as the API describes it to Admin.
func (s *Server) DescribeCluster(id string) hsmtypes.Cluster {
	s.t.Helper()
	out, err := s.CloudHSM(Admin).DescribeClusters(s.t.Context(), &cloudhsmv2.DescribeClustersInput{Filters: map[string][]string{"clusterIds": {id}}})
	if err != nil {
		s.t.Fatalf("describing cluster %s: %v", id, err)
	}
	if len(out.Clusters) == 0 {
		return hsmtypes.Cluster{}
	}
	return out.Clusters[0]
}

// WaitCluster waits until a cluster is in a state.
func (s *Server) WaitCluster(id string, want hsmtypes.ClusterState) (c hsmtypes.Cluster) {
	s.t.Helper()
	polltest.Until(s.t, "cluster "+id+" to be "+string(want), func() bool {
		c = s.DescribeCluster(id)
		return c.State == want
	})
	return c
}

// HSM creates an HSM in a zone as Admin and waits until it is ACTIVE.
func (s *Server) HSM(cluster, letter string) (id string) {
	s.t.Helper()
	out, err := s.CloudHSM(Admin).CreateHsm(s.t.Context(), &cloudhsmv2.CreateHsmInput{ClusterId: &cluster, AvailabilityZone: aws.String(Region + letter)})
	if err != nil {
		s.t.Fatalf("creating an HSM in %s: %v", letter, err)
	}
	s.WaitHSM(cluster, *out.Hsm.HsmId, hsmtypes.HsmStateActive)
	return *out.Hsm.HsmId
}

// WaitHSM waits until an HSM is in a state; until it is not there any more, for DELETED.
func (s *Server) WaitHSM(cluster, id string, want hsmtypes.HsmState) {
	s.t.Helper()
	var last hsmtypes.Hsm
	polltest.Until(s.t, "HSM "+id+" to be "+string(want), func() bool {
		hsms := s.DescribeCluster(cluster).Hsms
		i := slices.IndexFunc(hsms, func(h hsmtypes.Hsm) bool { return *h.HsmId == id })
		if i < 0 {
			return want == hsmtypes.HsmStateDeleted
		}
		last = hsms[i]
		return last.State == want
	})
}

// Managed is a cluster that was made through the API, with what its owner knows.
type Managed struct {
	ID       string
	Anchor   string // customerCA.crt, PEM
	Password string // the kmsuser's, until a key store changes it
	HSMs     []string
}

// CreateInput is what creates a key store on the cluster.
func (m *Managed) CreateInput(name string) *awskms.CreateCustomKeyStoreInput {
	return (&Cluster{Cluster: config.Cluster{ID: m.ID}, Anchor: m.Anchor, Password: m.Password}).CreateInput(name)
}

// Ready makes a cluster as its owner would: with an HSM in each of the zones, initialized, activated, with a kmsuser.
func (s *Server) Ready(letters string) *Managed {
	s.t.Helper()
	m := &Managed{ID: s.NewCluster(letters), Password: Password}
	zones := strings.Split(letters, "")
	m.HSMs = append(m.HSMs, s.HSM(m.ID, zones[0]))
	m.Anchor = s.Initialize(m.ID)
	for _, letter := range zones[1:] {
		m.HSMs = append(m.HSMs, s.HSM(m.ID, letter))
	}
	if err := s.AtHSM("ActivateCluster", map[string]string{"ClusterId": m.ID, "Password": AdminPassword}, nil); err != nil {
		s.t.Fatalf("activating %s: %v", m.ID, err)
	}
	session, err := s.LogIn(m.ID, "admin", AdminPassword)
	if err != nil {
		s.t.Fatalf("logging in as admin: %v", err)
	}
	in := map[string]string{"SessionId": session, "UserName": "kmsuser", "Role": "crypto-user", "Password": Password}
	if err := s.AtHSM("CreateUser", in, nil); err != nil {
		s.t.Fatalf("creating the kmsuser: %v", err)
	}
	return m
}

// NewCluster creates a cluster without HSMs as Admin, in the zones.
func (s *Server) NewCluster(letters string) (id string) {
	s.t.Helper()
	in := &cloudhsmv2.CreateClusterInput{HsmType: aws.String("hsm2m.medium")}
	for _, letter := range strings.Split(letters, "") {
		in.SubnetIds = append(in.SubnetIds, Subnet(letter))
	}
	out, err := s.CloudHSM(Admin).CreateCluster(s.t.Context(), in)
	if err != nil {
		s.t.Fatalf("creating a cluster: %v", err)
	}
	s.WaitCluster(*out.Cluster.ClusterId, hsmtypes.ClusterStateUninitialized)
	return *out.Cluster.ClusterId
}

// Initialize signs the request of a cluster as its owner's own CA, and waits until it is INITIALIZED. It gives the CA's certificate.
func (s *Server) Initialize(cluster string) (anchor string) {
	s.t.Helper()
	csr := aws.ToString(s.DescribeCluster(cluster).Certificates.ClusterCsr)
	signed, anchor := SignRequest(s.t, csr)
	_, err := s.CloudHSM(Admin).InitializeCluster(s.t.Context(), &cloudhsmv2.InitializeClusterInput{ClusterId: &cluster, SignedCert: &signed, TrustAnchor: &anchor})
	if err != nil {
		s.t.Fatalf("initializing %s: %v", cluster, err)
	}
	s.WaitCluster(cluster, hsmtypes.ClusterStateInitialized)
	return anchor
}

// SignRequest makes a CA and has it sign a certificate request. All are PEM.
func SignRequest(t testing.TB, csr string) (signed, anchor string) {
	t.Helper()
	block, _ := pem.Decode([]byte(csr))
	if block == nil {
		t.Fatalf("the request is not PEM: %q", csr)
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := request.CheckSignature(); err != nil {
		t.Fatal(err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "customer CA"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(3652 * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: request.Subject, NotBefore: root.NotBefore, NotAfter: root.NotAfter}
	return issue(t, leaf, root, request.PublicKey, key), issue(t, root, root, key.Public(), key)
}

func issue(t testing.TB, cert, by *x509.Certificate, public crypto.PublicKey, key crypto.Signer) string {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, cert, by, public, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
