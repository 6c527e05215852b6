package e2e_test

import (
	stdcontext "context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/keystore/xks/xkstest"
	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/polltest"
)

func context() stdcontext.Context { return stdcontext.Background() }

// TestTheWholeStory is what a user does from nothing to a deleted key store.
func TestTheWholeStory(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	cluster, proxy := kastellantest.NewCluster(t, clusterID, 2), xkstest.New(t, xkstest.Options{})
	proxy.AddKey("external-key")
	var ahead atomic.Int64 // of the clock by which keys are deleted
	s := kastellantest.Start(t, kastellantest.Options{
		Clusters: []*kastellantest.Cluster{cluster}, External: external(t, proxy),
		KMS: func(c *kms.Config) { c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) } },
	})
	client := s.Client(admin)

	stores := map[types.OriginType]string{}
	for origin, in := range map[types.OriginType]*awskms.CreateCustomKeyStoreInput{
		types.OriginTypeAwsCloudhsm: cluster.CreateInput("hsm"), types.OriginTypeExternalKeyStore: kastellantest.ProxyInput(proxy, "xks"),
	} {
		out, err := client.CreateCustomKeyStore(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		stores[origin] = *out.CustomKeyStoreId
		if state := s.Describe(*out.CustomKeyStoreId).ConnectionState; state != types.ConnectionStateTypeDisconnected {
			t.Errorf("a new store is %s", state)
		}
		s.Connect(*out.CustomKeyStoreId)
	}

	encryptionContext := map[string]string{"tenant": "42", "purpose": "story"}
	keys, sealed := map[types.OriginType]string{}, map[types.OriginType][]byte{}
	for origin, in := range map[types.OriginType]*awskms.CreateKeyInput{
		types.OriginTypeAwsKms:           {},
		types.OriginTypeAwsCloudhsm:      {Origin: types.OriginTypeAwsCloudhsm, CustomKeyStoreId: aws.String(stores[types.OriginTypeAwsCloudhsm])},
		types.OriginTypeExternalKeyStore: {Origin: types.OriginTypeExternalKeyStore, CustomKeyStoreId: aws.String(stores[types.OriginTypeExternalKeyStore]), XksKeyId: aws.String("external-key")},
	} {
		key := s.Key(in)
		keys[origin] = *key.Arn
		if key.Origin != origin || key.KeyState != types.KeyStateEnabled || aws.ToString(key.CustomKeyStoreId) != stores[origin] {
			t.Errorf("%+v", key)
		}
		if _, err := client.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: aws.String("alias/" + string(origin)), TargetKeyId: key.KeyId}); err != nil {
			t.Fatal(err)
		}
		out, err := client.Encrypt(ctx, &awskms.EncryptInput{
			KeyId: aws.String("alias/" + string(origin)), Plaintext: []byte("story"), EncryptionContext: encryptionContext,
		})
		if err != nil {
			t.Fatalf("%s: %v", origin, err)
		}
		sealed[origin] = out.CiphertextBlob
		data, err := client.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{KeyId: key.KeyId, KeySpec: types.DataKeySpecAes256})
		if err != nil {
			t.Fatalf("%s: %v", origin, err)
		}
		back, err := client.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: data.CiphertextBlob})
		if err != nil || string(back.Plaintext) != string(data.Plaintext) {
			t.Errorf("%s: the data key does not come back: %v", origin, err)
		}
	}

	opens := func(origin types.OriginType, blob []byte) error {
		out, err := client.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: blob, EncryptionContext: encryptionContext})
		if err == nil && (string(out.Plaintext) != "story" || *out.KeyId != keys[origin]) {
			t.Errorf("%s: %q under %s", origin, out.Plaintext, *out.KeyId)
		}
		return err
	}
	for from := range keys {
		wantError(t, opens(from, sealed[from]), "")
		for to := range keys {
			out, err := client.ReEncrypt(ctx, &awskms.ReEncryptInput{
				CiphertextBlob: sealed[from], SourceEncryptionContext: encryptionContext,
				DestinationKeyId: aws.String(keys[to]), DestinationEncryptionContext: encryptionContext,
			})
			if err != nil {
				t.Errorf("from %s to %s: %v", from, to, err)
				continue
			}
			wantError(t, opens(to, out.CiphertextBlob), "")
		}
	}
	for origin, code := range map[types.OriginType]string{
		types.OriginTypeAwsKms: "InvalidCiphertextException", types.OriginTypeAwsCloudhsm: "InvalidCiphertextException",
		types.OriginTypeExternalKeyStore: "KMSInvalidStateException",
	} {
		_, err := client.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: sealed[origin]})
		wantError(t, err, code)
	}

	for origin, store := range stores {
		s.Disconnect(store)
		key, err := client.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: aws.String("alias/" + string(origin))})
		if err != nil || key.KeyMetadata.KeyState != types.KeyStateUnavailable {
			t.Errorf("%s: %+v, %v", origin, key, err)
		}
		wantError(t, opens(origin, sealed[origin]), "KMSInvalidStateException")
		s.Connect(store)
		wantError(t, opens(origin, sealed[origin]), "")
	}

	for origin, store := range stores {
		s.Disconnect(store)
		_, err := client.DeleteCustomKeyStore(ctx, &awskms.DeleteCustomKeyStoreInput{CustomKeyStoreId: &store})
		wantError(t, err, "CustomKeyStoreHasCMKsException")
		if _, err := client.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: aws.String(keys[origin]), PendingWindowInDays: aws.Int32(7)}); err != nil {
			t.Error(err)
		}
		_, err = client.DeleteCustomKeyStore(ctx, &awskms.DeleteCustomKeyStoreInput{CustomKeyStoreId: &store})
		wantError(t, err, "CustomKeyStoreHasCMKsException")
	}
	ahead.Store(int64(8 * 24 * time.Hour))
	for origin, store := range stores {
		polltest.Until(t, "the deletion of the key", func() bool {
			_, err := client.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: aws.String(keys[origin])})
			var gone *types.NotFoundException
			return errors.As(err, &gone)
		})
		if _, err := client.DeleteCustomKeyStore(ctx, &awskms.DeleteCustomKeyStoreInput{CustomKeyStoreId: &store}); err != nil {
			t.Errorf("%s: %v", origin, err)
		}
		_, err := client.ConnectCustomKeyStore(ctx, &awskms.ConnectCustomKeyStoreInput{CustomKeyStoreId: &store})
		wantError(t, err, "CustomKeyStoreNotFoundException")
	}
	// What backed a store may back another one.
	if _, err := client.CreateCustomKeyStore(ctx, kastellantest.ProxyInput(proxy, "again")); err != nil {
		t.Error(err)
	}
	if _, err := client.CreateCustomKeyStore(ctx, cluster.CreateInput("hsm again")); err != nil {
		t.Error(err)
	}
}

func TestARestartBringsEverythingBackWithoutHelp(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	sealed := map[types.OriginType][]byte{}
	for origin, key := range p.keys {
		var err error
		if sealed[origin], err = p.encrypt(key, "before"); err != nil {
			t.Fatal(err)
		}
	}
	p.Restart()
	p.client = p.Client(admin)
	for origin := range p.keys {
		polltest.Until(t, string(origin)+" serving again", func() bool {
			plaintext, err := p.decrypt(sealed[origin])
			return err == nil && plaintext == "before"
		})
	}
	for _, id := range []string{p.hsm, p.xks} {
		if state := p.Describe(id).ConnectionState; state != types.ConnectionStateTypeConnected {
			t.Errorf("%s is %s", id, state)
		}
	}
}

func TestRandomBytesComeFromAnHSM(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	random := func(id string) error {
		out, err := p.client.GenerateRandom(t.Context(), &awskms.GenerateRandomInput{NumberOfBytes: aws.Int32(64), CustomKeyStoreId: &id})
		if err == nil && len(out.Plaintext) != 64 {
			t.Errorf("%d bytes", len(out.Plaintext))
		}
		return err
	}
	wantError(t, random(p.hsm), "")
	wantError(t, random(p.xks), "UnsupportedOperationException")
	wantError(t, random("cks-nothing"), "CustomKeyStoreNotFoundException")
}
