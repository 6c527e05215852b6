package sts_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	awssts "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"kastellan.dev/internal/config"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/secret"
)

func TestAUserInASessionStaysWhoItIs(t *testing.T) {
	t.Parallel()
	b := openBank(t, nil)
	out, err := b.as("poor").GetSessionToken(t.Context(), &awssts.GetSessionTokenInput{DurationSeconds: aws.Int32(900)})
	if err != nil {
		t.Fatal(err)
	}
	who := static(out.Credentials)
	me, err := b.with(who).GetCallerIdentity(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if *me.Arn != "arn:aws:iam::"+kastellantest.Account+":user/poor" {
		t.Errorf("%v", *me.Arn)
	}
	_, err = b.kms(who).ListKeys(t.Context(), nil)
	wantError(t, err, "")
	_, err = b.kms(who).ListAliases(t.Context(), nil)
	wantError(t, err, "AccessDeniedException")
	_, err = b.with(who).GetSessionToken(t.Context(), nil)
	wantError(t, err, "AccessDenied")
	_, err = b.with(who).GetFederationToken(t.Context(), &awssts.GetFederationTokenInput{Name: aws.String("guest")})
	wantError(t, err, "AccessDenied")
	_, err = b.assumeBy(b.with(who), "direct")
	wantError(t, err, "")
	b.clock.advance(15 * time.Minute)
	_, err = b.kms(who).ListKeys(t.Context(), nil)
	wantError(t, err, "ExpiredTokenException")
}

func TestAUserStandsSuretyForSomebody(t *testing.T) {
	t.Parallel()
	b := openBank(t, nil)
	guest := func(policy *string) (aws.CredentialsProvider, error) {
		out, err := b.as("alice").GetFederationToken(t.Context(), &awssts.GetFederationTokenInput{
			Name: aws.String("guest"), Policy: policy, Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}},
		})
		if err != nil {
			return nil, err
		}
		if *out.FederatedUser.Arn != "arn:aws:sts::"+kastellantest.Account+":federated-user/guest" {
			t.Errorf("%v", *out.FederatedUser.Arn)
		}
		return static(out.Credentials), nil
	}
	narrow, err := guest(aws.String(allowing("kms:ListKeys", "iam:ListUsers")))
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.kms(narrow).ListKeys(t.Context(), nil)
	wantError(t, err, "")
	_, err = b.kms(narrow).ListAliases(t.Context(), nil)
	wantError(t, err, "AccessDeniedException")
	_, err = b.assumeBy(b.with(narrow), "svc/app")
	wantError(t, err, "AccessDenied")
	bare, err := guest(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.kms(bare).ListKeys(t.Context(), nil)
	wantError(t, err, "AccessDeniedException")
	_, err = b.as("poor").GetFederationToken(t.Context(), &awssts.GetFederationTokenInput{Name: aws.String("guest")})
	wantError(t, err, "AccessDenied")
}

func TestRootAssumesNoRole(t *testing.T) {
	t.Parallel()
	const id, text = "AKIAROOT000000000001", "a-secret-that-is-long-enough-for-root"
	b := openBank(t, func(a *config.Account) {
		a.Root.AccessKeys = []config.AccessKey{{ID: id, Secret: secret.NewText(text)}}
	})
	root := b.with(credentials.NewStaticCredentialsProvider(id, text, ""))
	_, err := b.assumeBy(root, "svc/app")
	wantError(t, err, "AccessDenied")
	out, err := root.GetSessionToken(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(*out.Credentials.Expiration); left > time.Hour {
		t.Errorf("a session of root lasts %v", left)
	}
}

// reload puts other roles, policies or users of the tests' account in force.
func (b *bank) reload(change func(*config.Account)) {
	b.t.Helper()
	next := *b.Config
	next.Accounts = append([]config.Account(nil), b.Config.Accounts...)
	next.Accounts[0].Roles = append([]config.Role(nil), next.Accounts[0].Roles...)
	next.Accounts[0].Users = append([]config.User(nil), next.Accounts[0].Users...)
	change(&next.Accounts[0])
	if err := b.Node.Reload(&next); err != nil {
		b.t.Fatal(err)
	}
}

func TestWhatAReloadTakesAwayEndsSessionsAtOnce(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*config.Account)
		refuse string // what the session of the role gets
	}{
		"nothing":              {func(*config.Account) {}, ""},
		"the role":             {func(a *config.Account) { a.Roles = a.Roles[1:] }, "UnrecognizedClientException"},
		"the role's unique id": {func(a *config.Account) { a.Roles[0].ID = "AROA00000000000000001" }, "UnrecognizedClientException"},
		"the role's policies":  {func(a *config.Account) { a.Roles[0].Policies = nil }, "AccessDeniedException"},
		"a managed policy's text": {func(a *config.Account) {
			a.Policies = []config.ManagedPolicy{{Name: "listing", Document: allowing("kms:Sign")}}
		}, "AccessDeniedException"},
		"a managed policy": {func(a *config.Account) {
			a.Policies, a.Roles = []config.ManagedPolicy{{Name: "other", Document: allowing("kms:*")}}, a.Roles[:3]
		}, "AccessDeniedException"},
		"the user who began the session": {func(a *config.Account) { a.Users = a.Users[:1] }, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := openBank(t, nil)
			who := b.must("alice", "svc/app", func(in *awssts.AssumeRoleInput) {
				in.PolicyArns = []types.PolicyDescriptorType{{Arn: aws.String("arn:aws:iam::" + kastellantest.Account + ":policy/listing")}}
			})
			client := b.kms(who)
			_, err := client.ListKeys(t.Context(), nil)
			wantError(t, err, "")
			b.reload(test.change)
			_, err = client.ListKeys(t.Context(), nil)
			wantError(t, err, test.refuse)
		})
	}
}

func TestTokensThatWereTamperedWith(t *testing.T) {
	t.Parallel()
	b := openBank(t, nil)
	good, err := b.must("alice", "svc/app").Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other, err := b.must("alice", "bounded").Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		id, secret, token, refuse string
	}{
		"as it was":              {good.AccessKeyID, good.SecretAccessKey, good.SessionToken, ""},
		"a bit of it":            {good.AccessKeyID, good.SecretAccessKey, flipped(good.SessionToken), "UnrecognizedClientException"},
		"without its end":        {good.AccessKeyID, good.SecretAccessKey, good.SessionToken[:len(good.SessionToken)-4], "UnrecognizedClientException"},
		"with more":              {good.AccessKeyID, good.SecretAccessKey, good.SessionToken + "AAAA", "UnrecognizedClientException"},
		"another token":          {good.AccessKeyID, good.SecretAccessKey, other.SessionToken, "UnrecognizedClientException"},
		"another access key":     {other.AccessKeyID, good.SecretAccessKey, good.SessionToken, "UnrecognizedClientException"},
		"a long-term access key": {"AKIA" + good.AccessKeyID[4:], good.SecretAccessKey, good.SessionToken, "UnrecognizedClientException"},
		"no token":               {good.AccessKeyID, good.SecretAccessKey, "", "UnrecognizedClientException"},
		"another secret":         {good.AccessKeyID, other.SecretAccessKey, good.SessionToken, "InvalidSignatureException"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := b.kms(credentials.NewStaticCredentialsProvider(test.id, test.secret, test.token)).ListKeys(t.Context(), nil)
			wantError(t, err, test.refuse)
		})
	}
}

func flipped(token string) string {
	b := []byte(token)
	if i := len(b) / 2; b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}

func TestSessionsOutliveARestart(t *testing.T) {
	t.Parallel()
	b := openBank(t, nil)
	who := b.must("alice", "svc/app")
	b.Restart()
	if _, err := b.kms(who).ListKeys(t.Context(), &awskms.ListKeysInput{}); err != nil {
		t.Error(err)
	}
}

func TestATokenIsAsLongAsIsAskedFor(t *testing.T) {
	t.Parallel()
	b := openBank(t, nil)
	for _, size := range []int32{0, 100, 3001, 4096} {
		out, err := b.as("poor").GetSessionToken(t.Context(), &awssts.GetSessionTokenInput{MinimumSessionTokenSize: &size})
		if err != nil {
			t.Fatal(err)
		}
		n := int32(len(*out.Credentials.SessionToken))
		if n < size || n > max(size, 500)+4 || *out.SessionTokenSize != n || *out.SessionTokenUtilization != (n*100+4095)/4096 {
			t.Errorf("%d: %d characters, told %d, %d %%", size, n, *out.SessionTokenSize, *out.SessionTokenUtilization)
		}
		_, err = b.kms(static(out.Credentials)).ListKeys(t.Context(), nil)
		wantError(t, err, "")
	}
}
