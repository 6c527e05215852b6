package kms

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"kastellan.dev/internal/kmsapi"
)

// memberCondition is a condition key whose values a member of the request has.
type memberCondition struct {
	member      string
	absent      string   // what it means that the member is absent; empty: the request does not have the key
	permissions []string // those that have the key, without "kms:"
}

// memberConditions are by their names in lower case.
var memberConditions = map[string]memberCondition{
	"kms:encryptionalgorithm": {"EncryptionAlgorithm", string(kmsapi.AlgorithmSymmetricDefault), []string{"Encrypt", "Decrypt", "ReEncryptFrom", "ReEncryptTo",
		"GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"}},
	"kms:datakeypairspec":                        {"KeyPairSpec", "", []string{"GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"}},
	"kms:signingalgorithm":                       {"SigningAlgorithm", "", []string{"Sign", "Verify"}},
	"kms:messagetype":                            {"MessageType", string(kmsapi.MessageRaw), []string{"Sign", "Verify"}},
	"kms:macalgorithm":                           {"MacAlgorithm", "", []string{"GenerateMac", "VerifyMac"}},
	"kms:keyagreementalgorithm":                  {"KeyAgreementAlgorithm", "", []string{"DeriveSharedSecret"}},
	"kms:bypasspolicylockoutsafetycheck":         {"BypassPolicyLockoutSafetyCheck", "false", []string{"CreateKey", "PutKeyPolicy"}},
	"kms:expirationmodel":                        {"ExpirationModel", string(kmsapi.KeyMaterialExpires), []string{"ImportKeyMaterial"}},
	"kms:validto":                                {"ValidTo", "", []string{"ImportKeyMaterial"}},
	"kms:wrappingalgorithm":                      {"WrappingAlgorithm", "", []string{"GetParametersForImport"}},
	"kms:wrappingkeyspec":                        {"WrappingKeySpec", "", []string{"GetParametersForImport"}},
	"kms:rotationperiodindays":                   {"RotationPeriodInDays", "365", []string{"EnableKeyRotation"}},
	"kms:schedulekeydeletionpendingwindowindays": {"PendingWindowInDays", "30", []string{"ScheduleKeyDeletion"}},
	"kms:grantoperations":                        {"Operations", "", []string{"CreateGrant"}},
	"kms:granteeprincipal":                       {"GranteePrincipal", "", []string{"CreateGrant"}},
	"kms:retiringprincipal":                      {"RetiringPrincipal", "", []string{"CreateGrant"}},
	"kms:granteeserviceprincipal":                {"GranteeServicePrincipal", "", []string{"CreateGrant"}},
	"kms:retiringserviceprincipal":               {"RetiringServicePrincipal", "", []string{"CreateGrant"}},
	"kms:primaryregion":                          {"PrimaryRegion", "", []string{"UpdatePrimaryRegion"}},
	"kms:replicaregion":                          {"ReplicaRegion", "", []string{"ReplicateKey"}},
}

func (m memberCondition) of(q *question) ([]string, bool) {
	if !slices.Contains(m.permissions, operationOf(q.permission)) {
		return nil, false
	}
	if values := memberValues(q.call.in, string(q.half)+m.member); len(values) > 0 {
		return values, true
	}
	return some(m.absent)
}

// memberValues are the texts of a member of a request: none if it is absent or has no value.
func memberValues(in any, name string) []string {
	v := reflect.Indirect(reflect.ValueOf(in))
	at, known := membersOf(v.Type())[name]
	if !known {
		return nil
	}
	return texts(v.Field(at))
}

// members has, by the type of a request, where its members are: a map[string]int.
var members sync.Map

func membersOf(t reflect.Type) map[string]int {
	if known, ok := members.Load(t); ok {
		return known.(map[string]int)
	}
	out := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("aws"), ",")
		out[name] = i
	}
	members.Store(t, out)
	return out
}

func texts(v reflect.Value) []string {
	if v.IsZero() {
		return nil
	}
	if v.Type() == reflect.TypeFor[*kmsapi.Time]() {
		return []string{strconv.FormatInt(v.Interface().(*kmsapi.Time).Unix(), 10)}
	}
	switch v = reflect.Indirect(v); v.Kind() {
	case reflect.String:
		return []string{v.String()}
	case reflect.Bool:
		return []string{strconv.FormatBool(v.Bool())}
	case reflect.Int32:
		return []string{strconv.FormatInt(v.Int(), 10)}
	case reflect.Slice:
		out := make([]string, v.Len())
		for i := range out {
			out[i] = v.Index(i).String()
		}
		return out
	default:
		return nil // a kind that no member of the table has; a test holds that
	}
}
