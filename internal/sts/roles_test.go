package sts_test

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	awssts "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/config"
	"kastellan.dev/internal/kastellantest"
)

func TestASessionOfARoleUsesKeys(t *testing.T) {
	t.Parallel()
	b := openBank(t, nil)
	out, err := b.as("alice").AssumeRole(t.Context(), &awssts.AssumeRoleInput{
		RoleArn: aws.String(rolePrefix + "svc/app"), RoleSessionName: aws.String("deploy"), DurationSeconds: aws.Int32(7200), SourceIdentity: aws.String("alice.a"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(*out.Credentials.Expiration); left < 119*time.Minute || left > 2*time.Hour {
		t.Errorf("the session ends in %v", left)
	}
	if !strings.HasPrefix(*out.Credentials.AccessKeyId, "ASIA") || *out.SourceIdentity != "alice.a" || len(*out.Credentials.SessionToken) > 4096 {
		t.Errorf("%+v", out)
	}
	arn := "arn:aws:sts::" + kastellantest.Account + ":assumed-role/app/deploy"
	if *out.AssumedRoleUser.Arn != arn || !strings.HasSuffix(*out.AssumedRoleUser.AssumedRoleId, ":deploy") {
		t.Errorf("%+v", out.AssumedRoleUser)
	}
	who := static(out.Credentials)
	me, err := b.with(who).GetCallerIdentity(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if *me.Arn != arn || *me.Account != kastellantest.Account || *me.UserId != *out.AssumedRoleUser.AssumedRoleId {
		t.Errorf("%v %v %v", *me.Arn, *me.Account, *me.UserId)
	}
	key, err := b.kms(who).CreateKey(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.kms(who).Encrypt(t.Context(), &awskms.EncryptInput{KeyId: key.KeyMetadata.KeyId, Plaintext: []byte("x")}); err != nil {
		t.Error(err)
	}

	record := b.records("Encrypt")[0]["userIdentity"].(map[string]any)
	context, _ := record["sessionContext"].(map[string]any)
	issuer, _ := context["sessionIssuer"].(map[string]any)
	if record["type"] != "AssumedRole" || record["arn"] != arn || issuer["arn"] != rolePrefix+"svc/app" || issuer["type"] != "Role" || context["sourceIdentity"] != "alice.a" {
		t.Errorf("the record of the session says %v", record)
	}
}

func TestAssumeRoleIsRecordedWithoutSecrets(t *testing.T) {
	t.Parallel()
	b := openBank(t, nil)
	out, err := b.as("alice").AssumeRole(t.Context(), &awssts.AssumeRoleInput{RoleArn: aws.String(rolePrefix + "svc/app"), RoleSessionName: aws.String("deploy"), ExternalId: aws.String("why-not")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.assume("poor", "svc/app"); err == nil {
		t.Fatal("poor assumed the role")
	}
	records := b.records("AssumeRole")
	if len(records) != 2 {
		t.Fatalf("%d records", len(records))
	}
	text, _ := json.Marshal(records)
	for _, s := range []string{*out.Credentials.SecretAccessKey, *out.Credentials.SessionToken, (*out.Credentials.SessionToken)[:40]} {
		if strings.Contains(string(text), s) {
			t.Errorf("the record has %s", s)
		}
	}
	ok, denied := records[0], records[1]
	parameters, elements := ok["requestParameters"].(map[string]any), ok["responseElements"].(map[string]any)
	made := elements["credentials"].(map[string]any)
	if ok["eventSource"] != "sts.amazonaws.com" || parameters["roleArn"] != rolePrefix+"svc/app" || parameters["externalId"] != "why-not" || made["accessKeyId"] != *out.Credentials.AccessKeyId || made["expiration"] == nil {
		t.Errorf("%v", ok)
	}
	if denied["errorCode"] != "AccessDenied" || denied["responseElements"] != nil {
		t.Errorf("%v", denied)
	}
}

// refusing is an audit log on a full disk.
type refusing struct{}

func (refusing) Write(context.Context, *audit.Record) error { return os.ErrClosed }

func TestNothingIsGivenOutWithoutARecord(t *testing.T) {
	t.Parallel()
	b := openBank(t, nil)
	b.Stop()
	full := kastellantest.Start(t, kastellantest.Options{Audit: refusing{}})
	id, text := kastellantest.Credentials(kastellantest.Admin)
	_, err := awssts.NewFromConfig(full.SDK(credentials.NewStaticCredentialsProvider(id, text, ""))).GetSessionToken(t.Context(), nil)
	wantError(t, err, "InternalFailure")
}

func TestWhoMayAssumeARole(t *testing.T) {
	t.Parallel()
	b := openBank(t, nil)
	chained := b.with(b.must("alice", "svc/app"))
	set := func(f func(*awssts.AssumeRoleInput)) []func(*awssts.AssumeRoleInput) {
		return []func(*awssts.AssumeRoleInput){f}
	}
	external := func(id string) []func(*awssts.AssumeRoleInput) {
		return set(func(in *awssts.AssumeRoleInput) { in.ExternalId = &id })
	}
	lasting := func(seconds int32) []func(*awssts.AssumeRoleInput) {
		return set(func(in *awssts.AssumeRoleInput) { in.DurationSeconds = &seconds })
	}
	tags := func(keys ...string) []func(*awssts.AssumeRoleInput) {
		return set(func(in *awssts.AssumeRoleInput) {
			for _, k := range keys {
				in.Tags = append(in.Tags, types.Tag{Key: aws.String(k), Value: aws.String("v")})
			}
		})
	}
	policy := func(text string) []func(*awssts.AssumeRoleInput) {
		return set(func(in *awssts.AssumeRoleInput) { in.Policy = &text })
	}
	managed := func(arn string) []func(*awssts.AssumeRoleInput) {
		return set(func(in *awssts.AssumeRoleInput) { in.PolicyArns = []types.PolicyDescriptorType{{Arn: &arn}} })
	}
	tests := map[string]struct {
		by     *awssts.Client
		role   string
		with   []func(*awssts.AssumeRoleInput)
		refuse string
	}{
		"a user whose account is trusted and whose policies allow it": {b.as("alice"), "svc/app", nil, ""},
		"a user whose account is trusted without a policy":            {b.as("poor"), "svc/app", nil, "AccessDenied"},
		"a user who is trusted by name needs no policy":               {b.as("poor"), "direct", nil, ""},
		"a user whom the role does not trust":                         {b.as("alice"), "direct", nil, "AccessDenied"},
		"a role that does not exist":                                  {b.as("alice"), "nobody", nil, "AccessDenied"},
		"another account with the external id":                        {b.as("stranger"), "vendor", external("shop-7"), ""},
		"another account with another external id":                    {b.as("stranger"), "vendor", external("shop-8"), "AccessDenied"},
		"another account without one":                                 {b.as("stranger"), "vendor", nil, "AccessDenied"},
		"another account that is not trusted":                         {b.as("stranger"), "svc/app", nil, "AccessDenied"},
		"a session's name that the role does not want":                {b.as("alice"), "named", nil, "AccessDenied"},
		"a session's name as the role wants it": {b.as("alice"), "named",
			set(func(in *awssts.AssumeRoleInput) { in.RoleSessionName = aws.String("job-1") }), ""},
		"as long as the role allows":               {b.as("alice"), "svc/app", lasting(7200), ""},
		"longer than the role allows":              {b.as("alice"), "svc/app", lasting(7201), "ValidationError"},
		"longer than any role allows":              {b.as("alice"), "svc/app", lasting(43201), "ValidationError"},
		"shorter than anything":                    {b.as("alice"), "svc/app", lasting(899), "ValidationError"},
		"by a session of a role":                   {chained, "bounded", nil, ""},
		"by a session of a role, for an hour":      {chained, "svc/app", lasting(3600), ""},
		"by a session of a role, for more":         {chained, "svc/app", lasting(3601), "ValidationError"},
		"tags for a role that takes them":          {b.as("alice"), "svc/app", tags("a", "b"), ""},
		"tags for a role that does not":            {b.as("alice"), "untaggable", tags("a"), "AccessDenied"},
		"tags that differ by capitals":             {b.as("alice"), "svc/app", tags("a", "A"), "InvalidParameterValue"},
		"a tag of AWS":                             {b.as("alice"), "svc/app", tags("aws:x"), "InvalidParameterValue"},
		"a transitive key that is no tag":          {b.as("alice"), "svc/app", set(func(in *awssts.AssumeRoleInput) { in.TransitiveTagKeys = []string{"x"} }), "ValidationError"},
		"a source identity that nobody may set":    {b.as("alice"), "untaggable", set(func(in *awssts.AssumeRoleInput) { in.SourceIdentity = aws.String("me") }), "AccessDenied"},
		"a session policy":                         {b.as("alice"), "svc/app", policy(allowing("kms:ListKeys")), ""},
		"a session policy that is none":            {b.as("alice"), "svc/app", policy("{"), "MalformedPolicyDocument"},
		"a session policy that is too long":        {b.as("alice"), "svc/app", policy(`{"Version":"2012-10-17",` + strings.Repeat(" ", 2048) + `}`), "ValidationError"},
		"a managed policy":                         {b.as("alice"), "svc/app", managed("arn:aws:iam::" + kastellantest.Account + ":policy/listing"), ""},
		"a managed policy that does not exist":     {b.as("alice"), "svc/app", managed("arn:aws:iam::" + kastellantest.Account + ":policy/nope"), "ValidationError"},
		"a managed policy of another account":      {b.as("alice"), "svc/app", managed("arn:aws:iam::" + otherAccount + ":policy/listing"), "ValidationError"},
		"a code of a device that nobody has":       {b.as("alice"), "svc/app", set(func(in *awssts.AssumeRoleInput) { in.TokenCode = aws.String("123456") }), "AccessDenied"},
		"a session's name with a slash":            {b.as("alice"), "svc/app", set(func(in *awssts.AssumeRoleInput) { in.RoleSessionName = aws.String("a/b") }), "ValidationError"},
		"a wrong secret":                           {b.with(credentials.NewStaticCredentialsProvider("AKIA0000000000000000", "0123456789012345678901234567890123456789", "")), "svc/app", nil, "InvalidClientTokenId"},
		"tags that take too much space all in all": {b.as("alice"), "svc/app", tags(randomKeys(50)...), "PackedPolicyTooLarge"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := b.assumeBy(test.by, test.role, test.with...)
			wantError(t, err, test.refuse)
		})
	}
}

// randomKeys are keys that do not get shorter.
func randomKeys(n int) (out []string) {
	for i := range n {
		id, text := kastellantest.Credentials(strings.Repeat("k", i+1))
		out = append(out, id+text+text)
	}
	return out
}

func TestSessionPoliciesAndBoundariesRestrict(t *testing.T) {
	t.Parallel()
	b := openBank(t, nil)
	inline := func(in *awssts.AssumeRoleInput) { in.Policy = aws.String(allowing("kms:ListKeys")) }
	listing := func(in *awssts.AssumeRoleInput) {
		in.PolicyArns = []types.PolicyDescriptorType{{Arn: aws.String("arn:aws:iam::" + kastellantest.Account + ":policy/listing")}}
	}
	tests := map[string]struct {
		who                     aws.CredentialsProvider
		list, aliases, generate string // the code that each call gets
	}{
		"a whole role":              {b.must("alice", "svc/app"), "", "", ""},
		"an inline session policy":  {b.must("alice", "svc/app", inline), "", "AccessDeniedException", "AccessDeniedException"},
		"a managed session policy":  {b.must("alice", "svc/app", listing), "", "", "AccessDeniedException"},
		"either of two is enough":   {b.must("alice", "svc/app", inline, listing), "", "", "AccessDeniedException"},
		"a permissions boundary":    {b.must("alice", "bounded"), "", "", "AccessDeniedException"},
		"a boundary and a policy":   {b.must("alice", "bounded", inline), "", "AccessDeniedException", "AccessDeniedException"},
		"a session policy in chain": {b.mustChain(b.must("alice", "svc/app"), "bounded"), "", "", "AccessDeniedException"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := b.kms(test.who)
			_, err := client.ListKeys(t.Context(), nil)
			wantError(t, err, test.list)
			_, err = client.ListAliases(t.Context(), nil)
			wantError(t, err, test.aliases)
			_, err = client.GenerateRandom(t.Context(), &awskms.GenerateRandomInput{NumberOfBytes: aws.Int32(8)})
			wantError(t, err, test.generate)
		})
	}
}

func (b *bank) mustChain(who aws.CredentialsProvider, role string) aws.CredentialsProvider {
	b.t.Helper()
	next, err := b.assumeBy(b.with(who), role)
	if err != nil {
		b.t.Fatal(err)
	}
	return next
}

func TestTransitiveTagsAndTheSourceIdentityGoAlong(t *testing.T) {
	t.Parallel()
	b := openBank(t, func(a *config.Account) {
		a.Roles = append(a.Roles, config.Role{
			Name: "second", Trust: trusting(anyone, `{"StringEquals":{"aws:PrincipalTag/case":"42"}}`, "sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"),
			Policies: []config.Policy{{Document: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:ListKeys","Resource":"*","Condition":{"StringEquals":` +
				`{"aws:PrincipalTag/case":"42","aws:SourceIdentity":"alice.a"},"Null":{"aws:PrincipalTag/left":"true"}}}]}`}},
		})
	})
	first := b.must("alice", "svc/app", func(in *awssts.AssumeRoleInput) {
		in.Tags = []types.Tag{{Key: aws.String("case"), Value: aws.String("42")}, {Key: aws.String("left"), Value: aws.String("here")}}
		in.TransitiveTagKeys = []string{"case"}
		in.SourceIdentity = aws.String("alice.a")
	})
	second := b.mustChain(first, "second")
	if _, err := b.kms(second).ListKeys(t.Context(), nil); err != nil {
		t.Error(err)
	}
	_, err := b.assumeBy(b.with(first), "second", func(in *awssts.AssumeRoleInput) { in.SourceIdentity = aws.String("bob") })
	wantError(t, err, "AccessDenied")
	_, err = b.assumeBy(b.with(first), "second", func(in *awssts.AssumeRoleInput) {
		in.Tags = []types.Tag{{Key: aws.String("Case"), Value: aws.String("43")}}
	})
	wantError(t, err, "ValidationError")
}

func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	b := openBank(t, nil)
	who := b.must("alice", "svc/app", func(in *awssts.AssumeRoleInput) { in.DurationSeconds = aws.Int32(900) })
	if _, err := b.kms(who).ListKeys(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	b.clock.advance(15*time.Minute - time.Second)
	_, err := b.kms(who).ListKeys(t.Context(), nil)
	wantError(t, err, "")
	b.clock.advance(2 * time.Second)
	_, err = b.kms(who).ListKeys(t.Context(), nil)
	wantError(t, err, "ExpiredTokenException")
	_, err = b.with(who).GetCallerIdentity(t.Context(), nil)
	wantError(t, err, "ExpiredToken")
}
