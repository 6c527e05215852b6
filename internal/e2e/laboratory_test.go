package e2e_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"strings"
	"sync"
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

// kinds are what keys are made of.
var kinds = map[string]awskms.CreateKeyInput{
	"symmetric": {},
	"imported":  {Origin: types.OriginTypeExternal},
	"signing":   {KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify},
	"mac":       {KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac},
	"agreement": {KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeKeyAgreement},
	"kem":       {KeySpec: types.KeySpecMlKem768, KeyUsage: types.KeyUsageTypeEncapsulateDecapsulate},
}

const (
	otherRegion = "eu-west-1"
	thirdRegion = "eu-north-1"
)

// subject is a key in a state, and what was made while it could be used.
type subject struct {
	t      *testing.T
	client *awskms.Client
	id     string
	alias  string
	grant  string
	sealed []byte // a ciphertext, a signature, a MAC or an encapsulated secret
	token  []byte // for imports, with
	// the material for it.
	wrapped []byte
	others  *others
}

// others is another key in the same Region that can be used, with a ciphertext of it.
type others struct {
	id     string
	sealed []byte
}

var (
	message  = []byte("message")
	material = []byte(strings.Repeat("m", 32))
)

// laboratory makes keys in all states.
type laboratory struct {
	fast *kastellantest.Server // multi-Region keys get on
	slow *kastellantest.Server // they stay Creating and Updating
	out  string                // a key store that is not connected

	mu    sync.Mutex
	lost  []*subject            // keys in it
	pairs map[string][]*subject // by kind: primary keys with a replica, on slow
}

func newLaboratory(t *testing.T) *laboratory {
	proxy := xkstest.New(t, xkstest.Options{})
	l := &laboratory{
		fast:  kastellantest.Start(t, kastellantest.Options{External: external(t, proxy)}),
		slow:  kastellantest.Start(t, kastellantest.Options{KMS: func(c *kms.Config) { c.Sweep = time.Hour }}),
		pairs: make(map[string][]*subject),
	}
	l.out = l.fast.KeyStore(kastellantest.ProxyInput(proxy, "out"))
	for i, row := range rowsOf(t) {
		name := fmt.Sprintf("lost-%d", i)
		proxy.AddKey(name)
		key := l.fast.Key(&awskms.CreateKeyInput{Origin: types.OriginTypeExternalKeyStore, CustomKeyStoreId: &l.out, XksKeyId: &name})
		l.lost = append(l.lost, l.prepared(t, l.fast.Client(admin), *key.Arn, "symmetric"))
		l.pairs[row[1]] = append(l.pairs[row[1]], l.replicated(t, l.slow, row[1]))
	}
	l.fast.Disconnect(l.out)
	l.slow.Restart() // begins with a sweep: the replicas are made
	for kind, subjects := range l.pairs {
		for _, s := range subjects {
			s.client = l.slow.Client(admin)
			s.settled(otherRegion)
			if kind == "imported" { // every related key wants the material itself
				replica := &subject{t: t, client: l.slow.ClientIn(admin, otherRegion), id: strings.Replace(s.id, kastellantest.Region, otherRegion, 1)}
				replica.wrap(material)
				replica.importNow()
			}
		}
	}
	return l
}

func (s *subject) state() types.KeyState {
	s.t.Helper()
	out, err := s.client.DescribeKey(s.t.Context(), &awskms.DescribeKeyInput{KeyId: &s.id})
	if err != nil {
		s.t.Fatal(err)
	}
	return out.KeyMetadata.KeyState
}

// settled waits until the replica in a Region can be used.
func (s *subject) settled(region string) {
	s.t.Helper()
	in := &awskms.DescribeKeyInput{KeyId: aws.String(strings.Replace(s.id, kastellantest.Region, region, 1))}
	polltest.Until(s.t, "a replica", func() bool {
		out, err := s.client.DescribeKey(s.t.Context(), in, func(o *awskms.Options) { o.Region = region })
		return err == nil && out.KeyMetadata.KeyState != types.KeyStateCreating
	})
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// prepared makes with a key that can be used what the operations need.
func (l *laboratory) prepared(t *testing.T, client *awskms.Client, id, kind string) *subject {
	t.Helper()
	ctx, s := t.Context(), &subject{t: t, client: client, id: id, alias: "alias/" + strings.ReplaceAll(id, ":", "_")}
	switch kind {
	case "symmetric":
		s.sealed = must[*awskms.EncryptOutput](t)(client.Encrypt(ctx, &awskms.EncryptInput{KeyId: &id, Plaintext: message})).CiphertextBlob
		s.grant = *createGrant(t, client, grantInput(id)).GrantId
	case "imported":
		s.wrap(material)
		s.importNow()
	case "signing":
		s.sealed = must[*awskms.SignOutput](t)(client.Sign(ctx, signInput(id))).Signature
	case "mac":
		s.sealed = must[*awskms.GenerateMacOutput](t)(client.GenerateMac(ctx, &awskms.GenerateMacInput{KeyId: &id, Message: message, MacAlgorithm: types.MacAlgorithmSpecHmacSha256})).Mac
	case "kem":
		s.sealed = must[*awskms.EncapsulateOutput](t)(client.Encapsulate(ctx, &awskms.EncapsulateInput{KeyId: &id, EncapsulationAlgorithm: types.EncapsulationAlgorithmSpecMlKem})).SharedSecretCiphertextBlob
	}
	s.named()
	return s
}

func (s *subject) named() {
	s.t.Helper()
	_, err := s.client.CreateAlias(s.t.Context(), &awskms.CreateAliasInput{AliasName: &s.alias, TargetKeyId: &s.id})
	if err != nil {
		s.t.Fatal(err)
	}
}

func signInput(id string) *awskms.SignInput {
	return &awskms.SignInput{KeyId: &id, Message: message, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256}
}

// wrap gets what an import of material needs.
func (s *subject) wrap(material []byte) {
	s.t.Helper()
	out := must[*awskms.GetParametersForImportOutput](s.t)(s.client.GetParametersForImport(s.t.Context(), parametersInput(s.id)))
	public := must[any](s.t)(x509.ParsePKIXPublicKey(out.PublicKey))
	s.token = out.ImportToken
	s.wrapped = must[[]byte](s.t)(rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), material, nil))
}

func parametersInput(id string) *awskms.GetParametersForImportInput {
	return &awskms.GetParametersForImportInput{KeyId: &id, WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa2048}
}

func (s *subject) importNow() {
	s.t.Helper()
	if err := s.importing(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *subject) importing() error {
	_, err := s.client.ImportKeyMaterial(s.t.Context(), &awskms.ImportKeyMaterialInput{
		KeyId: &s.id, ImportToken: orElse(s.token), EncryptedKeyMaterial: orElse(s.wrapped), ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire,
	})
	return err
}

// orElse is for requests that are refused before anybody looks at it.
func orElse(b []byte) []byte {
	if b == nil {
		return []byte("nothing")
	}
	return b
}

func keyInput(kind string, change func(*awskms.CreateKeyInput)) *awskms.CreateKeyInput {
	in := kinds[kind]
	change(&in)
	return &in
}

// replicated is a primary key with a replica in otherRegion.
func (l *laboratory) replicated(t *testing.T, server *kastellantest.Server, kind string) *subject {
	t.Helper()
	key := server.Key(keyInput(kind, func(in *awskms.CreateKeyInput) { in.MultiRegion = aws.Bool(true) }))
	s := l.prepared(t, server.Client(admin), *key.Arn, kind)
	must[*awskms.ReplicateKeyOutput](t)(s.client.ReplicateKey(t.Context(), &awskms.ReplicateKeyInput{KeyId: &s.id, ReplicaRegion: aws.String(otherRegion)}))
	return s
}

// emptied is a key whose imported material is gone.
func (l *laboratory) emptied(t *testing.T, kind string) *subject {
	t.Helper()
	key := l.fast.Key(keyInput(kind, func(in *awskms.CreateKeyInput) {
		in.Origin, in.MultiRegion = types.OriginTypeExternal, aws.Bool(true)
	}))
	s := &subject{t: t, client: l.fast.Client(admin), id: *key.Arn}
	s.wrap(importable[kind]())
	s.importNow()
	s = l.prepared(t, s.client, s.id, kind)
	must[*awskms.DeleteImportedKeyMaterialOutput](t)(s.client.DeleteImportedKeyMaterial(t.Context(), &awskms.DeleteImportedKeyMaterialInput{KeyId: &s.id}))
	return s
}

// importable makes material for kinds of keys.
var importable = map[string]func() []byte{
	"symmetric": func() []byte { return material },
	"imported":  func() []byte { return material },
	"mac":       func() []byte { return material },
	"signing":   privateKey,
	"agreement": privateKey,
}

func privateKey() []byte {
	k, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		panic(err)
	}
	return der
}

// in makes a key that is in a state.
func (l *laboratory) in(t *testing.T, state types.KeyState, kind string) (s *subject) {
	t.Helper()
	ctx := t.Context()
	plain := func() *subject {
		key := l.fast.Key(keyInput(kind, func(*awskms.CreateKeyInput) {}))
		return l.prepared(t, l.fast.Client(admin), *key.Arn, kind)
	}
	schedule := func(s *subject) {
		must[*awskms.ScheduleKeyDeletionOutput](t)(s.client.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: &s.id}))
	}
	switch state {
	case types.KeyStateEnabled:
		key := l.fast.Key(keyInput(kind, func(in *awskms.CreateKeyInput) { in.MultiRegion = aws.Bool(true) }))
		s = l.prepared(t, l.fast.Client(admin), *key.Arn, kind)
	case types.KeyStateDisabled:
		s = l.replicated(t, l.fast, kind)
		must[*awskms.DisableKeyOutput](t)(s.client.DisableKey(ctx, &awskms.DisableKeyInput{KeyId: &s.id}))
	case types.KeyStatePendingDeletion:
		s = plain()
		schedule(s)
	case types.KeyStatePendingReplicaDeletion:
		s = l.replicated(t, l.fast, kind)
		schedule(s)
	case types.KeyStatePendingImport:
		s = l.emptied(t, kind)
	case types.KeyStateUnavailable:
		l.mu.Lock()
		s, l.lost = l.lost[0], l.lost[1:]
		l.mu.Unlock()
	case types.KeyStateCreating:
		primary := l.replicated(t, l.slow, kind)
		s = &subject{client: l.slow.ClientIn(admin, otherRegion), id: strings.Replace(primary.id, kastellantest.Region, otherRegion, 1), alias: primary.alias}
		s.t = t
		s.named()
	case types.KeyStateUpdating:
		l.mu.Lock()
		s, l.pairs[kind] = l.pairs[kind][0], l.pairs[kind][1:]
		l.mu.Unlock()
		must[*awskms.UpdatePrimaryRegionOutput](t)(s.client.UpdatePrimaryRegion(ctx, &awskms.UpdatePrimaryRegionInput{KeyId: &s.id, PrimaryRegion: aws.String(otherRegion)}))
	}
	s.t = t
	if got := s.state(); got != state {
		t.Fatalf("the key is %s, want %s", got, state)
	}
	return s
}

// other makes another key when it is first asked for it.
func (s *subject) other() *others {
	s.t.Helper()
	if s.others == nil {
		key := must[*awskms.CreateKeyOutput](s.t)(s.client.CreateKey(s.t.Context(), &awskms.CreateKeyInput{})).KeyMetadata
		out := must[*awskms.EncryptOutput](s.t)(s.client.Encrypt(s.t.Context(), &awskms.EncryptInput{KeyId: key.KeyId, Plaintext: message}))
		s.others = &others{*key.KeyId, out.CiphertextBlob}
	}
	return s.others
}

// peerKey is a public key to agree with.
var peerKey = sync.OnceValue(func() []byte {
	k, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKIXPublicKey(k.PublicKey())
	if err != nil {
		panic(err)
	}
	return der
})
