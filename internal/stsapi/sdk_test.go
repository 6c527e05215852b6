package stsapi_test

import (
	"net/http"
	"reflect"
	"strings"
	"testing"

	awssts "github.com/aws/aws-sdk-go-v2/service/sts"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/stsapi"
)

// TestTheTypesAreTheSDKs holds our structures to those of the official SDK: the same
// members, of the same kinds.
func TestTheTypesAreTheSDKs(t *testing.T) {
	t.Parallel()
	pairs := map[reflect.Type]reflect.Type{
		reflect.TypeFor[stsapi.AssumeRoleRequest]():                 reflect.TypeFor[awssts.AssumeRoleInput](),
		reflect.TypeFor[stsapi.AssumeRoleResponse]():                reflect.TypeFor[awssts.AssumeRoleOutput](),
		reflect.TypeFor[stsapi.AssumeRoleWithWebIdentityRequest]():  reflect.TypeFor[awssts.AssumeRoleWithWebIdentityInput](),
		reflect.TypeFor[stsapi.AssumeRoleWithWebIdentityResponse](): reflect.TypeFor[awssts.AssumeRoleWithWebIdentityOutput](),
		reflect.TypeFor[stsapi.GetCallerIdentityRequest]():          reflect.TypeFor[awssts.GetCallerIdentityInput](),
		reflect.TypeFor[stsapi.GetCallerIdentityResponse]():         reflect.TypeFor[awssts.GetCallerIdentityOutput](),
		reflect.TypeFor[stsapi.GetFederationTokenRequest]():         reflect.TypeFor[awssts.GetFederationTokenInput](),
		reflect.TypeFor[stsapi.GetFederationTokenResponse]():        reflect.TypeFor[awssts.GetFederationTokenOutput](),
		reflect.TypeFor[stsapi.GetSessionTokenRequest]():            reflect.TypeFor[awssts.GetSessionTokenInput](),
		reflect.TypeFor[stsapi.GetSessionTokenResponse]():           reflect.TypeFor[awssts.GetSessionTokenOutput](),
	}
	for ours, theirs := range pairs {
		compare(t, ours, theirs)
	}
}

func compare(t *testing.T, ours, theirs reflect.Type) {
	t.Helper()
	known := make(map[string]reflect.Type)
	for f := range fields(ours) {
		name, _, _ := strings.Cut(f.Tag.Get("aws"), ",")
		known[strings.ToUpper(name[:1])+name[1:]] = bare(f.Type)
	}
	for f := range fields(theirs) {
		if f.Name == "ResultMetadata" || f.Name == "noSmithyDocumentSerde" {
			continue
		}
		mine, ok := known[f.Name]
		if !ok {
			t.Errorf("%v has no %s", ours, f.Name)
			continue
		}
		delete(known, f.Name)
		other := bare(f.Type)
		switch {
		case mine == reflect.TypeFor[secret.Text]() && other.Kind() == reflect.String, mine == reflect.TypeFor[kmsapi.Time]():
		case mine.Kind() != other.Kind():
			t.Errorf("%v.%s is of another kind", ours, f.Name)
		case mine.Kind() == reflect.Struct:
			compare(t, mine, other)
		}
	}
	for name := range known {
		t.Errorf("%v has %s, which the SDK does not", ours, name)
	}
}

func fields(t reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range t.NumField() {
			if !yield(t.Field(i)) {
				return
			}
		}
	}
}

// bare takes pointers and lists away.
func bare(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return t
}

func TestCodesOnTheWire(t *testing.T) {
	t.Parallel()
	for code, want := range map[kmsapi.Code]struct {
		name   string
		status int
	}{
		kmsapi.ExpiredToken:         {"ExpiredToken", http.StatusForbidden},
		stsapi.ExpiredWebIdentity:   {"ExpiredTokenException", http.StatusBadRequest},
		kmsapi.InvalidSignature:     {"SignatureDoesNotMatch", http.StatusForbidden},
		stsapi.IDPRejectedClaim:     {"IDPRejectedClaim", http.StatusForbidden},
		stsapi.PackedPolicyTooLarge: {"PackedPolicyTooLarge", http.StatusBadRequest},
		kmsapi.KMSInternal:          {"InternalFailure", http.StatusInternalServerError},
	} {
		if name, status := stsapi.OnWire(code); name != want.name || status != want.status {
			t.Errorf("%s: %s %d", code, name, status)
		}
	}
}
