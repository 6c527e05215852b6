package kastellantest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kastellan.dev/internal/config"
	"kastellan.dev/internal/keystore/xks/xkstest"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/polltest"
)

// Password is the kmsuser's of clusters, until a connection changes it.
const Password = "kmsuserPassword"

// Cluster is an HSM cluster on SoftHSM2 tokens, ACTIVE, with a member in each of
// as many availability zones.
type Cluster struct {
	config.Cluster
	Anchor   string // the trust anchor, PEM
	Password string // of the kmsuser, as the tokens were made
	Tokens   []pkcs11test.TokenRef
}

// NewCluster makes a cluster of n members in Account and Region. It skips the
// test where SoftHSM2 is missing.
func NewCluster(t testing.TB, id string, n int) *Cluster {
	t.Helper()
	tokens := make([]pkcs11test.TokenRef, n)
	for i := range tokens {
		tokens[i] = pkcs11test.NewToken(t, fmt.Sprintf("%.20s-%d", id, i+1), Password)
	}
	return ClusterOf(t, id, tokens)
}

// ClusterOf makes a cluster of tokens, which may have been changed to fail.
func ClusterOf(t testing.TB, id string, tokens []pkcs11test.TokenRef) *Cluster {
	t.Helper()
	anchor := string(xkstest.NewCA(t).PEM)
	c := &Cluster{
		Anchor: anchor, Tokens: tokens,
		Cluster: config.Cluster{ID: id, Account: Account, Region: Region, TrustAnchor: file(t, "customerCA.pem", anchor)},
	}
	for i, token := range tokens {
		c.Password = token.PIN
		letter := string(rune('a' + i))
		c.Members = append(c.Members, config.Member{
			ID: "hsm-" + "member22222" + letter, AvailabilityZone: Region + letter, URI: token.URI.String(), Env: token.Env,
		})
	}
	return c
}

// CreateInput is what creates a key store on the cluster.
func (c *Cluster) CreateInput(name string) *awskms.CreateCustomKeyStoreInput {
	return &awskms.CreateCustomKeyStoreInput{
		CustomKeyStoreName:     aws.String(name),
		CloudHsmClusterId:      aws.String(c.ID),
		TrustAnchorCertificate: aws.String(c.Anchor),
		KeyStorePassword:       aws.String(c.Password),
	}
}

// Host tells a server how to reach a proxy.
func Host(t testing.TB, p *xkstest.Proxy) config.Host {
	t.Helper()
	return config.Host{Name: p.Host, Address: p.Address, CA: file(t, "ca.pem", string(p.CA.PEM))}
}

// ProxyInput is what creates a key store with public connectivity behind the proxy.
func ProxyInput(p *xkstest.Proxy, name string) *awskms.CreateCustomKeyStoreInput {
	return &awskms.CreateCustomKeyStoreInput{
		CustomKeyStoreName:   aws.String(name),
		CustomKeyStoreType:   types.CustomKeyStoreTypeExternalKeyStore,
		XksProxyConnectivity: types.XksProxyConnectivityTypePublicEndpoint,
		XksProxyUriEndpoint:  aws.String(p.URIEndpoint()),
		XksProxyUriPath:      aws.String(p.Path),
		XksProxyAuthenticationCredential: &types.XksProxyAuthenticationCredentialType{
			AccessKeyId: aws.String(p.AccessKeyID), RawSecretAccessKey: aws.String(p.Secret.Reveal()),
		},
	}
}

// KeyStore creates a key store as Admin, connects it and waits until it is CONNECTED.
func (s *Server) KeyStore(in *awskms.CreateCustomKeyStoreInput) (id string) {
	s.t.Helper()
	out, err := s.Client(Admin).CreateCustomKeyStore(s.t.Context(), in)
	if err != nil {
		s.t.Fatalf("creating key store %s: %v", aws.ToString(in.CustomKeyStoreName), err)
	}
	s.Connect(*out.CustomKeyStoreId)
	return *out.CustomKeyStoreId
}

// Connect connects a key store as Admin and waits until it is CONNECTED.
func (s *Server) Connect(id string) {
	s.t.Helper()
	if _, err := s.Client(Admin).ConnectCustomKeyStore(s.t.Context(), &awskms.ConnectCustomKeyStoreInput{CustomKeyStoreId: &id}); err != nil {
		s.t.Fatalf("connecting %s: %v", id, err)
	}
	s.WaitState(id, types.ConnectionStateTypeConnected)
}

// Disconnect disconnects a key store as Admin and waits until it is DISCONNECTED.
func (s *Server) Disconnect(id string) {
	s.t.Helper()
	if _, err := s.Client(Admin).DisconnectCustomKeyStore(s.t.Context(), &awskms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: &id}); err != nil {
		s.t.Fatalf("disconnecting %s: %v", id, err)
	}
	s.WaitState(id, types.ConnectionStateTypeDisconnected)
}

// waitLimit is how long WaitState waits: far longer than anything takes, and
// shorter than the test's own limit.
const waitLimit = 30 * time.Second

// WaitState waits until the key store of Account is in the state and gives its
// description. It fails the test at once if the store is FAILED instead.
func (s *Server) WaitState(id string, want types.ConnectionStateType) types.CustomKeyStoresListEntry {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), waitLimit)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		entry := s.Describe(id)
		if entry.ConnectionState == want {
			return entry
		}
		if entry.ConnectionState == types.ConnectionStateTypeFailed {
			s.t.Fatalf("%s is FAILED with %s, want %s\n%s", id, entry.ConnectionErrorCode, want, s.Explain(id).Evidence)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.t.Fatalf("%s is still %s, want %s", id, entry.ConnectionState, want)
		}
	}
}

// Describe gives the description of a key store of Account.
func (s *Server) Describe(id string) types.CustomKeyStoresListEntry {
	s.t.Helper()
	out, err := s.Client(Admin).DescribeCustomKeyStores(s.t.Context(), &awskms.DescribeCustomKeyStoresInput{CustomKeyStoreId: &id})
	if err != nil {
		s.t.Fatalf("describing %s: %v", id, err)
	}
	return out.CustomKeyStores[0]
}

// Key makes a key as Admin, as soon as enough HSMs are in service: a store is
// CONNECTED with one, and a key takes two.
func (s *Server) Key(in *awskms.CreateKeyInput) *types.KeyMetadata {
	s.t.Helper()
	var out *awskms.CreateKeyOutput
	polltest.Until(s.t, "enough HSMs for a key", func() (made bool) {
		var err error
		out, err = s.Client(Admin).CreateKey(s.t.Context(), in)
		if few := (*types.CloudHsmClusterInvalidConfigurationException)(nil); errors.As(err, &few) {
			return false
		}
		if err != nil {
			s.t.Fatalf("creating a key: %v", err)
		}
		return true
	})
	return out.KeyMetadata
}

// file writes a file that lives as long as the test.
func file(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
