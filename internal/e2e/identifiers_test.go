package e2e_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/polltest"
)

// takingAliases are the operations whose key may be named by an alias.
var takingAliases = strings.Fields(`Decapsulate Decrypt DeriveSharedSecret DescribeKey Encapsulate Encrypt GenerateDataKey
	GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext GenerateDataKeyWithoutPlaintext GenerateMac GetPublicKey
	ReEncrypt Sign Verify VerifyMac`)

// withInvalidArn are the operations that list InvalidArnException.
var withInvalidArn = strings.Fields(`CancelKeyDeletion CreateGrant DeleteImportedKeyMaterial DescribeKey DisableKey
	DisableKeyRotation EnableKey EnableKeyRotation GetKeyLastUsage GetKeyPolicy GetKeyRotationStatus GetParametersForImport GetPublicKey
	ImportKeyMaterial ListAliases ListGrants ListKeyPolicies ListKeyRotations ListResourceTags PutKeyPolicy ReplicateKey RetireGrant
	RevokeGrant RotateKeyOnDemand ScheduleKeyDeletion TagResource UntagResource UpdateKeyDescription UpdatePrimaryRegion`)

const (
	arnOfAccount = "arn:aws:kms:" + kastellantest.Region + ":" + kastellantest.Account + ":"
	noKey        = "01234567-89ab-cdef-0123-456789abcdef"
)

// TestIdentifiersOfKeys names a key to every operation in every way.
func TestIdentifiersOfKeys(t *testing.T) {
	t.Parallel()
	l := &laboratory{fast: kastellantest.Start(t, kastellantest.Options{})}
	for _, row := range rowsOf(t) {
		name, kind := row[0], row[1]
		op, _, _ := strings.Cut(name, "(")
		if name == "UpdateAlias(from)" || op == "DeleteAlias" {
			continue // they name no key
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			aliases := slices.Contains(takingAliases, op)
			malformed := "NotFoundException"
			if slices.Contains(withInvalidArn, op) {
				malformed = "InvalidArnException"
			}
			call := func(s *subject, id string) error {
				renamed := *s
				renamed.t, renamed.id = t, id
				return callsOnKeys[name](&renamed)
			}
			key := func() (s *subject, arn, id string) {
				s = l.in(t, types.KeyStateEnabled, kind)
				return s, s.id, s.id[strings.LastIndexByte(s.id, '/')+1:]
			}
			accepted := ""
			if op == "CancelKeyDeletion" {
				accepted = "KMSInvalidStateException" // it was found
			}
			s, arn, id := key()
			s.other()
			wantError(t, call(s, arn), accepted)
			s, _, id = key()
			wantError(t, call(s, id), accepted)
			s, arn, id = key()
			aliasARN := arnOfAccount + s.alias
			if aliases {
				wantError(t, call(s, s.alias), "")
				wantError(t, call(s, aliasARN), "")
				wantText(t, call(s, "alias/none"), "NotFoundException", "Alias "+arnOfAccount+"alias/none is not found.")
				wantText(t, call(s, arnOfAccount+"alias/none"), "NotFoundException", "Alias "+arnOfAccount+"alias/none is not found.")
			} else {
				wantText(t, call(s, s.alias), "NotFoundException", "Invalid keyId '"+s.alias+"'")
				wantError(t, call(s, aliasARN), malformed)
			}
			wantText(t, call(s, "key"), "NotFoundException", "Invalid keyId 'key'")
			wantText(t, call(s, strings.ReplaceAll(noKey, "-", "")), "NotFoundException", "Invalid keyId '"+strings.ReplaceAll(noKey, "-", "")+"'")
			wantError(t, call(s, "arn:aws:kms"), malformed)
			wantError(t, call(s, strings.Replace(arn, "key/", "cat/", 1)), malformed)
			wantError(t, call(s, strings.Replace(arn, ":kms:", ":s3:", 1)), malformed)
			wantError(t, call(s, strings.Replace(arn, "arn:aws:", "arn:aws-cn:", 1)), malformed)
			wantText(t, call(s, strings.Replace(arn, kastellantest.Region, otherRegion, 1)), "NotFoundException", "Invalid arn "+otherRegion)
			wantError(t, call(s, strings.Replace(arn, kastellantest.Account, "444455556666", 1)), "AccessDeniedException")
			if op != "RetireGrant" { // which is refused like a grant that is not there
				wantText(t, call(s, noKey), "NotFoundException", "Key '"+arnOfAccount+"key/"+noKey+"' does not exist")
			}
			wantText(t, call(s, arnOfAccount+"key/"+noKey), "NotFoundException", "Key '"+arnOfAccount+"key/"+noKey+"' does not exist")
		})
	}
}

// lists has a call of every operation that gives pages.
var lists = map[string]func(s *subject, limit *int32, marker *string) (n int, next *string, truncated bool, err error){
	"ListKeys": func(s *subject, limit *int32, marker *string) (int, *string, bool, error) {
		out, err := s.client.ListKeys(s.t.Context(), &awskms.ListKeysInput{Limit: limit, Marker: marker})
		if err != nil {
			return 0, nil, false, err
		}
		return len(out.Keys), out.NextMarker, out.Truncated, nil
	},
	"ListAliases": func(s *subject, limit *int32, marker *string) (int, *string, bool, error) {
		out, err := s.client.ListAliases(s.t.Context(), &awskms.ListAliasesInput{KeyId: &s.id, Limit: limit, Marker: marker})
		if err != nil {
			return 0, nil, false, err
		}
		return len(out.Aliases), out.NextMarker, out.Truncated, nil
	},
	"ListGrants": func(s *subject, limit *int32, marker *string) (int, *string, bool, error) {
		out, err := s.client.ListGrants(s.t.Context(), &awskms.ListGrantsInput{KeyId: &s.id, Limit: limit, Marker: marker})
		if err != nil {
			return 0, nil, false, err
		}
		return len(out.Grants), out.NextMarker, out.Truncated, nil
	},
	"ListRetirableGrants": func(s *subject, limit *int32, marker *string) (int, *string, bool, error) {
		out, err := s.client.ListRetirableGrants(s.t.Context(), &awskms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(granteeARN), Limit: limit, Marker: marker})
		if err != nil {
			return 0, nil, false, err
		}
		return len(out.Grants), out.NextMarker, out.Truncated, nil
	},
	"ListKeyPolicies": func(s *subject, limit *int32, marker *string) (int, *string, bool, error) {
		out, err := s.client.ListKeyPolicies(s.t.Context(), &awskms.ListKeyPoliciesInput{KeyId: &s.id, Limit: limit, Marker: marker})
		if err != nil {
			return 0, nil, false, err
		}
		return len(out.PolicyNames), out.NextMarker, out.Truncated, nil
	},
	"ListResourceTags": func(s *subject, limit *int32, marker *string) (int, *string, bool, error) {
		out, err := s.client.ListResourceTags(s.t.Context(), &awskms.ListResourceTagsInput{KeyId: &s.id, Limit: limit, Marker: marker})
		if err != nil {
			return 0, nil, false, err
		}
		return len(out.Tags), out.NextMarker, out.Truncated, nil
	},
	"ListKeyRotations": func(s *subject, limit *int32, marker *string) (int, *string, bool, error) {
		out, err := s.client.ListKeyRotations(s.t.Context(), &awskms.ListKeyRotationsInput{KeyId: &s.id, Limit: limit, Marker: marker})
		if err != nil {
			return 0, nil, false, err
		}
		return len(out.Rotations), out.NextMarker, out.Truncated, nil
	},
	"DescribeCustomKeyStores": func(s *subject, limit *int32, marker *string) (int, *string, bool, error) {
		out, err := s.client.DescribeCustomKeyStores(s.t.Context(), &awskms.DescribeCustomKeyStoresInput{Limit: limit, Marker: marker})
		if err != nil {
			return 0, nil, false, err
		}
		return len(out.CustomKeyStores), out.NextMarker, out.Truncated, nil
	},
}

// TestPages reads every list in pages of one.
func TestPages(t *testing.T) {
	t.Parallel()
	server := kastellantest.Start(t, kastellantest.Options{})
	l := &laboratory{fast: server}
	s := l.in(t, types.KeyStateEnabled, "symmetric") // has an alias and a grant
	ctx := t.Context()
	for range 2 {
		server.Key(&awskms.CreateKeyInput{})
		createGrant(t, s.client, grantInput(s.id, func(in *awskms.CreateGrantInput) { in.RetiringPrincipal = aws.String(granteeARN) }))
		polltest.Until(t, "the rotation before", func() bool {
			_, err := s.client.RotateKeyOnDemand(ctx, &awskms.RotateKeyOnDemandInput{KeyId: &s.id})
			return err == nil
		})
	}
	for _, name := range []string{"a", "b"} {
		must[*awskms.CreateAliasOutput](t)(s.client.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: aws.String("alias/" + name), TargetKeyId: &s.id}))
		must[*awskms.TagResourceOutput](t)(s.client.TagResource(ctx, &awskms.TagResourceInput{KeyId: &s.id, Tags: []types.Tag{{TagKey: &name, TagValue: &name}}}))
	}
	polltest.Until(t, "two rotations", func() bool {
		n, _, _, err := lists["ListKeyRotations"](s, nil, nil)
		return err == nil && n == 2
	})
	want := map[string]int{"ListKeys": 3, "ListAliases": 3, "ListGrants": 3, "ListRetirableGrants": 2, "ListKeyPolicies": 1, "ListResourceTags": 2, "ListKeyRotations": 2}
	for name, list := range lists {
		t.Run(name, func(t *testing.T) {
			found, marker := 0, (*string)(nil)
			for pages := 1; ; pages++ {
				n, next, truncated, err := list(s, aws.Int32(1), marker)
				if err != nil || n > 1 || truncated != (next != nil) {
					t.Fatalf("%d entries, next %v, truncated %t, %v", n, next, truncated, err)
				}
				found += n
				if !truncated {
					break
				}
				marker = next
			}
			if found != want[name] {
				t.Errorf("%d entries in pages, want %d", found, want[name])
			}
			if n, next, truncated, err := list(s, aws.Int32(1000), nil); n != want[name] || next != nil || truncated || err != nil {
				t.Errorf("%d entries in one page, %v, %t, %v", n, next, truncated, err)
			}
			for _, bad := range []int32{0, 1001} {
				_, _, _, err := list(s, &bad, nil)
				wantError(t, err, "ValidationException")
			}
			for _, bad := range []string{"marker", "bm90aGluZw"} {
				_, _, _, err := list(s, nil, &bad)
				wantError(t, err, "InvalidMarkerException")
			}
		})
	}
}
