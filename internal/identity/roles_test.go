package identity_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/policy"
)

const trustAlice = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:user/ops/eu/alice"},"Action":"sts:AssumeRole"}]}`

func allow(actions ...string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["` + strings.Join(actions, `","`) + `"],"Resource":"*"}]}`
}

// furnished is an account in which everything is used once.
func furnished() identity.Account {
	a := accounts()[0]
	a.Policies = []identity.ManagedPolicy{
		{Name: "Limit", Document: allow("kms:Encrypt", "kms:Decrypt", "kms:ListKeys", "kms:TagResource")},
		{Name: "Lists", Path: "/shared/", Document: allow("kms:ListKeys", "kms:ListAliases")},
	}
	a.Groups = []identity.Group{{Name: "ops", Attached: identity.Attached{Inline: []string{allow("kms:Decrypt")}, Managed: []string{"Lists"}}}}
	alice := &a.Users[0]
	alice.Groups, alice.Boundary, alice.Tags = []string{"OPS"}, "Limit", map[string]string{"team": "eu"}
	a.Roles = []identity.Role{{
		Name: "app", Path: "/svc/", Trust: trustAlice, MaxSession: 2 * time.Hour, Description: "what the application does",
		Attached: identity.Attached{Managed: []string{"lists"}, Inline: []string{allow("kms:TagResource", "kms:Sign")}},
		Boundary: "Limit", Tags: map[string]string{"Team": "eu", "stage": "prod"},
	}}
	a.Providers = []identity.Provider{{URL: "https://issuer.example.test/realms/x", ClientIDs: []string{"sts.amazonaws.com"}}}
	return a
}

func furnishedDirectory(t *testing.T) *identity.Directory {
	t.Helper()
	d, err := identity.New([]identity.Account{furnished()})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestAUserMayWhatItselfAndItsGroupsMayWithinTheBoundary(t *testing.T) {
	t.Parallel()
	e, _ := furnishedDirectory(t).Lookup("AKIAALICE00000000001")
	for action, want := range map[string]policy.Decision{
		"kms:Encrypt":     policy.Allow,        // its own
		"kms:Decrypt":     policy.Allow,        // the group's
		"kms:ListKeys":    policy.Allow,        // a managed one's of the group
		"kms:ListAliases": policy.ImplicitDeny, // beyond the boundary
		"kms:TagResource": policy.ImplicitDeny, // within the boundary, which gives nothing
	} {
		if got := e.Principal.Allows(action, "*"); got != want {
			t.Errorf("%s: %v, want %v", action, got, want)
		}
	}
	if diff := cmp.Diff(map[string]string{"team": "eu"}, e.Principal.Tags); diff != "" {
		t.Error(diff)
	}
}

func TestTheSessionOfARole(t *testing.T) {
	t.Parallel()
	r, ok := furnishedDirectory(t).Role("arn:aws:iam::111122223333:role/svc/app")
	if !ok {
		t.Fatal("the role is not found")
	}
	if r.MaxSession != 2*time.Hour || !strings.HasPrefix(r.ID, "AROA") || len(r.ID) != 21 || r.Name != "app" || r.Path != "/svc/" {
		t.Errorf("%+v", r)
	}
	narrow, err := policy.ParseSession([]byte(allow("kms:ListKeys", "kms:Sign")))
	if err != nil {
		t.Fatal(err)
	}
	p := r.Session("ASIA0000000000000000", identity.Session{Name: "one"}, map[string]string{"team": "us"}, []*policy.Document{narrow})
	if p.ARN != "arn:aws:sts::111122223333:assumed-role/app/one" || p.PrincipalID != r.ID+":one" || p.Type != identity.TypeAssumedRole || p.UserName != "" {
		t.Errorf("%+v", p)
	}
	want := policy.Subject{Account: "111122223333", ARN: p.ARN, Role: r.ARN}
	if diff := cmp.Diff(want, *p.Subject()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"team": "us", "stage": "prod"}, p.Tags); diff != "" {
		t.Errorf("the session's tags do not cover the role's: %s", diff)
	}
	if diff := cmp.Diff(identity.Issuer{Type: "Role", PrincipalID: r.ID, ARN: r.ARN, Account: "111122223333", UserName: "app"}, p.Session.Issuer); diff != "" {
		t.Error(diff)
	}
	for action, want := range map[string]policy.Decision{
		"kms:ListKeys":    policy.Allow,
		"kms:TagResource": policy.ImplicitDeny, // narrowed away
		"kms:Sign":        policy.ImplicitDeny, // beyond the boundary
	} {
		if got := p.Allows(action, "*"); got != want {
			t.Errorf("%s: %v, want %v", action, got, want)
		}
	}
}

func TestSessionsOfUsers(t *testing.T) {
	t.Parallel()
	d := furnishedDirectory(t)
	alice, ok := d.User("arn:aws:iam::111122223333:user/ops/eu/alice")
	if !ok {
		t.Fatal("alice is not found")
	}
	own := alice.OwnSession("ASIA0000000000000000", identity.Session{})
	if own.ARN != alice.ARN || own.Type != identity.TypeIAMUser || own.AccessKeyID != "ASIA0000000000000000" || own.Session.Issuer.Type != "IAMUser" ||
		own.Allows("kms:Encrypt", "*") != policy.Allow || alice.Session != nil {
		t.Errorf("%+v", own)
	}
	bare := alice.Federated("ASIA0000000000000000", identity.Session{Name: "guest"}, nil, nil)
	if bare.ARN != "arn:aws:sts::111122223333:federated-user/guest" || bare.PrincipalID != "111122223333:guest" || bare.Type != identity.TypeFederatedUser {
		t.Errorf("%+v", bare)
	}
	if got := bare.Allows("kms:Encrypt", "*"); got != policy.ImplicitDeny {
		t.Errorf("without a session policy: %v", got)
	}
	narrow, _ := policy.ParseSession([]byte(allow("kms:Encrypt", "kms:Sign")))
	guest := alice.Federated("ASIA0000000000000000", identity.Session{Name: "guest"}, nil, []*policy.Document{narrow})
	if got := [2]policy.Decision{guest.Allows("kms:Encrypt", "*"), guest.Allows("kms:Sign", "*")}; got != [2]policy.Decision{policy.Allow, policy.ImplicitDeny} {
		t.Errorf("with a session policy: %v", got)
	}
	if root, ok := d.User("arn:aws:iam::111122223333:root"); !ok || !root.Subject().Root {
		t.Error("root is not found")
	}
}

func TestManagedPoliciesAndProvidersAreFoundByARN(t *testing.T) {
	t.Parallel()
	d := furnishedDirectory(t)
	if _, ok := d.ManagedPolicy("arn:aws:iam::111122223333:policy/shared/Lists"); !ok {
		t.Error("the policy is not found")
	}
	found := maps.Collect(d.Providers("111122223333"))
	if p := found["arn:aws:iam::111122223333:oidc-provider/issuer.example.test/realms/x"]; p == nil || len(found) != 1 {
		t.Errorf("found %v", found)
	}
}

func TestNewRefusesWhatIsAroundUsers(t *testing.T) {
	t.Parallel()
	tooMany := map[string]string{}
	for i := range 51 {
		tooMany[fmt.Sprint("tag", i)] = ""
	}
	tests := map[string]struct {
		change func(a *identity.Account)
		want   string
	}{
		"a policy name twice":              {func(a *identity.Account) { a.Policies[1].Name = "LIMIT" }, `the policy "LIMIT" exists twice`},
		"a policy without a name":          {func(a *identity.Account) { a.Policies[0].Name = "" }, `policy name ""`},
		"a managed policy that is none":    {func(a *identity.Account) { a.Policies[0].Document = "{" }, "policy/Limit: policy:"},
		"a policy with a broken path":      {func(a *identity.Account) { a.Policies[0].Path = "x" }, `path "x"`},
		"a group twice":                    {func(a *identity.Account) { a.Groups = append(a.Groups, identity.Group{Name: "Ops"}) }, `group "Ops" exists twice`},
		"a group with a slash":             {func(a *identity.Account) { a.Groups[0].Name = "a/b" }, `group name "a/b"`},
		"a group's policy that is missing": {func(a *identity.Account) { a.Groups[0].Managed[0] = "Nope" }, `group/ops: the account has no policy "Nope"`},
		"a user's group that is missing":   {func(a *identity.Account) { a.Users[0].Groups[0] = "nope" }, `the account has no group "nope"`},
		"a user's boundary that is missing": {func(a *identity.Account) { a.Users[0].Boundary = "nope" },
			`user/ops/eu/alice: the account has no policy "nope"`},
		"a user's id of another kind": {func(a *identity.Account) { a.Users[0].ID = "AROA00000000000000000" }, `is not AIDA`},
		"an id of two": {func(a *identity.Account) {
			a.Users[0].ID, a.Users[1].ID = "AIDA00000000000000000", "AIDA00000000000000000"
		}, "somebody else's"},
		"tags that differ by capitals only": {func(a *identity.Account) { a.Users[0].Tags = map[string]string{"a": "", "A": ""} }, "there twice"},
		"a tag of AWS":                      {func(a *identity.Account) { a.Users[0].Tags = map[string]string{"AWS:x": ""} }, `tag key "AWS:x"`},
		"a tag value that is too long":      {func(a *identity.Account) { a.Users[0].Tags = map[string]string{"x": strings.Repeat("v", 257)} }, `value of the tag "x"`},
		"too many tags":                     {func(a *identity.Account) { a.Users[0].Tags = tooMany }, "51 tags"},
		"a role twice":                      {func(a *identity.Account) { a.Roles = append(a.Roles, a.Roles[0]) }, `role "app" exists twice`},
		"a role without a name":             {func(a *identity.Account) { a.Roles[0].Name = "" }, `role name ""`},
		"a role without a trust policy":     {func(a *identity.Account) { a.Roles[0].Trust = "" }, "role/svc/app: the trust policy: policy:"},
		"a trust policy for KMS": {func(a *identity.Account) {
			a.Roles[0].Trust = strings.Replace(trustAlice, "sts:AssumeRole", "kms:*", 1)
		}, `"kms:*" is not one of sts`},
		"a role's boundary that is missing": {func(a *identity.Account) { a.Roles[0].Boundary = "nope" }, `role/svc/app: the account has no policy "nope"`},
		"sessions of half an hour":          {func(a *identity.Account) { a.Roles[0].MaxSession = time.Hour / 2 }, "between 1 and 12 hours"},
		"sessions of a day":                 {func(a *identity.Account) { a.Roles[0].MaxSession = 24 * time.Hour }, "between 1 and 12 hours"},
		"a long description":                {func(a *identity.Account) { a.Roles[0].Description = strings.Repeat("x", 1001) }, "longer than 1000"},
		"an issuer without TLS":             {func(a *identity.Account) { a.Providers[0].URL = "http://issuer.example.test" }, "not an https URL"},
		"an issuer with a query":            {func(a *identity.Account) { a.Providers[0].URL += "?x" }, "not an https URL"},
		"a provider twice": {func(a *identity.Account) {
			a.Providers = append(a.Providers, identity.Provider{URL: a.Providers[0].URL + "/", ClientIDs: []string{"x"}})
		}, "issuer.example.test/realms/x exists twice"},
		"a provider without client ids": {func(a *identity.Account) { a.Providers[0].ClientIDs = nil }, "client ids"},
		"a clock that is an hour off":   {func(a *identity.Account) { a.Providers[0].Skew = time.Hour }, "clock skew"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := furnished()
			test.change(&a)
			d, err := identity.New([]identity.Account{a})
			if err == nil || d != nil {
				t.Fatalf("directory %v, error %v", d, err)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q does not say %q", err, test.want)
			}
		})
	}
}
