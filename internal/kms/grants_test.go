package kms_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

const (
	foreign    = "999988887777" // another account
	aliceARN   = "arn:aws:iam::" + account + ":user/ops/alice"
	roleARN    = "arn:aws:iam::" + account + ":role/ops/operator"
	sessionARN = "arn:aws:sts::" + account + ":assumed-role/operator/monday"
	noGrantID  = "9665f33deb53dae5c4cf44ae98561b5fe291cfbb2ba15defec5905e3924e854b"
)

// person is a principal without policies.
func person(arn string) identity.Caller {
	parsed, _ := kmsapi.ParseARN(arn)
	p := &identity.Principal{Account: parsed.Account, ARN: arn, Type: identity.TypeIAMUser}
	if parts := strings.Split(parsed.Resource, "/"); parts[0] == "assumed-role" {
		role := "arn:aws:iam::" + parsed.Account + ":role/ops/" + parts[1]
		p.Type, p.Session = identity.TypeAssumedRole, &identity.Session{Name: parts[2], Issuer: identity.Issuer{Type: "Role", ARN: role}}
	}
	return identity.Caller{
		Principal: p,
		Region:    region, RequestID: "00000000-0000-4000-8000-000000000003",
	}
}

// member is a user of an account with the policies.
func member(t *testing.T, account string, policies ...string) identity.Caller {
	t.Helper()
	d, err := identity.New([]identity.Account{{ID: account, Users: []identity.User{{
		Name: "member", Attached: identity.Attached{Inline: policies},
		AccessKeys: []identity.AccessKey{{ID: "AKIAEXAMPLEEXAMPLE01", Secret: secret.NewText("0123456789012345678901234567890123456789")}},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	entry, _ := d.Lookup("AKIAEXAMPLEEXAMPLE01")
	return identity.Caller{Principal: entry.Principal, Region: region, RequestID: "00000000-0000-4000-8000-000000000004"}
}

func in(c identity.Caller, region string) identity.Caller {
	c.Region = region
	return c
}

// grantRequest asks for a grant to Alice that lets her encrypt.
func grantRequest(key string, change ...func(*kmsapi.CreateGrantRequest)) *kmsapi.CreateGrantRequest {
	r := &kmsapi.CreateGrantRequest{KeyID: key, GranteePrincipal: aliceARN, Operations: []kmsapi.GrantOperation{"Encrypt"}}
	for _, fn := range change {
		fn(r)
	}
	return r
}

func (w *world) createGrant(r *kmsapi.CreateGrantRequest) (*kmsapi.CreateGrantResponse, error) {
	w.t.Helper()
	return do[kmsapi.CreateGrantResponse](w, root(account), "CreateGrant", r)
}

func (w *world) grant(key string, change ...func(*kmsapi.CreateGrantRequest)) *kmsapi.CreateGrantResponse {
	w.t.Helper()
	return must(w.createGrant(grantRequest(key, change...)))(w.t)
}

func (w *world) revoke(key, id string) error {
	w.t.Helper()
	_, err := do[kmsapi.Empty](w, root(account), "RevokeGrant", &kmsapi.RevokeGrantRequest{KeyID: key, GrantID: id})
	return err
}

func (w *world) retire(c identity.Caller, r kmsapi.RetireGrantRequest) error {
	w.t.Helper()
	_, err := do[kmsapi.Empty](w, c, "RetireGrant", &r)
	return err
}

func (w *world) encryptWith(key string, tokens ...string) error {
	w.t.Helper()
	_, err := do[kmsapi.EncryptResponse](w, root(account), "Encrypt", &kmsapi.EncryptRequest{KeyID: key, Plaintext: secretBytes("x"), GrantTokens: tokens})
	return err
}

// grants gives all grants on a key, page by page.
func (w *world) grants(r kmsapi.ListGrantsRequest) (all []kmsapi.GrantListEntry, pages int) {
	w.t.Helper()
	for {
		out := must(do[kmsapi.ListGrantsResponse](w, root(account), "ListGrants", &r))(w.t)
		all, pages = append(all, out.Grants...), pages+1
		if out.Truncated != (out.NextMarker != "") {
			w.t.Errorf("Truncated is %v, the marker %q", out.Truncated, out.NextMarker)
		}
		if r.Marker = out.NextMarker; r.Marker == "" {
			return all, pages
		}
	}
}

func (w *world) grantIDs(key string) []string {
	w.t.Helper()
	all, _ := w.grants(kmsapi.ListGrantsRequest{KeyID: key})
	return idsOf(all)
}

func idsOf(all []kmsapi.GrantListEntry) []string {
	ids := make([]string, 0, len(all))
	for _, g := range all {
		ids = append(ids, g.GrantID)
	}
	return ids
}

// grantRequests are what requests lacks.
func grantRequests(w *world, key string) map[string]any {
	made := w.grant(key)
	return map[string]any{
		"CreateGrant":         grantRequest(key),
		"ListGrants":          &kmsapi.ListGrantsRequest{KeyID: key},
		"ListRetirableGrants": &kmsapi.ListRetirableGrantsRequest{RetiringPrincipal: aliceARN},
		"RetireGrant":         &kmsapi.RetireGrantRequest{KeyID: key, GrantID: made.GrantID},
		"RevokeGrant":         &kmsapi.RevokeGrantRequest{KeyID: key, GrantID: made.GrantID},
	}
}

type grantChange = func(*kmsapi.CreateGrantRequest)

func grantee(arn string) grantChange {
	return func(r *kmsapi.CreateGrantRequest) { r.GranteePrincipal = arn }
}

func retiring(arn string) grantChange {
	return func(r *kmsapi.CreateGrantRequest) { r.RetiringPrincipal = arn }
}

func grantName(name string) grantChange {
	return func(r *kmsapi.CreateGrantRequest) { r.Name = name }
}

func allowing(ops ...kmsapi.GrantOperation) grantChange {
	return func(r *kmsapi.CreateGrantRequest) { r.Operations = ops }
}

func constrained(c kmsapi.GrantConstraints) grantChange {
	return func(r *kmsapi.CreateGrantRequest) { r.Constraints = &c }
}

func toService(name, retiring, source string) grantChange {
	return func(r *kmsapi.CreateGrantRequest) {
		r.GranteePrincipal, r.GranteeServicePrincipal, r.RetiringServicePrincipal = "", name, retiring
		if source != "" {
			r.Constraints = &kmsapi.GrantConstraints{SourceArn: source}
		}
	}
}

func pairs(n int) map[string]string {
	m := make(map[string]string, n)
	for i := range n {
		m[fmt.Sprint("key", i)] = "value"
	}
	return m
}

func TestCreateGrantRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	const table = "arn:aws:dynamodb:eu-central-1:111122223333:table/t"
	for name, tc := range map[string]struct {
		change grantChange
		code   kmsapi.Code
	}{
		"no grantee":   {grantee(""), kmsapi.Validation},
		"two grantees": {func(r *kmsapi.CreateGrantRequest) { r.GranteeServicePrincipal = "rds.amazonaws.com" }, kmsapi.Validation},
		"two retiring principals": {func(r *kmsapi.CreateGrantRequest) {
			r.RetiringPrincipal, r.RetiringServicePrincipal = aliceARN, "rds.amazonaws.com"
		}, kmsapi.Validation},
		"a grantee that is no principal":    {grantee("arn:aws:iam::111122223333:group/g"), kmsapi.InvalidArn},
		"a service as grantee principal":    {grantee("rds.amazonaws.com"), kmsapi.InvalidArn},
		"a retiring principal that is none": {retiring("arn:aws:s3:::bucket"), kmsapi.InvalidArn},
		"a service without a source":        {toService("rds.amazonaws.com", "rds.amazonaws.com", ""), kmsapi.Validation},
		"a service nobody retires":          {toService("rds.amazonaws.com", "", table), kmsapi.Validation},
		"a service that is none":            {toService("rds.example.com", "rds.amazonaws.com", table), kmsapi.Validation},
		"a retiring service that is none":   {toService("rds.amazonaws.com", "rds..amazonaws.com", table), kmsapi.Validation},
		"no operations":                     {allowing(), kmsapi.Validation},
		"an operation of other keys":        {allowing("Encrypt", "Sign"), kmsapi.Validation},
		"the public key of a symmetric key": {allowing("GetPublicKey"), kmsapi.Validation},
		"nine pairs":                        {constrained(kmsapi.GrantConstraints{EncryptionContextSubset: pairs(9)}), kmsapi.Validation},
		"nine equal pairs":                  {constrained(kmsapi.GrantConstraints{EncryptionContextEquals: pairs(9)}), kmsapi.Validation},
		"a long value":                      {constrained(kmsapi.GrantConstraints{EncryptionContextEquals: map[string]string{"k": strings.Repeat("ü", 385)}}), kmsapi.Validation},
		"a context that cannot be":          {constrained(kmsapi.GrantConstraints{EncryptionContextEquals: map[string]string{strings.Repeat("k", 9000): "v"}}), kmsapi.Validation},
		"no pair to be equal to":            {constrained(kmsapi.GrantConstraints{EncryptionContextEquals: map[string]string{}}), kmsapi.Validation},
		"a source that is no ARN":           {constrained(kmsapi.GrantConstraints{SourceArn: "table"}), kmsapi.Validation},
		"a source that is too long":         {constrained(kmsapi.GrantConstraints{SourceArn: table + strings.Repeat("t", 2048)}), kmsapi.Validation},
		"a grant token that is none":        {func(r *kmsapi.CreateGrantRequest) { r.GrantTokens = []string{"token"} }, kmsapi.InvalidGrantToken},
		"a key that is not there":           {func(r *kmsapi.CreateGrantRequest) { r.KeyID = "11111111-2222-3333-4444-555555555555" }, kmsapi.NotFound},
		"an alias":                          {func(r *kmsapi.CreateGrantRequest) { r.KeyID = "alias/a" }, kmsapi.NotFound},
		"an ARN of something else":          {func(r *kmsapi.CreateGrantRequest) { r.KeyID = "arn:aws:s3:::bucket" }, kmsapi.InvalidArn},
		"somebody else's key":               {func(r *kmsapi.CreateGrantRequest) { r.KeyID = strings.Replace(r.KeyID, account, foreign, 1) }, kmsapi.AccessDenied},
	} {
		for _, dry := range []bool{false, true} {
			_, err := w.createGrant(grantRequest(key.Arn, tc.change, func(r *kmsapi.CreateGrantRequest) { r.DryRun = dry }))
			if got := kmsapi.CodeOf(err); got != tc.code {
				t.Errorf("%s (dry run: %v): %v, want %s", name, dry, err, tc.code)
			}
		}
	}
	if ids := w.grantIDs(key.KeyID); len(ids) != 0 {
		t.Errorf("%d refused grants were made", len(ids))
	}
}

func TestPrincipals(t *testing.T) {
	t.Parallel()
	for arn, want := range map[string]bool{
		"arn:aws:iam::111122223333:root":                         true,
		"arn:aws:iam::111122223333:user/alice":                   true,
		"arn:aws:iam::111122223333:user/ops/eu/alice":            true,
		"arn:aws:iam::111122223333:role/aws-service-role/x/R":    true,
		"arn:aws:sts::111122223333:assumed-role/operator/monday": true,
		"arn:aws:sts::111122223333:federated-user/bob":           true,
		"111122223333":                                               false,
		"*":                                                          false,
		"arn:aws:iam::111122223333:root/x":                           false,
		"arn:aws:iam::111122223333:user":                             false,
		"arn:aws:iam::111122223333:user/":                            false,
		"arn:aws:iam::111122223333:user/ops/":                        false,
		"arn:aws:iam::111122223333:user/a:b":                         false,
		"arn:aws:iam::111122223333:group/g":                          false,
		"arn:aws:iam::111122223333:assumed-role/operator/monday":     false,
		"arn:aws:iam::11112222333:root":                              false,
		"arn:aws:iam::11112222333x:root":                             false,
		"arn:aws:iam::*:root":                                        false,
		"arn:aws:iam:eu-central-1:111122223333:root":                 false,
		"arn:aws-cn:iam::111122223333:root":                          false,
		"arn:aws:sts::111122223333:assumed-role/operator":            false,
		"arn:aws:sts::111122223333:assumed-role/ops/operator/monday": false,
		"arn:aws:sts::111122223333:federated-user/":                  false,
		"arn:aws:sts::111122223333:role/operator":                    false,
		"arn:aws:kms:eu-central-1:111122223333:key/k":                false,
	} {
		err := kms.CheckPrincipal(arn, region)
		if (err == nil) != want || err != nil && kmsapi.CodeOf(err) != kmsapi.InvalidArn {
			t.Errorf("%s: %v", arn, err)
		}
	}
	if err := kms.CheckPrincipal("arn:aws-cn:iam::111122223333:root", "cn-north-1"); err != nil {
		t.Error(err)
	}
}

func TestWhatCanBeGrantedDependsOnTheKey(t *testing.T) {
	t.Parallel()
	every := []kmsapi.GrantOperation{"CreateGrant", "DescribeKey", "RetireGrant"}
	for _, tc := range []struct {
		spec  kmsapi.KeySpec
		usage kmsapi.KeyUsageType
		want  []kmsapi.GrantOperation
	}{
		{kmsapi.SymmetricDefault, kmsapi.EncryptDecrypt, []kmsapi.GrantOperation{
			"Encrypt", "Decrypt", "ReEncryptFrom", "ReEncryptTo", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext",
			"GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext",
		}},
		{kmsapi.RSA2048, kmsapi.EncryptDecrypt, []kmsapi.GrantOperation{"Encrypt", "Decrypt", "ReEncryptFrom", "ReEncryptTo", "GetPublicKey"}},
		{kmsapi.RSA2048, kmsapi.SignVerify, []kmsapi.GrantOperation{"Sign", "Verify", "GetPublicKey"}},
		{kmsapi.MLDSA65, kmsapi.SignVerify, []kmsapi.GrantOperation{"Sign", "Verify", "GetPublicKey"}},
		{kmsapi.HMAC256, kmsapi.GenerateVerifyMac, []kmsapi.GrantOperation{"GenerateMac", "VerifyMac"}},
		{kmsapi.ECCNistP256, kmsapi.KeyAgreement, []kmsapi.GrantOperation{"DeriveSharedSecret", "GetPublicKey"}},
		{kmsapi.MLKEM768, kmsapi.EncapsulateDecapsulate, []kmsapi.GrantOperation{"Encapsulate", "Decapsulate", "GetPublicKey"}},
	} {
		want := slices.Sorted(slices.Values(slices.Concat(every, tc.want)))
		if got := slices.Sorted(slices.Values(kms.GrantOperations(tc.spec, tc.usage))); !slices.Equal(got, want) {
			t.Errorf("%s for %s: %v, want %v", tc.spec, tc.usage, got, want)
		}
	}
}

func TestAGrantIsListedAsItWasMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	operations := []kmsapi.GrantOperation{"Decrypt", "Encrypt", "Decrypt", "RetireGrant"}
	each := map[string]string{}
	for i := range 8 {
		each[fmt.Sprint("k", i)] = strings.Repeat("ü", 384)
	}
	constraints := &kmsapi.GrantConstraints{EncryptionContextEquals: each, EncryptionContextSubset: pairs(8), SourceArn: "arn:aws:s3:::bucket"}
	plain := kmsapi.GrantListEntry{
		KeyID: key.Arn, CreationDate: kmsapi.At(w.clock.Now()), GranteePrincipal: aliceARN,
		IssuingAccount: "arn:aws:iam::" + account + ":root", Operations: []kmsapi.GrantOperation{"Encrypt"},
	}
	for name, tc := range map[string]struct {
		request *kmsapi.CreateGrantRequest
		want    func(*kmsapi.GrantListEntry)
	}{
		"the least": {grantRequest(key.KeyID), func(*kmsapi.GrantListEntry) {}},
		"constraints that say nothing": {
			grantRequest(key.KeyID, constrained(kmsapi.GrantConstraints{EncryptionContextSubset: map[string]string{}})), func(*kmsapi.GrantListEntry) {},
		},
		"everything": {
			&kmsapi.CreateGrantRequest{
				KeyID: key.Arn, Name: "a/b:c_d-1", GranteePrincipal: roleARN, RetiringPrincipal: sessionARN, Operations: operations, Constraints: constraints,
			},
			func(g *kmsapi.GrantListEntry) {
				g.Name, g.GranteePrincipal, g.RetiringPrincipal = "a/b:c_d-1", roleARN, sessionARN
				g.Operations, g.Constraints = []kmsapi.GrantOperation{"Decrypt", "Encrypt", "RetireGrant"}, constraints
			},
		},
		"services": {
			grantRequest(key.Arn, toService("rds.amazonaws.com", "dynamodb.eu-central-1.amazonaws.com", "arn:aws:rds:eu-central-1:111122223333:db:d")),
			func(g *kmsapi.GrantListEntry) {
				g.GranteePrincipal, g.GranteeServicePrincipal, g.RetiringServicePrincipal = "", "rds.amazonaws.com", "dynamodb.eu-central-1.amazonaws.com"
				g.Constraints = &kmsapi.GrantConstraints{SourceArn: "arn:aws:rds:eu-central-1:111122223333:db:d"}
			},
		},
	} {
		made := must(w.createGrant(tc.request))(t)
		want := plain
		want.GrantID = made.GrantID
		tc.want(&want)
		for _, when := range []string{"at once", "after a restart"} {
			got, _ := w.grants(kmsapi.ListGrantsRequest{KeyID: key.KeyID, GrantID: made.GrantID})
			if len(got) != 1 || !reflect.DeepEqual(got[0], want) {
				t.Errorf("%s, %s: got %+v, want %+v", name, when, got, want)
			}
			w.restart()
		}
		if len(made.GrantID) != 64 || strings.Trim(made.GrantID, "0123456789abcdef") != "" {
			t.Errorf("the grant id %q", made.GrantID)
		}
	}
}

func TestANamedGrantIsMadeOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withKeyring(t))
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	ask := func(change ...grantChange) *kmsapi.CreateGrantResponse {
		return w.grant(key.KeyID, append([]grantChange{
			grantName("n"), allowing("Encrypt", "Decrypt"), constrained(kmsapi.GrantConstraints{EncryptionContextSubset: pairs(2)}),
		}, change...)...)
	}
	first, again, reordered := ask(), ask(), ask(allowing("Decrypt", "Encrypt", "Encrypt"))
	if first.GrantID != again.GrantID || first.GrantID != reordered.GrantID {
		t.Error("asking again made another grant")
	}
	if first.GrantToken == again.GrantToken {
		t.Error("the same token was given twice")
	}
	seen := []string{first.GrantID}
	for what, change := range map[string]grantChange{
		"name": grantName("other"), "grantee": grantee(roleARN), "retiring principal": retiring(aliceARN), "operations": allowing("Encrypt"),
		"constraint":          constrained(kmsapi.GrantConstraints{EncryptionContextSubset: pairs(1)}),
		"kind of constraint":  constrained(kmsapi.GrantConstraints{EncryptionContextEquals: pairs(2)}),
		"source":              constrained(kmsapi.GrantConstraints{EncryptionContextSubset: pairs(2), SourceArn: "arn:aws:s3:::b"}),
		"no name":             grantName(""),
		"still no name":       grantName(""),
		"a retiring service":  func(r *kmsapi.CreateGrantRequest) { r.RetiringServicePrincipal = "rds.amazonaws.com" },
		"principals swapped ": func(r *kmsapi.CreateGrantRequest) { r.GranteePrincipal, r.RetiringPrincipal = roleARN, aliceARN },
	} {
		id := ask(change).GrantID
		if slices.Contains(seen, id) {
			t.Errorf("another %s did not make another grant", what)
		}
		seen = append(seen, id)
	}
	other := w.createKey(&kmsapi.CreateKeyRequest{})
	if id := ask(func(r *kmsapi.CreateGrantRequest) { r.KeyID = other.KeyID }).GrantID; slices.Contains(seen, id) {
		t.Error("a grant on another key is the same grant")
	}
	wantCode(t, w.revoke(key.KeyID, first.GrantID), "")
	if id := ask().GrantID; slices.Contains(seen, id) {
		t.Error("a revoked grant came back")
	}
}

func TestGrantsHaveALimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *kms.Config) { c.Quotas.GrantsPerKey = 3 })
	key, other := w.createKey(&kmsapi.CreateKeyRequest{}), w.createKey(&kmsapi.CreateKeyRequest{})
	named := w.grant(key.KeyID, grantName("n"))
	w.grant(key.KeyID)
	w.grant(key.KeyID)
	for _, dry := range []bool{false, true} {
		_, err := w.createGrant(grantRequest(key.KeyID, func(r *kmsapi.CreateGrantRequest) { r.DryRun = dry }))
		wantCode(t, err, kmsapi.LimitExceeded)
	}
	if again := w.grant(key.KeyID, grantName("n")); again.GrantID != named.GrantID {
		t.Error("a grant that is there was not given at the limit")
	}
	w.grant(other.KeyID)
	w.restart()
	_, err := w.createGrant(grantRequest(key.KeyID))
	wantCode(t, err, kmsapi.LimitExceeded)
	wantCode(t, w.revoke(key.KeyID, named.GrantID), "")
	w.grant(key.KeyID)
}

func TestADryRunOfAGrantChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	dry := func(r *kmsapi.CreateGrantRequest) { r.DryRun = true }
	_, err := w.createGrant(grantRequest(key.KeyID, dry))
	wantCode(t, err, kmsapi.DryRunOperation)
	made := w.grant(key.KeyID, grantName("n"))
	_, err = w.createGrant(grantRequest(key.KeyID, dry, grantName("n")))
	wantCode(t, err, kmsapi.DryRunOperation)
	revoke := &kmsapi.RevokeGrantRequest{KeyID: key.KeyID, GrantID: made.GrantID, DryRun: true}
	_, err = do[kmsapi.Empty](w, root(account), "RevokeGrant", revoke)
	wantCode(t, err, kmsapi.DryRunOperation)
	wantCode(t, w.retire(root(account), kmsapi.RetireGrantRequest{GrantToken: made.GrantToken, DryRun: true}), kmsapi.DryRunOperation)
	wantCode(t, w.retire(person(roleARN), kmsapi.RetireGrantRequest{GrantToken: made.GrantToken, DryRun: true}), kmsapi.AccessDenied)
	if ids := w.grantIDs(key.KeyID); !slices.Equal(ids, []string{made.GrantID}) {
		t.Errorf("got %v", ids)
	}
	revoke.GrantID = noGrantID
	_, err = do[kmsapi.Empty](w, root(account), "RevokeGrant", revoke)
	wantCode(t, err, kmsapi.NotFound)
}

func TestGrantsAndKeyStates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	store := w.createXKS("xks", "proxy.example.com")
	w.connected(store)
	keys := map[kmsapi.KeyState]*kmsapi.KeyMetadata{
		kmsapi.StateDisabled:        w.createKey(&kmsapi.CreateKeyRequest{}),
		kmsapi.StatePendingDeletion: w.createKey(&kmsapi.CreateKeyRequest{}),
		kmsapi.StateUnavailable:     w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginExternalKeyStore, CustomKeyStoreID: store, XksKeyID: "k"}),
	}
	made := map[kmsapi.KeyState][]*kmsapi.CreateGrantResponse{}
	for state, key := range keys {
		made[state] = []*kmsapi.CreateGrantResponse{w.grant(key.KeyID), w.grant(key.KeyID)}
	}
	must(do[kmsapi.Empty](w, root(account), "DisableKey", &kmsapi.DisableKeyRequest{KeyID: keys[kmsapi.StateDisabled].KeyID}))(t)
	w.doom(keys[kmsapi.StatePendingDeletion])
	if err := w.disconnect(store); err != nil {
		t.Fatal(err)
	}
	w.waitFor(store, kmsapi.Disconnected)
	for state, code := range map[kmsapi.KeyState]kmsapi.Code{
		kmsapi.StateDisabled: kmsapi.Disabled, kmsapi.StatePendingDeletion: kmsapi.KMSInvalidState, kmsapi.StateUnavailable: "",
	} {
		id := keys[state].KeyID
		if got := w.keyState(id); got != state {
			t.Fatalf("the key is %s, want %s", got, state)
		}
		for _, dry := range []bool{true, false} {
			want := code
			if dry && code == "" {
				want = kmsapi.DryRunOperation
			}
			_, err := w.createGrant(grantRequest(id, func(r *kmsapi.CreateGrantRequest) { r.DryRun = dry }))
			wantCode(t, err, want)
		}
		if ids := w.grantIDs(id); !slices.Contains(ids, made[state][0].GrantID) {
			t.Errorf("a key that is %s does not list its grants", state)
		}
		wantCode(t, w.revoke(id, made[state][0].GrantID), "")
		wantCode(t, w.retire(root(account), kmsapi.RetireGrantRequest{GrantToken: made[state][1].GrantToken}), "")
	}
}

func TestGrantsInTheAuditRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	made := w.grant(key.KeyID, constrained(kmsapi.GrantConstraints{EncryptionContextSubset: map[string]string{"a": "b"}}), allowing("Encrypt", "RetireGrant"))
	wantCode(t, w.encryptWith(key.KeyID, made.GrantToken), "")
	wantCode(t, w.retire(person(aliceARN), kmsapi.RetireGrantRequest{GrantToken: made.GrantToken}), "")
	second := w.grant(key.KeyID)
	wantCode(t, w.revoke(key.KeyID, second.GrantID), "")
	log := w.audit.String()
	resource := `"resources":[{"accountId":"` + account + `","type":"AWS::KMS::Key","ARN":"` + key.Arn + `"}]`
	for name, want := range map[string][]string{
		"CreateGrant": {
			`"requestParameters":{"keyId":"` + key.KeyID + `","operations":["Encrypt","RetireGrant"],"constraints":{"encryptionContextSubset":{"a":"b"}},"granteePrincipal":"` + aliceARN + `"}`,
			`"responseElements":{"grantId":"` + made.GrantID + `","keyId":"` + key.Arn + `"}`, `"readOnly":false`, resource,
		},
		"RetireGrant": {`"requestParameters":null`, `"responseElements":null`, `"additionalEventData":{"grantId":"` + made.GrantID + `"}`, `"readOnly":false`, resource},
		"RevokeGrant": {`"requestParameters":{"grantId":"` + second.GrantID + `","keyId":"` + key.KeyID + `"}`, `"responseElements":null`, `"readOnly":false`, resource},
	} {
		i := strings.Index(log, `"eventName":"`+name+`"`)
		if i < 0 {
			t.Fatalf("no record of %s", name)
		}
		begin := strings.LastIndexByte(log[:i], '\n') + 1
		line := log[begin : i+strings.IndexByte(log[i:], '\n')]
		for _, text := range want {
			if !strings.Contains(line, text) {
				t.Errorf("the record of %s lacks %s:\n%s", name, text, line)
			}
		}
	}
	if strings.Contains(log, made.GrantToken) || strings.Contains(strings.ToLower(log), "granttoken") {
		t.Error("the log has grant tokens")
	}
}

func TestAGrantThatCannotBeStoredIsNotMade(t *testing.T) {
	t.Parallel()
	db := newMemory()
	w := newWorldOn(t, db)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	made := w.grant(key.KeyID)
	db.fail(func() error { return errors.New("the disk is full") })
	_, err := w.createGrant(grantRequest(key.KeyID))
	wantCode(t, err, kmsapi.KMSInternal)
	wantCode(t, w.revoke(key.KeyID, made.GrantID), kmsapi.KMSInternal)
	db.fail(nil)
	if ids := w.grantIDs(key.KeyID); !slices.Equal(ids, []string{made.GrantID}) {
		t.Errorf("got %v", ids)
	}
}
