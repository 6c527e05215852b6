package kms_test

import (
	"slices"
	"testing"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kmsapi"
)

func TestWhoMayRetireAGrant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	retire := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:RetireGrant","Resource":"*"}}`
	deny := `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"kms:RetireGrant","Resource":"*"}}`
	const bob, theirRole = "arn:aws:iam::" + foreign + ":user/bob", "arn:aws:iam::" + foreign + ":role/ops/operator"
	const theirRoot, theirMember = "arn:aws:iam::" + foreign + ":root", "arn:aws:iam::" + foreign + ":user/member"
	denied, allowed := kmsapi.AccessDenied, kmsapi.Code("")
	withRetire := allowing("Encrypt", "RetireGrant")
	for name, tc := range map[string]struct {
		change func(*kmsapi.CreateGrantRequest)
		who    identity.Caller
		code   kmsapi.Code
	}{
		"the root of the issuing account":        {grantee(aliceARN), root(account), allowed},
		"a user it allows":                       {grantee(aliceARN), member(t, account, retire), allowed},
		"a user it does not allow":               {grantee(aliceARN), member(t, account), denied},
		"a user it denies":                       {retiring("arn:aws:iam::" + account + ":user/member"), member(t, account, allowAll, deny), denied},
		"the retiring principal":                 {retiring(bob), person(bob), allowed},
		"another principal":                      {retiring(bob), person(theirMember), denied},
		"the retiring principal, denied":         {retiring(theirMember), member(t, foreign, allowAll, deny), denied},
		"the root of the retiring account":       {retiring(theirRoot), root(foreign), allowed},
		"a user the retiring account allows":     {retiring(theirRoot), member(t, foreign, retire), allowed},
		"a user the retiring account leaves":     {retiring(theirRoot), member(t, foreign), denied},
		"the root of a retiring user's account":  {retiring(bob), root(foreign), denied},
		"a session of the retiring role":         {retiring(theirRole), person("arn:aws:sts::" + foreign + ":assumed-role/operator/monday"), allowed},
		"a session of another role":              {retiring(theirRole), person("arn:aws:sts::" + foreign + ":assumed-role/path/monday"), denied},
		"a session of a role of another account": {retiring(theirRole), person("arn:aws:sts::444455556666:assumed-role/operator/monday"), denied},
		"the retiring session":                   {retiring("arn:aws:sts::" + foreign + ":assumed-role/operator/monday"), person("arn:aws:sts::" + foreign + ":assumed-role/operator/monday"), allowed},
		"another session":                        {retiring("arn:aws:sts::" + foreign + ":assumed-role/operator/monday"), person("arn:aws:sts::" + foreign + ":assumed-role/operator/tuesday"), denied},
		"the role of the retiring session":       {retiring("arn:aws:sts::" + foreign + ":assumed-role/operator/monday"), person(theirRole), denied},
		"a federated user of a role's name":      {retiring(theirRole), person("arn:aws:sts::" + foreign + ":federated-user/operator"), denied},
		"the grantee":                            {grantee(bob), person(bob), denied},
		"the grantee who may":                    {func(r *kmsapi.CreateGrantRequest) { grantee(bob)(r); withRetire(r) }, person(bob), allowed},
		"a session of the grantee who may":       {func(r *kmsapi.CreateGrantRequest) { grantee(theirRole)(r); withRetire(r) }, person("arn:aws:sts::" + foreign + ":assumed-role/operator/m"), allowed},
		"somebody else's root":                   {withRetire, root(foreign), denied},
		"somebody allowed everything elsewhere":  {retiring(bob), member(t, foreign, allowAll), denied},
	} {
		for _, byToken := range []bool{true, false} {
			made := w.grant(key.KeyID, tc.change)
			in := kmsapi.RetireGrantRequest{GrantToken: made.GrantToken}
			if !byToken {
				in = kmsapi.RetireGrantRequest{KeyID: key.Arn, GrantID: made.GrantID}
			}
			if err := w.retire(tc.who, in); kmsapi.CodeOf(err) != tc.code {
				t.Errorf("%s (by token: %v): %v, want %q", name, byToken, err, tc.code)
			}
			if left := slices.Contains(w.grantIDs(key.KeyID), made.GrantID); left != (tc.code != "") {
				t.Errorf("%s (by token: %v): the grant is there: %v", name, byToken, left)
			}
		}
	}
}

func TestRetireGrantRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	made := w.grant(key.KeyID)
	const unknown = "11111111-2222-3333-4444-555555555555"
	theirs := "arn:aws:kms:" + region + ":" + foreign + ":key/" + unknown
	for name, tc := range map[string]struct {
		in   kmsapi.RetireGrantRequest
		who  identity.Caller
		code kmsapi.Code
	}{
		"nothing":                    {kmsapi.RetireGrantRequest{}, root(account), kmsapi.Validation},
		"a key alone":                {kmsapi.RetireGrantRequest{KeyID: key.Arn}, root(account), kmsapi.Validation},
		"an id alone":                {kmsapi.RetireGrantRequest{GrantID: made.GrantID}, root(account), kmsapi.Validation},
		"everything":                 {kmsapi.RetireGrantRequest{GrantToken: made.GrantToken, KeyID: key.Arn, GrantID: made.GrantID}, root(account), kmsapi.Validation},
		"a token and an id":          {kmsapi.RetireGrantRequest{GrantToken: made.GrantToken, GrantID: made.GrantID}, root(account), kmsapi.Validation},
		"a token that is none":       {kmsapi.RetireGrantRequest{GrantToken: "token"}, root(account), kmsapi.InvalidGrantToken},
		"an id that is none":         {kmsapi.RetireGrantRequest{KeyID: key.Arn, GrantID: "1234"}, root(account), kmsapi.InvalidGrantID},
		"a grant that is not there":  {kmsapi.RetireGrantRequest{KeyID: key.Arn, GrantID: noGrantID}, root(account), kmsapi.NotFound},
		"a key that is not there":    {kmsapi.RetireGrantRequest{KeyID: unknown, GrantID: noGrantID}, root(account), kmsapi.NotFound},
		"an ARN of something else":   {kmsapi.RetireGrantRequest{KeyID: "arn:aws:s3:::bucket", GrantID: noGrantID}, root(account), kmsapi.InvalidArn},
		"an alias":                   {kmsapi.RetireGrantRequest{KeyID: "alias/a", GrantID: noGrantID}, root(account), kmsapi.NotFound},
		"another Region":             {kmsapi.RetireGrantRequest{KeyID: "arn:aws:kms:us-west-2:" + account + ":key/" + unknown, GrantID: noGrantID}, root(account), kmsapi.NotFound},
		"no such grant, no policy":   {kmsapi.RetireGrantRequest{KeyID: key.Arn, GrantID: noGrantID}, member(t, account), kmsapi.AccessDenied},
		"no such key, elsewhere":     {kmsapi.RetireGrantRequest{KeyID: theirs, GrantID: noGrantID}, root(account), kmsapi.AccessDenied},
		"no such grant, elsewhere":   {kmsapi.RetireGrantRequest{KeyID: key.Arn, GrantID: noGrantID}, root(foreign), kmsapi.AccessDenied},
		"a grant nobody told you of": {kmsapi.RetireGrantRequest{KeyID: key.Arn, GrantID: made.GrantID}, root(foreign), kmsapi.AccessDenied},
	} {
		if err := w.retire(tc.who, tc.in); kmsapi.CodeOf(err) != tc.code {
			t.Errorf("%s: %v, want %s", name, err, tc.code)
		}
	}
	// Whether a key, a grant or the right to retire it is missing is the same to strangers.
	first := w.retire(root(foreign), kmsapi.RetireGrantRequest{KeyID: key.Arn, GrantID: made.GrantID})
	second := w.retire(root(foreign), kmsapi.RetireGrantRequest{KeyID: key.Arn, GrantID: noGrantID})
	third := w.retire(root(foreign), kmsapi.RetireGrantRequest{KeyID: "arn:aws:kms:" + region + ":" + account + ":key/" + unknown, GrantID: noGrantID})
	if first.Error() != second.Error() || second.Error() != third.Error() {
		t.Errorf("strangers can tell %q, %q and %q apart", first, second, third)
	}
	wantCode(t, w.retire(root(account), kmsapi.RetireGrantRequest{KeyID: key.KeyID, GrantID: made.GrantID}), "") // AWS takes a bare key id too
	wantCode(t, w.retire(root(account), kmsapi.RetireGrantRequest{KeyID: key.KeyID, GrantID: made.GrantID}), kmsapi.NotFound)
}

func TestRevokeGrantRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key, other := w.createKey(&kmsapi.CreateKeyRequest{}), w.createKey(&kmsapi.CreateKeyRequest{})
	made := w.grant(key.KeyID, retiring(aliceARN), allowing("RetireGrant"))
	for name, tc := range map[string]struct {
		in   kmsapi.RevokeGrantRequest
		who  identity.Caller
		code kmsapi.Code
	}{
		"an id that is none":      {kmsapi.RevokeGrantRequest{KeyID: key.Arn, GrantID: "1234"}, root(account), kmsapi.InvalidGrantID},
		"no such grant":           {kmsapi.RevokeGrantRequest{KeyID: key.Arn, GrantID: noGrantID}, root(account), kmsapi.NotFound},
		"a grant on another key":  {kmsapi.RevokeGrantRequest{KeyID: other.Arn, GrantID: made.GrantID}, root(account), kmsapi.NotFound},
		"no such key":             {kmsapi.RevokeGrantRequest{KeyID: "11111111-2222-3333-4444-555555555555", GrantID: made.GrantID}, root(account), kmsapi.NotFound},
		"no key at all":           {kmsapi.RevokeGrantRequest{KeyID: "arn:aws:s3:::bucket", GrantID: made.GrantID}, root(account), kmsapi.InvalidArn},
		"the retiring principal":  {kmsapi.RevokeGrantRequest{KeyID: key.Arn, GrantID: made.GrantID}, person(aliceARN), kmsapi.AccessDenied},
		"somebody from elsewhere": {kmsapi.RevokeGrantRequest{KeyID: key.Arn, GrantID: made.GrantID}, root(foreign), kmsapi.AccessDenied},
	} {
		if _, err := do[kmsapi.Empty](w, tc.who, "RevokeGrant", &tc.in); kmsapi.CodeOf(err) != tc.code {
			t.Errorf("%s: %v, want %s", name, err, tc.code)
		}
	}
	wantCode(t, w.revoke(key.KeyID, made.GrantID), "")
	wantCode(t, w.revoke(key.KeyID, made.GrantID), kmsapi.NotFound)
}
