package e2e_test

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// callsOnKeys has a call of every operation that is about a key.
var callsOnKeys = map[string]func(*subject) error{
	"Encrypt": func(s *subject) error {
		_, err := s.client.Encrypt(s.t.Context(), &awskms.EncryptInput{KeyId: &s.id, Plaintext: message})
		return err
	},
	"Decrypt": func(s *subject) error {
		_, err := s.client.Decrypt(s.t.Context(), &awskms.DecryptInput{KeyId: &s.id, CiphertextBlob: orElse(s.sealed)})
		return err
	},
	"GenerateDataKey": func(s *subject) error {
		_, err := s.client.GenerateDataKey(s.t.Context(), &awskms.GenerateDataKeyInput{KeyId: &s.id, KeySpec: types.DataKeySpecAes256})
		return err
	},
	"GenerateDataKeyWithoutPlaintext": func(s *subject) error {
		_, err := s.client.GenerateDataKeyWithoutPlaintext(s.t.Context(), &awskms.GenerateDataKeyWithoutPlaintextInput{KeyId: &s.id, KeySpec: types.DataKeySpecAes256})
		return err
	},
	"ReEncrypt(from)": func(s *subject) error {
		_, err := s.client.ReEncrypt(s.t.Context(), &awskms.ReEncryptInput{CiphertextBlob: orElse(s.sealed), SourceKeyId: &s.id, DestinationKeyId: &s.other().id})
		return err
	},
	"ReEncrypt(to)": func(s *subject) error {
		_, err := s.client.ReEncrypt(s.t.Context(), &awskms.ReEncryptInput{CiphertextBlob: s.other().sealed, DestinationKeyId: &s.id})
		return err
	},
	"GenerateDataKeyPair": func(s *subject) error {
		_, err := s.client.GenerateDataKeyPair(s.t.Context(), &awskms.GenerateDataKeyPairInput{KeyId: &s.id, KeyPairSpec: types.DataKeyPairSpecEccNistP256})
		return err
	},
	"GenerateDataKeyPairWithoutPlaintext": func(s *subject) error {
		_, err := s.client.GenerateDataKeyPairWithoutPlaintext(s.t.Context(), &awskms.GenerateDataKeyPairWithoutPlaintextInput{KeyId: &s.id, KeyPairSpec: types.DataKeyPairSpecEccNistP256})
		return err
	},
	"Sign": func(s *subject) error {
		_, err := s.client.Sign(s.t.Context(), signInput(s.id))
		return err
	},
	"Verify": func(s *subject) error {
		_, err := s.client.Verify(s.t.Context(), &awskms.VerifyInput{KeyId: &s.id, Message: message, Signature: orElse(s.sealed), SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
		return err
	},
	"GenerateMac": func(s *subject) error {
		_, err := s.client.GenerateMac(s.t.Context(), &awskms.GenerateMacInput{KeyId: &s.id, Message: message, MacAlgorithm: types.MacAlgorithmSpecHmacSha256})
		return err
	},
	"VerifyMac": func(s *subject) error {
		_, err := s.client.VerifyMac(s.t.Context(), &awskms.VerifyMacInput{KeyId: &s.id, Message: message, Mac: orElse(s.sealed), MacAlgorithm: types.MacAlgorithmSpecHmacSha256})
		return err
	},
	"DeriveSharedSecret": func(s *subject) error {
		_, err := s.client.DeriveSharedSecret(s.t.Context(), &awskms.DeriveSharedSecretInput{KeyId: &s.id, PublicKey: peerKey(), KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh})
		return err
	},
	"Encapsulate": func(s *subject) error {
		_, err := s.client.Encapsulate(s.t.Context(), &awskms.EncapsulateInput{KeyId: &s.id, EncapsulationAlgorithm: types.EncapsulationAlgorithmSpecMlKem})
		return err
	},
	"Decapsulate": func(s *subject) error {
		_, err := s.client.Decapsulate(s.t.Context(), &awskms.DecapsulateInput{KeyId: &s.id, SharedSecretCiphertextBlob: orElse(s.sealed), EncapsulationAlgorithm: types.EncapsulationAlgorithmSpecMlKem})
		return err
	},
	"CreateGrant": func(s *subject) error {
		_, err := s.client.CreateGrant(s.t.Context(), grantInput(s.id))
		return err
	},
	"RetireGrant": func(s *subject) error {
		_, err := s.client.RetireGrant(s.t.Context(), &awskms.RetireGrantInput{KeyId: &s.id, GrantId: &s.grant})
		return err
	},
	"RevokeGrant": func(s *subject) error {
		_, err := s.client.RevokeGrant(s.t.Context(), &awskms.RevokeGrantInput{KeyId: &s.id, GrantId: &s.grant})
		return err
	},
	"ListGrants": func(s *subject) error {
		_, err := s.client.ListGrants(s.t.Context(), &awskms.ListGrantsInput{KeyId: &s.id})
		return err
	},
	"CancelKeyDeletion": func(s *subject) error {
		_, err := s.client.CancelKeyDeletion(s.t.Context(), &awskms.CancelKeyDeletionInput{KeyId: &s.id})
		return err
	},
	"ScheduleKeyDeletion": func(s *subject) error {
		_, err := s.client.ScheduleKeyDeletion(s.t.Context(), &awskms.ScheduleKeyDeletionInput{KeyId: &s.id})
		return err
	},
	"EnableKey": func(s *subject) error {
		_, err := s.client.EnableKey(s.t.Context(), &awskms.EnableKeyInput{KeyId: &s.id})
		return err
	},
	"DisableKey": func(s *subject) error {
		_, err := s.client.DisableKey(s.t.Context(), &awskms.DisableKeyInput{KeyId: &s.id})
		return err
	},
	"CreateAlias": func(s *subject) error {
		_, err := s.client.CreateAlias(s.t.Context(), &awskms.CreateAliasInput{AliasName: aws.String(s.alias + "/new"), TargetKeyId: &s.id})
		return err
	},
	"UpdateAlias(from)": func(s *subject) error {
		_, err := s.client.UpdateAlias(s.t.Context(), &awskms.UpdateAliasInput{AliasName: &s.alias, TargetKeyId: &s.other().id})
		return err
	},
	"UpdateAlias(to)": func(s *subject) error {
		name := "alias/" + s.other().id
		_, err := s.client.CreateAlias(s.t.Context(), &awskms.CreateAliasInput{AliasName: &name, TargetKeyId: &s.other().id})
		if err != nil && !strings.Contains(err.Error(), "AlreadyExists") {
			return err
		}
		_, err = s.client.UpdateAlias(s.t.Context(), &awskms.UpdateAliasInput{AliasName: &name, TargetKeyId: &s.id})
		return err
	},
	"DeleteAlias": func(s *subject) error {
		_, err := s.client.DeleteAlias(s.t.Context(), &awskms.DeleteAliasInput{AliasName: &s.alias})
		return err
	},
	"ListAliases": func(s *subject) error {
		_, err := s.client.ListAliases(s.t.Context(), &awskms.ListAliasesInput{KeyId: &s.id})
		return err
	},
	"TagResource": func(s *subject) error {
		_, err := s.client.TagResource(s.t.Context(), &awskms.TagResourceInput{KeyId: &s.id, Tags: []types.Tag{{TagKey: aws.String("a"), TagValue: aws.String("b")}}})
		return err
	},
	"UntagResource": func(s *subject) error {
		_, err := s.client.UntagResource(s.t.Context(), &awskms.UntagResourceInput{KeyId: &s.id, TagKeys: []string{"a"}})
		return err
	},
	"ListResourceTags": func(s *subject) error {
		_, err := s.client.ListResourceTags(s.t.Context(), &awskms.ListResourceTagsInput{KeyId: &s.id})
		return err
	},
	"UpdateKeyDescription": func(s *subject) error {
		_, err := s.client.UpdateKeyDescription(s.t.Context(), &awskms.UpdateKeyDescriptionInput{KeyId: &s.id, Description: aws.String("new")})
		return err
	},
	"DescribeKey": func(s *subject) error {
		_, err := s.client.DescribeKey(s.t.Context(), &awskms.DescribeKeyInput{KeyId: &s.id})
		return err
	},
	"GetKeyPolicy": func(s *subject) error {
		_, err := s.client.GetKeyPolicy(s.t.Context(), &awskms.GetKeyPolicyInput{KeyId: &s.id})
		return err
	},
	"PutKeyPolicy": func(s *subject) error {
		out, err := s.client.GetKeyPolicy(s.t.Context(), &awskms.GetKeyPolicyInput{KeyId: &s.id})
		if err != nil {
			return err
		}
		_, err = s.client.PutKeyPolicy(s.t.Context(), &awskms.PutKeyPolicyInput{KeyId: &s.id, Policy: out.Policy})
		return err
	},
	"ListKeyPolicies": func(s *subject) error {
		_, err := s.client.ListKeyPolicies(s.t.Context(), &awskms.ListKeyPoliciesInput{KeyId: &s.id})
		return err
	},
	"GetKeyLastUsage": func(s *subject) error {
		_, err := s.client.GetKeyLastUsage(s.t.Context(), &awskms.GetKeyLastUsageInput{KeyId: &s.id})
		return err
	},
	"GetPublicKey": func(s *subject) error {
		_, err := s.client.GetPublicKey(s.t.Context(), &awskms.GetPublicKeyInput{KeyId: &s.id})
		return err
	},
	"EnableKeyRotation": func(s *subject) error {
		_, err := s.client.EnableKeyRotation(s.t.Context(), &awskms.EnableKeyRotationInput{KeyId: &s.id})
		return err
	},
	"DisableKeyRotation": func(s *subject) error {
		_, err := s.client.DisableKeyRotation(s.t.Context(), &awskms.DisableKeyRotationInput{KeyId: &s.id})
		return err
	},
	"GetKeyRotationStatus": func(s *subject) error {
		_, err := s.client.GetKeyRotationStatus(s.t.Context(), &awskms.GetKeyRotationStatusInput{KeyId: &s.id})
		return err
	},
	"ListKeyRotations": func(s *subject) error {
		_, err := s.client.ListKeyRotations(s.t.Context(), &awskms.ListKeyRotationsInput{KeyId: &s.id})
		return err
	},
	"RotateKeyOnDemand": func(s *subject) error {
		_, err := s.client.RotateKeyOnDemand(s.t.Context(), &awskms.RotateKeyOnDemandInput{KeyId: &s.id})
		return err
	},
	"GetParametersForImport": func(s *subject) error {
		_, err := s.client.GetParametersForImport(s.t.Context(), parametersInput(s.id))
		return err
	},
	"ImportKeyMaterial": func(s *subject) error { return s.importing() },
	"DeleteImportedKeyMaterial": func(s *subject) error {
		_, err := s.client.DeleteImportedKeyMaterial(s.t.Context(), &awskms.DeleteImportedKeyMaterialInput{KeyId: &s.id})
		return err
	},
	"ReplicateKey": func(s *subject) error {
		_, err := s.client.ReplicateKey(s.t.Context(), &awskms.ReplicateKeyInput{KeyId: &s.id, ReplicaRegion: aws.String(thirdRegion)})
		return err
	},
	"UpdatePrimaryRegion": func(s *subject) error {
		key, err := s.client.DescribeKey(s.t.Context(), &awskms.DescribeKeyInput{KeyId: &s.id})
		if err == nil && key.KeyMetadata.KeyState == types.KeyStateEnabled { // with what it can move to
			_, err := s.client.ReplicateKey(s.t.Context(), &awskms.ReplicateKeyInput{KeyId: &s.id, ReplicaRegion: aws.String(otherRegion)})
			if err != nil {
				return err
			}
			s.settled(otherRegion)
		}
		_, err = s.client.UpdatePrimaryRegion(s.t.Context(), &awskms.UpdatePrimaryRegionInput{KeyId: &s.id, PrimaryRegion: aws.String(otherRegion)})
		return err
	},
}
