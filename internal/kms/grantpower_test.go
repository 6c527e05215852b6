package kms_test

import (
	"fmt"
	"strings"
	"testing"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/kmsapi"
)

// keyKinds are keys of which each has other operations that can be granted.
var keyKinds = []*kmsapi.CreateKeyRequest{
	{KeySpec: kmsapi.SymmetricDefault, KeyUsage: kmsapi.EncryptDecrypt},
	{KeySpec: kmsapi.RSA2048, KeyUsage: kmsapi.EncryptDecrypt},
	{KeySpec: kmsapi.ECCNistP256, KeyUsage: kmsapi.SignVerify},
	{KeySpec: kmsapi.HMAC256, KeyUsage: kmsapi.GenerateVerifyMac},
	{KeySpec: kmsapi.ECCNistP256, KeyUsage: kmsapi.KeyAgreement},
	{KeySpec: kmsapi.MLKEM768, KeyUsage: kmsapi.EncapsulateDecapsulate},
}

// openPolicy lets everybody in.
const openPolicy = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}}`

// exercise has a request for each operation that can be granted, on a key, and another one that is open to all.
func exercise(key, open *kmsapi.KeyMetadata, sealed, sealedByOpen []byte) map[kmsapi.GrantOperation]any {
	all := requests(key.Arn, "", sealed)
	out := make(map[kmsapi.GrantOperation]any)
	for _, name := range kmsapi.GrantOperation("").Values() {
		if in := all[name]; in != nil {
			out[kmsapi.GrantOperation(name)] = in
		}
	}
	out[kmsapi.GrantReEncryptFrom] = &kmsapi.ReEncryptRequest{CiphertextBlob: sealed, SourceKeyID: key.Arn, DestinationKeyID: open.Arn}
	out[kmsapi.GrantReEncryptTo] = &kmsapi.ReEncryptRequest{CiphertextBlob: sealedByOpen, SourceKeyID: open.Arn, DestinationKeyID: key.Arn}
	out[kmsapi.GrantCreateGrant] = &kmsapi.CreateGrantRequest{
		KeyID: key.Arn, GranteePrincipal: roleARN, Operations: []kmsapi.GrantOperation{kmsapi.GrantCreateGrant}, DryRun: true,
	}
	return out
}

// attempt calls the operation of a grant operation, and tells whether permission was the matter.
func (w *world) attempt(who identity.Caller, op kmsapi.GrantOperation, in any) (allowed bool) {
	w.t.Helper()
	name := string(op)
	if strings.HasPrefix(name, "ReEncrypt") {
		name = "ReEncrypt"
	}
	_, err := w.s.Do(w.t.Context(), operation(w.t, name), who, in)
	if code := kmsapi.CodeOf(err); code == kmsapi.KMSInternal || code == kmsapi.InvalidArn {
		w.t.Fatalf("%s: %v", op, err)
	}
	return kmsapi.CodeOf(err) != kmsapi.AccessDenied
}

func (w *world) sealedBy(key *kmsapi.KeyMetadata) []byte {
	w.t.Helper()
	in := &kmsapi.EncryptRequest{KeyID: key.KeyID, Plaintext: secretBytes("x")}
	if len(key.EncryptionAlgorithms) == 0 {
		return []byte("x")
	}
	in.EncryptionAlgorithm = key.EncryptionAlgorithms[len(key.EncryptionAlgorithms)-1]
	return must(do[kmsapi.EncryptResponse](w, root(account), "Encrypt", in))(w.t).CiphertextBlob
}

func TestAGrantAllowsItsOperationsAndNoOthersUntilItIsRevoked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	open := w.createKey(&kmsapi.CreateKeyRequest{Policy: openPolicy})
	tested := map[kmsapi.GrantOperation]bool{}
	for _, kind := range keyKinds {
		key := w.createKey(kind)
		requests := exercise(key, open, w.sealedBy(key), w.sealedBy(open))
		for _, granted := range kms.GrantOperations(kind.KeySpec, kind.KeyUsage) {
			if granted == kmsapi.GrantRetireGrant {
				continue // TestWhoMayRetireAGrant
			}
			tested[granted] = true
			made := w.grant(key.KeyID, allowing(granted))
			for _, who := range []string{aliceARN, roleARN} {
				for op, in := range requests {
					if got, want := w.attempt(person(who), op, in), op == granted && who == aliceARN; got != want {
						t.Errorf("%s %s: %s by %s under a grant of %s: allowed is %v", kind.KeySpec, kind.KeyUsage, op, who, granted, got)
					}
				}
			}
			wantCode(t, w.revoke(key.KeyID, made.GrantID), "")
			if w.attempt(person(aliceARN), granted, requests[granted]) {
				t.Errorf("%s is allowed after the grant was revoked", granted)
			}
		}
	}
	for _, name := range kmsapi.GrantOperation("").Values() {
		if op := kmsapi.GrantOperation(name); !tested[op] && op != kmsapi.GrantRetireGrant {
			t.Errorf("%s is not tested", op)
		}
	}
}

func TestWhomAGrantIsFor(t *testing.T) {
	t.Parallel()
	const theirs = "arn:aws:iam::" + foreign + ":"
	const theirMember = theirs + "user/member"
	allowEncrypt := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:Encrypt","Resource":"*"}}`
	elsewhere := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:Encrypt","Resource":"arn:aws:kms:*:*:key/other"}}`
	w := newWorld(t)
	for name, tc := range map[string]struct {
		grantee string
		who     identity.Caller
		allowed bool
	}{
		"the user":                                  {aliceARN, person(aliceARN), true},
		"another user":                              {aliceARN, person("arn:aws:iam::" + account + ":user/ops/bob"), false},
		"a user of the same name elsewhere":         {aliceARN, person(strings.Replace(aliceARN, account, foreign, 1)), false},
		"the account of the user":                   {theirMember, root(foreign), false},
		"a session of the role":                     {roleARN, person(sessionARN), true},
		"a session of another role":                 {roleARN, person("arn:aws:sts::" + account + ":assumed-role/other/monday"), false},
		"the session":                               {sessionARN, person(sessionARN), true},
		"another session of its role":               {sessionARN, person("arn:aws:sts::" + account + ":assumed-role/operator/tuesday"), false},
		"the federated user":                        {"arn:aws:sts::" + account + ":federated-user/bob", person("arn:aws:sts::" + account + ":federated-user/bob"), true},
		"the root of an account":                    {theirs + "root", root(foreign), true},
		"a user whom the account allows it":         {theirs + "root", member(t, foreign, allowEncrypt), true},
		"a user whom the account allows other keys": {theirs + "root", member(t, foreign, elsewhere), false},
		"a user whom the account allows nothing":    {theirs + "root", member(t, foreign), false},
		"a user of another account":                 {theirs + "root", person("arn:aws:iam::444455556666:user/member"), false},
		"a user of another account, with IAM":       {theirMember, member(t, foreign, allowEncrypt), true},
		"a user of another account, without":        {theirMember, member(t, foreign), true},
		"a user whom IAM denies it":                 {theirMember, member(t, foreign, allowAll, strings.Replace(denyOne, "PERMISSION", "kms:Encrypt", 1)), false},
		"a user whom IAM denies it on a condition":  {theirMember, member(t, foreign, `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"kms:*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"true"}}}}`), true},
		"the account's root, for a user of its own": {"arn:aws:iam::" + account + ":user/member", member(t, account), true},
	} {
		key := w.createKey(&kmsapi.CreateKeyRequest{})
		made := w.grant(key.KeyID, grantee(tc.grantee))
		for _, tokens := range [][]string{nil, {made.GrantToken}} {
			in := &kmsapi.EncryptRequest{KeyID: key.Arn, Plaintext: secretBytes("x"), GrantTokens: tokens}
			if got := w.attempt(tc.who, kmsapi.GrantEncrypt, in); got != tc.allowed {
				t.Errorf("%s (with %d tokens): allowed is %v", name, len(tokens), got)
			}
		}
	}
}

func TestTheConstraintsOfAGrant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two, wrong := map[string]string{"a": "1"}, map[string]string{"a": "1", "b": "2"}, map[string]string{"a": "2"}
	folded := map[string]string{"A": "1"}
	open := w.createKey(&kmsapi.CreateKeyRequest{Policy: openPolicy})
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	seal := func(key *kmsapi.KeyMetadata, context map[string]string) []byte {
		in := &kmsapi.EncryptRequest{KeyID: key.KeyID, Plaintext: secretBytes("x"), EncryptionContext: context}
		return must(do[kmsapi.EncryptResponse](w, root(account), "Encrypt", in))(t).CiphertextBlob
	}
	requests := map[kmsapi.GrantOperation]func(map[string]string) any{
		"Encrypt": func(c map[string]string) any {
			return &kmsapi.EncryptRequest{KeyID: key.Arn, Plaintext: secretBytes("x"), EncryptionContext: c}
		},
		"Decrypt": func(c map[string]string) any {
			return &kmsapi.DecryptRequest{CiphertextBlob: seal(key, c), EncryptionContext: c}
		},
		"GenerateDataKey": func(c map[string]string) any {
			return &kmsapi.GenerateDataKeyRequest{KeyID: key.Arn, KeySpec: kmsapi.DataKeyAES256, EncryptionContext: c}
		},
		"GenerateDataKeyWithoutPlaintext": func(c map[string]string) any {
			return &kmsapi.GenerateDataKeyWithoutPlaintextRequest{KeyID: key.Arn, KeySpec: kmsapi.DataKeyAES256, EncryptionContext: c}
		},
		"GenerateDataKeyPair": func(c map[string]string) any {
			return &kmsapi.GenerateDataKeyPairRequest{KeyID: key.Arn, KeyPairSpec: "ECC_NIST_P256", EncryptionContext: c}
		},
		"GenerateDataKeyPairWithoutPlaintext": func(c map[string]string) any {
			return &kmsapi.GenerateDataKeyPairWithoutPlaintextRequest{KeyID: key.Arn, KeyPairSpec: "ECC_NIST_P256", EncryptionContext: c}
		},
		"ReEncryptFrom": func(c map[string]string) any {
			return &kmsapi.ReEncryptRequest{CiphertextBlob: seal(key, c), SourceEncryptionContext: c, DestinationKeyID: open.Arn, DestinationEncryptionContext: map[string]string{"z": "9"}}
		},
		"ReEncryptTo": func(c map[string]string) any {
			return &kmsapi.ReEncryptRequest{CiphertextBlob: seal(open, two), SourceEncryptionContext: two, DestinationKeyID: key.Arn, DestinationEncryptionContext: c}
		},
		"DescribeKey": func(map[string]string) any { return &kmsapi.DescribeKeyRequest{KeyID: key.Arn} },
	}
	for name, tc := range map[string]struct {
		constraints kmsapi.GrantConstraints
		context     map[string]string
		allowed     bool
	}{
		"equal":                       {kmsapi.GrantConstraints{EncryptionContextEquals: one}, one, true},
		"more than equal":             {kmsapi.GrantConstraints{EncryptionContextEquals: one}, two, false},
		"less than equal":             {kmsapi.GrantConstraints{EncryptionContextEquals: two}, one, false},
		"another value":               {kmsapi.GrantConstraints{EncryptionContextEquals: one}, wrong, false},
		"another case":                {kmsapi.GrantConstraints{EncryptionContextEquals: one}, folded, false},
		"none instead of equal":       {kmsapi.GrantConstraints{EncryptionContextEquals: one}, nil, false},
		"a superset":                  {kmsapi.GrantConstraints{EncryptionContextSubset: one}, two, true},
		"just the subset":             {kmsapi.GrantConstraints{EncryptionContextSubset: one}, one, true},
		"a part of the subset":        {kmsapi.GrantConstraints{EncryptionContextSubset: two}, one, false},
		"a superset, but for a value": {kmsapi.GrantConstraints{EncryptionContextSubset: wrong}, two, false},
		"both, met":                   {kmsapi.GrantConstraints{EncryptionContextEquals: two, EncryptionContextSubset: one}, two, true},
		"both, of which one is":       {kmsapi.GrantConstraints{EncryptionContextEquals: one, EncryptionContextSubset: two}, one, false},
		"a source that is not":        {kmsapi.GrantConstraints{SourceArn: sourceARN}, one, false},
	} {
		for op, request := range requests {
			made := w.grant(key.KeyID, allowing(op), constrained(tc.constraints))
			want := tc.allowed || op == "DescribeKey" && tc.constraints.SourceArn == ""
			if got := w.attempt(person(aliceARN), op, request(tc.context)); got != want {
				t.Errorf("%s: %s: allowed is %v", name, op, got)
			}
			wantCode(t, w.revoke(key.KeyID, made.GrantID), "")
		}
	}
}

func TestAGrantIsUsableInAProcessThatHasNotSeenItOnlyWithItsToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withKeyring(t), func(c *kms.Config) { c.Store = shared{c.Store} })
	key, second := w.createKey(&kmsapi.CreateKeyRequest{}), w.createKey(&kmsapi.CreateKeyRequest{})
	seen := w.grant(second.KeyID)
	other := w.late()
	made := w.grant(key.KeyID)
	encrypt := func(w *world, who string, id string, tokens ...string) bool {
		return w.attempt(person(who), kmsapi.GrantEncrypt, &kmsapi.EncryptRequest{KeyID: id, Plaintext: secretBytes("x"), GrantTokens: tokens})
	}
	for what, got := range map[string][2]bool{
		"where it was made":                  {encrypt(w, aliceARN, key.KeyID), true},
		"without its token":                  {encrypt(other, aliceARN, key.KeyID), false},
		"with its token":                     {encrypt(other, aliceARN, key.KeyID, made.GrantToken), true},
		"with the token of another grant":    {encrypt(other, aliceARN, key.KeyID, seen.GrantToken), false},
		"with its token for another key":     {encrypt(other, roleARN, second.KeyID, made.GrantToken), false},
		"with its token, by somebody else":   {encrypt(other, roleARN, key.KeyID, made.GrantToken), false},
		"with its token, for something else": {other.attempt(person(aliceARN), kmsapi.GrantDescribeKey, &kmsapi.DescribeKeyRequest{KeyID: key.KeyID, GrantTokens: []string{made.GrantToken}}), false},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: allowed is %v", what, got[0])
		}
	}
}

func TestAGrantMadeByTheRightOfAGrantGivesNoMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := map[string]string{"a": "1"}, map[string]string{"a": "1", "b": "2"}
	equals := func(m map[string]string) kmsapi.GrantConstraints {
		return kmsapi.GrantConstraints{EncryptionContextEquals: m}
	}
	subset := func(m map[string]string) kmsapi.GrantConstraints {
		return kmsapi.GrantConstraints{EncryptionContextSubset: m}
	}
	none := kmsapi.GrantConstraints{}
	same := []kmsapi.GrantOperation{"Encrypt"}
	for name, tc := range map[string]struct {
		parent, child kmsapi.GrantConstraints
		operations    []kmsapi.GrantOperation
		allowed       bool
	}{
		"the same":                         {none, none, []kmsapi.GrantOperation{"Encrypt", "CreateGrant"}, true},
		"less":                             {none, none, same, true},
		"one operation more":               {none, none, []kmsapi.GrantOperation{"Encrypt", "Decrypt"}, false},
		"the right to retire, besides":     {none, none, []kmsapi.GrantOperation{"Encrypt", "RetireGrant"}, false},
		"a constraint where there is none": {none, equals(one), same, true},
		"equal, as equal":                  {equals(one), equals(one), same, true},
		"equal, but to something else":     {equals(one), equals(two), same, false},
		"a subset, of what is to be equal": {equals(one), subset(one), same, false},
		"no constraint":                    {equals(one), none, same, false},
		"the subset":                       {subset(one), subset(one), same, true},
		"a larger subset":                  {subset(one), subset(two), same, true},
		"a smaller subset":                 {subset(two), subset(one), same, false},
		"equal, with the subset":           {subset(one), equals(two), same, true},
		"equal, without the subset":        {subset(two), equals(one), same, false},
		"no subset":                        {subset(one), none, same, false},
		"both, of which one is kept":       {kmsapi.GrantConstraints{EncryptionContextEquals: one, EncryptionContextSubset: two}, equals(one), same, false},
		"from a source that it is not":     {kmsapi.GrantConstraints{SourceArn: sourceARN}, kmsapi.GrantConstraints{SourceArn: sourceARN}, same, false},
	} {
		key := w.createKey(&kmsapi.CreateKeyRequest{})
		w.grant(key.KeyID, allowing("Encrypt", "CreateGrant"), constrained(tc.parent))
		in := grantRequest(key.Arn, grantee(roleARN), allowing(tc.operations...), constrained(tc.child))
		_, err := do[kmsapi.CreateGrantResponse](w, person(aliceARN), "CreateGrant", in)
		if got := kmsapi.CodeOf(err) == ""; got != tc.allowed {
			t.Errorf("%s: %v", name, err)
		}
		if got := len(w.grantIDs(key.KeyID)); (got == 2) != tc.allowed {
			t.Errorf("%s: there are %d grants", name, got)
		}
	}
}

func TestADenyIsStrongerThanAGrant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	deny := `{"Effect":"Deny","Principal":{"AWS":%q},"Action":%q,"Resource":"*"}`
	for statement, allowed := range map[string]bool{
		fmt.Sprintf(deny, aliceARN, "kms:Encrypt"):   false,
		fmt.Sprintf(deny, "*", "kms:*"):              false,
		fmt.Sprintf(deny, aliceARN, "kms:Decrypt"):   true,
		fmt.Sprintf(deny, sessionARN, "kms:Encrypt"): true,
	} {
		key := w.createKey(&kmsapi.CreateKeyRequest{})
		made := w.grant(key.KeyID)
		policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + account + `"},"Action":"kms:*","Resource":"*"},` + statement + `]}`
		must(do[kmsapi.Empty](w, root(account), "PutKeyPolicy", &kmsapi.PutKeyPolicyRequest{KeyID: key.KeyID, Policy: policy, BypassPolicyLockoutSafetyCheck: true}))(t)
		for _, tokens := range [][]string{nil, {made.GrantToken}} {
			in := &kmsapi.EncryptRequest{KeyID: key.KeyID, Plaintext: secretBytes("x"), GrantTokens: tokens}
			if got := w.attempt(person(aliceARN), kmsapi.GrantEncrypt, in); got != allowed {
				t.Errorf("%s: allowed is %v", statement, got)
			}
		}
	}
}

// A right that can be granted is none to what cannot, by any name.
func TestListingAndRevokingGrantsIsNotGranted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	made := w.grant(key.KeyID, allowing(kms.GrantOperations(kmsapi.SymmetricDefault, kmsapi.EncryptDecrypt)...))
	_, err := do[kmsapi.ListGrantsResponse](w, person(aliceARN), "ListGrants", &kmsapi.ListGrantsRequest{KeyID: key.Arn})
	wantCode(t, err, kmsapi.AccessDenied)
	_, err = do[kmsapi.Empty](w, person(aliceARN), "RevokeGrant", &kmsapi.RevokeGrantRequest{KeyID: key.Arn, GrantID: made.GrantID})
	wantCode(t, err, kmsapi.AccessDenied)
	wantCode(t, w.retire(person(aliceARN), kmsapi.RetireGrantRequest{KeyID: key.Arn, GrantID: made.GrantID}), "")
}

func TestARetirementThatIsDeniedTellsNothingOfOtherAccounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	made := w.grant(key.KeyID, retiring("arn:aws:iam::"+foreign+":user/member"))
	who := member(t, foreign, allowAll, strings.Replace(denyOne, "PERMISSION", "kms:RetireGrant", 1))
	there := w.retire(who, kmsapi.RetireGrantRequest{KeyID: key.Arn, GrantID: made.GrantID})
	missing := w.retire(who, kmsapi.RetireGrantRequest{KeyID: key.Arn, GrantID: noGrantID})
	wantCode(t, there, kmsapi.AccessDenied)
	if there.Error() != missing.Error() {
		t.Errorf("%q and %q tell whether the grant is there", there, missing)
	}
}
