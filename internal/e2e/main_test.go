package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"kastellan.dev/internal/config"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/keystore/xks/xkstest"
	"kastellan.dev/internal/pkcs11"
)

func TestMain(m *testing.M) {
	pkcs11.WorkerMain()
	kastellantest.ServeMain()
	os.Exit(m.Run())
}

const admin = kastellantest.Admin

// wantError tells when err is not the exception of that name.
func wantError(t *testing.T, err error, code string) {
	t.Helper()
	var api smithy.APIError
	switch {
	case code == "" && err != nil:
		t.Errorf("unexpected: %v", err)
	case code != "" && !errors.As(err, &api):
		t.Errorf("got %v, want %s", err, code)
	case code != "" && api.ErrorCode() != code:
		t.Errorf("got %s (%s), want %s", api.ErrorCode(), api.ErrorMessage(), code)
	}
}

// external is the configuration that reaches a proxy.
func external(t testing.TB, proxies ...*xkstest.Proxy) config.ExternalKeyStores {
	t.Helper()
	var out config.ExternalKeyStores
	for _, p := range proxies {
		out.Hosts = append(out.Hosts, kastellantest.Host(t, p))
	}
	return out
}

// pair is a server with a connected key store of each type, and a key of each origin.
type pair struct {
	*kastellantest.Server
	client   *awskms.Client
	cluster  *kastellantest.Cluster
	proxy    *xkstest.Proxy
	hsm, xks string                      // key store ids
	keys     map[types.OriginType]string // key ARNs
}

const clusterID = "cluster-e2e22222222"

func newPair(t testing.TB, change ...func(*kastellantest.Options)) *pair {
	t.Helper()
	p := &pair{cluster: kastellantest.NewCluster(t, clusterID, 2), proxy: xkstest.New(t, xkstest.Options{})}
	p.proxy.AddKey("external-key")
	o := kastellantest.Options{Clusters: []*kastellantest.Cluster{p.cluster}, External: external(t, p.proxy)}
	for _, fn := range change {
		fn(&o)
	}
	p.Server = kastellantest.Start(t, o)
	p.client = p.Client(admin)
	p.hsm = p.KeyStore(p.cluster.CreateInput("hsm"))
	p.xks = p.KeyStore(kastellantest.ProxyInput(p.proxy, "xks"))
	p.keys = map[types.OriginType]string{
		types.OriginTypeAwsKms: *p.Key(&awskms.CreateKeyInput{}).Arn,
		types.OriginTypeAwsCloudhsm: *p.Key(&awskms.CreateKeyInput{
			Origin: types.OriginTypeAwsCloudhsm, CustomKeyStoreId: &p.hsm,
		}).Arn,
		types.OriginTypeExternalKeyStore: *p.Key(&awskms.CreateKeyInput{
			Origin: types.OriginTypeExternalKeyStore, CustomKeyStoreId: &p.xks, XksKeyId: aws.String("external-key"),
		}).Arn,
	}
	return p
}

func (p *pair) encrypt(key, plaintext string) ([]byte, error) {
	out, err := p.client.Encrypt(context(), &awskms.EncryptInput{KeyId: &key, Plaintext: []byte(plaintext)})
	if err != nil {
		return nil, err
	}
	return out.CiphertextBlob, nil
}

func (p *pair) decrypt(sealed []byte) (string, error) {
	out, err := p.client.Decrypt(context(), &awskms.DecryptInput{CiphertextBlob: sealed})
	if err != nil {
		return "", err
	}
	return string(out.Plaintext), nil
}

// roundTrip tells why a key does not encrypt and decrypt.
func (p *pair) roundTrip(key string) error {
	sealed, err := p.encrypt(key, "round trip")
	if err != nil {
		return err
	}
	plaintext, err := p.decrypt(sealed)
	if err == nil && plaintext != "round trip" {
		err = fmt.Errorf("decrypted %q", plaintext)
	}
	return err
}

// wantText is wantError with the whole message.
func wantText(t *testing.T, err error, code, text string) {
	t.Helper()
	wantError(t, err, code)
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorMessage() != text {
		t.Errorf("%s says %q, want %q", code, api.ErrorMessage(), text)
	}
}
