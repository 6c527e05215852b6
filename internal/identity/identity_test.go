package identity_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/policy"
	"kastellan.dev/internal/secret"
)

const encryptOnly = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:Encrypt","Resource":"*"}]}`

func key(id string) identity.AccessKey {
	return identity.AccessKey{ID: id, Secret: secret.NewText("secret-of-" + id)}
}

func accounts() []identity.Account {
	return []identity.Account{
		{ID: "111122223333", Alias: "prod", Root: identity.RootConfig{AccessKeys: []identity.AccessKey{key("AKIAROOT000000000001")}},
			Users: []identity.User{
				{Name: "alice", Path: "/ops/eu/", AccessKeys: []identity.AccessKey{key("AKIAALICE00000000001"), key("AKIAALICE00000000002")},
					Attached: identity.Attached{Inline: []string{encryptOnly}}},
				{Name: "bob", AccessKeys: []identity.AccessKey{{ID: "ASIABOB0000000000001", Secret: secret.NewText("sixteen letters!"),
					SessionToken: secret.NewText("token"), Expires: time.Unix(2e9, 0)}}},
			}},
		{ID: "444455556666", Partition: "aws-cn", Users: []identity.User{{Name: "alice", AccessKeys: []identity.AccessKey{key("AKIAOTHER00000000001")}}}},
	}
}

func directory(t testing.TB) *identity.Directory {
	t.Helper()
	d, err := identity.New(accounts())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestLookupTellsWhoseKeyItIs(t *testing.T) {
	t.Parallel()
	d := directory(t)
	tests := map[string]identity.Principal{
		"AKIAROOT000000000001": {Account: "111122223333", ARN: "arn:aws:iam::111122223333:root", Type: "Root", PrincipalID: "111122223333"},
		"AKIAALICE00000000001": {Account: "111122223333", ARN: "arn:aws:iam::111122223333:user/ops/eu/alice", Type: "IAMUser", UserName: "alice"},
		"AKIAALICE00000000002": {Account: "111122223333", ARN: "arn:aws:iam::111122223333:user/ops/eu/alice", Type: "IAMUser", UserName: "alice"},
		"ASIABOB0000000000001": {Account: "111122223333", ARN: "arn:aws:iam::111122223333:user/bob", Type: "IAMUser", UserName: "bob"},
		"AKIAOTHER00000000001": {Account: "444455556666", ARN: "arn:aws-cn:iam::444455556666:user/alice", Type: "IAMUser", UserName: "alice"},
	}
	ids := map[string]string{}
	for id, want := range tests {
		e, ok := d.Lookup(id)
		if !ok {
			t.Fatalf("%s is not found", id)
		}
		want.AccessKeyID = id
		if want.Type == identity.TypeIAMUser {
			want.PrincipalID = e.Principal.PrincipalID
			if len(want.PrincipalID) != 21 || !strings.HasPrefix(want.PrincipalID, "AIDA") {
				t.Errorf("%s: PrincipalID %q", id, want.PrincipalID)
			}
			if other, ok := ids[want.PrincipalID]; ok && other != want.ARN {
				t.Errorf("%s and %s have the same id", other, want.ARN)
			}
			ids[want.PrincipalID] = want.ARN
		}
		if diff := cmp.Diff(want, *e.Principal, cmpopts.IgnoreUnexported(identity.Principal{})); diff != "" {
			t.Errorf("%s: %s", id, diff)
		}
		if e.Key.ID != id {
			t.Errorf("%s comes with the key %s", id, e.Key.ID)
		}
	}
	if len(ids) != 3 {
		t.Errorf("%d ids for 3 users", len(ids))
	}
	e, _ := d.Lookup("ASIABOB0000000000001")
	if e.Key.SessionToken.Reveal() != "token" || !e.Key.Expires.Equal(time.Unix(2e9, 0)) || e.Key.Secret.Reveal() != "sixteen letters!" {
		t.Error("the key's token, end or secret is lost")
	}
	for _, id := range []string{"", "AKIAALICE0000000000", "akiaalice00000000001"} {
		if _, ok := d.Lookup(id); ok {
			t.Errorf("%q is found", id)
		}
	}
}

func TestPrincipalIDsAreTheSameInEveryProcess(t *testing.T) {
	t.Parallel()
	e, _ := directory(t).Lookup("AKIAALICE00000000001")
	if got, want := e.Principal.PrincipalID, "AIDAIA6ONWR5JYLXGONH3"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAllows(t *testing.T) {
	t.Parallel()
	d := directory(t)
	tests := map[string]struct {
		id, action string
		want       policy.Decision
	}{
		"root may do everything":         {"AKIAROOT000000000001", "kms:ConnectCustomKeyStore", policy.Allow},
		"a user may do what is allowed":  {"AKIAALICE00000000002", "kms:Encrypt", policy.Allow},
		"a user may do nothing else":     {"AKIAALICE00000000001", "kms:Decrypt", policy.ImplicitDeny},
		"without policies nothing goes":  {"ASIABOB0000000000001", "kms:Encrypt", policy.ImplicitDeny},
		"a namesake's policy is another": {"AKIAOTHER00000000001", "kms:Encrypt", policy.ImplicitDeny},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, _ := d.Lookup(test.id)
			if got := e.Principal.Allows(test.action, "*"); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestThePoliciesOfAPrincipalOfNoTypeAreAsked(t *testing.T) {
	t.Parallel()
	if got := new(identity.Principal).Allows("kms:Encrypt", "*"); got != policy.ImplicitDeny {
		t.Errorf("got %v", got)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	alice := func(a []identity.Account) *identity.User { return &a[0].Users[0] }
	tests := map[string]struct {
		change func(a []identity.Account)
		want   string
	}{
		"a short account id":             {func(a []identity.Account) { a[0].ID = "1234" }, `account "1234": the id is not 12 digits`},
		"an account id with letters":     {func(a []identity.Account) { a[0].ID = "11112222333x" }, "not 12 digits"},
		"an account twice":               {func(a []identity.Account) { a[1].ID = a[0].ID }, "account 111122223333 exists twice"},
		"an alias with capitals":         {func(a []identity.Account) { a[0].Alias = "Prod" }, `alias "Prod"`},
		"an alias that looks like an id": {func(a []identity.Account) { a[0].Alias = "444455556666" }, `alias "444455556666"`},
		"an alias that is too long":      {func(a []identity.Account) { a[0].Alias = strings.Repeat("a", 64) }, "alias"},
		"an alias of two accounts":       {func(a []identity.Account) { a[1].Alias = "prod" }, "another account's"},
		"a partition that is none":       {func(a []identity.Account) { a[0].Partition = "azure" }, `"azure" is not a partition`},
		"a user twice":                   {func(a []identity.Account) { a[0].Users[1].Name = "ALICE" }, `user "ALICE" exists twice`},
		"a nameless user":                {func(a []identity.Account) { alice(a).Name = "" }, `user name ""`},
		"a user name with a slash":       {func(a []identity.Account) { alice(a).Name = "a/b" }, `user name "a/b"`},
		"a path without its end":         {func(a []identity.Account) { alice(a).Path = "/ops" }, `path "/ops"`},
		"a path without its beginning":   {func(a []identity.Account) { alice(a).Path = "ops/" }, `path "ops/"`},
		"a policy that is malformed":     {func(a []identity.Account) { alice(a).Inline[0] = "{" }, "user/ops/eu/alice: policy 1: policy: the document is not valid JSON"},
		"a policy with a bad condition":  {func(a []identity.Account) { alice(a).Inline[0] = conditional }, `"maybe" is not true or false`},
		"an access key twice in a user":  {func(a []identity.Account) { alice(a).AccessKeys[1].ID = "AKIAALICE00000000001" }, "AKIAALICE00000000001 exists twice"},
		"an access key in two accounts":  {func(a []identity.Account) { a[1].Users[0].AccessKeys[0].ID = "AKIAROOT000000000001" }, "exists twice"},
		"three long-term keys":           {func(a []identity.Account) { addKeys(alice(a), key("AKIAALICE00000000003")) }, "3 access keys; the limit is 2"},
		"a short access key id":          {func(a []identity.Account) { alice(a).AccessKeys[0].ID = "AKIA" }, `access key id "AKIA"`},
		"an access key id with a slash":  {func(a []identity.Account) { alice(a).AccessKeys[0].ID = "AKIA/ALICE0000000001" }, "access key id"},
		"an empty secret":                {func(a []identity.Account) { alice(a).AccessKeys[0].Secret = secret.Text{} }, "less than 16 characters"},
		"a short secret":                 {func(a []identity.Account) { alice(a).AccessKeys[0].Secret = secret.NewText("fifteen letters") }, "less than 16 characters"},
		"a long-term key that expires":   {func(a []identity.Account) { alice(a).AccessKeys[0].Expires = time.Unix(1, 0) }, "expires but has no session token"},
		"a short secret of the root":     {func(a []identity.Account) { a[0].Root.AccessKeys[0].Secret = secret.Text{} }, ":root: the secret of access key"},
		"everything wrong at once":       {func(a []identity.Account) { a[0].Alias = "P"; alice(a).Path = "x" }, `path "x"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := accounts()
			test.change(a)
			d, err := identity.New(a)
			if err == nil || d != nil {
				t.Fatalf("directory %v, error %v", d, err)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q does not say %q", err, test.want)
			}
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "identity: ") {
					t.Errorf("line %q", line)
				}
			}
			for _, s := range []string{"secret-of", "fifteen"} {
				if strings.Contains(err.Error(), s) {
					t.Errorf("error shows a secret: %q", err)
				}
			}
		})
	}
}

const conditional = `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"maybe"}}}}`

func addKeys(u *identity.User, keys ...identity.AccessKey) {
	u.AccessKeys = append(u.AccessKeys, keys...)
}

func TestTemporaryCredentialsDoNotCountAsAccessKeys(t *testing.T) {
	t.Parallel()
	a := accounts()
	for i := range 3 {
		k := key(fmt.Sprintf("ASIAALICE0000000000%d", i))
		k.SessionToken = secret.NewText("token")
		addKeys(&a[0].Users[0], k)
	}
	if _, err := identity.New(a); err != nil {
		t.Error(err)
	}
}

func TestReplaceIsSeenByReadersAtOnce(t *testing.T) {
	t.Parallel()
	first := directory(t)
	second, err := identity.New(accounts()[1:])
	if err != nil {
		t.Fatal(err)
	}
	s := identity.NewSource(first)
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for range 1000 {
				if _, ok := s.Lookup("AKIAOTHER00000000001"); !ok {
					t.Error("a key that both directories have is not found")
					return
				}
			}
		})
	}
	for range 1000 {
		s.Replace(second)
		if _, ok := s.Lookup("AKIAROOT000000000001"); ok {
			t.Fatal("a key that is gone is found")
		}
		s.Replace(first)
		if s.Load() != first {
			t.Fatal("the directory in force is another one")
		}
	}
	readers.Wait()
}

func TestLookupAllocatesNothing(t *testing.T) {
	s := identity.NewSource(directory(t))
	if n := testing.AllocsPerRun(100, func() { s.Lookup("AKIAALICE00000000001") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLookup(b *testing.B) {
	s := identity.NewSource(directory(b))
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := s.Lookup("AKIAALICE00000000001"); !ok {
			b.Fatal("not found")
		}
	}
}

func TestExists(t *testing.T) {
	t.Parallel()
	a := accounts()
	a[0].Roles = []identity.Role{{Name: "deploy", Path: "/ci/", Trust: `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:AssumeRole"}}`}}
	d, err := identity.New(a)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"111122223333":                                         true,
		"arn:aws:iam::111122223333:root":                       true,
		"arn:aws-cn:iam::444455556666:root":                    true,
		"arn:aws:iam::111122223333:user/bob":                   true,
		"arn:aws:iam::111122223333:role/ci/deploy":             true,
		"arn:aws:sts::111122223333:assumed-role/deploy/monday": true,
		"arn:aws:sts::111122223333:federated-user/anyone":      true,
		"arn:aws:iam::111122223333:user/ops/eu/alice":          true,
		"":                                      false,
		"999988887777":                          false,
		"arn:aws:iam::999988887777:root":        false,
		"arn:aws:iam::111122223333:user/alice":  false, // without her path
		"arn:aws:iam::111122223333:user/eve":    false,
		"arn:aws:iam::111122223333:role/deploy": false,
		"arn:aws:sts::111122223333:assumed-role/none/monday": false,
		"arn:aws:sts::999988887777:federated-user/anyone":    false,
	} {
		if got := d.Exists(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestTheServiceOfAnAccessKey(t *testing.T) {
	t.Parallel()
	a := accounts()
	a[0].Users[0].AccessKeys[1].ViaService = "s3.eu-central-1.amazonaws.com"
	d, err := identity.New(a)
	if err != nil {
		t.Fatal(err)
	}
	values := func(id, key string) string {
		e, _ := d.Lookup(id)
		c := identity.Caller{Principal: e.Principal}
		v, _ := c.Lookup(key, "", time.Time{})
		return strings.Join(v, ",")
	}
	for key, want := range map[string][2]string{
		"aws:viaawsservice":  {"false", "true"},
		"aws:calledvia":      {"", "s3.amazonaws.com"},
		"aws:calledviafirst": {"", "s3.amazonaws.com"},
		"aws:calledvialast":  {"", "s3.amazonaws.com"},
		"aws:principalarn":   {"arn:aws:iam::111122223333:user/ops/eu/alice", "arn:aws:iam::111122223333:user/ops/eu/alice"},
	} {
		if got := [2]string{values("AKIAALICE00000000001", key), values("AKIAALICE00000000002", key)}; got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	for _, name := range []string{"s3", "s3.amazonaws.com", "S3.eu-central-1.amazonaws.com", "s3.eu-central-1.example.com"} {
		a[0].Users[0].AccessKeys[1].ViaService = name
		if _, err := identity.New(a); err == nil || !strings.Contains(err.Error(), "is not the name of a service") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOrganizations(t *testing.T) {
	t.Parallel()
	const id, path = "o-a1b2c3d4e5", "o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/"
	a := accounts()
	a[0].Organization = &identity.Organization{ID: id, Path: path}
	d, err := identity.New(a)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string][]string{
		"AKIAROOT000000000001": {id, path},
		"AKIAALICE00000000001": {id, path},
		"AKIAOTHER00000000001": {"", ""},
	} {
		e, _ := d.Lookup(key)
		c := identity.Caller{Principal: e.Principal}
		for i, name := range []string{"aws:principalorgid", "aws:principalorgpaths"} {
			values, ok := c.Lookup(name, "", time.Time{})
			if strings.Join(values, ",") != want[i] || ok != (want[i] != "") {
				t.Errorf("%s %s: %q", key, name, values)
			}
		}
	}
	if d.Organization("111122223333").ID != id || d.Organization("444455556666") != nil {
		t.Error("accounts are in other organizations")
	}
	for name, o := range map[string]identity.Organization{
		"no id": {Path: path}, "a short id": {ID: "o-1"}, "a path elsewhere": {ID: "o-0000000000", Path: path}, "half a path": {ID: id, Path: id + "/r-ab12"},
	} {
		a[0].Organization = &o
		if _, err := identity.New(a); err == nil || !strings.Contains(err.Error(), "account 111122223333") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
