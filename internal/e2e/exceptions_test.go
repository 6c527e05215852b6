package e2e_test

import (
	stdcontext "context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kastellan.dev/internal/config"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/keystore/xks/xkstest"
	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/store"
	"kastellan.dev/internal/xksapi"
)

// scene is a server with several clusters and proxies, of which the first ones
// back key stores.
type scene struct {
	*kastellantest.Server
	t                      *testing.T
	used, free, onlyOne    *kastellantest.Cluster
	proxy, other           *xkstest.Proxy
	public                 string                 // key store on proxy
	hsm                    string                 // key store on used
	clusterTwin            *kastellantest.Cluster // related to used: the same certificate
	initialized, badConfig *kastellantest.Cluster
}

func newScene(t *testing.T) *scene {
	c := &scene{
		t:    t,
		used: kastellantest.NewCluster(t, "cluster-used2222222", 2), free: kastellantest.NewCluster(t, "cluster-free2222222", 2),
		onlyOne: kastellantest.NewCluster(t, "cluster-one22222222", 1),
		proxy:   xkstest.New(t, xkstest.Options{}), other: xkstest.New(t, xkstest.Options{Host: "other.xks.example.com"}),
	}
	c.clusterTwin = kastellantest.NewCluster(t, "cluster-twin2222222", 2)
	c.clusterTwin.TrustAnchor, c.clusterTwin.Anchor = c.used.TrustAnchor, c.used.Anchor
	initialized, bad := kastellantest.NewCluster(t, "cluster-init2222222", 2), kastellantest.NewCluster(t, "cluster-badd2222222", 2)
	initialized.State, bad.SecurityGroupAltered = "INITIALIZED", true
	c.initialized, c.badConfig = initialized, bad
	ext := external(t, c.proxy, c.other)
	service := throughService(t, xkstest.New(t, xkstest.Options{Host: "vpc.xks.example.com"}))
	ext.Hosts = append(ext.Hosts, service.Hosts...)
	strict := service.EndpointServices[0]
	strict.Name, strict.AcceptanceRequired, strict.PrivateDNSName = serviceNamed("strict"), true, "strict.xks.example.com"
	ext.EndpointServices = append(ext.EndpointServices, service.EndpointServices[0], strict)
	c.Server = kastellantest.Start(t, kastellantest.Options{
		Clusters: []*kastellantest.Cluster{c.used, c.free, c.onlyOne, c.clusterTwin, initialized, bad}, External: ext,
		Quotas: config.Quotas{KeyStores: 3},
		Users:  []kastellantest.User{{Name: "stranger", Account: "999999999999"}},
	})
	c.hsm = c.create(c.used.CreateInput("hsm"))
	c.public = c.create(kastellantest.ProxyInput(c.proxy, "public"))
	return c
}

func serviceNamed(s string) string { return "com.amazonaws.vpce.us-east-1.vpce-svc-" + s }

func (c *scene) create(in *awskms.CreateCustomKeyStoreInput) string {
	c.t.Helper()
	out, err := c.Client(admin).CreateCustomKeyStore(c.t.Context(), in)
	if err != nil {
		c.t.Fatal(err)
	}
	return *out.CustomKeyStoreId
}

func hsmInput(c *kastellantest.Cluster) *awskms.CreateCustomKeyStoreInput {
	return c.CreateInput("new")
}

func vpcInput(service, host string) *awskms.CreateCustomKeyStoreInput {
	return &awskms.CreateCustomKeyStoreInput{
		CustomKeyStoreName: aws.String("new"), CustomKeyStoreType: types.CustomKeyStoreTypeExternalKeyStore,
		XksProxyConnectivity: types.XksProxyConnectivityTypeVpcEndpointService, XksProxyUriEndpoint: aws.String("https://" + host),
		XksProxyUriPath: aws.String("/kms/xks/v1"), XksProxyVpcEndpointServiceName: &service,
		XksProxyAuthenticationCredential: &types.XksProxyAuthenticationCredentialType{
			AccessKeyId: aws.String("ABCDEFGHIJKLMNOPQRSTUVWX"), RawSecretAccessKey: aws.String(strings.Repeat("s", 43)),
		},
	}
}

func TestCreateCustomKeyStoreThrowsEveryException(t *testing.T) {
	t.Parallel()
	c := newScene(t)
	noCluster := hsmInput(c.free)
	noCluster.CloudHsmClusterId = aws.String("cluster-none2222222")
	wrongAnchor := hsmInput(c.free)
	wrongAnchor.TrustAnchorCertificate = &c.used.Anchor
	wrongCredential := kastellantest.ProxyInput(c.other, "new")
	wrongCredential.XksProxyAuthenticationCredential.RawSecretAccessKey = aws.String(strings.Repeat("x", 43))
	nowhere := kastellantest.ProxyInput(c.other, "new")
	nowhere.XksProxyUriEndpoint = aws.String("https://nowhere.invalid")
	sameHost := vpcInput(serviceName, c.proxy.Host)
	sameHost.XksProxyUriPath = aws.String("/other/kms/xks/v1")
	taken := kastellantest.ProxyInput(c.other, "public")
	for _, tc := range []struct {
		name string
		in   *awskms.CreateCustomKeyStoreInput
		do   func() // before
		code string
	}{
		{"a name in use", taken, nil, "CustomKeyStoreNameInUseException"},
		{"no such cluster", noCluster, nil, "CloudHsmClusterNotFoundException"},
		{"a cluster that is not active", hsmInput(c.initialized), nil, "CloudHsmClusterNotActiveException"},
		{"a cluster in use", hsmInput(c.used), nil, "CloudHsmClusterInUseException"},
		{"a cluster related to one in use", hsmInput(c.clusterTwin), nil, "CloudHsmClusterInUseException"},
		{"one HSM only", hsmInput(c.onlyOne), nil, "CloudHsmClusterInvalidConfigurationException"},
		{"an altered security group", hsmInput(c.badConfig), nil, "CloudHsmClusterInvalidConfigurationException"},
		{"another cluster's trust anchor", wrongAnchor, nil, "IncorrectTrustAnchorException"},
		{"a proxy URI in use", kastellantest.ProxyInput(c.proxy, "new"), nil, "XksProxyUriInUseException"},
		{"an endpoint in public use", sameHost, nil, "XksProxyUriEndpointInUseException"},
		{"no such service", vpcInput(serviceNamed("none"), "vpc.xks.example.com"), nil, "XksProxyVpcEndpointServiceNotFoundException"},
		{"a service that wants acceptance", vpcInput(serviceNamed("strict"), "strict.xks.example.com"), nil, "XksProxyVpcEndpointServiceInvalidConfigurationException"},
		{"a service with another name", vpcInput(serviceName, "wrong.xks.example.com"), nil, "XksProxyVpcEndpointServiceInvalidConfigurationException"},
		{"a proxy that is not there", nowhere, nil, "XksProxyUriUnreachableException"},
		{"a proxy that hangs", kastellantest.ProxyInput(c.other, "new"), func() { c.other.Fail(xkstest.Health, c.other.Hang()) }, "XksProxyUriUnreachableException"},
		{"a proxy that is busy", kastellantest.ProxyInput(c.other, "new"), func() { c.other.Fail(xkstest.Health, xkstest.Error(xksapi.ThrottlingException)) }, "XksProxyUriUnreachableException"},
		{"a wrong credential", wrongCredential, nil, "XksProxyIncorrectAuthenticationCredentialException"},
		{"a wrong path", kastellantest.ProxyInput(c.other, "new"), func() { c.other.Fail(xkstest.Health, xkstest.Error(xksapi.InvalidURIPathException)) }, "XksProxyInvalidConfigurationException"},
		{"a proxy that speaks nonsense", kastellantest.ProxyInput(c.other, "new"), func() { c.other.Fail(xkstest.Health, xkstest.Answer(http.StatusOK, "{}")) }, "XksProxyInvalidResponseException"},
		{"a service, the first time", vpcInput(serviceName, "vpc.xks.example.com"), nil, ""},
		{"too many stores", kastellantest.ProxyInput(c.other, "new one"), nil, "LimitExceededException"},
	} {
		if tc.do != nil {
			tc.do()
		}
		_, err := c.Client(admin).CreateCustomKeyStore(t.Context(), tc.in)
		t.Run(tc.name, func(t *testing.T) { wantError(t, err, tc.code) })
		c.other.Heal()
	}
	c.Config.Quotas.KeyStores = 10
	c.Restart()
	again := vpcInput(serviceName, "other.vpc.xks.example.com")
	again.CustomKeyStoreName = aws.String("second")
	_, err := c.Client(admin).CreateCustomKeyStore(t.Context(), again)
	wantError(t, err, "XksProxyVpcEndpointServiceInUseException")
}

func TestConnectCustomKeyStoreThrowsEveryException(t *testing.T) {
	t.Parallel()
	c := newScene(t)
	connect := func(user, id string) error {
		_, err := c.Client(user).ConnectCustomKeyStore(t.Context(), &awskms.ConnectCustomKeyStoreInput{CustomKeyStoreId: &id})
		return err
	}
	wantError(t, connect(admin, "cks-1234567890abcdef0"), "CustomKeyStoreNotFoundException")
	wantError(t, connect("stranger", c.hsm), "CustomKeyStoreNotFoundException")
	c.proxy.Fleet(xksapi.Unavailable)
	wantError(t, connect(admin, c.public), "")
	polltest.Until(t, "FAILED", func() bool { return c.Describe(c.public).ConnectionState == types.ConnectionStateTypeFailed })
	wantError(t, connect(admin, c.public), "CustomKeyStoreInvalidStateException")
	cluster := &c.Config.HSM.Clusters[slices.IndexFunc(c.Config.HSM.Clusters, func(cl config.Cluster) bool { return cl.ID == c.used.ID })]
	cluster.State = "INITIALIZED"
	c.Restart()
	wantError(t, connect(admin, c.hsm), "CloudHsmClusterNotActiveException")
	cluster.State, cluster.MTLS = "", true
	c.Restart()
	wantError(t, connect(admin, c.hsm), "CloudHsmClusterInvalidConfigurationException")
	if state := c.Describe(c.hsm).ConnectionState; state != types.ConnectionStateTypeDisconnected {
		t.Errorf("a failure at once left the store %s", state)
	}
}

// broken is a metadata store that refuses to be changed.
type broken struct {
	store.Store
	now *bool
}

func TestAStorageThatFailsIsAnInternalError(t *testing.T) {
	t.Parallel()
	failing := false
	proxy, other := xkstest.New(t, xkstest.Options{}), xkstest.New(t, xkstest.Options{Host: "other.xks.example.com"})
	s := kastellantest.Start(t, kastellantest.Options{External: external(t, proxy, other), KMS: func(c *kms.Config) { c.Store = broken{c.Store, &failing} }})
	out, err := s.Client(admin).CreateCustomKeyStore(t.Context(), kastellantest.ProxyInput(proxy, "xks"))
	if err != nil {
		t.Fatal(err)
	}
	failing = true
	_, err = s.Client(admin).ConnectCustomKeyStore(t.Context(), &awskms.ConnectCustomKeyStoreInput{CustomKeyStoreId: out.CustomKeyStoreId})
	_, second := s.Client(admin).CreateCustomKeyStore(t.Context(), kastellantest.ProxyInput(other, "second"))
	_, third := s.Client(admin).UpdateCustomKeyStore(t.Context(), &awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: out.CustomKeyStoreId, NewCustomKeyStoreName: aws.String("renamed")})
	for _, err := range []error{err, second, third} {
		wantError(t, err, "KMSInternalException")
		if strings.Contains(err.Error(), "permission") {
			t.Errorf("the cause is shown: %v", err)
		}
	}
	failing = false
}

// Update implements store.Store.
func (b broken) Update(ctx stdcontext.Context, fn func(store.Tx) error) (store.Revision, error) {
	if *b.now {
		return 0, os.ErrPermission
	}
	return b.Store.Update(ctx, fn)
}

func TestUpdateCustomKeyStoreThrowsEveryException(t *testing.T) {
	t.Parallel()
	c := newScene(t)
	c.Config.Quotas.KeyStores = 10
	altered := kastellantest.NewCluster(t, "cluster-altd2222222", 2)
	altered.TrustAnchor, altered.SecurityGroupAltered = c.used.TrustAnchor, true
	c.Config.HSM.Clusters = append(c.Config.HSM.Clusters, altered.Cluster)
	c.Restart()
	c.create(vpcInput(serviceName, "vpc.xks.example.com"))
	connected := c.create(kastellantest.ProxyInput(c.other, "connected"))
	c.Connect(connected)
	toService := func(service string) awskms.UpdateCustomKeyStoreInput {
		return awskms.UpdateCustomKeyStoreInput{
			CustomKeyStoreId: &c.public, XksProxyConnectivity: types.XksProxyConnectivityTypeVpcEndpointService,
			XksProxyUriEndpoint: aws.String("https://strict.xks.example.com"), XksProxyVpcEndpointServiceName: &service,
		}
	}
	update := func(in *awskms.UpdateCustomKeyStoreInput) error {
		_, err := c.Client(admin).UpdateCustomKeyStore(t.Context(), in)
		return err
	}
	thrown := map[string]bool{"KMSInternalException": true} // see TestAStorageThatFailsIsAnInternalError
	for _, tc := range []struct {
		name string
		in   awskms.UpdateCustomKeyStoreInput
		do   func()
		code string
	}{
		{"no such store", awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: aws.String("cks-nothing")}, nil, "CustomKeyStoreNotFoundException"},
		{"a name in use", awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: &c.hsm, NewCustomKeyStoreName: aws.String("public")}, nil, "CustomKeyStoreNameInUseException"},
		{"an endpoint of a store that is connected", awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: &connected, XksProxyUriEndpoint: aws.String("https://elsewhere.xks.example.com")}, nil, "CustomKeyStoreInvalidStateException"},
		{"no such cluster", awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: &c.hsm, CloudHsmClusterId: aws.String("cluster-none2222222")}, nil, "CloudHsmClusterNotFoundException"},
		{"an unrelated cluster", awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: &c.hsm, CloudHsmClusterId: &c.free.ID}, nil, "CloudHsmClusterNotRelatedException"},
		{"a cluster that is not active", awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: &c.hsm, CloudHsmClusterId: &c.initialized.ID}, nil, "CloudHsmClusterNotActiveException"},
		{"a related cluster with an altered security group", awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: &c.hsm, CloudHsmClusterId: &altered.ID}, nil, "CloudHsmClusterInvalidConfigurationException"},
		{"a related cluster", awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: &c.hsm, CloudHsmClusterId: &c.clusterTwin.ID}, nil, ""},
		{"a proxy URI in use", awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: &c.public, XksProxyUriEndpoint: aws.String("https://" + c.other.Host)}, nil, "XksProxyUriInUseException"},
		{"an endpoint in private use", awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: &c.public, XksProxyUriEndpoint: aws.String("https://vpc.xks.example.com"), XksProxyUriPath: aws.String("/other/kms/xks/v1")}, nil, "XksProxyUriEndpointInUseException"},
		{"a service in use", toService(serviceName), nil, "XksProxyVpcEndpointServiceInUseException"},
		{"no such service", toService(serviceNamed("none")), nil, "XksProxyVpcEndpointServiceNotFoundException"},
		{"a service that wants acceptance", toService(serviceNamed("strict")), nil, "XksProxyVpcEndpointServiceInvalidConfigurationException"},
		{"a path that the proxy does not know", awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: &c.public, XksProxyUriPath: aws.String("/nobody/kms/xks/v1")}, nil, "XksProxyInvalidConfigurationException"},
		{"an endpoint that is not there", awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: &c.public, XksProxyUriEndpoint: aws.String("https://nowhere.invalid")}, nil, "XksProxyUriUnreachableException"},
		{"a wrong credential", awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: &c.public, XksProxyAuthenticationCredential: &types.XksProxyAuthenticationCredentialType{
			AccessKeyId: &c.proxy.AccessKeyID, RawSecretAccessKey: aws.String(strings.Repeat("x", 43)),
		}}, nil, "XksProxyIncorrectAuthenticationCredentialException"},
		{"a proxy that speaks nonsense", awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: &c.public, XksProxyUriEndpoint: aws.String("https://" + c.proxy.Host)},
			func() { c.proxy.Fail(xkstest.Health, xkstest.Answer(http.StatusOK, "{")) }, "XksProxyInvalidResponseException"},
	} {
		if tc.do != nil {
			tc.do()
		}
		before := c.Describe(c.public)
		err := update(&tc.in)
		t.Run(tc.name, func(t *testing.T) { wantError(t, err, tc.code) })
		thrown[tc.code] = true
		if after := c.Describe(c.public); aws.ToString(after.XksProxyConfiguration.UriEndpoint) != aws.ToString(before.XksProxyConfiguration.UriEndpoint) {
			t.Errorf("%s: what was refused has changed the store", tc.name)
		}
		c.proxy.Heal()
	}
	for _, code := range updateExceptions {
		if !thrown[code] {
			t.Errorf("nothing throws %s", code)
		}
	}
}

// updateExceptions are all that UpdateCustomKeyStore can throw.
var updateExceptions = []string{
	"CustomKeyStoreNotFoundException", "CustomKeyStoreNameInUseException", "CloudHsmClusterNotFoundException",
	"CloudHsmClusterNotRelatedException", "CustomKeyStoreInvalidStateException", "KMSInternalException",
	"CloudHsmClusterNotActiveException", "CloudHsmClusterInvalidConfigurationException", "XksProxyUriInUseException",
	"XksProxyUriEndpointInUseException", "XksProxyUriUnreachableException", "XksProxyIncorrectAuthenticationCredentialException",
	"XksProxyVpcEndpointServiceInUseException", "XksProxyVpcEndpointServiceNotFoundException",
	"XksProxyVpcEndpointServiceInvalidConfigurationException", "XksProxyInvalidResponseException", "XksProxyInvalidConfigurationException",
}

// TestTheRoadToAProxyChanges takes a store to an endpoint service and back.
func TestTheRoadToAProxyChanges(t *testing.T) {
	t.Parallel()
	proxy := xkstest.New(t, xkstest.Options{})
	ext := throughService(t, proxy)
	ext.Hosts[0].Address = proxy.Address
	s := kastellantest.Start(t, kastellantest.Options{External: ext})
	id := s.KeyStore(kastellantest.ProxyInput(proxy, "xks"))
	s.Disconnect(id)
	endpoint := aws.String(proxy.URIEndpoint())
	for _, in := range []awskms.UpdateCustomKeyStoreInput{
		{XksProxyConnectivity: types.XksProxyConnectivityTypeVpcEndpointService, XksProxyVpcEndpointServiceName: aws.String(serviceName)},
		{XksProxyConnectivity: types.XksProxyConnectivityTypePublicEndpoint, XksProxyVpcEndpointServiceName: aws.String("")},
	} {
		in.CustomKeyStoreId, in.XksProxyUriEndpoint = &id, endpoint
		if _, err := s.Client(admin).UpdateCustomKeyStore(t.Context(), &in); err != nil {
			t.Fatalf("to %s: %v", in.XksProxyConnectivity, err)
		}
		got := s.Describe(id).XksProxyConfiguration
		if got.Connectivity != in.XksProxyConnectivity || aws.ToString(got.VpcEndpointServiceName) != aws.ToString(in.XksProxyVpcEndpointServiceName) {
			t.Errorf("%s, %s", got.Connectivity, aws.ToString(got.VpcEndpointServiceName))
		}
		s.Connect(id)
		s.Disconnect(id)
	}
}

func TestAnAuditTrailIsLeft(t *testing.T) {
	t.Parallel()
	c := newScene(t)
	c.Connect(c.public)
	text, err := os.ReadFile(filepath.Join(c.Directory, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"eventName":"CreateCustomKeyStore"`, `"clusterId":"` + c.used.ID, `"eventName":"ConnectCustomKeyStore"`, `"customKeyStoreName":"public"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the audit log lacks %s", want)
		}
	}
	for _, secret := range []string{c.proxy.Secret.Reveal(), c.proxy.AccessKeyID, kastellantest.Password} {
		if strings.Contains(string(text), secret) {
			t.Error("the audit log shows a secret")
		}
	}
}
