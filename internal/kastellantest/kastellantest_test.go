package kastellantest_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

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
	os.Exit(m.Run())
}

func TestAServerKeepsItsKeysOverARestart(t *testing.T) {
	t.Parallel()
	s := kastellantest.Start(t, kastellantest.Options{})
	key := s.Key(&awskms.CreateKeyInput{})
	sealed, err := s.Client(kastellantest.Admin).Encrypt(t.Context(), &awskms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("hello")})
	if err != nil {
		t.Fatal(err)
	}
	s.Restart()
	opened, err := s.Client(kastellantest.Admin).Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	if err != nil || string(opened.Plaintext) != "hello" {
		t.Fatalf("decrypted %q, %v", opened.Plaintext, err)
	}
}

func TestPoliciesOfUsersDecide(t *testing.T) {
	t.Parallel()
	s := kastellantest.Start(t, kastellantest.Options{Users: []kastellantest.User{{
		Name: "reader", Policy: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:List*","Resource":"*"}]}`,
	}}})
	reader := s.Client("reader")
	if _, err := reader.ListKeys(t.Context(), &awskms.ListKeysInput{}); err != nil {
		t.Error(err)
	}
	_, err := reader.CreateKey(t.Context(), &awskms.CreateKeyInput{})
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "AccessDeniedException" {
		t.Errorf("CreateKey: %v, want an AccessDeniedException", err)
	}
}

func TestAKeyStoreOnACluster(t *testing.T) {
	t.Parallel()
	cluster := kastellantest.NewCluster(t, "cluster-abcdefghijk", 2)
	s := kastellantest.Start(t, kastellantest.Options{Clusters: []*kastellantest.Cluster{cluster}})
	id := s.KeyStore(cluster.CreateInput("hsm"))
	key := s.Key(&awskms.CreateKeyInput{CustomKeyStoreId: &id, Origin: types.OriginTypeAwsCloudhsm})
	sealed, err := s.Client(kastellantest.Admin).Encrypt(t.Context(), &awskms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("hello")})
	if err != nil {
		t.Fatal(err)
	}
	s.Restart()
	s.WaitState(id, types.ConnectionStateTypeConnected)
	opened, err := s.Client(kastellantest.Admin).Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	if err != nil || string(opened.Plaintext) != "hello" {
		t.Fatalf("after the restart: %v", err)
	}
	if ev := s.EvidenceOf(id); len(ev.Steps) == 0 || ev.Failure != "" {
		t.Errorf("the evidence of a good connection is %+v", ev)
	}
}

func TestACrashLeavesAConnectionToTheNextProcess(t *testing.T) {
	t.Parallel()
	cluster := kastellantest.NewCluster(t, "cluster-abcdefghijk", 2)
	s := kastellantest.Start(t, kastellantest.Options{
		Clusters: []*kastellantest.Cluster{cluster},
		CrashAt:  func(point string) bool { return strings.HasPrefix(point, "connect: ") },
	})
	admin := s.Client(kastellantest.Admin)
	made, err := admin.CreateCustomKeyStore(t.Context(), cluster.CreateInput("hsm"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.ConnectCustomKeyStore(t.Context(), &awskms.ConnectCustomKeyStoreInput{CustomKeyStoreId: made.CustomKeyStoreId}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Crashed():
	case <-time.After(30 * time.Second):
		t.Fatal("connecting never came to a fault point")
	}
	if state := s.Describe(*made.CustomKeyStoreId).ConnectionState; state != types.ConnectionStateTypeConnecting {
		t.Errorf("after the crash the store is %s", state)
	}
	s.Restart()
	s.WaitState(aws.ToString(made.CustomKeyStoreId), types.ConnectionStateTypeConnected)
}

func TestAKeyStoreBehindAProxy(t *testing.T) {
	t.Parallel()
	proxy := xkstest.New(t, xkstest.Options{})
	proxy.AddKey("key-1")
	s := kastellantest.Start(t, kastellantest.Options{
		External: config.ExternalKeyStores{
			Hosts: []config.Host{kastellantest.Host(t, proxy)},
		},
	})
	id := s.KeyStore(kastellantest.ProxyInput(proxy, "external"))
	key := s.Key(&awskms.CreateKeyInput{CustomKeyStoreId: &id, Origin: types.OriginTypeExternalKeyStore, XksKeyId: aws.String("key-1")})
	sealed, err := s.Client(kastellantest.Admin).Encrypt(t.Context(), &awskms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("hello")})
	if err != nil {
		t.Fatal(err)
	}
	s.Disconnect(id)
	s.Connect(id)
	opened, err := s.Client(kastellantest.Admin).Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	if err != nil || string(opened.Plaintext) != "hello" {
		t.Fatalf("after reconnecting: %v", err)
	}
}
