package e2e_test

import (
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kastellan.dev/internal/config"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/keystore/xks/xkstest"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/xksapi"
)

// failure is one way to make connecting fail.
type failure struct {
	// build makes a server with a key store that was created and works.
	build func(t *testing.T) (s *kastellantest.Server, id string, spoil, mend func(t *testing.T))
	code  types.ConnectionErrorCodeType
	says  string // what the evidence must show
}

// connectFails is the common course: the store cannot be connected for a
// cause, says so, and can be connected once the cause is gone.
func connectFails(t *testing.T, f failure) {
	s, id, spoil, mend := f.build(t)
	spoil(t)
	if _, err := s.Client(admin).ConnectCustomKeyStore(t.Context(), &awskms.ConnectCustomKeyStoreInput{CustomKeyStoreId: &id}); err != nil {
		t.Fatalf("Connect did not answer at once: %v", err)
	}
	var entry types.CustomKeyStoresListEntry
	polltest.Until(t, "an outcome", func() bool {
		entry = s.Describe(id)
		return entry.ConnectionState != types.ConnectionStateTypeConnecting
	})
	if entry.ConnectionState != types.ConnectionStateTypeFailed || entry.ConnectionErrorCode != f.code {
		t.Fatalf("got %s %s, want FAILED %s\n%s", entry.ConnectionState, entry.ConnectionErrorCode, f.code, s.Explain(id).Evidence)
	}
	evidence := s.Explain(id).Evidence
	if !strings.Contains(evidence, f.says) {
		t.Errorf("the evidence does not say %q: %s", f.says, evidence)
	}
	if mend == nil {
		return
	}
	s.Disconnect(id)
	mend(t)
	s.Connect(id)
}

// onHSMs builds a store on two HSMs that reach their tokens through modules that can fail.
func onHSMs(change func(t *testing.T, s *kastellantest.Server, faults *pkcs11test.Faults), back func(t *testing.T, s *kastellantest.Server, faults *pkcs11test.Faults)) func(*testing.T) (*kastellantest.Server, string, func(*testing.T), func(*testing.T)) {
	return func(t *testing.T) (*kastellantest.Server, string, func(*testing.T), func(*testing.T)) {
		faults := pkcs11test.NewFaults(t)
		tokens := []pkcs11test.TokenRef{
			faults.Break(t, pkcs11test.NewToken(t, "one", kastellantest.Password)), faults.Break(t, pkcs11test.NewToken(t, "two", kastellantest.Password)),
		}
		cluster := kastellantest.ClusterOf(t, clusterID, tokens)
		for i := range cluster.Members {
			cluster.Members[i].CallTimeout = 3 * time.Second // how long a call that hangs takes
		}
		cluster.Subnets = map[string]string{kastellantest.Region + "a": "subnet-0000000a", kastellantest.Region + "b": "subnet-0000000b"}
		s := kastellantest.Start(t, kastellantest.Options{Clusters: []*kastellantest.Cluster{cluster}, Config: func(c *config.Config) {
			c.HSM.Subnets = []config.Subnet{
				{ID: "subnet-0000000a", VPC: "vpc-00000001", AvailabilityZone: kastellantest.Region + "a", CIDR: "10.0.1.0/28"},
				{ID: "subnet-0000000b", VPC: "vpc-00000001", AvailabilityZone: kastellantest.Region + "b", CIDR: "10.0.2.0/28"},
			}
		}})
		out, err := s.Client(admin).CreateCustomKeyStore(t.Context(), cluster.CreateInput("hsm"))
		if err != nil {
			t.Fatal(err)
		}
		mend := func(t *testing.T) { back(t, s, faults) }
		if back == nil {
			mend = nil
		}
		return s, *out.CustomKeyStoreId, func(t *testing.T) { change(t, s, faults) }, mend
	}
}

// fault makes a function of both HSMs' modules fail.
func fault(line string) func(*testing.T, *kastellantest.Server, *pkcs11test.Faults) {
	return func(t *testing.T, _ *kastellantest.Server, f *pkcs11test.Faults) { f.Set(t, line) }
}

func clearFaults(t *testing.T, _ *kastellantest.Server, f *pkcs11test.Faults) { f.Clear(t) }

// reconfigure restarts the server with another configuration.
func reconfigure(change func(*config.Config)) func(*testing.T, *kastellantest.Server, *pkcs11test.Faults) {
	return func(_ *testing.T, s *kastellantest.Server, _ *pkcs11test.Faults) {
		change(s.Config)
		s.Restart()
	}
}

// password tells the server what the kmsuser's password is.
func password(text string) func(*testing.T, *kastellantest.Server, *pkcs11test.Faults) {
	return func(t *testing.T, s *kastellantest.Server, _ *pkcs11test.Faults) {
		out, err := s.Client(admin).DescribeCustomKeyStores(t.Context(), &awskms.DescribeCustomKeyStoresInput{})
		if err != nil {
			t.Fatal(err)
		}
		id := out.CustomKeyStores[0].CustomKeyStoreId
		if _, err := s.Client(admin).UpdateCustomKeyStore(t.Context(), &awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: id, KeyStorePassword: &text}); err != nil {
			t.Fatal(err)
		}
	}
}

// hsmFailures are the causes of the ten codes of AWS_CLOUDHSM key stores.
var hsmFailures = map[string]failure{
	"the cluster is gone": {
		onHSMs(reconfigure(func(c *config.Config) { c.HSM.Clusters = nil }), nil), types.ConnectionErrorCodeTypeClusterNotFound, clusterID},
	"the cluster has no HSM": {
		onHSMs(reconfigure(func(c *config.Config) { c.HSM.Clusters[0].Members = nil }), nil), types.ConnectionErrorCodeTypeInsufficientCloudhsmHsms, "no HSM"},
	"the HSMs lost their tokens": {
		onHSMs(func(t *testing.T, s *kastellantest.Server, _ *pkcs11test.Faults) {
			for _, m := range s.Config.HSM.Clusters[0].Members {
				emptyTokenDirectory(t, m.Env)
			}
		}, nil), types.ConnectionErrorCodeTypeInsufficientCloudhsmHsms, "no such token"},
	"a subnet has no address left": {
		onHSMs(reconfigure(func(c *config.Config) { c.HSM.Subnets[0].InUse = 11 }), nil), types.ConnectionErrorCodeTypeInsufficientFreeAddressesInSubnet, "subnet-0000000a"},
	"a subnet is gone": {
		onHSMs(reconfigure(func(c *config.Config) { c.HSM.Subnets = c.HSM.Subnets[:1] }), nil), types.ConnectionErrorCodeTypeSubnetNotFound, "subnet-0000000b"},
	"an HSM answers what nobody expects": {
		onHSMs(fault("C_Login rv=0x6"), clearFaults), types.ConnectionErrorCodeTypeInternalError, "CKR_FUNCTION_FAILED"},
	"the password is another one": {
		onHSMs(password("notThePassword1"), password(kastellantest.Password)), types.ConnectionErrorCodeTypeInvalidCredentials, "CKR_PIN_INCORRECT"},
	"the HSMs do not answer": {
		onHSMs(fault("C_GetTokenInfo hang"), clearFaults), types.ConnectionErrorCodeTypeNetworkErrors, "does not answer"},
	"the HSMs report a broken device": {
		onHSMs(fault("C_OpenSession rv=0x30"), clearFaults), types.ConnectionErrorCodeTypeNetworkErrors, "CKR_DEVICE_ERROR"},
	"the vendor's library crashes": {
		onHSMs(fault("C_Login crash"), clearFaults), types.ConnectionErrorCodeTypeNetworkErrors, "process was lost"},
	"the user is locked": {
		onHSMs(fault("C_Login rv=0xA4"), clearFaults), types.ConnectionErrorCodeTypeUserLockedOut, "CKR_PIN_LOCKED"},
	"the user is logged in elsewhere": {
		onHSMs(fault("C_Login rv=0x104"), clearFaults), types.ConnectionErrorCodeTypeUserLoggedIn, "CKR_USER_ANOTHER_ALREADY_LOGGED_IN"},
	"there is no user": {
		onHSMs(fault("C_Login rv=0x102"), clearFaults), types.ConnectionErrorCodeTypeUserNotFound, "CKR_USER_PIN_NOT_INITIALIZED"},
}

// emptyTokenDirectory takes the tokens away from a SoftHSM2, as a wiped HSM would be.
func emptyTokenDirectory(t *testing.T, env []string) {
	t.Helper()
	for _, variable := range env {
		conf, ok := strings.CutPrefix(variable, "SOFTHSM2_CONF=")
		if !ok {
			continue
		}
		text, err := os.ReadFile(conf)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if dir, ok := strings.CutPrefix(strings.ReplaceAll(strings.TrimSpace(line), " ", ""), "directories.tokendir="); ok {
				found, err := filepath.Glob(filepath.Join(dir, "*"))
				if err != nil || len(found) == 0 {
					t.Fatalf("no token in %s: %v", dir, err)
				}
				for _, token := range found {
					if err := os.RemoveAll(token); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
}

// onProxy builds a public store behind a proxy that can fail.
func onProxy(spoil func(*testing.T, *xkstest.Proxy), mend func(*testing.T, *xkstest.Proxy)) func(*testing.T) (*kastellantest.Server, string, func(*testing.T), func(*testing.T)) {
	return onProxyWith(xkstest.Options{}, spoil, mend)
}

func onProxyWith(o xkstest.Options, spoil func(*testing.T, *xkstest.Proxy), mend func(*testing.T, *xkstest.Proxy)) func(*testing.T) (*kastellantest.Server, string, func(*testing.T), func(*testing.T)) {
	return func(t *testing.T) (*kastellantest.Server, string, func(*testing.T), func(*testing.T)) {
		proxy := xkstest.New(t, o)
		s := kastellantest.Start(t, kastellantest.Options{External: external(t, proxy)})
		out, err := s.Client(admin).CreateCustomKeyStore(t.Context(), kastellantest.ProxyInput(proxy, "xks"))
		if err != nil {
			t.Fatal(err)
		}
		back := func(t *testing.T) { mend(t, proxy) }
		if mend == nil {
			back = nil
		}
		return s, *out.CustomKeyStoreId, func(t *testing.T) { spoil(t, proxy) }, back
	}
}

func heal(_ *testing.T, p *xkstest.Proxy) { p.Heal() }

// unhealthy makes the health request fail.
func unhealthy(f xkstest.Fault) func(*testing.T, *xkstest.Proxy) {
	return func(_ *testing.T, p *xkstest.Proxy) { p.Fail(xkstest.Health, f) }
}

// withCertificate makes the proxy show a bad certificate on new connections.
func withCertificate(leaf func(*testing.T, *xkstest.CA, string) *tls.Certificate) func(*testing.T, *xkstest.Proxy) {
	return func(t *testing.T, p *xkstest.Proxy) {
		bad := leaf(t, p.CA, p.Host)
		p.OnConnection(func(c net.Conn) net.Conn {
			_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*bad}}).Handshake()
			_ = c.Close()
			return c
		})
	}
}

// xksFailures are the causes of the codes of EXTERNAL_KEY_STORE key stores.
var xksFailures = map[string]failure{
	"the credential is refused": {
		onProxy(func(_ *testing.T, p *xkstest.Proxy) { p.SetSecret(secret.NewText(strings.Repeat("x", 43))) }, nil),
		types.ConnectionErrorCodeTypeInvalidCredentials, "AuthenticationFailedException"},
	"the proxy denies access": {
		onProxy(unhealthy(xkstest.Error(xksapi.AccessDeniedException)), heal), types.ConnectionErrorCodeTypeXksProxyAccessDenied, "AccessDeniedException"},
	"the path is wrong": {
		onProxy(unhealthy(xkstest.Error(xksapi.InvalidURIPathException)), heal), types.ConnectionErrorCodeTypeXksProxyInvalidConfiguration, "InvalidUriPathException"},
	"the answer is no JSON": {
		onProxy(unhealthy(xkstest.Answer(http.StatusOK, "<html>")), heal), types.ConnectionErrorCodeTypeXksProxyInvalidResponse, ""},
	"the proxy has an internal error": {
		onProxy(unhealthy(xkstest.Error(xksapi.InternalException)), heal), types.ConnectionErrorCodeTypeXksProxyInvalidResponse, "InternalException"},
	"the certificate has expired": {
		onProxy(withCertificate(func(t *testing.T, ca *xkstest.CA, host string) *tls.Certificate {
			return ca.Issue(t, xkstest.Leaf{Host: host, NotAfter: time.Now().Add(-time.Hour)})
		}), heal), types.ConnectionErrorCodeTypeXksProxyInvalidTlsConfiguration, "expired"},
	"the certificate is another host's": {
		onProxy(withCertificate(func(t *testing.T, ca *xkstest.CA, _ string) *tls.Certificate {
			return ca.Issue(t, xkstest.Leaf{Host: "other.example.com"})
		}), heal), types.ConnectionErrorCodeTypeXksProxyInvalidTlsConfiguration, "other.example.com"},
	"the certificate is of an unknown authority": {
		onProxy(withCertificate(func(t *testing.T, _ *xkstest.CA, host string) *tls.Certificate {
			return xkstest.NewCA(t).Issue(t, xkstest.Leaf{Host: host})
		}), heal), types.ConnectionErrorCodeTypeXksProxyInvalidTlsConfiguration, "unknown authority"},
	"nobody listens": {
		onProxy(func(_ *testing.T, p *xkstest.Proxy) { p.Shut(p.Address) }, func(_ *testing.T, p *xkstest.Proxy) { p.ListenAt(p.Address) }),
		types.ConnectionErrorCodeTypeXksProxyNotReachable, "refused"},
	"all key managers are unavailable": {
		onProxy(func(_ *testing.T, p *xkstest.Proxy) { p.Fleet(xksapi.Unavailable, xksapi.Unavailable) }, func(_ *testing.T, p *xkstest.Proxy) { p.Fleet(xksapi.Unavailable, xksapi.Active) }),
		types.ConnectionErrorCodeTypeXksProxyNotReachable, "2 unavailable"},
	"the proxy hangs": {
		onProxy(func(_ *testing.T, p *xkstest.Proxy) { p.Fail(xkstest.Health, p.Hang()) }, heal), types.ConnectionErrorCodeTypeXksProxyTimedOut, ""},
	"the proxy breaks the connection in mid answer": {
		onProxy(unhealthy(xkstest.CutMidway()), heal), types.ConnectionErrorCodeTypeNetworkErrors, ""},
}

const serviceName = "com.amazonaws.vpce.us-east-1.vpce-svc-0123456789abcdef0"

// onService builds a store that reaches its proxy through an endpoint service.
func onService(spoil func(*config.EndpointService) bool) func(*testing.T) (*kastellantest.Server, string, func(*testing.T), func(*testing.T)) {
	return func(t *testing.T) (*kastellantest.Server, string, func(*testing.T), func(*testing.T)) {
		proxy := xkstest.New(t, xkstest.Options{})
		s := kastellantest.Start(t, kastellantest.Options{External: throughService(t, proxy)})
		out, err := s.Client(admin).CreateCustomKeyStore(t.Context(), serviceInput(proxy, "vpc"))
		if err != nil {
			t.Fatal(err)
		}
		whole := slices.Clone(s.Config.ExternalKeyStores.EndpointServices)
		return s, *out.CustomKeyStoreId, func(*testing.T) {
				services := slices.Clone(whole)
				if !spoil(&services[0]) {
					services = nil
				}
				s.Config.ExternalKeyStores.EndpointServices = services
				s.Restart()
			}, func(*testing.T) {
				s.Config.ExternalKeyStores.EndpointServices = whole
				s.Restart()
			}
	}
}

// throughService declares an endpoint service with a target in each of two zones.
func throughService(t testing.TB, p *xkstest.Proxy) config.ExternalKeyStores {
	t.Helper()
	host := kastellantest.Host(t, p)
	host.Address = ""
	return config.ExternalKeyStores{
		Hosts: []config.Host{host},
		EndpointServices: []config.EndpointService{{
			Name: serviceName, Owner: kastellantest.Account, AllowedPrincipals: []string{"cks.kms." + kastellantest.Region + ".amazonaws.com"},
			PrivateDNSName: p.Host, PrivateDNSVerified: true,
			Targets: []config.Target{
				{AvailabilityZone: kastellantest.Region + "a", Address: p.Address}, {AvailabilityZone: kastellantest.Region + "b", Address: p.Listen()},
			},
		}},
	}
}

func serviceInput(p *xkstest.Proxy, name string) *awskms.CreateCustomKeyStoreInput {
	in := kastellantest.ProxyInput(p, name)
	in.XksProxyConnectivity = types.XksProxyConnectivityTypeVpcEndpointService
	in.XksProxyVpcEndpointServiceName = aws.String(serviceName)
	return in
}

// serviceFailures are the causes of the two codes of endpoint services.
var serviceFailures = map[string]failure{
	"the service is gone": {
		onService(func(*config.EndpointService) bool { return false }), types.ConnectionErrorCodeTypeXksVpcEndpointServiceNotFound, serviceName},
	"KMS is not allowed on the service": {
		onService(func(s *config.EndpointService) bool { s.AllowedPrincipals = []string{"somebody.else"}; return true }),
		types.ConnectionErrorCodeTypeXksVpcEndpointServiceNotFound, serviceName},
	"the private DNS name is not verified": {
		onService(func(s *config.EndpointService) bool { s.PrivateDNSVerified = false; return true }),
		types.ConnectionErrorCodeTypeXksVpcEndpointServiceInvalidConfiguration, "verified"},
	"the service is in one zone only": {
		onService(func(s *config.EndpointService) bool { s.Targets = s.Targets[:1]; return true }),
		types.ConnectionErrorCodeTypeXksVpcEndpointServiceInvalidConfiguration, ""},
}

func TestConnectingFailsForItsRealCause(t *testing.T) {
	t.Parallel()
	for _, table := range []map[string]failure{hsmFailures, xksFailures, serviceFailures} {
		for name, f := range table {
			t.Run(string(f.code)+": "+name, func(t *testing.T) {
				t.Parallel()
				connectFails(t, f)
			})
		}
	}
}

func TestEveryConnectionErrorCodeHasACause(t *testing.T) {
	t.Parallel()
	caused := map[types.ConnectionErrorCodeType]bool{}
	for _, table := range []map[string]failure{hsmFailures, xksFailures, serviceFailures} {
		for _, f := range table {
			caused[f.code] = true
		}
	}
	for _, code := range types.ConnectionErrorCodeType("").Values() {
		if !caused[code] {
			t.Errorf("nothing causes %s", code)
		}
	}
	if len(caused) != 18 {
		t.Errorf("%d codes", len(caused))
	}
}
