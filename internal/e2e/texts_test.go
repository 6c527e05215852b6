package e2e_test

import (
	stdcontext "context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go/middleware"

	"kastellan.dev/internal/config"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/polltest"
)

// TestRecordedTexts compares messages with those that AWS was seen to give.
func TestRecordedTexts(t *testing.T) {
	t.Parallel()
	l, ctx := newLaboratory(t), t.Context()
	server, client := l.fast, l.fast.Client(admin)
	key := func(state types.KeyState, kind string) *subject { return l.in(t, state, kind) }
	made := func(in awskms.CreateKeyInput) string { return *server.Key(&in).Arn }
	enabled, mac, signing, imported := key("Enabled", "symmetric"), key("Enabled", "mac"), key("Enabled", "signing"), key("Enabled", "imported")
	agreement := key("Enabled", "agreement")
	hmac224 := made(awskms.CreateKeyInput{KeySpec: types.KeySpecHmac224, KeyUsage: types.KeyUsageTypeGenerateVerifyMac})
	rsaKey := made(awskms.CreateKeyInput{KeySpec: types.KeySpecRsa2048, KeyUsage: types.KeyUsageTypeEncryptDecrypt})
	single := made(awskms.CreateKeyInput{})
	doomed, disabled, pending := key("PendingDeletion", "symmetric"), key("Disabled", "symmetric"), key("PendingImport", "symmetric")
	lost, creating, updating := key("Unavailable", "symmetric"), key("Creating", "symmetric"), key("Updating", "symmetric")
	waiting := l.replicated(t, server, "symmetric")
	wantError(t, callsOnKeys["ScheduleKeyDeletion"](waiting), "")
	rotating := key("Enabled", "imported")
	waitingMaterial, _ := rotating.importNew("1")
	_, secondMaterial := rotating.importNew("2")
	refused := regexp.MustCompile("[0-9a-f]{64}").FindString(fmt.Sprint(secondMaterial)) // nothing else tells its id
	encrypt := callsOnKeys["Encrypt"]
	tag := func(keys ...string) error {
		in := &awskms.CreateKeyInput{}
		for _, k := range keys {
			in.Tags = append(in.Tags, types.Tag{TagKey: &k, TagValue: aws.String("")})
		}
		_, err := client.CreateKey(ctx, in)
		return err
	}
	create := func(in awskms.CreateKeyInput) error {
		_, err := client.CreateKey(ctx, &in)
		return err
	}
	putPolicy := func(statement string) error {
		in := &awskms.PutKeyPolicyInput{KeyId: &single, Policy: aws.String(`{"Version":"2012-10-17","Statement":[{` + statement + `}]}`)}
		return only(client.PutKeyPolicy(ctx, in))
	}
	generateMac := func(id string, a types.MacAlgorithmSpec) error {
		_, err := client.GenerateMac(ctx, &awskms.GenerateMacInput{KeyId: &id, Message: message, MacAlgorithm: a})
		return err
	}
	for name, tc := range map[string]struct {
		err        error
		code, text string
	}{
		"disabled":                     {encrypt(disabled), "DisabledException", disabled.id + " is disabled."},
		"pending import":               {encrypt(pending), "KMSInvalidStateException", pending.id + " is pending import."},
		"pending deletion":             {encrypt(doomed), "KMSInvalidStateException", doomed.id + " is pending deletion."},
		"pending deletion of replicas": {encrypt(waiting), "KMSInvalidStateException", waiting.id + " is pending deletion."},
		"unavailable":                  {encrypt(lost), "KMSInvalidStateException", lost.id + " is unavailable."},
		"creating":                     {encrypt(creating), "KMSInvalidStateException", creating.id + " is creating."},
		"updating":                     {callsOnKeys["DisableKey"](updating), "KMSInvalidStateException", updating.id + " is updating."},
		"not pending deletion":         {callsOnKeys["CancelKeyDeletion"](enabled), "KMSInvalidStateException", enabled.id + " is not pending deletion."},
		"wrong usage":                  {generateMac(enabled.id, types.MacAlgorithmSpecHmacSha256), "InvalidKeyUsageException", enabled.id + " key usage is ENCRYPT_DECRYPT which is not valid for GenerateMac."},
		"algorithm and spec":           {generateMac(hmac224, types.MacAlgorithmSpecHmacSha256), "InvalidKeyUsageException", "Algorithm HMAC_SHA_256 is incompatible with key spec HMAC_224."},
		"another key's ciphertext": {only(client.Decrypt(ctx, &awskms.DecryptInput{KeyId: &single, CiphertextBlob: enabled.sealed})),
			"IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation."},
		"no encryption key": {only(client.Decrypt(ctx, &awskms.DecryptInput{KeyId: &mac.id, CiphertextBlob: enabled.sealed})),
			"IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation."},
		"bad ciphertext": {only(client.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: message})), "InvalidCiphertextException", ""},
		"another encryption context": {only(client.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: enabled.sealed, EncryptionContext: map[string]string{"a": "b"}})),
			"InvalidCiphertextException", ""},
		"bad signature": {only(client.Verify(ctx, &awskms.VerifyInput{KeyId: &signing.id, Message: []byte("another"), Signature: signing.sealed, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})),
			"KMSInvalidSignatureException", ""},
		"bad MAC": {only(client.VerifyMac(ctx, &awskms.VerifyMacInput{KeyId: &mac.id, Message: []byte("another"), Mac: mac.sealed, MacAlgorithm: types.MacAlgorithmSpecHmacSha256})),
			"KMSInvalidMacException", ""},
		"a ciphertext of nobody's": {only(server.ClientIn(admin, otherRegion).Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: enabled.sealed})), "AccessDeniedException",
			"The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access."},
		"digest length": {only(client.Sign(ctx, &awskms.SignInput{KeyId: &signing.id, Message: message, MessageType: types.MessageTypeDigest, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})),
			"ValidationException", "Digest is invalid length for algorithm ECDSA_SHA_256."},
		"long plaintext": {only(client.Encrypt(ctx, &awskms.EncryptInput{KeyId: &rsaKey, Plaintext: make([]byte, 191), EncryptionAlgorithm: types.EncryptionAlgorithmSpecRsaesOaepSha256})),
			"ValidationException", "Algorithm RSAES_OAEP_SHA_256 and key spec RSA_2048 cannot encrypt data larger than 190 bytes."},
		"no size": {only(client.GenerateRandom(ctx, &awskms.GenerateRandomInput{})), "ValidationException", "NumberOfBytes is required."},
		"an expiry without a date": {only(client.ImportKeyMaterial(ctx, &awskms.ImportKeyMaterialInput{KeyId: &imported.id, ImportToken: imported.token, EncryptedKeyMaterial: imported.wrapped, ExpirationModel: types.ExpirationModelTypeKeyMaterialExpires})),
			"ValidationException", "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES"},
		"another origin":  {only(client.GetParametersForImport(ctx, parametersInput(enabled.id))), "UnsupportedOperationException", enabled.id + " origin is AWS_KMS which is not valid for this operation."},
		"no rotation":     {callsOnKeys["EnableKeyRotation"](signing), "UnsupportedOperationException", ""},
		"nothing pending": {callsOnKeys["RotateKeyOnDemand"](imported), "KMSInvalidStateException", "No available key material pending rotation for the key: " + imported.id + "."},
		"another pending": {secondMaterial, "KMSInvalidStateException", "New key material (id: " + refused + ") cannot be imported into KMS key " +
			rotating.id[strings.LastIndexByte(rotating.id, '/')+1:] + ", because another key material (id: " + waitingMaterial + ") is pending rotation."},
		"no primary key": {only(client.ReplicateKey(ctx, &awskms.ReplicateKeyInput{KeyId: &single, ReplicaRegion: aws.String(otherRegion)})),
			"UnsupportedOperationException", single + " is not a multi-region primary key."},
		"a tag twice":    {tag("a", "b", "a"), "TagException", "Duplicate tag keys"},
		"too many tags":  {tag(strings.Split(strings.Repeat("a,", 50)+"a", ",")...), "TagException", "Too many tags"},
		"a reserved tag": {tag("aWs:a"), "TagException", "Tags beginning with aws: are reserved"},
		"a policy that locks its author out": {putPolicy(`"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::444455556666:root"},"Action":"kms:*","Resource":"*"`), "MalformedPolicyDocumentException",
			"The new key policy will not allow you to update the key policy in the future."},
		"a policy for nobody": {putPolicy(`"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:group/admins"},"Action":"kms:*","Resource":"*"`), "MalformedPolicyDocumentException",
			"Policy contains a statement with one or more invalid principals."},
		"an alias twice":    {only(client.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: &enabled.alias, TargetKeyId: &single})), "AlreadyExistsException", "An alias with the name " + arnOfAccount + enabled.alias + " already exists"},
		"an alias's prefix": {only(client.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: aws.String("a"), TargetKeyId: &single})), "ValidationException", `Alias must start with the prefix "alias/". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html`},
		"a bad peer":        {only(client.DeriveSharedSecret(ctx, &awskms.DeriveSharedSecretInput{KeyId: &agreement.id, PublicKey: message, KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh})), "ValidationException", "UnknownError"}, // the SDK's word for none
		"no usage":          {create(awskms.CreateKeyInput{KeySpec: types.KeySpecRsa2048}), "ValidationException", "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys."},
		"another usage":     {create(awskms.CreateKeyInput{KeySpec: types.KeySpecRsa2048, KeyUsage: types.KeyUsageTypeKeyAgreement}), "ValidationException", "KeyUsage KEY_AGREEMENT is not compatible with KeySpec RSA_2048"},
		"a number too large": {only(client.GenerateRandom(ctx, &awskms.GenerateRandomInput{NumberOfBytes: aws.Int32(1025)})), "ValidationException",
			"1 validation error detected: Value '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have value less than or equal to 1024"},
		"something secret too long": {only(client.Encrypt(ctx, &awskms.EncryptInput{KeyId: &single, Plaintext: make([]byte, 4097)})), "ValidationException",
			"1 validation error detected: Value at 'plaintext' failed to satisfy constraint: Member must have length less than or equal to 4096"},
		"a tag's empty key": {tag(""), "ValidationException",
			"1 validation error detected: Value '' at 'tags.1.member.tagKey' failed to satisfy constraint: Member must have length greater than or equal to 1"},
	} {
		t.Run(name, func(t *testing.T) { wantText(t, tc.err, tc.code, tc.text) })
	}
}

// importNew imports material of one character that the key has not had.
func (s *subject) importNew(c string) (materialID string, err error) {
	s.t.Helper()
	s.wrap([]byte(strings.Repeat(c, 32)))
	out, err := s.client.ImportKeyMaterial(s.t.Context(), &awskms.ImportKeyMaterialInput{
		KeyId: &s.id, ImportToken: s.token, EncryptedKeyMaterial: s.wrapped, ImportType: types.ImportTypeNewKeyMaterial,
		ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire,
	})
	if err != nil {
		return "", err
	}
	return *out.KeyMaterialId, nil
}

// only keeps the error.
func only[T any](_ T, err error) error { return err }

// TestTheTwentySixthRotation reaches the limit of rotations on demand.
func TestTheTwentySixthRotation(t *testing.T) {
	t.Parallel()
	server := kastellantest.Start(t, kastellantest.Options{KMS: func(c *kms.Config) { c.Sweep = time.Millisecond }})
	client, key := server.Client(admin), *server.Key(&awskms.CreateKeyInput{}).Arn
	var err error
	rotate := func() bool {
		_, err = client.RotateKeyOnDemand(t.Context(), &awskms.RotateKeyOnDemandInput{KeyId: &key})
		var conflict *types.ConflictException
		return !errors.As(err, &conflict) // the one before is in progress
	}
	for range 25 {
		polltest.Until(t, "a rotation", rotate)
		wantError(t, err, "")
	}
	polltest.Until(t, "a rotation", rotate)
	wantText(t, err, "LimitExceededException", "The on-demand rotations limit has been reached for the given keyId. No more on-demand rotations can be performed for this key: "+key)
}

// TestThrottling has the text, and a code that the SDK takes for one to try again after.
func TestThrottling(t *testing.T) {
	t.Parallel()
	server := kastellantest.Start(t, kastellantest.Options{Quotas: config.Quotas{
		RequestRates: config.RatesOfAWS, RequestsPerSecond: map[string]float64{"ListKeys": 0.001},
	}})
	client := server.Client(admin)
	list := func() error { return only(client.ListKeys(t.Context(), &awskms.ListKeysInput{})) }
	wantError(t, list(), "")
	wantText(t, list(), "ThrottlingException", "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.")
}

// setting makes requests with a member set, where they have it.
func setting(client *awskms.Client, member string, value any, found *bool) *awskms.Client {
	set := middleware.InitializeMiddlewareFunc("Set"+member, func(ctx stdcontext.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
		if f := reflect.ValueOf(in.Parameters).Elem().FieldByName(member); f.IsValid() {
			f.Set(reflect.ValueOf(value))
			*found = true
		}
		return next.HandleInitialize(ctx, in)
	})
	return awskms.New(client.Options(), func(o *awskms.Options) {
		o.APIOptions = append(o.APIOptions, func(s *middleware.Stack) error { return s.Initialize.Add(set, middleware.Before) })
	})
}

// TestDryRuns does without effect what every operation that can do so does.
func TestDryRuns(t *testing.T) {
	t.Parallel()
	l := &laboratory{fast: kastellantest.Start(t, kastellantest.Options{})}
	for _, row := range rowsOf(t) {
		t.Run(row[0], func(t *testing.T) {
			t.Parallel()
			s := l.in(t, types.KeyStateEnabled, row[1])
			s.other()
			before := s.lastUse()
			dry := *s
			found := false
			dry.client = setting(s.client, "DryRun", aws.Bool(true), &found)
			err := callsOnKeys[row[0]](&dry)
			if !found {
				return
			}
			wantText(t, err, "DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
			if after := s.lastUse(); after != before {
				t.Errorf("the last use was %s, and is %s", before, after)
			}
			if row[1] == "symmetric" {
				if ids, _, err := listGrants(t.Context(), s.client, s.id); err != nil || len(ids) != 1 || ids[0] != s.grant {
					t.Errorf("the grants are %v, %v", ids, err)
				}
			}
		})
	}
}

// lastUse is the id of the request that used the key last.
func (s *subject) lastUse() string {
	s.t.Helper()
	out := must[*awskms.GetKeyLastUsageOutput](s.t)(s.client.GetKeyLastUsage(s.t.Context(), &awskms.GetKeyLastUsageInput{KeyId: &s.id}))
	return aws.ToString(out.KeyLastUsage.KmsRequestId)
}

// TestDryRunsTellWhatWouldFail has the exceptions that the operation itself has.
func TestDryRunsTellWhatWouldFail(t *testing.T) {
	t.Parallel()
	l := &laboratory{fast: kastellantest.Start(t, kastellantest.Options{})}
	for _, row := range rowsOf(t) {
		t.Run(row[0], func(t *testing.T) {
			t.Parallel()
			s := l.in(t, types.KeyStateDisabled, row[1])
			s.other()
			found := false
			s.client = setting(s.client, "DryRun", aws.Bool(true), &found)
			err := callsOnKeys[row[0]](s)
			if want := outcomes[row[3]]; found && want != "" {
				wantError(t, err, want)
			}
		})
	}
}

// TestDryRunsWithoutTheCiphertext uses IGNORE_CIPHERTEXT.
func TestDryRunsWithoutTheCiphertext(t *testing.T) {
	t.Parallel()
	l := &laboratory{fast: kastellantest.Start(t, kastellantest.Options{})}
	s, ctx := l.in(t, types.KeyStateEnabled, "symmetric"), t.Context()
	modifiers := []types.DryRunModifierType{types.DryRunModifierTypeIgnoreCiphertext}
	wantError(t, only(s.client.Decrypt(ctx, &awskms.DecryptInput{KeyId: &s.id, DryRun: aws.Bool(true), DryRunModifiers: modifiers})), "DryRunOperationException")
	wantError(t, only(s.client.Decrypt(ctx, &awskms.DecryptInput{KeyId: &s.id, DryRunModifiers: modifiers})), "ValidationException")
	wantError(t, only(s.client.Decrypt(ctx, &awskms.DecryptInput{DryRun: aws.Bool(true), DryRunModifiers: modifiers})), "ValidationException")
	reEncrypt := &awskms.ReEncryptInput{SourceKeyId: &s.id, DestinationKeyId: &s.other().id, DryRun: aws.Bool(true), DryRunModifiers: modifiers}
	wantError(t, only(s.client.ReEncrypt(ctx, reEncrypt)), "DryRunOperationException")
	reEncrypt.SourceKeyId = nil
	wantError(t, only(s.client.ReEncrypt(ctx, reEncrypt)), "ValidationException")
}

// TestGrantTokensAreAccepted gives a token to every operation that takes one.
func TestGrantTokensAreAccepted(t *testing.T) {
	t.Parallel()
	l := &laboratory{fast: kastellantest.Start(t, kastellantest.Options{})}
	for _, row := range rowsOf(t) {
		if !takesTokens(row[0]) {
			continue
		}
		t.Run(row[0], func(t *testing.T) {
			t.Parallel()
			s := l.in(t, types.KeyStateEnabled, row[1])
			s.other()
			token := *createGrant(t, s.client, grantInput(s.others.id)).GrantToken
			found, plain := false, s.client
			s.client = setting(plain, "GrantTokens", []string{token}, &found)
			if err := callsOnKeys[row[0]](s); !found || err != nil {
				t.Errorf("set: %t, %v", found, err)
			}
			s.client = setting(plain, "GrantTokens", []string{"token"}, &found)
			wantError(t, callsOnKeys[row[0]](s), "InvalidGrantTokenException")
		})
	}
}

// takesTokens tells whether the SDK's request of a row has grant tokens.
func takesTokens(row string) bool {
	op, _, _ := strings.Cut(row, "(")
	method, ok := reflect.TypeFor[*awskms.Client]().MethodByName(op)
	if !ok {
		return false
	}
	_, ok = method.Type.In(2).Elem().FieldByName("GrantTokens")
	return ok
}
