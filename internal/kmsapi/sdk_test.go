package kmsapi_test

import (
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// operation has the input and output of an operation; what the SDK makes of
// them is found by the name.
type operation struct{ in, out any }

// operations are all of the API.
var operations = map[string]operation{
	"CancelKeyDeletion":                   {kmsapi.CancelKeyDeletionRequest{}, kmsapi.CancelKeyDeletionResponse{}},
	"ConnectCustomKeyStore":               {kmsapi.ConnectCustomKeyStoreRequest{}, kmsapi.ConnectCustomKeyStoreResponse{}},
	"CreateAlias":                         {kmsapi.CreateAliasRequest{}, kmsapi.Empty{}},
	"CreateCustomKeyStore":                {kmsapi.CreateCustomKeyStoreRequest{}, kmsapi.CreateCustomKeyStoreResponse{}},
	"CreateGrant":                         {kmsapi.CreateGrantRequest{}, kmsapi.CreateGrantResponse{}},
	"CreateKey":                           {kmsapi.CreateKeyRequest{}, kmsapi.CreateKeyResponse{}},
	"Decapsulate":                         {kmsapi.DecapsulateRequest{}, kmsapi.DecapsulateResponse{}},
	"Decrypt":                             {kmsapi.DecryptRequest{}, kmsapi.DecryptResponse{}},
	"DeleteAlias":                         {kmsapi.DeleteAliasRequest{}, kmsapi.Empty{}},
	"DeleteCustomKeyStore":                {kmsapi.DeleteCustomKeyStoreRequest{}, kmsapi.DeleteCustomKeyStoreResponse{}},
	"DeleteImportedKeyMaterial":           {kmsapi.DeleteImportedKeyMaterialRequest{}, kmsapi.DeleteImportedKeyMaterialResponse{}},
	"DeriveSharedSecret":                  {kmsapi.DeriveSharedSecretRequest{}, kmsapi.DeriveSharedSecretResponse{}},
	"DescribeCustomKeyStores":             {kmsapi.DescribeCustomKeyStoresRequest{}, kmsapi.DescribeCustomKeyStoresResponse{}},
	"DescribeKey":                         {kmsapi.DescribeKeyRequest{}, kmsapi.DescribeKeyResponse{}},
	"DisableKey":                          {kmsapi.DisableKeyRequest{}, kmsapi.Empty{}},
	"DisableKeyRotation":                  {kmsapi.DisableKeyRotationRequest{}, kmsapi.Empty{}},
	"DisconnectCustomKeyStore":            {kmsapi.DisconnectCustomKeyStoreRequest{}, kmsapi.DisconnectCustomKeyStoreResponse{}},
	"EnableKey":                           {kmsapi.EnableKeyRequest{}, kmsapi.Empty{}},
	"EnableKeyRotation":                   {kmsapi.EnableKeyRotationRequest{}, kmsapi.Empty{}},
	"Encapsulate":                         {kmsapi.EncapsulateRequest{}, kmsapi.EncapsulateResponse{}},
	"Encrypt":                             {kmsapi.EncryptRequest{}, kmsapi.EncryptResponse{}},
	"GenerateDataKey":                     {kmsapi.GenerateDataKeyRequest{}, kmsapi.GenerateDataKeyResponse{}},
	"GenerateDataKeyPair":                 {kmsapi.GenerateDataKeyPairRequest{}, kmsapi.GenerateDataKeyPairResponse{}},
	"GenerateDataKeyPairWithoutPlaintext": {kmsapi.GenerateDataKeyPairWithoutPlaintextRequest{}, kmsapi.GenerateDataKeyPairWithoutPlaintextResponse{}},
	"GenerateDataKeyWithoutPlaintext":     {kmsapi.GenerateDataKeyWithoutPlaintextRequest{}, kmsapi.GenerateDataKeyWithoutPlaintextResponse{}},
	"GenerateMac":                         {kmsapi.GenerateMacRequest{}, kmsapi.GenerateMacResponse{}},
	"GenerateRandom":                      {kmsapi.GenerateRandomRequest{}, kmsapi.GenerateRandomResponse{}},
	"GetKeyLastUsage":                     {kmsapi.GetKeyLastUsageRequest{}, kmsapi.GetKeyLastUsageResponse{}},
	"GetKeyPolicy":                        {kmsapi.GetKeyPolicyRequest{}, kmsapi.GetKeyPolicyResponse{}},
	"GetKeyRotationStatus":                {kmsapi.GetKeyRotationStatusRequest{}, kmsapi.GetKeyRotationStatusResponse{}},
	"GetParametersForImport":              {kmsapi.GetParametersForImportRequest{}, kmsapi.GetParametersForImportResponse{}},
	"GetPublicKey":                        {kmsapi.GetPublicKeyRequest{}, kmsapi.GetPublicKeyResponse{}},
	"ImportKeyMaterial":                   {kmsapi.ImportKeyMaterialRequest{}, kmsapi.ImportKeyMaterialResponse{}},
	"ListAliases":                         {kmsapi.ListAliasesRequest{}, kmsapi.ListAliasesResponse{}},
	"ListGrants":                          {kmsapi.ListGrantsRequest{}, kmsapi.ListGrantsResponse{}},
	"ListKeyPolicies":                     {kmsapi.ListKeyPoliciesRequest{}, kmsapi.ListKeyPoliciesResponse{}},
	"ListKeyRotations":                    {kmsapi.ListKeyRotationsRequest{}, kmsapi.ListKeyRotationsResponse{}},
	"ListKeys":                            {kmsapi.ListKeysRequest{}, kmsapi.ListKeysResponse{}},
	"ListResourceTags":                    {kmsapi.ListResourceTagsRequest{}, kmsapi.ListResourceTagsResponse{}},
	"ListRetirableGrants":                 {kmsapi.ListRetirableGrantsRequest{}, kmsapi.ListRetirableGrantsResponse{}},
	"PutKeyPolicy":                        {kmsapi.PutKeyPolicyRequest{}, kmsapi.Empty{}},
	"ReEncrypt":                           {kmsapi.ReEncryptRequest{}, kmsapi.ReEncryptResponse{}},
	"ReplicateKey":                        {kmsapi.ReplicateKeyRequest{}, kmsapi.ReplicateKeyResponse{}},
	"RetireGrant":                         {kmsapi.RetireGrantRequest{}, kmsapi.Empty{}},
	"RevokeGrant":                         {kmsapi.RevokeGrantRequest{}, kmsapi.Empty{}},
	"RotateKeyOnDemand":                   {kmsapi.RotateKeyOnDemandRequest{}, kmsapi.RotateKeyOnDemandResponse{}},
	"ScheduleKeyDeletion":                 {kmsapi.ScheduleKeyDeletionRequest{}, kmsapi.ScheduleKeyDeletionResponse{}},
	"Sign":                                {kmsapi.SignRequest{}, kmsapi.SignResponse{}},
	"TagResource":                         {kmsapi.TagResourceRequest{}, kmsapi.Empty{}},
	"UntagResource":                       {kmsapi.UntagResourceRequest{}, kmsapi.Empty{}},
	"UpdateAlias":                         {kmsapi.UpdateAliasRequest{}, kmsapi.Empty{}},
	"UpdateCustomKeyStore":                {kmsapi.UpdateCustomKeyStoreRequest{}, kmsapi.UpdateCustomKeyStoreResponse{}},
	"UpdateKeyDescription":                {kmsapi.UpdateKeyDescriptionRequest{}, kmsapi.Empty{}},
	"UpdatePrimaryRegion":                 {kmsapi.UpdatePrimaryRegionRequest{}, kmsapi.Empty{}},
	"Verify":                              {kmsapi.VerifyRequest{}, kmsapi.VerifyResponse{}},
	"VerifyMac":                           {kmsapi.VerifyMacRequest{}, kmsapi.VerifyMacResponse{}},
}

// The wire name of a member is the name of the SDK's field.
func TestTypesAreThoseOfTheOfficialSDK(t *testing.T) {
	t.Parallel()
	client := reflect.TypeFor[*kms.Client]()
	for name, op := range operations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			method, ok := client.MethodByName(name)
			if !ok {
				t.Fatal("the SDK has no such operation")
			}
			// func(*Client, context.Context, *Input, ...func(*Options)) (*Output, error)
			compareStructs(t, "input", reflect.TypeOf(op.in), method.Type.In(2).Elem())
			compareStructs(t, "output", reflect.TypeOf(op.out), method.Type.Out(0).Elem())
		})
	}
}

func TestNoOperationIsMissing(t *testing.T) {
	t.Parallel()
	client := reflect.TypeFor[*kms.Client]()
	for i := range client.NumMethod() {
		name := client.Method(i).Name
		if _, ok := operations[name]; !ok && name != "Options" {
			t.Errorf("%s is missing", name)
		}
	}
}

// The SDK refuses an empty input before it sends anything, and names what it lacks.
func TestMembersAreRequiredAsTheOfficialSDKHasThem(t *testing.T) {
	t.Parallel()
	client := kms.New(kms.Options{Region: "eu-central-1", HTTPClient: noNetwork{}, Retryer: aws.NopRetryer{}})
	for name, op := range operations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			method := reflect.ValueOf(client).MethodByName(name)
			empty := reflect.New(method.Type().In(1).Elem())
			answers := method.Call([]reflect.Value{reflect.ValueOf(t.Context()), empty})
			var missing smithy.InvalidParamsError
			var want []string
			if errors.As(answers[1].Interface().(error), &missing) {
				for _, e := range missing.Errs() {
					_, field, _ := strings.Cut(e.(smithy.InvalidParamError).Field(), ".")
					want = append(want, field)
				}
			}
			slices.Sort(want)
			if got := requiredOf(reflect.TypeOf(op.in)); !slices.Equal(got, want) {
				t.Errorf("required are %v, the SDK's %v", got, want)
			}
		})
	}
}

type noNetwork struct{}

func (noNetwork) Do(*http.Request) (*http.Response, error) { return nil, errors.New("no network") }

func requiredOf(t reflect.Type) (names []string) {
	for i := range t.NumField() {
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("aws"), ",")
		if slices.Contains(strings.Split(options, ","), "required") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func compareStructs(t *testing.T, path string, ours, theirs reflect.Type) {
	members := map[string]reflect.Type{}
	for i := range ours.NumField() {
		name, _, _ := strings.Cut(ours.Field(i).Tag.Get("aws"), ",")
		members[name] = ours.Field(i).Type
	}
	for i := range theirs.NumField() {
		field := theirs.Field(i)
		if !field.IsExported() || field.Type == reflect.TypeFor[middleware.Metadata]() {
			continue
		}
		member, ok := members[field.Name]
		if !ok {
			t.Errorf("%s.%s is missing", path, field.Name)
			continue
		}
		delete(members, field.Name)
		compareTypes(t, path+"."+field.Name, member, field.Type)
	}
	for name := range members {
		t.Errorf("%s.%s is not in the SDK", path, name)
	}
}

func compareTypes(t *testing.T, path string, ours, theirs reflect.Type) {
	kind := kindOf(ours)
	if want := kindOf(theirs); kind != want {
		t.Errorf("%s is a %s, the SDK's a %s", path, kind, want)
		return
	}
	switch kind {
	case "enum":
		if got, want := valuesOf(ours), valuesOf(theirs); !slices.Equal(got, want) {
			t.Errorf("%s has the values\n     %v, the SDK's\n     %v", path, got, want)
		}
	case "list":
		compareTypes(t, path+"[]", ours.Elem(), theirs.Elem())
	case "structure":
		compareStructs(t, path, pointee(ours), pointee(theirs))
	}
}

func kindOf(t reflect.Type) string {
	t = pointee(t)
	switch t {
	case reflect.TypeFor[kmsapi.Time](), reflect.TypeFor[time.Time]():
		return "timestamp"
	case reflect.TypeFor[[]byte](), reflect.TypeFor[secret.Bytes]():
		return "blob"
	case reflect.TypeFor[secret.Text]():
		return "string"
	case reflect.TypeFor[map[string]string]():
		return "map of strings"
	}
	switch t.Kind() {
	case reflect.String:
		if _, ok := t.MethodByName("Values"); ok {
			return "enum"
		}
		return "string"
	case reflect.Slice:
		return "list"
	case reflect.Struct:
		return "structure"
	default:
		return t.Kind().String()
	}
}

func pointee(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

// valuesOf calls the Values method that the enumerations of both sides have.
func valuesOf(t reflect.Type) (values []string) {
	list := reflect.Zero(t).MethodByName("Values").Call(nil)[0]
	for i := range list.Len() {
		values = append(values, list.Index(i).String())
	}
	slices.Sort(values)
	return values
}
