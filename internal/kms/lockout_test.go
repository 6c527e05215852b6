package kms_test

import (
	"strings"
	"testing"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/polltest"
)

// TestNobodyLocksHimselfOutOfAKeyByMistake gives policies to keys that are made, changed and replicated.
func TestNobodyLocksHimselfOutOfAKeyByMistake(t *testing.T) {
	t.Parallel()
	const user = "arn:aws:iam::" + account + ":user/member"
	statement := func(effect, principal, action, condition string) string {
		return `{"Effect":"` + effect + `","Principal":{"AWS":"` + principal + `"},"Action":"` + action + `","Resource":"*"` + condition + `}`
	}
	policy := func(statements ...string) string {
		return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
	}
	everything := allowAll
	butPut := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","NotAction":"kms:PutKeyPolicy","Resource":"*"}}`
	byAlias := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","NotAction":"kms:PutKeyPolicy","Resource":"*"},
		{"Effect":"Allow","Action":"kms:PutKeyPolicy","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/mine"}}}]}`
	inRegion := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","NotAction":"kms:PutKeyPolicy","Resource":"*"},
		{"Effect":"Allow","Action":"kms:PutKeyPolicy","Resource":"*","Condition":{"StringEquals":{"aws:RequestedRegion":"` + region + `"}}}]}`
	forced := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"},
		{"Effect":"Deny","Action":"kms:PutKeyPolicy","Resource":"*","Condition":{"Bool":{"kms:BypassPolicyLockoutSafetyCheck":"false"}}}]}`
	for name, tc := range map[string]struct {
		policy string
		iam    string
		safe   map[string]bool // by operation; nil: in all
	}{
		"the author is named":                       {policy(statement("Allow", user, "kms:*", "")), everything, nil},
		"the author is named for this alone":        {policy(statement("Allow", user, "kms:PutKeyPolicy", "")), everything, nil},
		"the account is named, and IAM allows it":   {policy(statement("Allow", account, "kms:*", "")), everything, nil},
		"the account is named, and IAM is silent":   {policy(statement("Allow", account, "kms:*", "")), butPut, map[string]bool{}},
		"somebody else is named":                    {policy(statement("Allow", aliceARN, "kms:*", "")), everything, map[string]bool{}},
		"the author is named for something else":    {policy(statement("Allow", user, "kms:Encrypt", "")), everything, map[string]bool{}},
		"the author is denied it":                   {policy(statement("Allow", account, "kms:*", ""), statement("Deny", user, "kms:Put*", "")), everything, map[string]bool{}},
		"the author is allowed it elsewhere":        {policy(statement("Allow", user, "kms:*", `,"Condition":{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}`)), everything, map[string]bool{}},
		"another account is named":                  {policy(statement("Allow", foreign, "kms:*", "")), everything, map[string]bool{}},
		"IAM allows it by an alias of the key":      {policy(statement("Allow", account, "kms:*", "")), byAlias, map[string]bool{"PutKeyPolicy": true}},
		"IAM allows it in this Region":              {policy(statement("Allow", account, "kms:*", "")), inRegion, map[string]bool{"PutKeyPolicy": true, "CreateKey": true}},
		"IAM allows it only without a safety check": {policy(statement("Allow", account, "kms:*", "")), forced, map[string]bool{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for operation, ask := range map[string]func(*world, identity.Caller, *kmsapi.KeyMetadata, bool) error{
				"CreateKey": func(w *world, who identity.Caller, _ *kmsapi.KeyMetadata, bypass bool) error {
					_, err := do[kmsapi.CreateKeyResponse](w, who, "CreateKey", &kmsapi.CreateKeyRequest{Policy: tc.policy, BypassPolicyLockoutSafetyCheck: bypass})
					return err
				},
				"PutKeyPolicy": func(w *world, who identity.Caller, key *kmsapi.KeyMetadata, bypass bool) error {
					_, err := do[kmsapi.Empty](w, who, "PutKeyPolicy", &kmsapi.PutKeyPolicyRequest{KeyID: key.KeyID, Policy: tc.policy, BypassPolicyLockoutSafetyCheck: bypass})
					return err
				},
				"ReplicateKey": func(w *world, who identity.Caller, key *kmsapi.KeyMetadata, bypass bool) error {
					_, err := do[kmsapi.ReplicateKeyResponse](w, who, "ReplicateKey", &kmsapi.ReplicateKeyRequest{
						KeyID: key.KeyID, ReplicaRegion: "eu-west-1", Policy: tc.policy, BypassPolicyLockoutSafetyCheck: bypass,
					})
					return err
				},
			} {
				w := newWorld(t)
				key := w.createKey(&kmsapi.CreateKeyRequest{MultiRegion: ptr(true), Policy: openPolicy})
				must(do[kmsapi.Empty](w, root(account), "CreateAlias", &kmsapi.CreateAliasRequest{AliasName: "alias/mine", TargetKeyID: key.KeyID}))(t)
				who := member(t, account, tc.iam)
				safe := tc.safe == nil || tc.safe[operation]
				err := ask(w, who, key, false)
				refusedBefore := operation == "PutKeyPolicy" && tc.iam == forced
				switch {
				case refusedBefore:
					wantCode(t, err, kmsapi.AccessDenied)
				case safe:
					wantCode(t, err, "")
				default:
					wantCode(t, err, kmsapi.MalformedPolicyDocument)
					if err != nil && !strings.Contains(err.Error(), "The new key policy will not allow you to update the key policy in the future.") {
						t.Errorf("%s: %v", operation, err)
					}
				}
				if !safe {
					if err := ask(w, who, key, true); err != nil {
						t.Errorf("%s without the check: %v", operation, err)
					}
				}
			}
		})
	}
}

func TestAKeyWithoutItsAccountInThePolicyIsItsRootsNoMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{
		Policy: `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"` + aliceARN + `"},"Action":"kms:*","Resource":"*"}}`, BypassPolicyLockoutSafetyCheck: true,
	})
	_, err := do[kmsapi.DescribeKeyResponse](w, root(account), "DescribeKey", &kmsapi.DescribeKeyRequest{KeyID: key.KeyID})
	wantCode(t, err, kmsapi.AccessDenied)
	_, err = do[kmsapi.DescribeKeyResponse](w, member(t, account, allowAll), "DescribeKey", &kmsapi.DescribeKeyRequest{KeyID: key.KeyID})
	wantCode(t, err, kmsapi.AccessDenied)
	_, err = do[kmsapi.DescribeKeyResponse](w, person(aliceARN), "DescribeKey", &kmsapi.DescribeKeyRequest{KeyID: key.KeyID})
	wantCode(t, err, "")
}

// part is one of the permissions that an operation needs together with others.
type part struct{ action, resource string }

// TestOperationsThatNeedSeveralPermissionsNeedAllOfThem leaves out one at a time.
func TestOperationsThatNeedSeveralPermissionsNeedAllOfThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key, other := w.createKey(&kmsapi.CreateKeyRequest{MultiRegion: ptr(true)}), w.createKey(&kmsapi.CreateKeyRequest{})
	alias := func(name string) string { return "arn:aws:kms:" + region + ":" + account + ":alias/" + name }
	for name, id := range map[string]string{"alias/source": key.KeyID, "alias/update": key.KeyID, "alias/delete": key.KeyID} {
		must(do[kmsapi.Empty](w, root(account), "CreateAlias", &kmsapi.CreateAliasRequest{AliasName: name, TargetKeyID: id}))(t)
	}
	sealed := w.sealedBy(key)
	must(do[kmsapi.ReplicateKeyResponse](w, root(account), "ReplicateKey", &kmsapi.ReplicateKeyRequest{KeyID: key.KeyID, ReplicaRegion: "eu-west-1"}))(t)
	replica := in(root(account), "eu-west-1")
	polltest.Until(t, "the replica", func() bool {
		out, err := do[kmsapi.DescribeKeyResponse](w, replica, "DescribeKey", &kmsapi.DescribeKeyRequest{KeyID: key.KeyID})
		return err == nil && out.KeyMetadata.KeyState == kmsapi.StateEnabled
	})
	tags := []kmsapi.Tag{{TagKey: "a", TagValue: "b"}}
	at := func(region string) string { return strings.Replace(key.Arn, "eu-central-1", region, 1) }
	for _, tc := range []struct {
		operation string
		in        any
		parts     []part
	}{
		{"CreateAlias", &kmsapi.CreateAliasRequest{AliasName: "alias/create", TargetKeyID: key.KeyID}, []part{{"CreateAlias", alias("create")}, {"CreateAlias", key.Arn}}},
		{"UpdateAlias", &kmsapi.UpdateAliasRequest{AliasName: "alias/update", TargetKeyID: other.KeyID}, []part{{"UpdateAlias", alias("update")}, {"UpdateAlias", key.Arn}, {"UpdateAlias", other.Arn}}},
		{"DeleteAlias", &kmsapi.DeleteAliasRequest{AliasName: "alias/delete"}, []part{{"DeleteAlias", alias("delete")}, {"DeleteAlias", key.Arn}}},
		{"ReEncrypt", &kmsapi.ReEncryptRequest{CiphertextBlob: sealed, DestinationKeyID: other.KeyID}, []part{{"ReEncryptFrom", key.Arn}, {"ReEncryptTo", other.Arn}}},
		{"ReEncrypt", &kmsapi.ReEncryptRequest{CiphertextBlob: sealed, SourceKeyID: "alias/source", DestinationKeyID: other.KeyID}, []part{{"ReEncryptFrom", key.Arn}, {"ReEncryptTo", other.Arn}}},
		{"Decrypt", &kmsapi.DecryptRequest{CiphertextBlob: sealed}, []part{{"Decrypt", key.Arn}}},
		{"Encrypt", &kmsapi.EncryptRequest{KeyID: "alias/update", Plaintext: secretBytes("x")}, []part{{"Encrypt", other.Arn}}},
		{"CreateKey", &kmsapi.CreateKeyRequest{}, []part{{"CreateKey", "*"}, {"PutKeyPolicy", "*"}}},
		{"CreateKey", &kmsapi.CreateKeyRequest{Tags: tags}, []part{{"CreateKey", "*"}, {"TagResource", "*"}, {"PutKeyPolicy", "*"}}},
		{"ReplicateKey", &kmsapi.ReplicateKeyRequest{KeyID: key.KeyID, ReplicaRegion: "eu-west-2"}, []part{{"ReplicateKey", key.Arn}, {"CreateKey", "*"}, {"PutKeyPolicy", at("eu-west-2")}}},
		{"ReplicateKey", &kmsapi.ReplicateKeyRequest{KeyID: key.KeyID, ReplicaRegion: "eu-west-3", Tags: tags}, []part{{"ReplicateKey", key.Arn}, {"CreateKey", "*"}, {"TagResource", at("*")}, {"PutKeyPolicy", at("eu-west-3")}}},
		{"UpdatePrimaryRegion", &kmsapi.UpdatePrimaryRegionRequest{KeyID: key.KeyID, PrimaryRegion: "eu-west-1"}, []part{{"UpdatePrimaryRegion", key.Arn}, {"UpdatePrimaryRegion", at("eu-west-1")}}},
	} {
		statement := func(p part) string {
			resource := p.resource
			if p.action == "TagResource" {
				resource = "*"
			}
			return `{"Effect":"Allow","Action":"kms:` + p.action + `","Resource":"` + resource + `"}`
		}
		attempt := func(parts []part) error {
			var statements []string
			for _, p := range parts {
				statements = append(statements, statement(p))
			}
			who := member(t, account, `{"Version":"2012-10-17","Statement":[`+strings.Join(statements, ",")+`]}`)
			_, err := w.s.Do(t.Context(), operation(t, tc.operation), who, tc.in)
			return err
		}
		for i, missing := range tc.parts {
			if len(tc.parts) == 1 {
				rest := []part{{"ListKeys", "*"}}
				wantCode(t, attempt(rest), kmsapi.AccessDenied)
				continue
			}
			rest := append(append([]part{}, tc.parts[:i]...), tc.parts[i+1:]...)
			err := attempt(rest)
			want := kmsapi.AccessDenied
			if missing.action == "PutKeyPolicy" {
				want = kmsapi.MalformedPolicyDocument // by the safety check
			}
			if kmsapi.CodeOf(err) != want {
				t.Errorf("%s without %s on %s: %v", tc.operation, missing.action, missing.resource, err)
			}
			if missing.action == "TagResource" && err != nil && !strings.Contains(err.Error(), "not authorized to perform: kms:TagResource because no identity-based policy allows the kms:TagResource action") {
				t.Errorf("%s: %v", tc.operation, err)
			}
		}
		if err := attempt(tc.parts); err != nil {
			t.Errorf("%s with all of them: %v", tc.operation, err)
		}
	}
}

func TestCreatingAReplicaIsAMatterOfItsRegion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{MultiRegion: ptr(true)})
	who := member(t, account, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["kms:ReplicateKey","kms:PutKeyPolicy"],"Resource":"*"},
		{"Effect":"Allow","Action":"kms:CreateKey","Resource":"*","Condition":{"StringEquals":{"aws:RequestedRegion":"eu-west-1"}}}]}`)
	for to, code := range map[string]kmsapi.Code{"eu-west-1": "", "eu-west-2": kmsapi.AccessDenied} {
		_, err := do[kmsapi.ReplicateKeyResponse](w, who, "ReplicateKey", &kmsapi.ReplicateKeyRequest{KeyID: key.KeyID, ReplicaRegion: to})
		wantCode(t, err, code)
	}
}
