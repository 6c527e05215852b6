package kms

import "kastellan.dev/internal/kmsapi"

// shownRequest is what the record of a call shows of its request: as AWS's
// records do, also what the caller left out where a default takes its place. It may
// fill that into the request itself, which has been served.
func shownRequest(in any) any {
	switch in := in.(type) {
	case *kmsapi.EncryptRequest:
		orElse(&in.EncryptionAlgorithm, kmsapi.AlgorithmSymmetricDefault)
	case *kmsapi.DecryptRequest:
		orElse(&in.EncryptionAlgorithm, kmsapi.AlgorithmSymmetricDefault)
	case *kmsapi.ReEncryptRequest:
		orElse(&in.SourceEncryptionAlgorithm, kmsapi.AlgorithmSymmetricDefault)
		orElse(&in.DestinationEncryptionAlgorithm, kmsapi.AlgorithmSymmetricDefault)
	case *kmsapi.SignRequest:
		orElse(&in.MessageType, kmsapi.MessageRaw)
	case *kmsapi.VerifyRequest:
		orElse(&in.MessageType, kmsapi.MessageRaw)
	case *kmsapi.ScheduleKeyDeletionRequest:
		standard := int32(defaultWindow)
		orElse(&in.PendingWindowInDays, &standard)
	case *kmsapi.EnableKeyRotationRequest:
		standard := int32(defaultRotationPeriod)
		orElse(&in.RotationPeriodInDays, &standard)
	case *kmsapi.ImportKeyMaterialRequest:
		orElse(&in.ExpirationModel, kmsapi.KeyMaterialExpires)
	case *kmsapi.GetKeyPolicyRequest:
		orElse(&in.PolicyName, policyName)
	case *kmsapi.RetireGrantRequest:
		return nil
	case *kmsapi.CreateKeyRequest:
		return shownNewKey(in)
	case *kmsapi.PutKeyPolicyRequest:
		orElse(&in.PolicyName, policyName)
		return &shownPolicy{KeyID: in.KeyID, PolicyName: in.PolicyName, Policy: in.Policy, BypassPolicyLockoutSafetyCheck: &in.BypassPolicyLockoutSafetyCheck}
	case *kmsapi.ReplicateKeyRequest:
		return &shownReplicate{
			KeyID: in.KeyID, ReplicaRegion: in.ReplicaRegion, BypassPolicyLockoutSafetyCheck: &in.BypassPolicyLockoutSafetyCheck,
			Description: &in.Description, Policy: in.Policy, Tags: in.Tags,
		}
	}
	return in
}

func orElse[T comparable](member *T, standard T) {
	var zero T
	if *member == zero {
		*member = standard
	}
}

// shownCreateKey is what is shown of CreateKey: members that are pointers are
// shown whatever their values.
type shownCreateKey struct {
	Policy                         string                       `aws:"Policy"`
	Description                    *string                      `aws:"Description"`
	KeyUsage                       kmsapi.KeyUsageType          `aws:"KeyUsage"`
	BypassPolicyLockoutSafetyCheck *bool                        `aws:"BypassPolicyLockoutSafetyCheck"`
	CustomerMasterKeySpec          kmsapi.CustomerMasterKeySpec `aws:"CustomerMasterKeySpec"`
	KeySpec                        kmsapi.KeySpec               `aws:"KeySpec"`
	Origin                         kmsapi.OriginType            `aws:"Origin"`
	CustomKeyStoreID               string                       `aws:"CustomKeyStoreId"`
	XksKeyID                       string                       `aws:"XksKeyId"`
	MultiRegion                    *bool                        `aws:"MultiRegion"`
	Tags                           []kmsapi.Tag                 `aws:"Tags"`
}

func shownNewKey(in *kmsapi.CreateKeyRequest) *shownCreateKey {
	out := &shownCreateKey{
		Policy: in.Policy, Description: &in.Description, KeyUsage: in.KeyUsage, BypassPolicyLockoutSafetyCheck: &in.BypassPolicyLockoutSafetyCheck,
		CustomerMasterKeySpec: in.CustomerMasterKeySpec, KeySpec: in.KeySpec, Origin: in.Origin,
		CustomKeyStoreID: in.CustomKeyStoreID, XksKeyID: in.XksKeyID, MultiRegion: in.MultiRegion, Tags: in.Tags,
	}
	orElse(&out.KeySpec, kmsapi.KeySpec(out.CustomerMasterKeySpec))
	orElse(&out.KeySpec, kmsapi.SymmetricDefault)
	orElse(&out.CustomerMasterKeySpec, kmsapi.CustomerMasterKeySpec(out.KeySpec))
	if out.KeySpec == kmsapi.SymmetricDefault {
		orElse(&out.KeyUsage, kmsapi.EncryptDecrypt)
	}
	orElse(&out.Origin, kmsapi.OriginAWSKMS)
	orElse(&out.MultiRegion, new(bool))
	return out
}

type shownPolicy struct {
	KeyID                          string `aws:"KeyId"`
	PolicyName                     string `aws:"PolicyName"`
	Policy                         string `aws:"Policy"`
	BypassPolicyLockoutSafetyCheck *bool  `aws:"BypassPolicyLockoutSafetyCheck"`
}

type shownReplicate struct {
	KeyID                          string       `aws:"KeyId"`
	ReplicaRegion                  string       `aws:"ReplicaRegion"`
	BypassPolicyLockoutSafetyCheck *bool        `aws:"BypassPolicyLockoutSafetyCheck"`
	Description                    *string      `aws:"Description"`
	Policy                         string       `aws:"Policy"`
	Tags                           []kmsapi.Tag `aws:"Tags"`
}
