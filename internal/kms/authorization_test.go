package kms_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// caller is a user of the account with the policies.
func caller(t *testing.T, policies ...string) identity.Caller {
	t.Helper()
	d, err := identity.New([]identity.Account{{ID: account, Users: []identity.User{{
		Name:       "user",
		AccessKeys: []identity.AccessKey{{ID: "AKIAEXAMPLEEXAMPLE00", Secret: secret.NewText("0123456789012345678901234567890123456789")}},
		Attached:   identity.Attached{Inline: policies},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	entry, ok := d.Lookup("AKIAEXAMPLEEXAMPLE00")
	if !ok {
		t.Fatal("the user is not there")
	}
	return identity.Caller{Principal: entry.Principal, Region: region, RequestID: "00000000-0000-4000-8000-000000000002"}
}

const (
	allowAll = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}`
	denyOne  = `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"PERMISSION","Resource":"*"}}`
)

var aTag = []kmsapi.Tag{{TagKey: "a"}}

// requests gives a request for every operation that would succeed, as far as
// permission goes, on a key and a store that exist.
func requests(key, store string, sealed []byte) map[string]any {
	return map[string]any{
		"CancelKeyDeletion":                   &kmsapi.CancelKeyDeletionRequest{KeyID: key},
		"ConnectCustomKeyStore":               &kmsapi.ConnectCustomKeyStoreRequest{CustomKeyStoreID: store},
		"CreateAlias":                         &kmsapi.CreateAliasRequest{AliasName: "alias/new", TargetKeyID: key},
		"CreateCustomKeyStore":                xksRequest("new", "new.example.com"),
		"CreateKey":                           &kmsapi.CreateKeyRequest{Tags: aTag},
		"Decrypt":                             &kmsapi.DecryptRequest{CiphertextBlob: sealed, KeyID: key},
		"DeleteAlias":                         &kmsapi.DeleteAliasRequest{AliasName: "alias/old"},
		"DeleteCustomKeyStore":                &kmsapi.DeleteCustomKeyStoreRequest{CustomKeyStoreID: store},
		"DescribeCustomKeyStores":             &kmsapi.DescribeCustomKeyStoresRequest{},
		"DescribeKey":                         &kmsapi.DescribeKeyRequest{KeyID: key},
		"DisableKey":                          &kmsapi.DisableKeyRequest{KeyID: key},
		"DisconnectCustomKeyStore":            &kmsapi.DisconnectCustomKeyStoreRequest{CustomKeyStoreID: store},
		"EnableKey":                           &kmsapi.EnableKeyRequest{KeyID: key},
		"Encrypt":                             &kmsapi.EncryptRequest{KeyID: key, Plaintext: secretBytes("x")},
		"ExplainCustomKeyStore":               &kmsapi.ExplainCustomKeyStoreRequest{CustomKeyStoreID: store},
		"GenerateDataKey":                     &kmsapi.GenerateDataKeyRequest{KeyID: key, KeySpec: kmsapi.DataKeyAES256},
		"GenerateDataKeyWithoutPlaintext":     &kmsapi.GenerateDataKeyWithoutPlaintextRequest{KeyID: key, KeySpec: kmsapi.DataKeyAES256},
		"GenerateRandom":                      &kmsapi.GenerateRandomRequest{NumberOfBytes: ptr(int32(8))},
		"GetKeyPolicy":                        &kmsapi.GetKeyPolicyRequest{KeyID: key},
		"GetKeyLastUsage":                     &kmsapi.GetKeyLastUsageRequest{KeyID: key},
		"ListKeyPolicies":                     &kmsapi.ListKeyPoliciesRequest{KeyID: key},
		"ListResourceTags":                    &kmsapi.ListResourceTagsRequest{KeyID: key},
		"TagResource":                         &kmsapi.TagResourceRequest{KeyID: key, Tags: aTag},
		"UntagResource":                       &kmsapi.UntagResourceRequest{KeyID: key, TagKeys: []string{"a"}},
		"ListAliases":                         &kmsapi.ListAliasesRequest{},
		"ListKeys":                            &kmsapi.ListKeysRequest{},
		"PutKeyPolicy":                        &kmsapi.PutKeyPolicyRequest{KeyID: key, Policy: aPolicy},
		"ReEncrypt":                           &kmsapi.ReEncryptRequest{CiphertextBlob: sealed, SourceKeyID: key, DestinationKeyID: key},
		"ScheduleKeyDeletion":                 &kmsapi.ScheduleKeyDeletionRequest{KeyID: key},
		"Decapsulate":                         &kmsapi.DecapsulateRequest{KeyID: key, EncapsulationAlgorithm: kmsapi.MLKEM},
		"DeleteImportedKeyMaterial":           &kmsapi.DeleteImportedKeyMaterialRequest{KeyID: key},
		"DeriveSharedSecret":                  &kmsapi.DeriveSharedSecretRequest{KeyID: key, KeyAgreementAlgorithm: kmsapi.ECDH},
		"DisableKeyRotation":                  &kmsapi.DisableKeyRotationRequest{KeyID: key},
		"EnableKeyRotation":                   &kmsapi.EnableKeyRotationRequest{KeyID: key},
		"Encapsulate":                         &kmsapi.EncapsulateRequest{KeyID: key, EncapsulationAlgorithm: kmsapi.MLKEM},
		"GenerateDataKeyPair":                 &kmsapi.GenerateDataKeyPairRequest{KeyID: key, KeyPairSpec: "ECC_NIST_P256"},
		"GenerateDataKeyPairWithoutPlaintext": &kmsapi.GenerateDataKeyPairWithoutPlaintextRequest{KeyID: key, KeyPairSpec: "ECC_NIST_P256"},
		"GenerateMac":                         &kmsapi.GenerateMacRequest{KeyID: key, MacAlgorithm: kmsapi.HMACSHA256, Message: secretBytes("x")},
		"GetKeyRotationStatus":                &kmsapi.GetKeyRotationStatusRequest{KeyID: key},
		"GetParametersForImport":              &kmsapi.GetParametersForImportRequest{KeyID: key, WrappingAlgorithm: kmsapi.WrapRSAESOaepSHA256, WrappingKeySpec: kmsapi.WrappingRSA2048},
		"GetPublicKey":                        &kmsapi.GetPublicKeyRequest{KeyID: key},
		"ImportKeyMaterial":                   &kmsapi.ImportKeyMaterialRequest{KeyID: key, ImportToken: []byte("x"), EncryptedKeyMaterial: []byte("x")},
		"ListKeyRotations":                    &kmsapi.ListKeyRotationsRequest{KeyID: key},
		"ReplicateKey":                        &kmsapi.ReplicateKeyRequest{KeyID: key, ReplicaRegion: "eu-west-1", Tags: aTag},
		"RotateKeyOnDemand":                   &kmsapi.RotateKeyOnDemandRequest{KeyID: key},
		"Sign":                                &kmsapi.SignRequest{KeyID: key, SigningAlgorithm: kmsapi.ECDSASHA256, Message: secretBytes("x")},
		"UpdatePrimaryRegion":                 &kmsapi.UpdatePrimaryRegionRequest{KeyID: key, PrimaryRegion: "eu-west-1"},
		"Verify":                              &kmsapi.VerifyRequest{KeyID: key, SigningAlgorithm: kmsapi.ECDSASHA256, Message: secretBytes("x"), Signature: []byte("x")},
		"VerifyMac":                           &kmsapi.VerifyMacRequest{KeyID: key, MacAlgorithm: kmsapi.HMACSHA256, Message: secretBytes("x"), Mac: []byte("x")},
		"UpdateAlias":                         &kmsapi.UpdateAliasRequest{AliasName: "alias/old", TargetKeyID: key},
		"UpdateCustomKeyStore":                &kmsapi.UpdateCustomKeyStoreRequest{CustomKeyStoreID: store},
		"UpdateKeyDescription":                &kmsapi.UpdateKeyDescriptionRequest{KeyID: key},
	}
}

func TestNoOperationIsDoneWithoutPermission(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{MultiRegion: ptr(true)})
	store := w.createXKS("xks", "proxy.example.com")
	must(do[kmsapi.Empty](w, root(account), "CreateAlias", &kmsapi.CreateAliasRequest{AliasName: "alias/old", TargetKeyID: key.KeyID}))(t)
	sealed := must(do[kmsapi.EncryptResponse](w, root(account), "Encrypt", &kmsapi.EncryptRequest{KeyID: key.KeyID, Plaintext: secretBytes("x")}))(t).CiphertextBlob
	in := requests(key.Arn, store, sealed)
	maps.Copy(in, grantRequests(w, key.Arn))
	for _, op := range slices.Concat(kms.Operations(), kms.Extensions()) {
		if in[op.Name] == nil {
			t.Errorf("%s is not tested: add a request for it", op.Name)
			continue
		}
		refused := func(who identity.Caller, permission, why string) {
			_, err := w.s.Do(t.Context(), op, who, in[op.Name])
			var e *kmsapi.Error
			if !errors.As(err, &e) || e.Code != kmsapi.AccessDenied {
				t.Errorf("%s without %s: %v", op.Name, permission, err)
				return
			}
			if !strings.Contains(e.Message, why) || !strings.HasPrefix(e.Message, "User: arn:aws:iam::"+account+":user/user is not authorized to perform: "+permission+" ") {
				t.Errorf("%s without %s: %q", op.Name, permission, e.Message)
			}
		}
		refused(caller(t), op.Permission, "because no identity-based policy allows the "+op.Permission+" action")
		for _, p := range slices.Concat([]string{op.Permission}, op.Further) {
			refused(caller(t, allowAll, strings.Replace(denyOne, "PERMISSION", p, 1)), p, "with an explicit deny in an identity-based policy")
		}
	}
	if got := w.describe(store).ConnectionState; got != kmsapi.Disconnected {
		t.Errorf("somebody without permission made the store %s", got)
	}
	if got := w.keyState(key.KeyID); got != kmsapi.StateEnabled {
		t.Errorf("somebody without permission made the key %s", got)
	}
}

func TestConnectingCanBeDeniedWhileAllElseIsAllowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createHSM("hsm", cluster)
	operator := caller(t, allowAll, strings.Replace(denyOne, "PERMISSION", "kms:ConnectCustomKeyStore", 1))
	_, err := do[kmsapi.ConnectCustomKeyStoreResponse](w, operator, "ConnectCustomKeyStore", &kmsapi.ConnectCustomKeyStoreRequest{CustomKeyStoreID: id})
	wantCode(t, err, kmsapi.AccessDenied)
	must(do[kmsapi.DescribeCustomKeyStoresResponse](w, operator, "DescribeCustomKeyStores", &kmsapi.DescribeCustomKeyStoresRequest{}))(t)
}

func TestWhetherAKeyExistsIsToldOnlyToThoseWhoMayUseIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	const unknown = "11111111-2222-3333-4444-555555555555"
	describe := func(c identity.Caller, id string) error {
		_, err := do[kmsapi.DescribeKeyResponse](w, c, "DescribeKey", &kmsapi.DescribeKeyRequest{KeyID: id})
		return err
	}
	wantCode(t, describe(caller(t, allowAll), unknown), kmsapi.NotFound)
	err := describe(caller(t), unknown)
	wantCode(t, err, kmsapi.AccessDenied)
	if !strings.Contains(err.Error(), "does not exist in this Region, no resource-based policies allow access") {
		t.Error(err)
	}
	sealed := must(do[kmsapi.EncryptResponse](w, root(account), "Encrypt", &kmsapi.EncryptRequest{KeyID: key.KeyID, Plaintext: secretBytes("x")}))(t).CiphertextBlob
	_, err = do[kmsapi.DecryptResponse](w, caller(t), "Decrypt", &kmsapi.DecryptRequest{CiphertextBlob: sealed})
	wantCode(t, err, kmsapi.AccessDenied)
	if !strings.Contains(err.Error(), "The ciphertext refers to a customer master key that does not exist") {
		t.Error(err)
	}
}

func TestAPermissionOnOneKeyIsNoPermissionOnAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mine, other := w.createKey(&kmsapi.CreateKeyRequest{}), w.createKey(&kmsapi.CreateKeyRequest{})
	user := caller(t, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":["kms:Encrypt","kms:ReEncryptFrom"],"Resource":"`+mine.Arn+`"}}`)
	encrypt := func(id string) error {
		_, err := do[kmsapi.EncryptResponse](w, user, "Encrypt", &kmsapi.EncryptRequest{KeyID: id, Plaintext: secretBytes("x")})
		return err
	}
	wantCode(t, encrypt(mine.KeyID), "")
	wantCode(t, encrypt(other.KeyID), kmsapi.AccessDenied)
	sealed := must(do[kmsapi.EncryptResponse](w, user, "Encrypt", &kmsapi.EncryptRequest{KeyID: mine.KeyID, Plaintext: secretBytes("x")}))(t).CiphertextBlob
	_, err := do[kmsapi.ReEncryptResponse](w, user, "ReEncrypt", &kmsapi.ReEncryptRequest{CiphertextBlob: sealed, DestinationKeyID: mine.KeyID})
	wantCode(t, err, kmsapi.AccessDenied)
	if !strings.Contains(err.Error(), "kms:ReEncryptTo") {
		t.Error(err)
	}
}

func TestPrincipalsThatAreNotThereAreRefused(t *testing.T) {
	t.Parallel()
	const alice, eve = "arn:aws:iam::" + account + ":user/alice", "arn:aws:iam::" + account + ":user/eve"
	w := newWorld(t, func(c *kms.Config) {
		c.Exists = func(name string) bool {
			return name == account || name == alice || name == "arn:aws:iam::"+account+":root"
		}
	})
	naming := func(arn string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["` + account + `","` + arn + `"]},"Action":"kms:*","Resource":"*"}]}`
	}
	const text = "Policy contains a statement with one or more invalid principals."
	key := w.createKey(&kmsapi.CreateKeyRequest{Policy: naming(alice)})
	_, err := do[kmsapi.CreateKeyResponse](w, root(account), "CreateKey", &kmsapi.CreateKeyRequest{Policy: naming(eve)})
	wantText(t, err, kmsapi.MalformedPolicyDocument, text)
	_, err = do[kmsapi.Empty](w, root(account), "PutKeyPolicy", &kmsapi.PutKeyPolicyRequest{KeyID: key.KeyID, Policy: naming(eve)})
	wantText(t, err, kmsapi.MalformedPolicyDocument, text)
	grant := &kmsapi.CreateGrantRequest{KeyID: key.KeyID, GranteePrincipal: alice, Operations: []kmsapi.GrantOperation{kmsapi.GrantEncrypt}}
	must(do[kmsapi.CreateGrantResponse](w, root(account), "CreateGrant", grant))(t)
	grant.RetiringPrincipal = eve
	_, err = do[kmsapi.CreateGrantResponse](w, root(account), "CreateGrant", grant)
	wantText(t, err, kmsapi.InvalidArn, "ARN does not refer to a valid principal: "+eve)
}

func wantText(t *testing.T, err error, code kmsapi.Code, text string) {
	t.Helper()
	var e *kmsapi.Error
	if !errors.As(err, &e) || e.Code != code || e.Message != text {
		t.Errorf("got %v, want %s: %s", err, code, text)
	}
}
