package kms_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/kmsapi"
)

// documented are the condition keys that AWS documents for KMS: its own and, behind them, the global
// ones that depend on the resource or the request. Families end in ":" or "/".
var documented = strings.Fields(`
	kms:BypassPolicyLockoutSafetyCheck kms:CallerAccount kms:CustomerMasterKeySpec kms:CustomerMasterKeyUsage kms:DataKeyPairSpec
	kms:EncryptionAlgorithm kms:EncryptionContext: kms:EncryptionContextKeys kms:ExpirationModel kms:GrantConstraintSourceArn
	kms:GrantConstraintType kms:GrantIsForAWSResource kms:GrantOperations kms:GranteePrincipal kms:GranteeServicePrincipal
	kms:KeyAgreementAlgorithm kms:KeyOrigin kms:KeySpec kms:KeyUsage kms:MacAlgorithm kms:MessageType kms:MultiRegion
	kms:MultiRegionKeyType kms:PrimaryRegion kms:ReEncryptOnSameKey kms:RecipientAttestation: kms:ReplicaRegion kms:RequestAlias
	kms:ResourceAliases kms:RetiringPrincipal kms:RetiringServicePrincipal kms:RotationPeriodInDays
	kms:ScheduleKeyDeletionPendingWindowInDays kms:SigningAlgorithm kms:TrailingDaysWithoutKeyUsage kms:ValidTo kms:ViaService
	kms:WrappingAlgorithm kms:WrappingKeySpec
	aws:RequestTag/ aws:ResourceAccount aws:ResourceOrgID aws:ResourceOrgPaths aws:ResourceTag/ aws:TagKeys
`)

func TestEveryDocumentedConditionKeyIsThereAndTested(t *testing.T) {
	t.Parallel()
	want := slices.Sorted(slices.Values(documented))
	for i := range want {
		want[i] = strings.ToLower(want[i])
	}
	slices.Sort(want)
	if got := slices.Sorted(slices.Values(kms.ConditionKeys())); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	for _, name := range documented {
		tested := slices.ContainsFunc(conditionKeys, func(k conditionKey) bool {
			family := strings.HasSuffix(name, ":") || strings.HasSuffix(name, "/")
			return k.name == name || family && strings.HasPrefix(k.name, name)
		})
		if !tested && name != "kms:RecipientAttestation:" { // which has a test of its own
			t.Errorf("%s is not in the table of tests", name)
		}
	}
}

func TestMembersOfConditionsAreMembersOfTheRequests(t *testing.T) {
	t.Parallel()
	fixed := []string{"GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"}
	for _, m := range kms.MemberConditions() {
		if m.Member == "EncryptionAlgorithm" && slices.Contains(fixed, m.Permission) {
			continue // they have no choice, so that the request does not name it
		}
		members := []string{m.Member}
		name := m.Permission
		switch name {
		case "ReEncryptFrom":
			name, members = "ReEncrypt", []string{"Source" + m.Member}
		case "ReEncryptTo":
			name, members = "ReEncrypt", []string{"Destination" + m.Member}
		}
		for _, member := range members {
			if !kms.HasMember(operation(t, name).New(), member) {
				t.Errorf("%s: a request for %s has no %s, or none of which a condition can be made", m.Key, name, member)
			}
		}
	}
}

// conditioned is a case of a condition of one statement that allows everything.
type conditioned struct {
	condition string
	operation string
	in        any
	allowed   bool
}

func (c conditioned) check(t *testing.T, w *world) {
	t.Helper()
	who := member(t, account, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":`+c.condition+`}}`)
	_, err := w.s.Do(t.Context(), operation(t, c.operation), who, c.in)
	if denied := kmsapi.CodeOf(err) == kmsapi.AccessDenied; denied == c.allowed {
		t.Errorf("%s under the condition %s: %v", c.operation, c.condition, err)
	}
}

func TestConditionsOnTheEncryptionContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	encrypt := func(context map[string]string) any {
		return &kmsapi.EncryptRequest{KeyID: key.Arn, Plaintext: secretBytes("x"), EncryptionContext: context}
	}
	two := map[string]string{"Department": "Finance", "team": "Audit"}
	grant := func(c *kmsapi.GrantConstraints) any {
		return &kmsapi.CreateGrantRequest{KeyID: key.Arn, GranteePrincipal: aliceARN, Operations: []kmsapi.GrantOperation{"Encrypt"}, Constraints: c}
	}
	for _, c := range []conditioned{
		{`{"StringEquals":{"kms:EncryptionContext:DEPARTMENT":"Finance"}}`, "Encrypt", encrypt(two), true},
		{`{"StringEquals":{"kms:encryptioncontext:department":"finance"}}`, "Encrypt", encrypt(two), false},
		{`{"StringEqualsIgnoreCase":{"kms:EncryptionContext:department":"finance"}}`, "Encrypt", encrypt(two), true},
		{`{"StringLike":{"kms:EncryptionContext:department":"Fin*","kms:EncryptionContext:team":"A?dit"}}`, "Encrypt", encrypt(two), true},
		{`{"StringEquals":{"kms:EncryptionContext:department":"Finance"}}`, "Encrypt", encrypt(nil), false},
		{`{"StringEqualsIfExists":{"kms:EncryptionContext:department":"Finance"}}`, "Encrypt", encrypt(nil), true},
		{`{"StringNotEquals":{"kms:EncryptionContext:department":"Finance"}}`, "Encrypt", encrypt(nil), true},
		{`{"ForAnyValue:StringEquals":{"kms:EncryptionContextKeys":["team","other"]}}`, "Encrypt", encrypt(two), true},
		{`{"ForAnyValue:StringEquals":{"kms:EncryptionContextKeys":"other"}}`, "Encrypt", encrypt(two), false},
		{`{"ForAnyValue:StringEquals":{"kms:EncryptionContextKeys":"team"}}`, "Encrypt", encrypt(nil), false},
		{`{"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["team","Department"]}}`, "Encrypt", encrypt(two), true},
		{`{"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["team","department"]}}`, "Encrypt", encrypt(two), false},
		{`{"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":"team"}}`, "Encrypt", encrypt(nil), true},
		{`{"StringEquals":{"kms:EncryptionContext:owner":"${aws:username}"}}`, "Encrypt", encrypt(map[string]string{"Owner": "member"}), true},
		{`{"StringEquals":{"kms:EncryptionContext:owner":"${aws:username}"}}`, "Encrypt", encrypt(map[string]string{"Owner": "somebody"}), false},
		{`{"StringEquals":{"aws:username":"${kms:EncryptionContext:owner}"}}`, "Encrypt", encrypt(map[string]string{"Owner": "member"}), true},
		{`{"StringEquals":{"aws:username":"${kms:EncryptionContext:owner}"}}`, "Encrypt", encrypt(nil), false},
		{`{"StringEquals":{"kms:EncryptionContext:a":"1"}}`, "CreateGrant", grant(&kmsapi.GrantConstraints{EncryptionContextEquals: map[string]string{"A": "1"}}), true},
		{`{"StringEquals":{"kms:EncryptionContext:a":"1"}}`, "CreateGrant", grant(&kmsapi.GrantConstraints{EncryptionContextSubset: map[string]string{"A": "1"}}), true},
		{`{"StringEquals":{"kms:EncryptionContext:a":"1"}}`, "CreateGrant", grant(&kmsapi.GrantConstraints{EncryptionContextSubset: map[string]string{"A": "2"}}), false},
		{`{"StringEquals":{"kms:EncryptionContext:a":"1"}}`, "CreateGrant", grant(nil), false},
		{`{"ForAllValues:StringEquals":{"kms:GrantOperations":["Encrypt","Decrypt"]}}`, "CreateGrant", grant(nil), true},
		{`{"ForAllValues:StringEquals":{"kms:GrantOperations":["Decrypt"]}}`, "CreateGrant", grant(nil), false},
		{`{"StringEquals":{"kms:GrantConstraintType":"EncryptionContextSubset"}}`, "CreateGrant", grant(&kmsapi.GrantConstraints{EncryptionContextSubset: map[string]string{"A": "2"}}), true},
		{`{"Null":{"kms:GrantConstraintType":"true"}}`, "CreateGrant", grant(&kmsapi.GrantConstraints{}), true},
		{`{"Bool":{"kms:GrantIsForAWSResource":"false"}}`, "CreateGrant", grant(nil), true},
	} {
		c.check(t, w)
	}
}

func TestConditionsOnTheGrantThatIsRetired(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	made := w.grant(key.KeyID, constrained(kmsapi.GrantConstraints{EncryptionContextSubset: map[string]string{"Team": "Audit"}}))
	byToken := &kmsapi.RetireGrantRequest{GrantToken: made.GrantToken, DryRun: true}
	byID := &kmsapi.RetireGrantRequest{KeyID: key.Arn, GrantID: made.GrantID, DryRun: true}
	for _, in := range []any{byToken, byID} {
		for condition, allowed := range map[string]bool{
			`{"StringEquals":{"kms:EncryptionContext:team":"Audit"}}`:                    true,
			`{"StringEquals":{"kms:EncryptionContext:team":"Other"}}`:                    false,
			`{"StringEquals":{"kms:GrantConstraintType":"EncryptionContextSubset"}}`:     true,
			`{"StringEquals":{"kms:GrantConstraintType":"EncryptionContextEquals"}}`:     false,
			`{"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["Team","Foo"]}}`: true,
			`{"StringEquals":{"kms:KeySpec":"SYMMETRIC_DEFAULT"}}`:                       true,
			`{"StringEquals":{"kms:KeySpec":"RSA_2048"}}`:                                false,
		} {
			conditioned{condition, "RetireGrant", in, allowed}.check(t, w)
		}
	}
}

func TestConditionsOnWhatRequestsLeaveOutAndOnWhatTheySay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mrk := w.createKey(&kmsapi.CreateKeyRequest{MultiRegion: ptr(true)})
	key, other := w.createKey(&kmsapi.CreateKeyRequest{}), w.createKey(&kmsapi.CreateKeyRequest{})
	rsa := w.createKey(&kmsapi.CreateKeyRequest{KeySpec: kmsapi.RSA2048, KeyUsage: kmsapi.EncryptDecrypt})
	for _, id := range []string{key.KeyID, rsa.KeyID} {
		must(do[kmsapi.Empty](w, root(account), "CreateAlias", &kmsapi.CreateAliasRequest{AliasName: "alias/of/" + id, TargetKeyID: id}))(t)
	}
	sealed := must(do[kmsapi.EncryptResponse](w, root(account), "Encrypt", &kmsapi.EncryptRequest{KeyID: key.KeyID, Plaintext: secretBytes("x")}))(t).CiphertextBlob
	describe := func(id string) any { return &kmsapi.DescribeKeyRequest{KeyID: id} }
	again := func(source, destination string) any {
		return &kmsapi.ReEncryptRequest{CiphertextBlob: sealed, SourceKeyID: source, DestinationKeyID: destination, DryRun: true}
	}
	random := func(to *kmsapi.RecipientInfo) any {
		return &kmsapi.GenerateRandomRequest{NumberOfBytes: ptr(int32(8)), Recipient: to}
	}
	for _, c := range []conditioned{
		{`{"Null":{"kms:MultiRegionKeyType":"true"},"Bool":{"kms:MultiRegion":"false"}}`, "DescribeKey", describe(key.Arn), true},
		{`{"StringEquals":{"kms:MultiRegionKeyType":"PRIMARY"}}`, "DescribeKey", describe(mrk.Arn), true},
		{`{"StringEquals":{"kms:RequestAlias":"alias/of/` + key.KeyID + `"}}`, "DescribeKey", describe("arn:aws:kms:" + region + ":" + account + ":alias/of/" + key.KeyID), true},
		{`{"Null":{"kms:RequestAlias":"true"}}`, "DescribeKey", describe(key.Arn), true},
		{`{"ForAnyValue:StringLike":{"kms:ResourceAliases":"alias/of/*"}}`, "DescribeKey", describe(key.Arn), true},
		{`{"ForAnyValue:StringLike":{"kms:ResourceAliases":"alias/of/*"}}`, "DescribeKey", describe(other.Arn), false},
		{`{"StringEquals":{"kms:EncryptionAlgorithm":"RSAES_OAEP_SHA_256"}}`, "Encrypt", &kmsapi.EncryptRequest{KeyID: rsa.Arn, Plaintext: secretBytes("x"), EncryptionAlgorithm: "RSAES_OAEP_SHA_256"}, true},
		{`{"StringEquals":{"kms:EncryptionAlgorithm":"RSAES_OAEP_SHA_1"}}`, "Encrypt", &kmsapi.EncryptRequest{KeyID: rsa.Arn, Plaintext: secretBytes("x"), EncryptionAlgorithm: "RSAES_OAEP_SHA_256"}, false},
		{`{"StringEquals":{"kms:MessageType":"DIGEST"}}`, "Sign", &kmsapi.SignRequest{KeyID: rsa.Arn, Message: secretBytes("x"), MessageType: "DIGEST", SigningAlgorithm: kmsapi.ECDSASHA256}, true},
		{`{"Bool":{"kms:ReEncryptOnSameKey":"true"}}`, "ReEncrypt", again(key.Arn, "alias/of/"+key.KeyID), true},
		{`{"Bool":{"kms:ReEncryptOnSameKey":"true"}}`, "ReEncrypt", again("", key.KeyID), true},
		{`{"Bool":{"kms:ReEncryptOnSameKey":"false"}}`, "ReEncrypt", again("", other.KeyID), true},
		{`{"Bool":{"kms:ReEncryptOnSameKey":"true"}}`, "ReEncrypt", again(key.Arn, other.Arn), false},
		{`{"NumericEquals":{"kms:RotationPeriodInDays":"90"}}`, "EnableKeyRotation", &kmsapi.EnableKeyRotationRequest{KeyID: key.Arn, RotationPeriodInDays: ptr(int32(90))}, true},
		{`{"NumericLessThan":{"kms:RotationPeriodInDays":"90"}}`, "EnableKeyRotation", &kmsapi.EnableKeyRotationRequest{KeyID: key.Arn, RotationPeriodInDays: ptr(int32(90))}, false},
		{`{"NumericGreaterThanEquals":{"kms:ScheduleKeyDeletionPendingWindowInDays":"8"}}`, "ScheduleKeyDeletion", &kmsapi.ScheduleKeyDeletionRequest{KeyID: other.Arn, PendingWindowInDays: ptr(int32(7))}, false},
		{`{"NumericGreaterThanEquals":{"kms:ScheduleKeyDeletionPendingWindowInDays":"7"}}`, "ScheduleKeyDeletion", &kmsapi.ScheduleKeyDeletionRequest{KeyID: other.Arn, PendingWindowInDays: ptr(int32(7))}, true},
		{`{"Bool":{"kms:BypassPolicyLockoutSafetyCheck":"false"}}`, "CreateKey", &kmsapi.CreateKeyRequest{BypassPolicyLockoutSafetyCheck: true}, false},
		{`{"Bool":{"kms:BypassPolicyLockoutSafetyCheck":"false"}}`, "ReplicateKey", &kmsapi.ReplicateKeyRequest{KeyID: mrk.Arn, ReplicaRegion: "eu-west-1", BypassPolicyLockoutSafetyCheck: true}, false},
		{`{"Null":{"kms:ExpirationModel":"true"}}`, "ImportKeyMaterial", &kmsapi.ImportKeyMaterialRequest{KeyID: key.Arn, ImportToken: []byte("x"), ExpirationModel: kmsapi.KeyMaterialDoesNotExpire}, false},
		{`{"Null":{"kms:ValidTo":"true"},"StringEquals":{"kms:ExpirationModel":"KEY_MATERIAL_DOES_NOT_EXPIRE"}}`, "ImportKeyMaterial", &kmsapi.ImportKeyMaterialRequest{KeyID: key.Arn, ImportToken: []byte("x"), ExpirationModel: kmsapi.KeyMaterialDoesNotExpire}, true},
		{`{"Null":{"kms:RecipientAttestation:PCR0":"false"}}`, "GenerateRandom", random(nil), false},
		{`{"Null":{"kms:RecipientAttestation:PCR0":"false"}}`, "GenerateRandom", random(&kmsapi.RecipientInfo{AttestationDocument: []byte("forged")}), false},
		{`{"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]}}`, "CreateKey", &kmsapi.CreateKeyRequest{Tags: []kmsapi.Tag{{TagKey: "a"}, {TagKey: "c"}}}, false},
		{`{"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]}}`, "CreateKey", &kmsapi.CreateKeyRequest{Tags: []kmsapi.Tag{{TagKey: "a"}}}, true},
		{`{"Null":{"aws:ResourceTag/a":"false"}}`, "CreateKey", &kmsapi.CreateKeyRequest{Tags: []kmsapi.Tag{{TagKey: "a"}}}, false},
	} {
		c.check(t, w)
	}
}

func TestAKeyWithTooManyAliasesIsNotAllowedByThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *kms.Config) { c.Quotas.AliasesPerKey = 2 })
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	for _, name := range []string{"alias/a", "alias/b"} {
		must(do[kmsapi.Empty](w, root(account), "CreateAlias", &kmsapi.CreateAliasRequest{AliasName: name, TargetKeyID: key.KeyID}))(t)
	}
	c := conditioned{`{"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/b"}}`, "DescribeKey", &kmsapi.DescribeKeyRequest{KeyID: key.Arn}, true}
	c.check(t, w)
	w.cfg.Quotas.AliasesPerKey = 1 // as when the quota was lowered
	w.restart()
	c.allowed = false
	c.check(t, w)
}

func TestConditionsOnTheUseOfAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	days := func(n string, allowed bool) {
		t.Helper()
		conditioned{`{"NumericEquals":{"kms:TrailingDaysWithoutKeyUsage":"` + n + `"}}`, "DisableKey", &kmsapi.DisableKeyRequest{KeyID: key.Arn}, allowed}.check(t, w)
	}
	days("1", false)
	days("0", true)
	must(do[kmsapi.Empty](w, root(account), "EnableKey", &kmsapi.EnableKeyRequest{KeyID: key.KeyID}))(t)
	w.clock.Advance(10 * 24 * time.Hour)
	wantCode(t, w.encryptWith(key.KeyID), "")
	w.clock.Advance(47 * time.Hour)
	days("2", false)
	days("1", true)
}

// assumed is a session of a role with tags and policies. Only its policies count here.
func assumed(t *testing.T) identity.Caller {
	t.Helper()
	c := person(sessionARN)
	c.Tags = map[string]string{"Department": "Finance"}
	c.PrincipalID = "AROAEXAMPLE:monday"
	c.Session.SourceIdentity = "alice"
	c.Session.Issued = time.Date(2026, 11, 23, 11, 0, 0, 0, time.UTC)
	return c
}

func TestConditionsOnSessionsInKeyPolicies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for condition, allowed := range map[string]bool{
		`{"StringEquals":{"aws:PrincipalTag/department":"Finance"}}`:                                                 true,
		`{"StringEquals":{"aws:PrincipalTag/department":"Audit"}}`:                                                   false,
		`{"ArnEquals":{"aws:PrincipalArn":"` + roleARN + `"}}`:                                                       true,
		`{"ArnEquals":{"aws:PrincipalArn":"` + sessionARN + `"}}`:                                                    false,
		`{"StringEquals":{"aws:PrincipalType":"AssumedRole"}}`:                                                       true,
		`{"StringEquals":{"aws:userid":"AROAEXAMPLE:monday"}}`:                                                       true,
		`{"Null":{"aws:username":"true"}}`:                                                                           true,
		`{"StringEquals":{"aws:SourceIdentity":"alice"}}`:                                                            true,
		`{"DateGreaterThan":{"aws:TokenIssueTime":"2026-11-23T10:59:59Z"}}`:                                          true,
		`{"DateGreaterThan":{"aws:TokenIssueTime":"2026-11-23T11:00:00Z"}}`:                                          false,
		`{"Bool":{"aws:MultiFactorAuthPresent":"false"}}`:                                                            true,
		`{"StringEquals":{"kms:EncryptionContext:Department":"${aws:PrincipalTag/Department}"}}`:                     true,
		`{"StringEquals":{"kms:EncryptionContext:Department":"${aws:PrincipalTag/Nothing}"}}`:                        false,
		`{"StringEquals":{"kms:EncryptionContext:Department":"${aws:PrincipalTag/Nothing, 'Finance'}"}}`:             true,
		`{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::` + account + `:role/ops/*"},"Null":{"aws:SourceVpc":"true"}}`: true,
	} {
		key := w.createKey(&kmsapi.CreateKeyRequest{Policy: `{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Principal":{"AWS":"` + account + `"},"Action":"kms:*","Resource":"*"},
			{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"kms:Encrypt","Resource":"*","Condition":` + condition + `}]}`})
		_, err := do[kmsapi.EncryptResponse](w, assumed(t), "Encrypt", &kmsapi.EncryptRequest{
			KeyID: key.Arn, Plaintext: secretBytes("x"), EncryptionContext: map[string]string{"Department": "Finance"},
		})
		if denied := kmsapi.CodeOf(err) == kmsapi.AccessDenied; denied == allowed {
			t.Errorf("%s: %v", condition, err)
		}
	}
}

func TestAnAliasOfAnotherAccountIsACondition(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{Policy: `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":{"AWS":"` + account + `"},"Action":"kms:*","Resource":"*"},
		{"Effect":"Allow","Principal":{"AWS":"` + foreign + `"},"Action":"kms:DescribeKey","Resource":"*","Condition":{"StringEquals":{"kms:RequestAlias":"alias/shared","kms:CallerAccount":"` + foreign + `"}}}]}`})
	must(do[kmsapi.Empty](w, root(account), "CreateAlias", &kmsapi.CreateAliasRequest{AliasName: "alias/shared", TargetKeyID: key.KeyID}))(t)
	who := member(t, foreign, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceAccount":"`+account+`"}}}}`)
	for id, code := range map[string]kmsapi.Code{
		"arn:aws:kms:" + region + ":" + account + ":alias/shared": "",
		key.Arn:        kmsapi.AccessDenied,
		"alias/shared": kmsapi.AccessDenied, // which is one of the caller's account, and does not exist
	} {
		_, err := do[kmsapi.DescribeKeyResponse](w, who, "DescribeKey", &kmsapi.DescribeKeyRequest{KeyID: id})
		wantCode(t, err, code)
	}
}
