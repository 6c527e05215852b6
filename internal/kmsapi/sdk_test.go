package kmsapi_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"kastellan.dev/internal/apitest"
	"kastellan.dev/internal/kmsapi"
)

// operations are all of the API.
var operations = map[string]apitest.Operation{
	"CancelKeyDeletion":                   {In: kmsapi.CancelKeyDeletionRequest{}, Out: kmsapi.CancelKeyDeletionResponse{}},
	"ConnectCustomKeyStore":               {In: kmsapi.ConnectCustomKeyStoreRequest{}, Out: kmsapi.ConnectCustomKeyStoreResponse{}},
	"CreateAlias":                         {In: kmsapi.CreateAliasRequest{}, Out: kmsapi.Empty{}},
	"CreateCustomKeyStore":                {In: kmsapi.CreateCustomKeyStoreRequest{}, Out: kmsapi.CreateCustomKeyStoreResponse{}},
	"CreateGrant":                         {In: kmsapi.CreateGrantRequest{}, Out: kmsapi.CreateGrantResponse{}},
	"CreateKey":                           {In: kmsapi.CreateKeyRequest{}, Out: kmsapi.CreateKeyResponse{}},
	"Decapsulate":                         {In: kmsapi.DecapsulateRequest{}, Out: kmsapi.DecapsulateResponse{}},
	"Decrypt":                             {In: kmsapi.DecryptRequest{}, Out: kmsapi.DecryptResponse{}},
	"DeleteAlias":                         {In: kmsapi.DeleteAliasRequest{}, Out: kmsapi.Empty{}},
	"DeleteCustomKeyStore":                {In: kmsapi.DeleteCustomKeyStoreRequest{}, Out: kmsapi.DeleteCustomKeyStoreResponse{}},
	"DeleteImportedKeyMaterial":           {In: kmsapi.DeleteImportedKeyMaterialRequest{}, Out: kmsapi.DeleteImportedKeyMaterialResponse{}},
	"DeriveSharedSecret":                  {In: kmsapi.DeriveSharedSecretRequest{}, Out: kmsapi.DeriveSharedSecretResponse{}},
	"DescribeCustomKeyStores":             {In: kmsapi.DescribeCustomKeyStoresRequest{}, Out: kmsapi.DescribeCustomKeyStoresResponse{}},
	"DescribeKey":                         {In: kmsapi.DescribeKeyRequest{}, Out: kmsapi.DescribeKeyResponse{}},
	"DisableKey":                          {In: kmsapi.DisableKeyRequest{}, Out: kmsapi.Empty{}},
	"DisableKeyRotation":                  {In: kmsapi.DisableKeyRotationRequest{}, Out: kmsapi.Empty{}},
	"DisconnectCustomKeyStore":            {In: kmsapi.DisconnectCustomKeyStoreRequest{}, Out: kmsapi.DisconnectCustomKeyStoreResponse{}},
	"EnableKey":                           {In: kmsapi.EnableKeyRequest{}, Out: kmsapi.Empty{}},
	"EnableKeyRotation":                   {In: kmsapi.EnableKeyRotationRequest{}, Out: kmsapi.Empty{}},
	"Encapsulate":                         {In: kmsapi.EncapsulateRequest{}, Out: kmsapi.EncapsulateResponse{}},
	"Encrypt":                             {In: kmsapi.EncryptRequest{}, Out: kmsapi.EncryptResponse{}},
	"GenerateDataKey":                     {In: kmsapi.GenerateDataKeyRequest{}, Out: kmsapi.GenerateDataKeyResponse{}},
	"GenerateDataKeyPair":                 {In: kmsapi.GenerateDataKeyPairRequest{}, Out: kmsapi.GenerateDataKeyPairResponse{}},
	"GenerateDataKeyPairWithoutPlaintext": {In: kmsapi.GenerateDataKeyPairWithoutPlaintextRequest{}, Out: kmsapi.GenerateDataKeyPairWithoutPlaintextResponse{}},
	"GenerateDataKeyWithoutPlaintext":     {In: kmsapi.GenerateDataKeyWithoutPlaintextRequest{}, Out: kmsapi.GenerateDataKeyWithoutPlaintextResponse{}},
	"GenerateMac":                         {In: kmsapi.GenerateMacRequest{}, Out: kmsapi.GenerateMacResponse{}},
	"GenerateRandom":                      {In: kmsapi.GenerateRandomRequest{}, Out: kmsapi.GenerateRandomResponse{}},
	"GetKeyLastUsage":                     {In: kmsapi.GetKeyLastUsageRequest{}, Out: kmsapi.GetKeyLastUsageResponse{}},
	"GetKeyPolicy":                        {In: kmsapi.GetKeyPolicyRequest{}, Out: kmsapi.GetKeyPolicyResponse{}},
	"GetKeyRotationStatus":                {In: kmsapi.GetKeyRotationStatusRequest{}, Out: kmsapi.GetKeyRotationStatusResponse{}},
	"GetParametersForImport":              {In: kmsapi.GetParametersForImportRequest{}, Out: kmsapi.GetParametersForImportResponse{}},
	"GetPublicKey":                        {In: kmsapi.GetPublicKeyRequest{}, Out: kmsapi.GetPublicKeyResponse{}},
	"ImportKeyMaterial":                   {In: kmsapi.ImportKeyMaterialRequest{}, Out: kmsapi.ImportKeyMaterialResponse{}},
	"ListAliases":                         {In: kmsapi.ListAliasesRequest{}, Out: kmsapi.ListAliasesResponse{}},
	"ListGrants":                          {In: kmsapi.ListGrantsRequest{}, Out: kmsapi.ListGrantsResponse{}},
	"ListKeyPolicies":                     {In: kmsapi.ListKeyPoliciesRequest{}, Out: kmsapi.ListKeyPoliciesResponse{}},
	"ListKeyRotations":                    {In: kmsapi.ListKeyRotationsRequest{}, Out: kmsapi.ListKeyRotationsResponse{}},
	"ListKeys":                            {In: kmsapi.ListKeysRequest{}, Out: kmsapi.ListKeysResponse{}},
	"ListResourceTags":                    {In: kmsapi.ListResourceTagsRequest{}, Out: kmsapi.ListResourceTagsResponse{}},
	"ListRetirableGrants":                 {In: kmsapi.ListRetirableGrantsRequest{}, Out: kmsapi.ListRetirableGrantsResponse{}},
	"PutKeyPolicy":                        {In: kmsapi.PutKeyPolicyRequest{}, Out: kmsapi.Empty{}},
	"ReEncrypt":                           {In: kmsapi.ReEncryptRequest{}, Out: kmsapi.ReEncryptResponse{}},
	"ReplicateKey":                        {In: kmsapi.ReplicateKeyRequest{}, Out: kmsapi.ReplicateKeyResponse{}},
	"RetireGrant":                         {In: kmsapi.RetireGrantRequest{}, Out: kmsapi.Empty{}},
	"RevokeGrant":                         {In: kmsapi.RevokeGrantRequest{}, Out: kmsapi.Empty{}},
	"RotateKeyOnDemand":                   {In: kmsapi.RotateKeyOnDemandRequest{}, Out: kmsapi.RotateKeyOnDemandResponse{}},
	"ScheduleKeyDeletion":                 {In: kmsapi.ScheduleKeyDeletionRequest{}, Out: kmsapi.ScheduleKeyDeletionResponse{}},
	"Sign":                                {In: kmsapi.SignRequest{}, Out: kmsapi.SignResponse{}},
	"TagResource":                         {In: kmsapi.TagResourceRequest{}, Out: kmsapi.Empty{}},
	"UntagResource":                       {In: kmsapi.UntagResourceRequest{}, Out: kmsapi.Empty{}},
	"UpdateAlias":                         {In: kmsapi.UpdateAliasRequest{}, Out: kmsapi.Empty{}},
	"UpdateCustomKeyStore":                {In: kmsapi.UpdateCustomKeyStoreRequest{}, Out: kmsapi.UpdateCustomKeyStoreResponse{}},
	"UpdateKeyDescription":                {In: kmsapi.UpdateKeyDescriptionRequest{}, Out: kmsapi.Empty{}},
	"UpdatePrimaryRegion":                 {In: kmsapi.UpdatePrimaryRegionRequest{}, Out: kmsapi.Empty{}},
	"Verify":                              {In: kmsapi.VerifyRequest{}, Out: kmsapi.VerifyResponse{}},
	"VerifyMac":                           {In: kmsapi.VerifyMacRequest{}, Out: kmsapi.VerifyMacResponse{}},
}

var sdk = kms.New(kms.Options{Region: "eu-central-1", HTTPClient: apitest.NoNetwork{}, Retryer: aws.NopRetryer{}})

func TestTypesAreThoseOfTheOfficialSDK(t *testing.T) {
	t.Parallel()
	apitest.TypesAreThoseOf(t, operations, sdk)
}

func TestNoOperationIsMissing(t *testing.T) {
	t.Parallel()
	apitest.NoneIsMissing(t, operations, sdk)
}

func TestMembersAreRequiredAsTheOfficialSDKHasThem(t *testing.T) {
	t.Parallel()
	apitest.RequiredAreThoseOf(t, operations, sdk)
}
