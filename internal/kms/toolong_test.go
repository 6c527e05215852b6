package kms_test

import (
	"slices"
	"strings"
	"testing"

	"kastellan.dev/internal/kmsapi"
)

// Policies compare what a request says with patterns: what is long is refused before that, even to
// those who are allowed nothing.
func TestWhatIsTooLongIsRefusedBeforePoliciesAreAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slowly)
	key := w.createKey(&kmsapi.CreateKeyRequest{}).Arn
	long := map[string]string{"k": strings.Repeat("v", 1<<19)}
	for name, tc := range map[string]struct {
		operation string
		request   any
		code      kmsapi.Code
	}{
		"a subset":  {"CreateGrant", grantRequest(key, constrained(kmsapi.GrantConstraints{EncryptionContextSubset: long})), kmsapi.Validation},
		"a context": {"CreateGrant", grantRequest(key, constrained(kmsapi.GrantConstraints{EncryptionContextEquals: long})), kmsapi.Validation},
		"a source":  {"CreateGrant", grantRequest(key, constrained(kmsapi.GrantConstraints{SourceArn: "arn:aws:s3:::" + long["k"]})), kmsapi.Validation},
		"tags":      {"TagResource", &kmsapi.TagResourceRequest{KeyID: key, Tags: make([]kmsapi.Tag, 51)}, kmsapi.TagInvalid},
		"tag keys":  {"UntagResource", &kmsapi.UntagResourceRequest{KeyID: key, TagKeys: slices.Repeat([]string{"k"}, 51)}, kmsapi.TagInvalid},
	} {
		_, err := w.s.Do(t.Context(), operation(t, tc.operation), person(aliceARN), tc.request)
		if got := kmsapi.CodeOf(err); got != tc.code {
			t.Errorf("%s: %v, want %s", name, err, tc.code)
		}
	}
}
