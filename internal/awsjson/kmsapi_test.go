package awsjson_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"kastellan.dev/internal/awsjson"
	"kastellan.dev/internal/kmsapi"
)

// messages are the inputs and outputs of package kmsapi.
var messages = []any{
	kmsapi.CreateAliasRequest{}, kmsapi.UpdateAliasRequest{}, kmsapi.DeleteAliasRequest{}, kmsapi.ListAliasesRequest{},
	kmsapi.ListAliasesResponse{}, kmsapi.GetPublicKeyRequest{}, kmsapi.GetPublicKeyResponse{}, kmsapi.SignRequest{}, kmsapi.SignResponse{},
	kmsapi.VerifyRequest{}, kmsapi.VerifyResponse{}, kmsapi.DeriveSharedSecretRequest{}, kmsapi.DeriveSharedSecretResponse{},
	kmsapi.EncapsulateRequest{}, kmsapi.EncapsulateResponse{}, kmsapi.DecapsulateRequest{}, kmsapi.DecapsulateResponse{},
	kmsapi.EncryptRequest{}, kmsapi.EncryptResponse{}, kmsapi.DecryptRequest{}, kmsapi.DecryptResponse{}, kmsapi.ReEncryptRequest{},
	kmsapi.ReEncryptResponse{}, kmsapi.GenerateDataKeyRequest{}, kmsapi.GenerateDataKeyResponse{},
	kmsapi.GenerateDataKeyWithoutPlaintextRequest{}, kmsapi.GenerateDataKeyWithoutPlaintextResponse{}, kmsapi.GenerateRandomRequest{},
	kmsapi.GenerateRandomResponse{}, kmsapi.GenerateDataKeyPairRequest{}, kmsapi.GenerateDataKeyPairResponse{},
	kmsapi.GenerateDataKeyPairWithoutPlaintextRequest{}, kmsapi.GenerateDataKeyPairWithoutPlaintextResponse{},
	kmsapi.ExplainCustomKeyStoreRequest{}, kmsapi.ExplainCustomKeyStoreResponse{}, kmsapi.CreateGrantRequest{},
	kmsapi.CreateGrantResponse{}, kmsapi.ListGrantsRequest{}, kmsapi.ListGrantsResponse{}, kmsapi.ListRetirableGrantsRequest{},
	kmsapi.ListRetirableGrantsResponse{}, kmsapi.RetireGrantRequest{}, kmsapi.RevokeGrantRequest{}, kmsapi.GetParametersForImportRequest{},
	kmsapi.GetParametersForImportResponse{}, kmsapi.ImportKeyMaterialRequest{}, kmsapi.ImportKeyMaterialResponse{},
	kmsapi.DeleteImportedKeyMaterialRequest{}, kmsapi.DeleteImportedKeyMaterialResponse{}, kmsapi.CreateKeyRequest{},
	kmsapi.CreateKeyResponse{}, kmsapi.DescribeKeyRequest{}, kmsapi.DescribeKeyResponse{}, kmsapi.ListKeysRequest{},
	kmsapi.ListKeysResponse{}, kmsapi.EnableKeyRequest{}, kmsapi.DisableKeyRequest{}, kmsapi.UpdateKeyDescriptionRequest{},
	kmsapi.ScheduleKeyDeletionRequest{}, kmsapi.ScheduleKeyDeletionResponse{}, kmsapi.CancelKeyDeletionRequest{},
	kmsapi.CancelKeyDeletionResponse{}, kmsapi.GetKeyPolicyRequest{}, kmsapi.GetKeyPolicyResponse{}, kmsapi.PutKeyPolicyRequest{},
	kmsapi.CreateCustomKeyStoreRequest{}, kmsapi.CreateCustomKeyStoreResponse{}, kmsapi.ConnectCustomKeyStoreRequest{},
	kmsapi.ConnectCustomKeyStoreResponse{}, kmsapi.DisconnectCustomKeyStoreRequest{}, kmsapi.DisconnectCustomKeyStoreResponse{},
	kmsapi.DeleteCustomKeyStoreRequest{}, kmsapi.DeleteCustomKeyStoreResponse{}, kmsapi.UpdateCustomKeyStoreRequest{},
	kmsapi.UpdateCustomKeyStoreResponse{}, kmsapi.DescribeCustomKeyStoresRequest{}, kmsapi.DescribeCustomKeyStoresResponse{},
	kmsapi.GetKeyLastUsageRequest{}, kmsapi.GetKeyLastUsageResponse{}, kmsapi.GenerateMacRequest{}, kmsapi.GenerateMacResponse{},
	kmsapi.VerifyMacRequest{}, kmsapi.VerifyMacResponse{}, kmsapi.ReplicateKeyRequest{}, kmsapi.ReplicateKeyResponse{},
	kmsapi.UpdatePrimaryRegionRequest{}, kmsapi.ListKeyPoliciesRequest{}, kmsapi.ListKeyPoliciesResponse{},
	kmsapi.EnableKeyRotationRequest{}, kmsapi.DisableKeyRotationRequest{}, kmsapi.GetKeyRotationStatusRequest{},
	kmsapi.GetKeyRotationStatusResponse{}, kmsapi.RotateKeyOnDemandRequest{}, kmsapi.RotateKeyOnDemandResponse{},
	kmsapi.ListKeyRotationsRequest{}, kmsapi.ListKeyRotationsResponse{}, kmsapi.TagResourceRequest{}, kmsapi.UntagResourceRequest{},
	kmsapi.ListResourceTagsRequest{}, kmsapi.ListResourceTagsResponse{},
}

func TestEveryMessageOfKMSCanBePrepared(t *testing.T) {
	t.Parallel()
	listed := map[string]bool{}
	for _, v := range messages {
		listed[reflect.TypeOf(v).Name()] = true
		if err := awsjson.Prepare(v); err != nil {
			t.Error(err)
		}
	}
	for _, name := range declaredMessages(t) {
		if !listed[name] {
			t.Errorf("%s is not in this test", name)
		}
	}
}

// declaredMessages finds the types called …Request and …Response in the source.
func declaredMessages(t *testing.T) (names []string) {
	files, err := filepath.Glob("../kmsapi/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if s, ok := n.(*ast.TypeSpec); ok && (strings.HasSuffix(s.Name.Name, "Request") || strings.HasSuffix(s.Name.Name, "Response")) {
				names = append(names, s.Name.Name)
			}
			return true
		})
	}
	if len(names) == 0 {
		t.Fatal("no message is found in the source")
	}
	return names
}
