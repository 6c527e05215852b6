package kms_test

import (
	"bytes"
	"crypto/fips140"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/polltest"
)

func TestCreateKeyRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hsm, xks := w.createHSM("hsm", cluster), w.createXKS("xks", "proxy.example.com")
	w.connected(hsm)
	w.connected(xks)
	for name, tc := range map[string]struct {
		in   kmsapi.CreateKeyRequest
		code kmsapi.Code
	}{
		"an HSM origin without a store":     {kmsapi.CreateKeyRequest{Origin: kmsapi.OriginAWSCloudHSM}, kmsapi.Validation},
		"a store without an origin":         {kmsapi.CreateKeyRequest{CustomKeyStoreID: hsm}, kmsapi.Validation},
		"an origin of the other type":       {kmsapi.CreateKeyRequest{Origin: kmsapi.OriginAWSCloudHSM, CustomKeyStoreID: xks}, kmsapi.Validation},
		"an external key in an HSM store":   {kmsapi.CreateKeyRequest{Origin: kmsapi.OriginAWSCloudHSM, CustomKeyStoreID: hsm, XksKeyID: "k"}, kmsapi.Validation},
		"no external key":                   {kmsapi.CreateKeyRequest{Origin: kmsapi.OriginExternalKeyStore, CustomKeyStoreID: xks}, kmsapi.Validation},
		"an external key of a plain key":    {kmsapi.CreateKeyRequest{XksKeyID: "k"}, kmsapi.Validation},
		"a store that is not there":         {kmsapi.CreateKeyRequest{Origin: kmsapi.OriginAWSCloudHSM, CustomKeyStoreID: "cks-0"}, kmsapi.CustomKeyStoreNotFound},
		"a usage that does not fit":         {kmsapi.CreateKeyRequest{KeyUsage: "SIGN_VERIFY"}, kmsapi.Validation},
		"an asymmetric key without a usage": {kmsapi.CreateKeyRequest{KeySpec: "RSA_2048"}, kmsapi.Validation},
		"an asymmetric key in a store":      {kmsapi.CreateKeyRequest{KeySpec: "RSA_2048", KeyUsage: "SIGN_VERIFY", Origin: kmsapi.OriginAWSCloudHSM, CustomKeyStoreID: hsm}, kmsapi.UnsupportedOperation},
		"another usage of a spec":           {kmsapi.CreateKeyRequest{KeySpec: "RSA_2048", KeyUsage: "KEY_AGREEMENT"}, kmsapi.Validation},
		"a spec of China elsewhere":         {kmsapi.CreateKeyRequest{KeySpec: "SM2", KeyUsage: "SIGN_VERIFY"}, kmsapi.UnsupportedOperation},
		"two specs":                         {kmsapi.CreateKeyRequest{KeySpec: kmsapi.SymmetricDefault, CustomerMasterKeySpec: "RSA_2048"}, kmsapi.Validation},
		"material nobody can import":        {kmsapi.CreateKeyRequest{KeySpec: kmsapi.MLDSA44, KeyUsage: kmsapi.SignVerify, Origin: kmsapi.OriginExternal}, kmsapi.UnsupportedOperation},
		"a multi-Region key in a store":     {kmsapi.CreateKeyRequest{MultiRegion: ptr(true), Origin: kmsapi.OriginAWSCloudHSM, CustomKeyStoreID: hsm}, kmsapi.UnsupportedOperation},
		"a policy that is not JSON":         {kmsapi.CreateKeyRequest{Policy: "no"}, kmsapi.MalformedPolicyDocument},
		"a policy that is too long":         {kmsapi.CreateKeyRequest{Policy: strings.Repeat(" ", 32769)}, kmsapi.LimitExceeded},
		"reserved tags":                     {kmsapi.CreateKeyRequest{Tags: []kmsapi.Tag{{TagKey: "AWS:x"}}}, kmsapi.TagInvalid},
		"the same tag twice":                {kmsapi.CreateKeyRequest{Tags: []kmsapi.Tag{{TagKey: "x"}, {TagKey: "x"}}}, kmsapi.TagInvalid},
		"too many tags":                     {kmsapi.CreateKeyRequest{Tags: make([]kmsapi.Tag, 51)}, kmsapi.TagInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := do[kmsapi.CreateKeyResponse](w, root(account), "CreateKey", &tc.in)
			wantCode(t, err, tc.code)
		})
	}
	if w.hsm.keyCount()+w.xks.keyCount() != 0 {
		t.Error("a refused key was made")
	}
}

func TestAnExternalKeyBelongsToOneKMSKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createXKS("xks", "proxy.example.com")
	w.connected(id)
	in := &kmsapi.CreateKeyRequest{Origin: kmsapi.OriginExternalKeyStore, CustomKeyStoreID: id, XksKeyID: "k1"}
	w.xks.answer("CreateKey", kmsapi.Errorf(kmsapi.XksKeyNotFound, "no"))
	_, err := do[kmsapi.CreateKeyResponse](w, root(account), "CreateKey", in)
	wantCode(t, err, kmsapi.XksKeyNotFound)
	w.xks.answer("CreateKey", nil)
	var key *kmsapi.KeyMetadata
	polltest.Until(t, "the external key to be free after the failure", func() bool {
		out, err := do[kmsapi.CreateKeyResponse](w, root(account), "CreateKey", in)
		if err == nil {
			key = out.KeyMetadata
		}
		return err == nil
	})
	_, err = do[kmsapi.CreateKeyResponse](w, root(account), "CreateKey", in)
	wantCode(t, err, kmsapi.XksKeyAlreadyInUse)
	must(do[kmsapi.ScheduleKeyDeletionResponse](w, root(account), "ScheduleKeyDeletion", &kmsapi.ScheduleKeyDeletionRequest{KeyID: key.KeyID, PendingWindowInDays: ptr(int32(7))}))(t)
	_, err = do[kmsapi.CreateKeyResponse](w, root(account), "CreateKey", in)
	wantCode(t, err, kmsapi.XksKeyAlreadyInUse)
	w.clock.Advance(7 * 24 * time.Hour)
	polltest.Until(t, "the external key to be free after the deletion", func() bool {
		_, err := do[kmsapi.CreateKeyResponse](w, root(account), "CreateKey", in)
		return err == nil
	})
}

func TestAKeyThatCannotBeMadeLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createHSM("hsm", cluster)
	w.connected(id)
	w.hsm.answer("CreateKey", errors.New("the HSM caught fire"))
	_, err := do[kmsapi.CreateKeyResponse](w, root(account), "CreateKey", &kmsapi.CreateKeyRequest{Origin: kmsapi.OriginAWSCloudHSM, CustomKeyStoreID: id})
	wantCode(t, err, kmsapi.KMSInternal)
	out := must(do[kmsapi.ListKeysResponse](w, root(account), "ListKeys", &kmsapi.ListKeysRequest{}))(t)
	if len(out.Keys) != 0 {
		t.Error("the key is there")
	}
}

func TestADueKeyIsDeletedWithItsAliasesAndItsMaterial(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createHSM("hsm", cluster)
	w.connected(id)
	key := w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginAWSCloudHSM, CustomKeyStoreID: id})
	must(do[kmsapi.Empty](w, root(account), "CreateAlias", &kmsapi.CreateAliasRequest{AliasName: "alias/a", TargetKeyID: key.KeyID}))(t)
	out := must(do[kmsapi.ScheduleKeyDeletionResponse](w, root(account), "ScheduleKeyDeletion", &kmsapi.ScheduleKeyDeletionRequest{KeyID: key.KeyID}))(t)
	if want := w.clock.Now().Add(30 * 24 * time.Hour); !out.DeletionDate.Equal(want) || *out.PendingWindowInDays != 30 || out.KeyID != key.Arn {
		t.Errorf("%+v", out)
	}
	w.clock.Advance(30*24*time.Hour - time.Second)
	if w.keyState(key.KeyID) != kmsapi.StatePendingDeletion {
		t.Error("the key went too early")
	}
	// The store is away when the day comes: the key goes, its material when the store is back.
	if err := w.disconnect(id); err != nil {
		t.Fatal(err)
	}
	w.waitFor(id, kmsapi.Disconnected)
	w.clock.Advance(time.Second)
	polltest.Until(t, "the deletion", func() bool {
		_, err := do[kmsapi.DescribeKeyResponse](w, root(account), "DescribeKey", &kmsapi.DescribeKeyRequest{KeyID: key.KeyID})
		return kmsapi.CodeOf(err) == kmsapi.NotFound
	})
	aliases := must(do[kmsapi.ListAliasesResponse](w, root(account), "ListAliases", &kmsapi.ListAliasesRequest{}))(t)
	if len(aliases.Aliases) != 0 {
		t.Error("the alias survived its key")
	}
	polltest.Until(t, "the record of the deletion", func() bool { return strings.Contains(w.audit.String(), `"eventName":"DeleteKey"`) })
	if w.hsm.keyCount() != 1 {
		t.Error("the material went although the store was away")
	}
	w.connected(id)
	polltest.Until(t, "the destruction of the material", func() bool { return w.hsm.keyCount() == 0 })
}

func TestDeletionIsCaughtUpAfterDowntime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	must(do[kmsapi.ScheduleKeyDeletionResponse](w, root(account), "ScheduleKeyDeletion", &kmsapi.ScheduleKeyDeletionRequest{KeyID: key.KeyID, PendingWindowInDays: ptr(int32(7))}))(t)
	w.s.Close()
	w.clock.Advance(8 * 24 * time.Hour)
	w.start()
	polltest.Until(t, "the deletion", func() bool {
		_, err := do[kmsapi.DescribeKeyResponse](w, root(account), "DescribeKey", &kmsapi.DescribeKeyRequest{KeyID: key.KeyID})
		return kmsapi.CodeOf(err) == kmsapi.NotFound
	})
}

func TestKeyStates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createXKS("xks", "proxy.example.com")
	w.connected(id)
	n := 0
	inStore := func() *kmsapi.KeyMetadata {
		n++
		return w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginExternalKeyStore, CustomKeyStoreID: id, XksKeyID: fmt.Sprint("k", n)})
	}
	states := map[kmsapi.KeyState]*kmsapi.KeyMetadata{
		kmsapi.StateEnabled:         w.createKey(&kmsapi.CreateKeyRequest{}),
		kmsapi.StateDisabled:        w.createKey(&kmsapi.CreateKeyRequest{}),
		kmsapi.StatePendingDeletion: w.createKey(&kmsapi.CreateKeyRequest{}),
		kmsapi.StateUnavailable:     inStore(),
	}
	doomed, disabled := inStore(), inStore()
	call := func(name string, in any) error { _, err := do[kmsapi.Empty](w, root(account), name, in); return err }
	if err := errors.Join(
		call("DisableKey", &kmsapi.DisableKeyRequest{KeyID: states[kmsapi.StateDisabled].KeyID}),
		call("DisableKey", &kmsapi.DisableKeyRequest{KeyID: disabled.KeyID}),
	); err != nil {
		t.Fatal(err)
	}
	for _, k := range []*kmsapi.KeyMetadata{states[kmsapi.StatePendingDeletion], doomed} {
		must(do[kmsapi.ScheduleKeyDeletionResponse](w, root(account), "ScheduleKeyDeletion", &kmsapi.ScheduleKeyDeletionRequest{KeyID: k.KeyID}))(t)
	}
	sealed := map[kmsapi.KeyState][]byte{}
	if err := w.disconnect(id); err != nil {
		t.Fatal(err)
	}
	w.waitFor(id, kmsapi.Disconnected)
	for state, k := range states {
		if got := w.keyState(k.KeyID); got != state {
			t.Fatalf("got %s, want %s", got, state)
		}
		sealed[state] = nil
	}
	if got := w.keyState(doomed.KeyID); got != kmsapi.StatePendingDeletion {
		t.Errorf("a key that is pending deletion is %s while its store is away", got)
	}
	const dis, st, ok = kmsapi.Disabled, kmsapi.KMSInvalidState, kmsapi.Code("")
	type row map[kmsapi.KeyState]kmsapi.Code
	all := func(e, d, pd, u kmsapi.Code) row {
		return row{kmsapi.StateEnabled: e, kmsapi.StateDisabled: d, kmsapi.StatePendingDeletion: pd, kmsapi.StateUnavailable: u}
	}
	for _, tc := range []struct {
		name string
		in   func(id string) any
		want row
	}{
		{"Encrypt", func(id string) any { return &kmsapi.EncryptRequest{KeyID: id, Plaintext: secretBytes("x")} }, all(ok, dis, st, st)},
		{"GenerateDataKey", func(id string) any { return &kmsapi.GenerateDataKeyRequest{KeyID: id, KeySpec: kmsapi.DataKeyAES256} }, all(ok, dis, st, st)},
		{"GenerateDataKeyWithoutPlaintext", func(id string) any {
			return &kmsapi.GenerateDataKeyWithoutPlaintextRequest{KeyID: id, KeySpec: kmsapi.DataKeyAES256}
		}, all(ok, dis, st, st)},
		{"DescribeKey", func(id string) any { return &kmsapi.DescribeKeyRequest{KeyID: id} }, all(ok, ok, ok, ok)},
		{"GetKeyPolicy", func(id string) any { return &kmsapi.GetKeyPolicyRequest{KeyID: id} }, all(ok, ok, ok, ok)},
		{"PutKeyPolicy", func(id string) any { return &kmsapi.PutKeyPolicyRequest{KeyID: id, Policy: aPolicy} }, all(ok, ok, ok, ok)},
		{"ListAliases", func(id string) any { return &kmsapi.ListAliasesRequest{KeyID: id} }, all(ok, ok, ok, ok)},
		{"UpdateKeyDescription", func(id string) any { return &kmsapi.UpdateKeyDescriptionRequest{KeyID: id} }, all(ok, ok, st, ok)},
		{"CreateAlias", func(id string) any { return &kmsapi.CreateAliasRequest{AliasName: "alias/" + id, TargetKeyID: id} }, all(ok, ok, st, ok)},
		{"CancelKeyDeletion", func(id string) any { return &kmsapi.CancelKeyDeletionRequest{KeyID: id} }, row{kmsapi.StateEnabled: st, kmsapi.StateDisabled: st, kmsapi.StateUnavailable: st}},
		{"ScheduleKeyDeletion", func(id string) any { return &kmsapi.ScheduleKeyDeletionRequest{KeyID: id} }, row{kmsapi.StatePendingDeletion: st}},
		{"EnableKey", func(id string) any { return &kmsapi.EnableKeyRequest{KeyID: id} }, row{kmsapi.StatePendingDeletion: st, kmsapi.StateUnavailable: ok, kmsapi.StateEnabled: ok}},
		{"DisableKey", func(id string) any { return &kmsapi.DisableKeyRequest{KeyID: id} }, row{kmsapi.StatePendingDeletion: st, kmsapi.StateUnavailable: ok, kmsapi.StateDisabled: ok}},
	} {
		for state, want := range tc.want {
			_, err := w.s.Do(t.Context(), operation(t, tc.name), root(account), tc.in(states[state].KeyID))
			if got := kmsapi.CodeOf(err); got != want {
				t.Errorf("%s of a key that is %s: %v, want %q", tc.name, state, err, want)
			}
		}
	}
	// What was asked for while the store was away holds when it is back.
	must(do[kmsapi.CancelKeyDeletionResponse](w, root(account), "CancelKeyDeletion", &kmsapi.CancelKeyDeletionRequest{KeyID: doomed.KeyID}))(t)
	if got := w.keyState(doomed.KeyID); got != kmsapi.StateUnavailable {
		t.Errorf("a saved key is %s while its store is away", got)
	}
	w.connected(id)
	for _, k := range []*kmsapi.KeyMetadata{doomed, disabled, states[kmsapi.StateUnavailable]} {
		if got := w.keyState(k.KeyID); got != kmsapi.StateDisabled {
			t.Errorf("got %s, want Disabled", got)
		}
	}
}

const aPolicy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"}]}`

func TestKeyPoliciesAreKeptAsGiven(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	got := must(do[kmsapi.GetKeyPolicyResponse](w, root(account), "GetKeyPolicy", &kmsapi.GetKeyPolicyRequest{KeyID: key.KeyID}))(t)
	if !strings.Contains(got.Policy, "arn:aws:iam::"+account+":root") || got.PolicyName != "default" {
		t.Errorf("%+v", got)
	}
	odd := " \n" + aPolicy + "\t"
	must(do[kmsapi.Empty](w, root(account), "PutKeyPolicy", &kmsapi.PutKeyPolicyRequest{KeyID: key.KeyID, Policy: odd, PolicyName: "default"}))(t)
	got = must(do[kmsapi.GetKeyPolicyResponse](w, root(account), "GetKeyPolicy", &kmsapi.GetKeyPolicyRequest{KeyID: key.KeyID}))(t)
	if got.Policy != odd {
		t.Errorf("%q", got.Policy)
	}
	for policy, code := range map[string]kmsapi.Code{"{": kmsapi.MalformedPolicyDocument, `{"Statement":[{"Action":"kms:*"}]}`: kmsapi.MalformedPolicyDocument} {
		_, err := do[kmsapi.Empty](w, root(account), "PutKeyPolicy", &kmsapi.PutKeyPolicyRequest{KeyID: key.KeyID, Policy: policy})
		wantCode(t, err, code)
	}
	_, err := do[kmsapi.GetKeyPolicyResponse](w, root(account), "GetKeyPolicy", &kmsapi.GetKeyPolicyRequest{KeyID: key.KeyID, PolicyName: "other"})
	wantCode(t, err, kmsapi.NotFound)
}

func TestAKeyIsFoundByEveryFormOfItsName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	must(do[kmsapi.Empty](w, root(account), "CreateAlias", &kmsapi.CreateAliasRequest{AliasName: "alias/a/b", TargetKeyID: key.Arn}))(t)
	aliasARN := "arn:aws:kms:" + region + ":" + account + ":alias/a/b"
	for _, id := range []string{key.KeyID, key.Arn, "alias/a/b", aliasARN} {
		out, err := do[kmsapi.EncryptResponse](w, root(account), "Encrypt", &kmsapi.EncryptRequest{KeyID: id, Plaintext: secretBytes("x")})
		if err != nil || out.KeyID != key.Arn {
			t.Errorf("%s: %v", id, err)
		}
	}
	unknown := "11111111-2222-3333-4444-555555555555"
	unknownARN := "arn:aws:kms:" + region + ":" + account + ":key/" + unknown
	for _, tc := range []struct {
		op, id string
		code   kmsapi.Code
		text   string
	}{
		{"Encrypt", unknown, kmsapi.NotFound, "Key '" + unknownARN + "' does not exist"},
		{"Encrypt", unknownARN, kmsapi.NotFound, "Key '" + unknownARN + "' does not exist"},
		{"Encrypt", "nonsense", kmsapi.NotFound, "Invalid keyId 'nonsense'"},
		{"Encrypt", "alias/none", kmsapi.NotFound, "Alias arn:aws:kms:" + region + ":" + account + ":alias/none is not found."},
		{"Encrypt", "arn:aws:kms:us-west-2:" + account + ":key/" + unknown, kmsapi.NotFound, "Invalid arn us-west-2"},
		{"DescribeKey", "arn:aws:s3:::bucket", kmsapi.InvalidArn, "Invalid arn 'arn:aws:s3:::bucket'"},
		{"DisableKey", "alias/a/b", kmsapi.NotFound, "Invalid keyId 'alias/a/b'"},
		{"DisableKey", aliasARN, kmsapi.InvalidArn, "Invalid arn '" + aliasARN + "'"},
		{"Encrypt", "arn:aws:kms:" + region + ":999999999999:key/" + key.KeyID, kmsapi.AccessDenied, ""},
	} {
		in := map[string]any{
			"Encrypt": &kmsapi.EncryptRequest{KeyID: tc.id, Plaintext: secretBytes("x")}, "DescribeKey": &kmsapi.DescribeKeyRequest{KeyID: tc.id},
			"DisableKey": &kmsapi.DisableKeyRequest{KeyID: tc.id},
		}[tc.op]
		_, err := w.s.Do(t.Context(), operation(t, tc.op), root(account), in)
		wantCode(t, err, tc.code)
		var e *kmsapi.Error
		if errors.As(err, &e) && tc.text != "" && e.Message != tc.text {
			t.Errorf("got %q, want %q", e.Message, tc.text)
		}
	}
}

func TestAliases(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *kms.Config) { c.Quotas.AliasesPerKey = 2 })
	a, b := w.createKey(&kmsapi.CreateKeyRequest{}), w.createKey(&kmsapi.CreateKeyRequest{})
	create := func(name, key string) error {
		_, err := do[kmsapi.Empty](w, root(account), "CreateAlias", &kmsapi.CreateAliasRequest{AliasName: name, TargetKeyID: key})
		return err
	}
	update := func(name, key string) error {
		_, err := do[kmsapi.Empty](w, root(account), "UpdateAlias", &kmsapi.UpdateAliasRequest{AliasName: name, TargetKeyID: key})
		return err
	}
	remove := func(name string) error {
		_, err := do[kmsapi.Empty](w, root(account), "DeleteAlias", &kmsapi.DeleteAliasRequest{AliasName: name})
		return err
	}
	for _, step := range []struct {
		err  error
		code kmsapi.Code
	}{
		{create("alias/1", a.KeyID), ""},
		{create("alias/1", b.KeyID), kmsapi.AlreadyExists},
		{create("1", a.KeyID), kmsapi.Validation},
		{create("alias/", a.KeyID), kmsapi.InvalidAliasName},
		{create("alias/aws/s3", a.KeyID), kmsapi.InvalidAliasName},
		{create("alias/2", a.KeyID), ""},
		{create("alias/3", a.KeyID), kmsapi.LimitExceeded},
		{update("alias/1", b.KeyID), ""},
		{update("alias/1", b.KeyID), ""},
		{update("alias/none", b.KeyID), kmsapi.NotFound},
		{create("alias/3", a.KeyID), ""},
		{update("alias/1", a.KeyID), kmsapi.LimitExceeded},
		{remove("alias/none"), kmsapi.NotFound},
		{remove("alias/2"), ""},
		{create("alias/4", "alias/3"), kmsapi.NotFound},
	} {
		wantCode(t, step.err, step.code)
	}
	out := must(do[kmsapi.ListAliasesResponse](w, root(account), "ListAliases", &kmsapi.ListAliasesRequest{}))(t)
	got := map[string]string{}
	for _, e := range out.Aliases {
		got[e.AliasName] = e.TargetKeyID
	}
	if len(got) != 2 || got["alias/1"] != b.KeyID || got["alias/3"] != a.KeyID {
		t.Errorf("%v", got)
	}
	one := must(do[kmsapi.ListAliasesResponse](w, root(account), "ListAliases", &kmsapi.ListAliasesRequest{KeyID: a.Arn}))(t)
	if len(one.Aliases) != 1 || one.Aliases[0].AliasName != "alias/3" {
		t.Errorf("%+v", one)
	}
	for _, in := range []kmsapi.CreateKeyRequest{
		{KeySpec: kmsapi.HMAC256, KeyUsage: kmsapi.GenerateVerifyMac}, {KeySpec: kmsapi.RSA2048, KeyUsage: kmsapi.EncryptDecrypt},
	} {
		wantCode(t, update("alias/1", w.createKey(&in).KeyID), kmsapi.Validation)
	}
	must(do[kmsapi.ScheduleKeyDeletionResponse](w, root(account), "ScheduleKeyDeletion", &kmsapi.ScheduleKeyDeletionRequest{KeyID: a.KeyID}))(t)
	wantCode(t, update("alias/1", a.KeyID), kmsapi.KMSInvalidState)
	wantCode(t, update("alias/3", b.KeyID), "")
}

func TestDecryptChecks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.createKey(&kmsapi.CreateKeyRequest{}), w.createKey(&kmsapi.CreateKeyRequest{})
	context := map[string]string{"purpose": "test", "": "empty"}
	sealed := must(do[kmsapi.EncryptResponse](w, root(account), "Encrypt", &kmsapi.EncryptRequest{KeyID: a.KeyID, Plaintext: secretBytes("x"), EncryptionContext: context}))(t).CiphertextBlob
	touched := bytes.Clone(sealed)
	touched[len(touched)-1] ^= 1
	for name, tc := range map[string]struct {
		in   kmsapi.DecryptRequest
		code kmsapi.Code
	}{
		"as it was":                    {kmsapi.DecryptRequest{CiphertextBlob: sealed, EncryptionContext: context}, ""},
		"with its key":                 {kmsapi.DecryptRequest{CiphertextBlob: sealed, EncryptionContext: context, KeyID: a.Arn}, ""},
		"with another key":             {kmsapi.DecryptRequest{CiphertextBlob: sealed, EncryptionContext: context, KeyID: b.KeyID}, kmsapi.IncorrectKey},
		"without its context":          {kmsapi.DecryptRequest{CiphertextBlob: sealed}, kmsapi.InvalidCiphertext},
		"with less context":            {kmsapi.DecryptRequest{CiphertextBlob: sealed, EncryptionContext: map[string]string{"purpose": "test"}}, kmsapi.InvalidCiphertext},
		"touched":                      {kmsapi.DecryptRequest{CiphertextBlob: touched, EncryptionContext: context}, kmsapi.InvalidCiphertext},
		"nonsense":                     {kmsapi.DecryptRequest{CiphertextBlob: []byte("nonsense")}, kmsapi.InvalidCiphertext},
		"nothing":                      {kmsapi.DecryptRequest{}, kmsapi.Validation},
		"another algorithm":            {kmsapi.DecryptRequest{CiphertextBlob: sealed, KeyID: a.KeyID, EncryptionAlgorithm: kmsapi.RSAESOaepSHA256}, kmsapi.InvalidKeyUsage},
		"another algorithm, no key":    {kmsapi.DecryptRequest{CiphertextBlob: sealed, EncryptionAlgorithm: kmsapi.RSAESOaepSHA256}, kmsapi.Validation},
		"a grant token":                {kmsapi.DecryptRequest{CiphertextBlob: sealed, GrantTokens: []string{"t"}}, kmsapi.InvalidGrantToken},
		"a recipient":                  {kmsapi.DecryptRequest{CiphertextBlob: sealed, Recipient: &kmsapi.RecipientInfo{}}, kmsapi.Validation},
		"a dry run":                    {kmsapi.DecryptRequest{CiphertextBlob: sealed, EncryptionContext: context, DryRun: true}, kmsapi.DryRunOperation},
		"a dry run, no context":        {kmsapi.DecryptRequest{CiphertextBlob: sealed, DryRun: true}, kmsapi.InvalidCiphertext},
		"a dry run, touched":           {kmsapi.DecryptRequest{CiphertextBlob: touched, EncryptionContext: context, DryRun: true}, kmsapi.InvalidCiphertext},
		"a dry run that ignores it":    {kmsapi.DecryptRequest{CiphertextBlob: []byte("nonsense"), KeyID: a.KeyID, DryRun: true, DryRunModifiers: []kmsapi.DryRunModifierType{kmsapi.IgnoreCiphertext}}, kmsapi.DryRunOperation},
		"a dry run without ciphertext": {kmsapi.DecryptRequest{KeyID: a.KeyID, DryRun: true, DryRunModifiers: []kmsapi.DryRunModifierType{kmsapi.IgnoreCiphertext}}, kmsapi.DryRunOperation},
		"a dry run without anything":   {kmsapi.DecryptRequest{DryRun: true, DryRunModifiers: []kmsapi.DryRunModifierType{kmsapi.IgnoreCiphertext}}, kmsapi.Validation},
		"modifiers without a dry run":  {kmsapi.DecryptRequest{CiphertextBlob: sealed, DryRunModifiers: []kmsapi.DryRunModifierType{kmsapi.IgnoreCiphertext}}, kmsapi.Validation},
		"far too much context":         {kmsapi.DecryptRequest{CiphertextBlob: sealed, EncryptionContext: map[string]string{"k": strings.Repeat("v", 8192)}}, kmsapi.Validation},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := do[kmsapi.DecryptResponse](w, root(account), "Decrypt", &tc.in)
			wantCode(t, err, tc.code)
		})
	}
	_, err := do[kmsapi.DecryptResponse](w, root("999999999999"), "Decrypt", &kmsapi.DecryptRequest{CiphertextBlob: sealed})
	wantCode(t, err, kmsapi.AccessDenied)
}

// TestDryRunsOfEncryption are told what the operation would be told.
func TestDryRunsOfEncryption(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createHSM("hsm", cluster)
	w.connected(id)
	symmetric, stored := w.createKey(&kmsapi.CreateKeyRequest{}), w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginAWSCloudHSM, CustomKeyStoreID: id})
	rsa := w.createKey(&kmsapi.CreateKeyRequest{KeySpec: kmsapi.RSA2048, KeyUsage: kmsapi.EncryptDecrypt})
	const limit = 190 // of RSAES_OAEP_SHA_256 under RSA_2048
	seal := func(key *kmsapi.KeyMetadata, size int) []byte {
		return w.encrypt(key.KeyID, strings.Repeat("x", size))
	}
	encrypt := func(size int) kmsapi.EncryptRequest {
		return kmsapi.EncryptRequest{KeyID: rsa.KeyID, EncryptionAlgorithm: kmsapi.RSAESOaepSHA256, Plaintext: secretBytes(strings.Repeat("x", size))}
	}
	reEncrypt := func(from []byte) kmsapi.ReEncryptRequest {
		return kmsapi.ReEncryptRequest{CiphertextBlob: from, DestinationKeyID: rsa.KeyID, DestinationEncryptionAlgorithm: kmsapi.RSAESOaepSHA256}
	}
	decrypt := func(algorithm kmsapi.EncryptionAlgorithmSpec) kmsapi.DecryptRequest {
		in := encrypt(limit)
		out := must(do[kmsapi.EncryptResponse](w, root(account), "Encrypt", &in))(t)
		return kmsapi.DecryptRequest{CiphertextBlob: out.CiphertextBlob, KeyID: rsa.KeyID, EncryptionAlgorithm: algorithm}
	}
	touched := seal(symmetric, 10)
	touched[len(touched)-1] ^= 1
	for name, tc := range map[string]struct {
		in   any
		code kmsapi.Code
	}{
		"all that there is room for": {encrypt(limit), kmsapi.DryRunOperation},
		"too much":                   {encrypt(limit + 1), kmsapi.Validation},
		"all that there is room for, from another key": {reEncrypt(seal(symmetric, limit)), kmsapi.DryRunOperation},
		"too much from another key":                    {reEncrypt(seal(symmetric, limit+1)), kmsapi.Validation},
		"a bad ciphertext":                             {reEncrypt(touched), kmsapi.InvalidCiphertext},
		"a ciphertext of a custom key store":           {reEncrypt(seal(stored, limit+1)), kmsapi.DryRunOperation}, // which is not asked
		"a ciphertext of RSA":                          {decrypt(kmsapi.RSAESOaepSHA256), kmsapi.DryRunOperation},
		"a ciphertext of another algorithm":            {decrypt(kmsapi.RSAESOaepSHA1), kmsapi.InvalidCiphertext},
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			switch in := tc.in.(type) {
			case kmsapi.EncryptRequest:
				in.DryRun = true
				_, err = do[kmsapi.EncryptResponse](w, root(account), "Encrypt", &in)
			case kmsapi.DecryptRequest:
				in.DryRun = true
				_, err = do[kmsapi.DecryptResponse](w, root(account), "Decrypt", &in)
			case kmsapi.ReEncryptRequest:
				in.DryRun = true
				_, err = do[kmsapi.ReEncryptResponse](w, root(account), "ReEncrypt", &in)
			}
			if in, ok := tc.in.(kmsapi.DecryptRequest); ok && fips140.Enforced() && in.EncryptionAlgorithm == kmsapi.RSAESOaepSHA1 {
				t.Skip("not approved")
			}
			wantCode(t, err, tc.code)
		})
	}
}

func TestReEncryptMovesBetweenStores(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createHSM("hsm", cluster)
	w.connected(id)
	from, to := w.createKey(&kmsapi.CreateKeyRequest{}), w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginAWSCloudHSM, CustomKeyStoreID: id})
	sealed := must(do[kmsapi.EncryptResponse](w, root(account), "Encrypt", &kmsapi.EncryptRequest{KeyID: from.KeyID, Plaintext: secretBytes("moved")}))(t)
	out := must(do[kmsapi.ReEncryptResponse](w, root(account), "ReEncrypt", &kmsapi.ReEncryptRequest{
		CiphertextBlob: sealed.CiphertextBlob, DestinationKeyID: to.Arn, DestinationEncryptionContext: map[string]string{"new": "context"},
	}))(t)
	if out.SourceKeyID != from.Arn || out.KeyID != to.Arn || out.SourceKeyMaterialID != from.CurrentKeyMaterialID || out.DestinationKeyMaterialID != "" {
		t.Errorf("%+v", out)
	}
	back := must(do[kmsapi.DecryptResponse](w, root(account), "Decrypt", &kmsapi.DecryptRequest{CiphertextBlob: out.CiphertextBlob, EncryptionContext: map[string]string{"new": "context"}}))(t)
	if string(back.Plaintext.Reveal()) != "moved" {
		t.Errorf("%q", back.Plaintext.Reveal())
	}
}

func TestDataKeysAndRandomBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hsm, xks := w.createHSM("hsm", cluster), w.createXKS("xks", "proxy.example.com")
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	for size, in := range map[int]kmsapi.GenerateDataKeyRequest{
		16: {KeySpec: kmsapi.DataKeyAES128}, 32: {KeySpec: kmsapi.DataKeyAES256}, 77: {NumberOfBytes: ptr(int32(77))},
	} {
		in.KeyID = key.KeyID
		out := must(do[kmsapi.GenerateDataKeyResponse](w, root(account), "GenerateDataKey", &in))(t)
		back := must(do[kmsapi.DecryptResponse](w, root(account), "Decrypt", &kmsapi.DecryptRequest{CiphertextBlob: out.CiphertextBlob}))(t)
		if out.Plaintext.Len() != size || !out.Plaintext.Equal(back.Plaintext) || out.KeyMaterialID != key.CurrentKeyMaterialID {
			t.Errorf("%d bytes: %+v", size, out)
		}
	}
	for _, in := range []kmsapi.GenerateDataKeyRequest{{}, {KeySpec: kmsapi.DataKeyAES128, NumberOfBytes: ptr(int32(1))}} {
		in.KeyID = key.KeyID
		_, err := do[kmsapi.GenerateDataKeyResponse](w, root(account), "GenerateDataKey", &in)
		wantCode(t, err, kmsapi.Validation)
	}
	random := func(id string, n *int32) error {
		out, err := do[kmsapi.GenerateRandomResponse](w, root(account), "GenerateRandom", &kmsapi.GenerateRandomRequest{NumberOfBytes: n, CustomKeyStoreID: id})
		if err == nil && out.Plaintext.Len() != int(*n) {
			t.Errorf("%d bytes", out.Plaintext.Len())
		}
		return err
	}
	wantCode(t, random("", ptr(int32(64))), "")
	wantCode(t, random("", nil), kmsapi.Validation)
	wantCode(t, random(hsm, ptr(int32(64))), kmsapi.CustomKeyStoreInvalidState)
	wantCode(t, random(xks, ptr(int32(64))), kmsapi.UnsupportedOperation)
	w.connected(hsm)
	wantCode(t, random(hsm, ptr(int32(64))), "")
}

func TestAStoreHasARate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *kms.Config) { c.Quotas.KeyStoreRate = 3 })
	id := w.createHSM("hsm", cluster)
	w.connected(id)
	key := w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginAWSCloudHSM, CustomKeyStoreID: id})
	encrypt := func() error {
		_, err := do[kmsapi.EncryptResponse](w, root(account), "Encrypt", &kmsapi.EncryptRequest{KeyID: key.KeyID, Plaintext: secretBytes("x")})
		return err
	}
	var err error
	for range 4 {
		err = errors.Join(err, encrypt())
	}
	wantCode(t, err, kmsapi.Throttling)
	w.clock.Advance(time.Second)
	wantCode(t, encrypt(), "")
}
