package kms_test

import (
	"errors"
	"strings"
	"testing"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/policy"
)

// session makes a caller in a session of a role; an empty policy is none.
func session(t *testing.T, attached, boundary, narrowed string) identity.Caller {
	t.Helper()
	trust := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + account + `"},"Action":"sts:AssumeRole"}]}`
	role := identity.Role{Name: "operator", Path: "/ops/", Trust: trust, Attached: identity.Attached{Inline: []string{attached}}}
	a := identity.Account{ID: account}
	if boundary != "" {
		a.Policies, role.Boundary = []identity.ManagedPolicy{{Name: "boundary", Document: boundary}}, "boundary"
	}
	a.Roles = []identity.Role{role}
	d, err := identity.New([]identity.Account{a})
	if err != nil {
		t.Fatal(err)
	}
	entry, _ := d.Role(roleARN)
	var documents []*policy.Document
	if narrowed != "" {
		documents = append(documents, must(policy.ParseSession([]byte(narrowed)))(t))
	}
	p := entry.Session("ASIAEXAMPLEEXAMPLE00", identity.Session{Name: "night"}, nil, documents)
	return identity.Caller{Principal: p, Region: region, RequestID: "00000000-0000-4000-8000-000000000005"}
}

func TestARefusalSaysWhichKindOfPolicyDecided(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	left := w.createKey(&kmsapi.CreateKeyRequest{}) // to the policies of the account
	closed := w.createKey(&kmsapi.CreateKeyRequest{Policy: strings.Replace(allowAll, `"Action"`, `"Principal":{"AWS":"arn:aws:iam::`+account+`:user/ops/alice"},"Action"`, 1), BypassPolicyLockoutSafetyCheck: true})
	deny, other := strings.Replace(denyOne, "PERMISSION", "kms:Encrypt", 1), strings.Replace(allowAll, "kms:*", "kms:Decrypt", 1)
	both := strings.NewReplacer(`"Statement":`, `"Statement":[`, `}}`, `},`+deny[strings.Index(deny, `{"Effect"`):len(deny)-1]+`]}`).Replace(allowAll)
	denied := w.createKey(&kmsapi.CreateKeyRequest{Policy: strings.ReplaceAll(both, `"Action"`, `"Principal":"*","Action"`)})
	for name, test := range map[string]struct {
		who  identity.Caller
		key  *kmsapi.KeyMetadata
		want string
	}{
		"the key's policy is silent":  {session(t, allowAll, "", ""), closed, "because no resource-based policy allows the kms:Encrypt action"},
		"the key's policy denies":     {session(t, allowAll, "", ""), denied, "with an explicit deny in a resource-based policy"},
		"the role's policy is silent": {session(t, other, "", ""), left, "because no identity-based policy allows the kms:Encrypt action"},
		"the role's policy denies":    {session(t, both, "", ""), left, "with an explicit deny in an identity-based policy"},
		"the boundary is silent":      {session(t, allowAll, other, ""), left, "because no permissions boundary allows the kms:Encrypt action"},
		"the boundary denies":         {session(t, allowAll, both, ""), left, "with an explicit deny in a permissions boundary"},
		"the session's is silent":     {session(t, allowAll, "", other), left, "because no session policy allows the kms:Encrypt action"},
		"the session's denies":        {session(t, allowAll, "", both), left, "with an explicit deny in a session policy"},
		"all allow it":                {session(t, allowAll, allowAll, allowAll), left, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := do[kmsapi.EncryptResponse](w, test.who, "Encrypt", &kmsapi.EncryptRequest{KeyID: test.key.KeyID, Plaintext: secretBytes("x")})
			if test.want == "" {
				wantCode(t, err, "")
				return
			}
			want := "User: arn:aws:sts::" + account + ":assumed-role/operator/night is not authorized to perform: kms:Encrypt on resource: " + test.key.Arn + " " + test.want
			var e *kmsapi.Error
			if !errors.As(err, &e) || e.Code != kmsapi.AccessDenied || e.Message != want {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}
