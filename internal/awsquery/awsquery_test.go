package awsquery_test

import (
	"encoding/xml"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/awsquery"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/stsapi"
)

func parse(t testing.TB, query, body string) awsquery.Form {
	t.Helper()
	f, err := awsquery.Parse(query, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAFormFillsAStructure(t *testing.T) {
	t.Parallel()
	f := parse(t, "Action=AssumeRole&X-Amz-Date=x", "RoleArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2Fapp&RoleSessionName=one&DurationSeconds=900"+
		"&Tags.member.1.Key=a&Tags.member.1.Value=b%2Bc&Tags.member.2.Key=d&Tags.member.2.Value=&TransitiveTagKeys.member.1=a"+
		"&PolicyArns.member.1.arn=arn%3Aaws%3Aiam%3A%3A111122223333%3Apolicy%2Fx&Unknown=ignored")
	if f.Get("Action") != "AssumeRole" {
		t.Error("a parameter of the query string is lost")
	}
	var got stsapi.AssumeRoleRequest
	if err := f.Decode(&got); err != nil {
		t.Fatal(err)
	}
	seconds := int32(900)
	want := stsapi.AssumeRoleRequest{
		RoleArn: "arn:aws:iam::111122223333:role/app", RoleSessionName: "one", DurationSeconds: &seconds,
		Tags: []stsapi.Tag{{Key: "a", Value: "b+c"}, {Key: "d"}}, TransitiveTagKeys: []string{"a"},
		PolicyArns: []stsapi.PolicyDescriptorType{{Arn: "arn:aws:iam::111122223333:policy/x"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFormsThatAreRefused(t *testing.T) {
	t.Parallel()
	const whole = "RoleArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2Fapp&RoleSessionName=one"
	tests := map[string]struct {
		query, body string
		want        kmsapi.Code
	}{
		"nothing":                            {"", "", kmsapi.Validation},
		"a name that is too short":           {"", strings.TrimSuffix(whole, "ne"), kmsapi.Validation},
		"a parameter given twice":            {"", whole + "&RoleSessionName=two", kmsapi.Serialization},
		"a parameter in both places":         {"RoleSessionName=two", whole, kmsapi.Serialization},
		"what cannot be decoded":             {"", whole + "&x=%zz", kmsapi.Serialization},
		"what is no UTF-8":                   {"", whole + "&ExternalId=%ff%ff", kmsapi.Serialization},
		"a number that is a word":            {"", whole + "&DurationSeconds=long", kmsapi.Serialization},
		"a list that begins at two":          {"", whole + "&PolicyArns.member.2.arn=arn:aws:iam::111122223333:policy/x", kmsapi.Serialization},
		"a list with a gap":                  {"", whole + "&TransitiveTagKeys.member.1=a&TransitiveTagKeys.member.3=b", kmsapi.Serialization},
		"a list that counts from zero":       {"", whole + "&TransitiveTagKeys.member.0=a", kmsapi.Serialization},
		"a member of a list that is unknown": {"", whole + "&PolicyArns.member.1.Arn=arn:aws:iam::111122223333:policy/x", kmsapi.Serialization},
		"a tag without a value":              {"", whole + "&Tags.member.1.Key=a", kmsapi.Validation},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := awsquery.Parse(test.query, []byte(test.body))
			if err == nil {
				err = f.Decode(new(stsapi.AssumeRoleRequest))
			}
			if kmsapi.CodeOf(err) != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

func TestAnswersAreXML(t *testing.T) {
	t.Parallel()
	percent := int32(6)
	out := awsquery.Append([]byte("before "), stsapi.Namespace, "AssumeRole", "id-1", &stsapi.AssumeRoleResponse{
		SourceIdentity: "a<b&c", PackedPolicySize: &percent,
		Credentials: &stsapi.Credentials{AccessKeyId: "ASIA", SecretAccessKey: secret.NewText("s"), Expiration: kmsapi.At(time.Unix(1e9, 5e8))},
	})
	want := `before <AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><SourceIdentity>a&lt;b&amp;c</SourceIdentity>` +
		`<Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>s</SecretAccessKey><Expiration>2001-09-09T01:46:40Z</Expiration></Credentials>` +
		`<PackedPolicySize>6</PackedPolicySize></AssumeRoleResult><ResponseMetadata><RequestId>id-1</RequestId></ResponseMetadata></AssumeRoleResponse>`
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Error(diff)
	}
	got := string(awsquery.AppendError(nil, stsapi.Namespace, "id-1", "AccessDenied", "no", 403))
	if want := `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error><RequestId>id-1</RequestId></ErrorResponse>`; got != want {
		t.Error(got)
	}
	if got := string(awsquery.AppendError(nil, "", "id-1", "InternalFailure", "", 500)); !strings.Contains(got, "<Type>Receiver</Type>") {
		t.Error(got)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("Action=AssumeRole", "RoleArn=arn:aws:iam::111122223333:role/app&RoleSessionName=one&Tags.member.1.Key=a&Tags.member.1.Value=b")
	f.Add("", "TransitiveTagKeys.member.1=a&TransitiveTagKeys.member.3=b")
	f.Add("", "Policy=%00&DurationSeconds=-1")
	f.Fuzz(func(t *testing.T, query, body string) {
		form, err := awsquery.Parse(query, []byte(body))
		if err != nil {
			return
		}
		var in stsapi.AssumeRoleRequest
		if err := form.Decode(&in); err != nil {
			var known *kmsapi.Error
			if !errors.As(err, &known) {
				t.Fatalf("%v", err)
			}
			return
		}
		if in.RoleSessionName != form.Get("RoleSessionName") || len(in.Tags) > 50 {
			t.Errorf("%+v", in)
		}
		out := awsquery.Append(nil, stsapi.Namespace, "AssumeRole", "id", &stsapi.AssumeRoleResponse{SourceIdentity: in.RoleArn})
		if err := xml.Unmarshal(out, new(struct{})); err != nil {
			t.Errorf("the answer is no XML: %v", err)
		}
	})
}
