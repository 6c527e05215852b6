package clusters_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudhsmv2"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"kastellan.dev/internal/cloudhsm/control"
	"kastellan.dev/internal/config"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
)

// circumstance is what a caller's policies say, and of which operations that is enough.
type circumstance struct {
	name    string
	policy  func(s *stage) string
	allowed func(a asking) bool
	text    string // of refusals
}

func statement(effect, action, resource, condition string) string {
	if condition == "" {
		condition = "{}"
	}
	return `{"Effect":"` + effect + `","Action":` + action + `,"Resource":` + resource + `,"Condition":` + condition + `}`
}

func document(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

// fixed is a policy that does not know the stage.
func fixed(statements ...string) func(*stage) string {
	return func(*stage) string { return document(statements...) }
}

func everyone(asking) bool { return true }
func noOne(asking) bool    { return false }

// aboutSomething tells whether a call is about a resource with tags; all others are about "*".
func aboutSomething(a asking) bool { return a.on != "" }

func named(names ...string) func(asking) bool {
	return func(a asking) bool { return slices.Contains(names, a.operation) }
}

const (
	unlisted = "because no policy allows the cloudhsm:"
	explicit = "with an explicit deny"
	every    = `"cloudhsm:*"`
	anything = `"*"`
)

var (
	describing = `["cloudhsm:Describe*","cloudhsm:List*"]`
	describes  = named("DescribeBackups", "DescribeClusters", "ListTags", "ListUsers", "ListKeys")
	withTags   = named("CreateCluster", "CopyBackupToRegion", "TagResource")
)

var circumstances = []circumstance{
	{"nothing is allowed", fixed(statement("Allow", `"kms:*"`, anything, "")), noOne, unlisted},
	{"everything is allowed", fixed(statement("Allow", every, anything, "")), everyone, ""},
	{"everything is allowed and denied", fixed(statement("Allow", every, anything, ""), statement("Deny", every, anything, "")), noOne, explicit},
	{"only describing is allowed", fixed(statement("Allow", describing, anything, "")), describes, unlisted},
	{"only describing is denied", fixed(statement("Allow", every, anything, ""), statement("Deny", describing, anything, "")), not(describes), explicit},
	{"the resources are allowed by their ARNs", func(s *stage) string {
		return document(statement("Allow", every, `["`+clusterARN(s.cluster)+`","`+backupARN(s.backup)+`","`+backupARN(s.deleted)+`","arn:aws:cloudhsm:`+otherRegion+`:*:backup/*"]`, ""))
	}, aboutSomething, unlisted},
	{"other resources are allowed by their ARNs", func(*stage) string {
		return document(statement("Allow", every, `["`+clusterARN(noCluster)+`","`+backupARN(noBackup)+`"]`, ""))
	}, noOne, unlisted},
	{"the resources are denied by their ARNs", func(s *stage) string {
		return document(statement("Allow", every, anything, ""), statement("Deny", every, `["`+clusterARN(s.cluster)+`","arn:aws:cloudhsm:*:*:backup/*"]`, ""))
	}, not(aboutSomething), explicit},
	{"resources with a tag are allowed", fixed(statement("Allow", every, anything, `{"StringEquals":{"aws:ResourceTag/team":"blue"}}`), statement("Allow", `"cloudhsm:TagResource"`, anything, "")), aboutSomething, unlisted},
	{"resources with another tag are allowed", fixed(statement("Allow", every, anything, `{"StringEquals":{"aws:ResourceTag/team":"red"}}`)), noOne, unlisted},
	{"resources with a tag are denied", fixed(statement("Allow", every, anything, ""), statement("Deny", every, anything, `{"StringEquals":{"aws:ResourceTag/team":"blue"}}`)), not(aboutSomething), explicit},
	{"requests with a tag are allowed", fixed(statement("Allow", every, anything, `{"StringEquals":{"aws:RequestTag/cost":"1"}}`)), withTags, unlisted},
	{"requests with another tag are allowed", fixed(statement("Allow", every, anything, `{"StringEquals":{"aws:RequestTag/cost":"2"}}`)), noOne, unlisted},
	{"requests with the key of a tag are allowed", fixed(statement("Allow", every, anything, `{"ForAnyValue:StringEquals":{"aws:TagKeys":"cost"}}`)), func(a asking) bool { return a.brings }, unlisted},
	{"requests with the key of a tag are denied", fixed(statement("Allow", every, anything, ""), statement("Deny", every, anything, `{"ForAnyValue:StringEquals":{"aws:TagKeys":"cost"}}`)), func(a asking) bool { return !a.brings }, explicit},
	{"everything but giving tags is allowed", fixed(statement("Allow", every, anything, ""), statement("Deny", `"cloudhsm:TagResource"`, anything, "")), not(withTags), explicit},
	{"the Region is allowed", fixed(statement("Allow", every, anything, `{"StringEquals":{"aws:RequestedRegion":"`+kastellantest.Region+`"}}`)), everyone, ""},
	{"another Region is allowed", fixed(statement("Allow", every, anything, `{"StringEquals":{"aws:RequestedRegion":"`+otherRegion+`"}}`)), noOne, unlisted},
}

func not(fn func(asking) bool) func(asking) bool { return func(a asking) bool { return !fn(a) } }

// TestWhoMayDoWhatWithClusters asks for every operation in every circumstance: as a role's session whose own policy says it.
// The role may do everything, so that the session's policy decides.
func TestWhoMayDoWhatWithClusters(t *testing.T) {
	t.Parallel()
	s := newStage(t, withRole(t))
	for _, at := range circumstances {
		t.Run(at.name, func(t *testing.T) {
			t.Parallel()
			p := assuming(t, s.Server, at.policy(s))
			for _, a := range askings {
				judge(t, a, a.call(s, p), at.allowed(a), at.text)
			}
		})
	}
}

// judge compares the outcome of a call with what is expected of it.
func judge(t *testing.T, a asking, err error, allowed bool, text string) {
	t.Helper()
	switch {
	case allowed && codeOf(err) != a.code:
		t.Errorf("%s is allowed, and ends with %q instead of %q: %v", a.operation, codeOf(err), a.code, err)
	case !allowed && (codeOf(err) != denied || !strings.Contains(err.Error(), text)):
		t.Errorf("%s is not refused: %v", a.operation, err)
	}
}

// withRole has a role that may do everything, and that everybody of the account may assume; and users of all kinds.
func withRole(t *testing.T) kastellantest.Options {
	return with(t, "a", func(o *kastellantest.Options) {
		o.Users = []kastellantest.User{
			{Name: nobody, Policy: noPermission}, {Name: "bounded"}, {Name: "stranger", Account: otherAccount},
			{Name: "forbidden", Policy: document(statement("Allow", every, anything, ""), statement("Deny", every, anything, ""))},
		}
		o.Users = append(o.Users, kastellantest.User{Name: "assumer", Policy: document(statement("Allow", `"sts:AssumeRole"`, anything, ""))})
		andConfig(o, func(cfg *config.Config) {
			account := &cfg.Accounts[0]
			account.Policies = append(account.Policies, config.ManagedPolicy{Name: "describers", Document: document(statement("Allow", describing, anything, ""))})
			for i := range account.Users {
				if account.Users[i].Name == "bounded" {
					account.Users[i].Boundary = "describers"
				}
			}
			account.Roles = append(account.Roles, config.Role{
				Name:     "operator",
				Trust:    config.Document{Document: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + kastellantest.Account + `"},"Action":"sts:AssumeRole"}]}`},
				Policies: []config.Policy{{Document: kastellantest.Everything}},
			})
		})
	})
}

// assuming is a session of the role, with a policy of its own.
func assuming(t *testing.T, s *kastellantest.Server, policy string) someone {
	t.Helper()
	id, text := kastellantest.Credentials("assumer")
	client := sts.NewFromConfig(s.SDK(credentials.NewStaticCredentialsProvider(id, text, "")))
	out := must[*sts.AssumeRoleOutput](t)(client.AssumeRole(t.Context(), &sts.AssumeRoleInput{
		RoleArn: aws.String("arn:aws:iam::" + kastellantest.Account + ":role/operator"), RoleSessionName: aws.String("test"), Policy: &policy,
	}))
	key, hidden, token := *out.Credentials.AccessKeyId, *out.Credentials.SecretAccessKey, *out.Credentials.SessionToken
	return someone{
		t, cloudhsmv2.NewFromConfig(s.SDK(credentials.NewStaticCredentialsProvider(key, hidden, token))),
		clientAtHSMs(s, sigv4.Credentials{AccessKeyID: key, Secret: secret.NewText(hidden), SessionToken: secret.NewText(token)}),
	}
}

// TestWhoMayDoWhatAsAUser has policies that are the user's own, a boundary, and another account.
func TestWhoMayDoWhatAsAUser(t *testing.T) {
	t.Parallel()
	s := newStage(t, withRole(t))
	for _, who := range []struct {
		name    string
		allowed func(asking) bool
		text    string
	}{
		{nobody, noOne, unlisted},
		{"forbidden", noOne, explicit},
		{admin, everyone, ""},
		{"bounded", describes, unlisted},
	} {
		p := as(t, s.Server, who.name)
		for _, a := range askings {
			judge(t, a, a.call(s, p), who.allowed(a), who.text)
		}
	}
	// What another account has does not exist; a session of its users is not one.
	stranger := as(t, s.Server, "stranger")
	for _, a := range askings {
		err := a.call(s, stranger)
		switch {
		case a.on == "" && err != nil:
			t.Errorf("%s in the own account: %v", a.operation, err)
		case a.on == "session" && (codeOf(err) != denied || !strings.Contains(err.Error(), "there is no such session")):
			t.Errorf("%s in a session of another account: %v", a.operation, err)
		case a.on != "" && a.on != "session" && codeOf(err) != missing:
			t.Errorf("%s on what another account has: %v", a.operation, err)
		}
	}
}

// TestWhatDoesNotExistIsToldToWhoMaySeeItOnly asks about resources that are not there, and that are in another Region.
func TestWhatDoesNotExistIsToldToWhoMaySeeItOnly(t *testing.T) {
	t.Parallel()
	s := newStage(t, withRole(t))
	inOtherRegion := backups(t, s.CloudHSMIn(admin, otherRegion), nil)[0]
	for name, ids := range map[string]stage{
		"nothing has the ids":                {cluster: noCluster, backup: noBackup, deleted: noBackup},
		"what has them is in another Region": {cluster: s.clusterIn(t, otherRegion), backup: *inOtherRegion.BackupId, deleted: *inOtherRegion.BackupId},
	} {
		at := &stage{Server: s.Server, cluster: ids.cluster, backup: ids.backup, deleted: ids.deleted}
		for _, a := range askings {
			if a.on != "cluster" && a.on != "backup" {
				continue
			}
			if err := a.call(at, as(t, s.Server, nobody)); codeOf(err) != denied {
				t.Errorf("%s, %s, without a permission: %v", name, a.operation, err)
			}
			if err := a.call(at, as(t, s.Server, admin)); codeOf(err) != missing {
				t.Errorf("%s, %s: %v", name, a.operation, err)
			}
		}
	}
}

// clusterIn makes a cluster in another Region.
func (s *stage) clusterIn(t *testing.T, region string) string {
	t.Helper()
	out := must[*cloudhsmv2.CreateClusterOutput](t)(s.CloudHSMIn(admin, region).CreateCluster(t.Context(), &cloudhsmv2.CreateClusterInput{HsmType: aws.String("hsm2m.medium"), SubnetIds: subnets("e")}))
	return *out.Cluster.ClusterId
}

func TestNoOperationIsWithoutATestOfWhoMayCallIt(t *testing.T) {
	t.Parallel()
	tested := map[string]bool{}
	for _, a := range askings {
		tested[a.operation] = true
	}
	for _, op := range append(control.Operations(), control.Extensions()...) {
		if !tested[op.Name] {
			t.Errorf("%s has none", op.Name)
		}
	}
}
