package kms_test

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/nitro"
	"kastellan.dev/internal/nitro/nitrotest"
	"kastellan.dev/internal/polltest"
)

// asking is a permission that a request needs on a resource.
type asking struct {
	operation  string
	permission string // without "kms:"
	on         string // "key", "alias", or "" for neither
	resource   string // a pattern of the resource; empty: "*"
}

// name tells askings of one operation apart.
func (a asking) name() string {
	return strings.TrimSuffix(a.operation+" asking for "+a.permission+" on "+a.resource, " on ")
}

// theater is a world in which every operation can be asked for.
type theater struct {
	*world
	key, other *kmsapi.KeyMetadata
	spare      *kmsapi.KeyMetadata // like key, for what would make it useless
	grant      *kmsapi.CreateGrantResponse
	requests   map[string]any
}

const (
	contextKey   = "Department"
	contextValue = "Finance"
	sourceARN    = "arn:aws:s3:::bucket"
)

// newTheater makes a tagged multi-Region key with an alias and a grant, and requests that have every
// member of which a condition can be made.
func newTheater(t *testing.T, change ...func(*kms.Config)) *theater {
	w := newWorld(t, append(change, func(c *kms.Config) {
		c.Sweep = 2 * time.Millisecond
		c.Organization = func(string) *identity.Organization {
			return &identity.Organization{ID: "o-a1b2c3d4e5", Path: "o-a1b2c3d4e5/r-ab12/"}
		}
	})...)
	tags := []kmsapi.Tag{{TagKey: "Project", TagValue: "Alpha"}}
	th := &theater{
		world: w, key: w.createKey(&kmsapi.CreateKeyRequest{MultiRegion: ptr(true), Tags: tags}), spare: w.createKey(&kmsapi.CreateKeyRequest{MultiRegion: ptr(true), Tags: tags}),
		other: w.createKey(&kmsapi.CreateKeyRequest{KeySpec: kmsapi.HMAC512, KeyUsage: kmsapi.GenerateVerifyMac}), // so that no alias moves to it
	}
	for name, id := range map[string]string{"alias/old": th.key.KeyID, "alias/doomed": th.key.KeyID, "alias/spare": th.spare.KeyID} {
		must(do[kmsapi.Empty](w, root(account), "CreateAlias", &kmsapi.CreateAliasRequest{AliasName: name, TargetKeyID: id}))(t)
	}
	context := map[string]string{contextKey: contextValue}
	sealed := must(do[kmsapi.EncryptResponse](w, root(account), "Encrypt", &kmsapi.EncryptRequest{KeyID: th.key.KeyID, Plaintext: secretBytes("x"), EncryptionContext: context}))(t).CiphertextBlob
	must(do[kmsapi.ReplicateKeyResponse](w, root(account), "ReplicateKey", &kmsapi.ReplicateKeyRequest{KeyID: th.key.Arn, ReplicaRegion: "eu-west-1"}))(t)
	replica := in(root(account), "eu-west-1")
	polltest.Until(t, "a replica", func() bool {
		_, err := do[kmsapi.Empty](w, replica, "DisableKey", &kmsapi.DisableKeyRequest{KeyID: th.key.KeyID}) // so that it does not become the primary key
		return err == nil
	})
	th.grant = w.grant(th.key.KeyID, constrained(kmsapi.GrantConstraints{EncryptionContextEquals: context}))
	const store, alias = "cks-1234567890abcdef0", "alias/old"
	aliasARN := "arn:aws:kms:" + region + ":" + account + ":" + alias
	th.requests = requests(th.key.Arn, store, sealed)
	for name, request := range map[string]any{
		"CreateKey": &kmsapi.CreateKeyRequest{
			KeySpec: kmsapi.HMAC256, KeyUsage: kmsapi.GenerateVerifyMac, Tags: tags, MultiRegion: ptr(true), BypassPolicyLockoutSafetyCheck: true,
		},
		"CancelKeyDeletion":   &kmsapi.CancelKeyDeletionRequest{KeyID: th.spare.KeyID},
		"DisableKey":          &kmsapi.DisableKeyRequest{KeyID: th.spare.KeyID},
		"ScheduleKeyDeletion": &kmsapi.ScheduleKeyDeletionRequest{KeyID: th.spare.KeyID},
		"DeleteAlias":         &kmsapi.DeleteAliasRequest{AliasName: "alias/doomed"},
		"CreateGrant": &kmsapi.CreateGrantRequest{ // which is refused for its many principals, once it is permitted
			KeyID: th.key.Arn, GranteePrincipal: aliceARN, RetiringPrincipal: roleARN, GranteeServicePrincipal: "rds.amazonaws.com", RetiringServicePrincipal: "dynamodb.amazonaws.com",
			Operations: []kmsapi.GrantOperation{"Encrypt", "Decrypt"}, Constraints: &kmsapi.GrantConstraints{EncryptionContextEquals: context, SourceArn: sourceARN},
		},
		"Decrypt":                         &kmsapi.DecryptRequest{CiphertextBlob: sealed, KeyID: alias, EncryptionContext: context},
		"DeriveSharedSecret":              &kmsapi.DeriveSharedSecretRequest{KeyID: alias, KeyAgreementAlgorithm: kmsapi.ECDH},
		"Decapsulate":                     &kmsapi.DecapsulateRequest{KeyID: alias, EncapsulationAlgorithm: kmsapi.MLKEM},
		"DescribeKey":                     &kmsapi.DescribeKeyRequest{KeyID: alias},
		"Encapsulate":                     &kmsapi.EncapsulateRequest{KeyID: alias, EncapsulationAlgorithm: kmsapi.MLKEM},
		"Encrypt":                         &kmsapi.EncryptRequest{KeyID: aliasARN, Plaintext: secretBytes("x"), EncryptionContext: context},
		"GenerateDataKey":                 &kmsapi.GenerateDataKeyRequest{KeyID: alias, KeySpec: kmsapi.DataKeyAES256, EncryptionContext: context},
		"GenerateDataKeyWithoutPlaintext": &kmsapi.GenerateDataKeyWithoutPlaintextRequest{KeyID: alias, KeySpec: kmsapi.DataKeyAES256, EncryptionContext: context},
		"GenerateDataKeyPair":             &kmsapi.GenerateDataKeyPairRequest{KeyID: alias, KeyPairSpec: "ECC_NIST_P256", EncryptionContext: context},
		"GenerateDataKeyPairWithoutPlaintext": &kmsapi.GenerateDataKeyPairWithoutPlaintextRequest{
			KeyID: alias, KeyPairSpec: "ECC_NIST_P256", EncryptionContext: context,
		},
		"GenerateMac":  &kmsapi.GenerateMacRequest{KeyID: alias, MacAlgorithm: kmsapi.HMACSHA256, Message: secretBytes("x")},
		"GetPublicKey": &kmsapi.GetPublicKeyRequest{KeyID: alias},
		"ImportKeyMaterial": &kmsapi.ImportKeyMaterialRequest{
			KeyID: th.key.Arn, ImportToken: []byte("x"), EncryptedKeyMaterial: []byte("x"), ValidTo: kmsapi.At(time.Unix(1_800_000_000, 0)),
		},
		"ListGrants":          &kmsapi.ListGrantsRequest{KeyID: th.key.Arn},
		"ListRetirableGrants": &kmsapi.ListRetirableGrantsRequest{RetiringPrincipal: aliceARN},
		"PutKeyPolicy":        &kmsapi.PutKeyPolicyRequest{KeyID: th.key.Arn, Policy: "{", BypassPolicyLockoutSafetyCheck: true},
		"ReEncrypt": &kmsapi.ReEncryptRequest{
			CiphertextBlob: sealed, SourceKeyID: alias, DestinationKeyID: aliasARN,
			SourceEncryptionContext: context, DestinationEncryptionContext: map[string]string{"Team": "Audit"},
		},
		"ReplicateKey": &kmsapi.ReplicateKeyRequest{KeyID: th.key.Arn, ReplicaRegion: "eu-west-1", Tags: tags, BypassPolicyLockoutSafetyCheck: true},
		"RetireGrant":  &kmsapi.RetireGrantRequest{KeyID: th.key.Arn, GrantID: th.grant.GrantID, DryRun: true},
		"RevokeGrant":  &kmsapi.RevokeGrantRequest{KeyID: th.key.Arn, GrantID: th.grant.GrantID, DryRun: true},
		"Sign":         &kmsapi.SignRequest{KeyID: alias, SigningAlgorithm: kmsapi.ECDSASHA256, Message: secretBytes("x")},
		"TagResource":  &kmsapi.TagResourceRequest{KeyID: th.key.Arn, Tags: tags},
		"UntagResource": &kmsapi.UntagResourceRequest{
			KeyID: th.key.Arn, TagKeys: []string{"Project", "aws:reserved"}, // which is refused, once it is permitted
		},
		"Verify":      &kmsapi.VerifyRequest{KeyID: alias, SigningAlgorithm: kmsapi.ECDSASHA256, Message: secretBytes("x"), Signature: []byte("x")},
		"VerifyMac":   &kmsapi.VerifyMacRequest{KeyID: alias, MacAlgorithm: kmsapi.HMACSHA256, Message: secretBytes("x"), Mac: []byte("x")},
		"UpdateAlias": &kmsapi.UpdateAliasRequest{AliasName: alias, TargetKeyID: th.other.KeyID},
	} {
		th.requests[name] = request
	}
	return th
}

// askings are all permissions that operations ask for.
func (th *theater) askings() (all []asking) {
	const alias = "arn:aws:kms:*:*:alias/*"
	for _, op := range slices.Concat(kms.Operations(), kms.Extensions()) {
		permission := strings.TrimPrefix(op.Permission, "kms:")
		switch op.Name {
		case "ReEncrypt":
			all = append(all, asking{op.Name, "ReEncryptFrom", "key", ""}, asking{op.Name, "ReEncryptTo", "key", ""})
		case "CreateKey":
			all = append(all, asking{op.Name, permission, "new", ""}, asking{op.Name, "TagResource", "new", ""})
		case "ReplicateKey":
			all = append(all, asking{op.Name, permission, "key", ""}, asking{op.Name, "CreateKey", "replica", ""}, asking{op.Name, "TagResource", "replica", ""})
		case "CreateAlias", "DeleteAlias":
			all = append(all, asking{op.Name, permission, "key", th.key.Arn}, asking{op.Name, permission, "alias", alias})
		case "UpdateAlias":
			all = append(all, asking{op.Name, permission, "alias", alias}, asking{op.Name, permission, "key", th.key.Arn}, asking{op.Name, permission, "other", th.other.Arn})
		case "UpdatePrimaryRegion":
			replica := strings.Replace(th.key.Arn, region, "eu-west-1", 1)
			all = append(all, asking{op.Name, permission, "key", th.key.Arn}, asking{op.Name, permission, "elsewhere", replica})
		default:
			on := "key"
			if slices.Contains([]string{"CancelKeyDeletion", "DisableKey", "ScheduleKeyDeletion"}, op.Name) {
				on = "spare"
			}
			if slices.Contains(withoutKey, op.Name) {
				on = ""
			}
			all = append(all, asking{op.Name, permission, on, ""})
		}
	}
	return all
}

// withoutKey are the operations that are about no key.
var withoutKey = []string{
	"GenerateRandom", "ListAliases", "ListKeys", "ListRetirableGrants", "ExplainCustomKeyStore",
	"ConnectCustomKeyStore", "CreateCustomKeyStore", "DeleteCustomKeyStore", "DescribeCustomKeyStores", "DisconnectCustomKeyStore", "UpdateCustomKeyStore",
}

// refused tells whether somebody who may do everything, but what is asked for only on a
// condition, is refused. It fails the test when something else than permission is about.
func (th *theater) refused(a asking, condition string) bool {
	th.t.Helper()
	resource := a.resource
	if resource == "" {
		resource = "*"
	}
	statements := []string{
		fmt.Sprintf(`{"Effect":"Allow","NotAction":"kms:%s","Resource":"*"}`, a.permission),
		fmt.Sprintf(`{"Effect":"Allow","Action":"kms:%s","Resource":%q,"Condition":%s}`, a.permission, resource, condition),
	}
	if a.resource != "" {
		statements = append(statements, fmt.Sprintf(`{"Effect":"Allow","Action":"kms:%s","NotResource":%q}`, a.permission, resource))
	}
	who := member(th.t, account, `{"Version":"2012-10-17","Statement":[`+strings.Join(statements, ",")+`]}`)
	serving := *who.Principal
	serving.ViaService = viaService
	who.Principal, who.SourceIP, who.UserAgent, who.Referer, who.TLSVersion = &serving, "192.0.2.7", "agent/1.0", "https://example.com/", "TLSv1.3"
	_, err := th.s.Do(th.t.Context(), operation(th.t, a.operation), who, th.requests[a.operation])
	if code := kmsapi.CodeOf(err); code == kmsapi.KMSInternal {
		th.t.Fatalf("%s: %v", a.name(), err)
	}
	return kmsapi.CodeOf(err) == kmsapi.AccessDenied
}

const viaService = "s3." + region + ".amazonaws.com"

// conditionKey is a row of the table: which askings have the key, and with what value.
type conditionKey struct {
	name     string
	operator string // empty: StringEquals
	value    string // what it is
	other    string // what it is not; empty: "other"
	has      func(asking) bool
	except   map[string]string // other values, by what is asked for on what
}

func (k conditionKey) valueFor(a asking) string {
	for _, name := range []string{a.operation + "/" + a.on, a.permission + "/" + a.on, a.on, a.permission, a.operation} {
		if v, ok := k.except[name]; ok {
			return v
		}
	}
	return k.value
}

func (k conditionKey) is(value string) string {
	operator := k.operator
	if operator == "" {
		operator = "StringEquals"
	}
	return fmt.Sprintf(`{%q:{%q:%q}}`, operator, k.name, value)
}

func (k conditionKey) null(missing bool) string {
	return fmt.Sprintf(`{"Null":{%q:"%v"}}`, k.name, missing)
}

// The sets of askings that have condition keys in common.
func aboutKeys(a asking) bool { return a.on != "" && a.on != "alias" }
func existing(a asking) bool  { return aboutKeys(a) && a.on != "new" && a.on != "replica" }
func everywhere(asking) bool  { return true }

func permissions(names ...string) func(asking) bool {
	return func(a asking) bool { return slices.Contains(names, a.permission) }
}

func except(f func(asking) bool, names ...string) func(asking) bool {
	return func(a asking) bool { return f(a) && !slices.Contains(names, a.permission) }
}

var (
	listsAndRandom = []string{"ListAliases", "ListKeys", "ListRetirableGrants", "GenerateRandom"}
	keyStores      = []string{"ConnectCustomKeyStore", "CreateCustomKeyStore", "DeleteCustomKeyStore", "DescribeCustomKeyStores", "DisconnectCustomKeyStore", "UpdateCustomKeyStore"}
	dataKeys       = []string{"GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"}
	encryption     = append([]string{"Encrypt", "Decrypt", "ReEncryptFrom", "ReEncryptTo"}, dataKeys...)
	withContext    = append([]string{"CreateGrant", "RetireGrant"}, encryption...)
	byAlias        = append([]string{"DeriveSharedSecret", "DescribeKey", "GenerateMac", "GetPublicKey", "Sign", "Verify", "VerifyMac", "Encapsulate", "Decapsulate"}, encryption...)
	tagging        = permissions("CreateKey", "TagResource")
	attested       = permissions("Decrypt", "DeriveSharedSecret", "GenerateDataKey", "GenerateDataKeyPair", "GenerateRandom")
)

// conditionKeys is what AWS documents of its condition keys for KMS.
var conditionKeys = []conditionKey{
	{name: "kms:CallerAccount", value: account, has: except(everywhere, listsAndRandom...)},
	{name: "kms:ViaService", value: viaService, has: except(everywhere, append(keyStores, listsAndRandom...)...)},
	{name: "kms:KeyOrigin", value: "AWS_KMS", has: aboutKeys},
	{name: "kms:KeySpec", value: "SYMMETRIC_DEFAULT", except: map[string]string{"new": "HMAC_256", "other": "HMAC_512"}, has: aboutKeys},
	{name: "kms:CustomerMasterKeySpec", value: "SYMMETRIC_DEFAULT", except: map[string]string{"new": "HMAC_256", "other": "HMAC_512"}, has: aboutKeys},
	{name: "kms:KeyUsage", value: "ENCRYPT_DECRYPT", except: map[string]string{"new": "GENERATE_VERIFY_MAC", "other": "GENERATE_VERIFY_MAC"}, has: aboutKeys},
	{name: "kms:CustomerMasterKeyUsage", value: "ENCRYPT_DECRYPT", except: map[string]string{"new": "GENERATE_VERIFY_MAC", "other": "GENERATE_VERIFY_MAC"}, has: aboutKeys},
	{name: "kms:MultiRegion", operator: "Bool", value: "true", other: "false", except: map[string]string{"other": "false"}, has: aboutKeys},
	{name: "kms:MultiRegionKeyType", value: "PRIMARY", except: map[string]string{"replica": "REPLICA", "elsewhere": "REPLICA"}, has: func(a asking) bool { return aboutKeys(a) && a.on != "other" }},
	{name: "kms:ResourceAliases", operator: "ForAnyValue:StringEquals", value: "alias/old", except: map[string]string{"spare": "alias/spare"}, has: func(a asking) bool { return existing(a) && a.on != "other" && a.on != "elsewhere" }},
	{name: "aws:ResourceTag/project", value: "Alpha", has: func(a asking) bool { return existing(a) && a.on != "other" && a.on != "elsewhere" }},
	{name: "kms:RequestAlias", value: "alias/old", has: permissions(byAlias...)},
	{name: "kms:EncryptionContext:" + strings.ToUpper(contextKey), value: contextValue, has: except(permissions(withContext...), "ReEncryptTo")},
	{name: "kms:EncryptionContext:team", value: "Audit", has: permissions("ReEncryptTo")},
	{name: "kms:EncryptionContextKeys", operator: "ForAnyValue:StringEquals", value: contextKey, except: map[string]string{"ReEncryptTo": "Team"}, has: permissions(withContext...)},
	{name: "kms:EncryptionAlgorithm", value: "SYMMETRIC_DEFAULT", has: permissions(encryption...)},
	{name: "kms:DataKeyPairSpec", value: "ECC_NIST_P256", has: permissions("GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext")},
	{name: "kms:SigningAlgorithm", value: "ECDSA_SHA_256", has: permissions("Sign", "Verify")},
	{name: "kms:MessageType", value: "RAW", has: permissions("Sign", "Verify")},
	{name: "kms:MacAlgorithm", value: "HMAC_SHA_256", has: permissions("GenerateMac", "VerifyMac")},
	{name: "kms:KeyAgreementAlgorithm", value: "ECDH", has: permissions("DeriveSharedSecret")},
	{name: "kms:ReEncryptOnSameKey", operator: "Bool", value: "true", other: "false", has: permissions("ReEncryptFrom", "ReEncryptTo")},
	{name: "kms:BypassPolicyLockoutSafetyCheck", operator: "Bool", value: "true", other: "false", has: permissions("CreateKey", "PutKeyPolicy")},
	{name: "kms:ExpirationModel", value: "KEY_MATERIAL_EXPIRES", has: permissions("ImportKeyMaterial")},
	{name: "kms:ValidTo", operator: "NumericLessThanEquals", value: "1800000000", other: "1799999999", has: permissions("ImportKeyMaterial")},
	{name: "kms:ValidTo", operator: "DateEquals", value: "2027-01-15T08:00:00Z", other: "2027-01-15T08:00:01Z", has: permissions("ImportKeyMaterial")},
	{name: "kms:WrappingAlgorithm", value: "RSAES_OAEP_SHA_256", has: permissions("GetParametersForImport")},
	{name: "kms:WrappingKeySpec", value: "RSA_2048", has: permissions("GetParametersForImport")},
	{name: "kms:RotationPeriodInDays", operator: "NumericEquals", value: "365", other: "364", has: permissions("EnableKeyRotation")},
	{name: "kms:ScheduleKeyDeletionPendingWindowInDays", operator: "NumericEquals", value: "30", other: "29", has: permissions("ScheduleKeyDeletion")},
	{name: "kms:TrailingDaysWithoutKeyUsage", operator: "NumericEquals", value: "3", other: "2", has: permissions("DisableKey", "ScheduleKeyDeletion")},
	{name: "kms:GrantOperations", operator: "ForAnyValue:StringEquals", value: "Decrypt", other: "Sign", has: permissions("CreateGrant")},
	{name: "kms:GranteePrincipal", value: aliceARN, has: permissions("CreateGrant")},
	{name: "kms:RetiringPrincipal", value: roleARN, has: permissions("CreateGrant")},
	{name: "kms:GranteeServicePrincipal", value: "rds.amazonaws.com", has: permissions("CreateGrant")},
	{name: "kms:RetiringServicePrincipal", value: "dynamodb.amazonaws.com", has: permissions("CreateGrant")},
	{name: "kms:GrantConstraintType", operator: "ForAnyValue:StringEquals", value: "EncryptionContextEquals", has: permissions("CreateGrant", "RetireGrant")},
	{name: "kms:GrantConstraintSourceArn", operator: "ArnEquals", value: sourceARN, has: permissions("CreateGrant")},
	{name: "kms:GrantIsForAWSResource", operator: "Bool", value: "true", other: "false", has: permissions("CreateGrant", "ListGrants", "RevokeGrant")},
	{name: "kms:PrimaryRegion", value: "eu-west-1", has: permissions("UpdatePrimaryRegion")},
	{name: "kms:ReplicaRegion", value: "eu-west-1", has: permissions("ReplicateKey")},
	{name: "aws:RequestTag/PROJECT", value: "Alpha", has: tagging},
	{name: "aws:TagKeys", operator: "ForAnyValue:StringEquals", value: "Project", has: permissions("CreateKey", "TagResource", "UntagResource")},

	{name: "aws:ResourceAccount", value: account, has: everywhere},
	{name: "aws:ResourceOrgID", value: "o-a1b2c3d4e5", has: everywhere},
	{name: "aws:ResourceOrgPaths", operator: "ForAnyValue:StringLike", value: "o-a1b2c3d4e5/r-ab12/*", has: everywhere},
	{name: "aws:RequestedRegion", value: region, except: map[string]string{"replica": "eu-west-1", "elsewhere": "eu-west-1"}, has: everywhere},
	{name: "aws:PrincipalArn", operator: "ArnLike", value: "arn:aws:iam::" + account + ":user/*", has: everywhere},
	{name: "aws:PrincipalAccount", value: account, has: everywhere},
	{name: "aws:PrincipalType", value: "User", has: everywhere},
	{name: "aws:username", value: "member", has: everywhere},
	{name: "aws:userid", operator: "StringLike", value: "AIDA*", has: everywhere},
	{name: "aws:SourceIp", operator: "IpAddress", value: "192.0.2.0/24", other: "198.51.100.0/24", has: everywhere},
	{name: "aws:SecureTransport", operator: "Bool", value: "true", other: "false", has: everywhere},
	{name: "aws:UserAgent", value: "agent/1.0", has: everywhere},
	{name: "aws:Referer", value: "https://example.com/", has: everywhere},
	{name: "aws:CurrentTime", operator: "DateEquals", value: "2026-11-26T12:00:00Z", other: "2026-11-26T12:00:01Z", has: everywhere},
	{name: "aws:EpochTime", operator: "NumericEquals", value: "1795694400", other: "1795694399", has: everywhere},
	{name: "aws:ViaAWSService", operator: "Bool", value: "true", other: "false", has: everywhere},
	{name: "aws:PrincipalIsAWSService", operator: "Bool", value: "false", other: "true", has: everywhere},
	{name: "aws:SourceArn", operator: "ArnLike", has: nowhere},
	{name: "aws:SourceVpce", has: nowhere},
	{name: "aws:PrincipalOrgID", has: nowhere},
	{name: "aws:MultiFactorAuthPresent", operator: "Bool", has: nowhere},
	{name: "aws:TokenIssueTime", operator: "DateLessThan", has: nowhere},
}

func nowhere(asking) bool { return false }

// TestEveryConditionKeyHasItsValueWhereItBelongs asks for every permission under the conditions that
// each condition key has its value, has another one, is there, and is not.
func TestEveryConditionKeyHasItsValueWhereItBelongs(t *testing.T) {
	t.Parallel()
	for _, key := range conditionKeys {
		t.Run(key.name+" "+key.operator, func(t *testing.T) {
			t.Parallel()
			checkConditionKey(t, newTheater(t), key)
		})
	}
}

func checkConditionKey(t *testing.T, th *theater, key conditionKey) {
	t.Helper()
	th.clock.Advance(3 * 24 * time.Hour)
	other := key.other
	if other == "" {
		other = "other"
	}
	some := false
	for _, a := range th.askings() {
		conditions := map[string]bool{}
		if key.has(a) {
			some = true
			value := key.valueFor(a)
			if value == other {
				other = key.value
			}
			conditions[key.is(other)], conditions[key.null(true)] = true, true
			conditions[key.is(value)] = false
		} else {
			conditions[key.null(false)] = true
			conditions[key.null(true)] = false
		}
		for _, refused := range []bool{true, false} { // what succeeds may be done once only
			for condition, want := range conditions {
				if want == refused && th.refused(a, condition) != want {
					t.Errorf("%s under the condition %s: refused is %v", a.name(), condition, !want)
				}
			}
		}
	}
	if some == (key.value == "") {
		t.Errorf("%s: nothing has it", key.name)
	}
}

func TestWhatAnAttestationSaysIsConditionOfFivePermissions(t *testing.T) {
	t.Parallel()
	made := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	authority := nitrotest.NewRoot(t, made)
	enclave := nitrotest.NewEnclave(t, authority, made)
	verifier, err := nitro.New(authority.Pool())
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []conditionKey{
		{name: "kms:RecipientAttestation:ImageSha384", operator: "StringEqualsIgnoreCase", value: strings.ToUpper(hex.EncodeToString(enclave.PCRs[0])), has: attested},
		{name: "kms:RecipientAttestation:PCR0", value: hex.EncodeToString(enclave.PCRs[0]), has: attested},
		{name: "kms:RecipientAttestation:PCR4", value: hex.EncodeToString(enclave.PCRs[4]), has: attested},
		{name: "kms:RecipientAttestation:PCR16", has: nowhere},
		{name: "kms:RecipientAttestation:NitroTPMPCR4", has: nowhere},
		{name: "kms:RecipientAttestation:NitroTPM4", has: nowhere},
		{name: "kms:RecipientAttestation:4", has: nowhere},
		{name: "kms:RecipientAttestation:PCR04", has: nowhere},
	} {
		t.Run(key.name, func(t *testing.T) {
			t.Parallel()
			th := newTheater(t, func(c *kms.Config) { c.Nitro = verifier })
			to := &kmsapi.RecipientInfo{AttestationDocument: enclave.Document(t, made), KeyEncryptionAlgorithm: "RSAES_OAEP_SHA_256"}
			th.requests["Decrypt"].(*kmsapi.DecryptRequest).Recipient = to
			th.requests["DeriveSharedSecret"].(*kmsapi.DeriveSharedSecretRequest).Recipient = to
			th.requests["GenerateDataKey"].(*kmsapi.GenerateDataKeyRequest).Recipient = to
			th.requests["GenerateDataKeyPair"].(*kmsapi.GenerateDataKeyPairRequest).Recipient = to
			th.requests["GenerateRandom"].(*kmsapi.GenerateRandomRequest).Recipient = to
			checkConditionKey(t, th, key)
		})
	}
}
