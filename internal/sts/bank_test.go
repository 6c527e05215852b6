package sts_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	awssts "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"kastellan.dev/internal/config"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/server"
	"kastellan.dev/internal/sts"
)

// clock is a clock that tests set.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// allowing is a policy that allows actions on every resource.
func allowing(actions ...string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["` + strings.Join(actions, `","`) + `"],"Resource":"*"}]}`
}

// trusting is a trust policy for principals, JSON, under a condition, JSON.
func trusting(principal, condition string, actions ...string) config.Document {
	if len(actions) == 0 {
		actions = []string{"sts:AssumeRole"}
	}
	return config.Document{Document: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":` + principal +
		`,"Action":["` + strings.Join(actions, `","`) + `"],"Condition":` + condition + `}]}`}
}

const (
	otherAccount = "444455556666"
	rolePrefix   = "arn:aws:iam::" + kastellantest.Account + ":role/"
	anyone       = `{"AWS":"arn:aws:iam::` + kastellantest.Account + `:root"}`
)

// roles are what the tests' account has.
func roles() []config.Role {
	keys := []config.Policy{{Document: allowing("kms:*", "sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity")}}
	session := []string{"sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"}
	return []config.Role{
		{Name: "app", Path: "/svc/", Trust: trusting(anyone, `{}`, session...), Policies: keys, MaxSession: 2 * time.Hour, Tags: map[string]string{"team": "eu"}},
		{Name: "direct", Trust: trusting(`{"AWS":"arn:aws:iam::`+kastellantest.Account+`:user/poor"}`, `{}`), Policies: keys},
		{Name: "vendor", Trust: trusting(`{"AWS":"`+otherAccount+`"}`, `{"StringEquals":{"sts:ExternalId":"shop-7"}}`), Policies: keys},
		{Name: "bounded", Trust: trusting(anyone, `{}`), Policies: keys, Boundary: "listing"},
		{Name: "named", Trust: trusting(anyone, `{"StringLike":{"sts:RoleSessionName":"job-*"}}`), Policies: keys},
		{Name: "untaggable", Trust: trusting(anyone, `{}`), Policies: keys},
	}
}

// bank is a server with roles and a clock.
type bank struct {
	*kastellantest.Server
	t     testing.TB
	clock *clock
}

func openBank(t testing.TB, change func(*config.Account)) *bank {
	t.Helper()
	b := &bank{t: t, clock: new(clock)}
	may := allowing("kms:*", "sts:*")
	b.Server = kastellantest.Start(t, kastellantest.Options{
		Users: []kastellantest.User{
			{Name: "alice", Policy: may}, {Name: "poor", Policy: allowing("kms:ListKeys")}, {Name: "stranger", Account: otherAccount, Policy: may},
		},
		Config: func(c *config.Config) {
			a := &c.Accounts[0]
			a.Policies = []config.ManagedPolicy{{Name: "listing", Document: allowing("kms:List*", "kms:CreateKey")}}
			a.Roles = roles()
			if change != nil {
				change(a)
			}
		},
		STS:    func(c *sts.Config) { c.Now = b.clock.now },
		Server: func(c *server.Config) { c.Now = b.clock.now },
	})
	return b
}

// as is the SDK's client for a user.
func (b *bank) as(user string) *awssts.Client {
	id, text := kastellantest.Credentials(user)
	return b.with(credentials.NewStaticCredentialsProvider(id, text, ""))
}

func (b *bank) with(who aws.CredentialsProvider) *awssts.Client {
	return awssts.NewFromConfig(b.SDK(who), func(o *awssts.Options) { o.HTTPSignerV4 = signer{v4.NewSigner(), b.clock} })
}

// signer signs by the server's clock.
type signer struct {
	*v4.Signer
	clock *clock
}

func (s signer) SignHTTP(ctx context.Context, c aws.Credentials, r *http.Request, hash, service, region string, _ time.Time, more ...func(*v4.SignerOptions)) error {
	return s.Signer.SignHTTP(ctx, c, r, hash, service, region, s.clock.now(), more...)
}

// assume has a user begin a session of a role.
func (b *bank) assume(user, role string, more ...func(*awssts.AssumeRoleInput)) (aws.CredentialsProvider, error) {
	return b.assumeBy(b.as(user), role, more...)
}

func (b *bank) assumeBy(client *awssts.Client, role string, more ...func(*awssts.AssumeRoleInput)) (aws.CredentialsProvider, error) {
	in := &awssts.AssumeRoleInput{RoleArn: aws.String(rolePrefix + role), RoleSessionName: aws.String("one")}
	for _, change := range more {
		change(in)
	}
	out, err := client.AssumeRole(b.t.Context(), in)
	if err != nil {
		return nil, err
	}
	return static(out.Credentials), nil
}

// must is assume for what has to succeed.
func (b *bank) must(user, role string, more ...func(*awssts.AssumeRoleInput)) aws.CredentialsProvider {
	b.t.Helper()
	who, err := b.assume(user, role, more...)
	if err != nil {
		b.t.Fatal(err)
	}
	return who
}

func static(c *types.Credentials) aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken)
}

func (b *bank) kms(who aws.CredentialsProvider) *awskms.Client {
	return awskms.NewFromConfig(b.SDK(who), func(o *awskms.Options) { o.HTTPSignerV4 = signer{v4.NewSigner(), b.clock} })
}

// lastRecords are the audit records with that name, the newest last.
func (b *bank) records(name string) (out []map[string]any) {
	b.t.Helper()
	f, err := os.Open(filepath.Join(b.Directory, "audit.jsonl"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var r map[string]any
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			b.t.Fatal(err)
		}
		if r["eventName"] == name {
			out = append(out, r)
		}
	}
	return out
}
