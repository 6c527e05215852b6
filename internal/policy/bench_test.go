package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"kastellan.dev/internal/policy"
)

// session is what a request of a role's session usually brings along.
var session = values{
	"aws:principalarn":                 {roleARN},
	"aws:principalaccount":             {owner},
	"aws:principaltag/team":            {"red"},
	"aws:resourcetag/team":             {"red"},
	"aws:securetransport":              {"true"},
	"aws:sourceip":                     {"203.0.113.7"},
	"aws:currenttime":                  {"2026-05-04T12:00:00Z"},
	"aws:multifactorauthage":           {"300"},
	"kms:calleraccount":                {owner},
	"kms:encryptioncontext:department": {"HR"},
	"kms:encryptioncontextkeys":        {"department"},
}

// statements repeats what policies of production have until there are n
// statements; the last allows. Each is about another action, principal or circumstance.
func statements(n int, principal bool) string {
	templates := []string{
		`{"Effect":"Deny",<>"Action":"kms:*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}`,
		`{"Effect":"Allow",<>"Action":["kms:Create*","kms:Describe*","kms:Put*","kms:ScheduleKeyDeletion"],"Resource":"*"}`,
		`{"Effect":"Allow",<>"Action":["kms:Decrypt","kms:ReEncrypt*"],"Resource":"arn:aws:kms:*:111122223333:key/*"}`,
		`{"Effect":"Deny",<>"Action":["kms:Encrypt","kms:Decrypt"],"Resource":"*","Condition":{"NotIpAddress":{"aws:SourceIp":["203.0.113.0/24","2001:db8::/32"]}}}`,
		`{"Effect":"Allow",<>"Action":"kms:CreateGrant","Resource":"*","Condition":{"ForAllValues:StringEquals":{"kms:GrantOperations":["Encrypt","Decrypt"]}}}`,
		`{"Effect":"Deny",<>"NotAction":["kms:Encrypt","kms:GenerateDataKey*","kms:Describe*"],"Resource":"*","Condition":{"StringNotEquals":{"aws:PrincipalTag/team":"red"}}}`,
	}
	var all []string
	for i := range n - 1 {
		who := ""
		if principal {
			who = `"Principal":` + aws(fmt.Sprintf("arn:aws:iam::%s:role/app-%d", owner, i), fmt.Sprintf("arn:aws:iam::%s:user/u-%d", owner, i)) + `,`
			if i%3 == 0 {
				who = `"Principal":{"AWS":"*"},`
			}
		}
		all = append(all, strings.Replace(templates[i%len(templates)], "<>", who, 1))
	}
	who := ""
	if principal {
		who = `"Principal":` + aws(owner) + `,`
	}
	all = append(all, `{"Effect":"Allow",`+who+`"Action":["kms:Encrypt","kms:GenerateDataKey"],"Resource":"*",
		"Condition":{"StringEquals":{"kms:EncryptionContext:Department":"HR","kms:CallerAccount":"111122223333"}}}`)
	return strings.Join(all, ",")
}

func benchInputs(tb testing.TB, n int) (*policy.Inputs, *policy.Request) {
	in := &policy.Inputs{
		Owner:    owner,
		Resource: must(tb, policy.ParseKeyPolicy, statements(n, true)),
		Identity: []*policy.Document{must(tb, policy.ParseIdentity, statements(n, false))},
	}
	r := encrypt(auditor)
	r.Values = session
	return in, r
}

// The same request by policies of thirty statements each, by policies of one
// and, as the floor, two readings of a map.
func BenchmarkDecide(b *testing.B) {
	b.Run("floor", func(b *testing.B) {
		b.ReportAllocs()
		actions := map[string]bool{"kms:Encrypt": true, "kms:Decrypt": true}
		_, r := benchInputs(b, 1)
		for b.Loop() {
			if team, ok := r.Values.Lookup("aws:principaltag/team"); !ok || team[0] != "red" || !actions[r.Action] {
				b.Fatal("not allowed")
			}
		}
	})
	for _, n := range []int{1, 30} {
		b.Run(fmt.Sprintf("%d+%d statements", n, n), func(b *testing.B) {
			in, r := benchInputs(b, n)
			b.ReportAllocs()
			for b.Loop() {
				if policy.Decide(in, r) != allowedByIdentity {
					b.Fatal("not allowed")
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	doc := []byte(`{"Version":"2012-10-17","Statement":[` + statements(30, true) + `]}`)
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := policy.ParseKeyPolicy(doc); err != nil {
			b.Fatal(err)
		}
	}
}

func TestDecideAllocatesNothing(t *testing.T) {
	in, r := benchInputs(t, 30)
	everyOperator := must(t, policy.ParseIdentity, `{"Effect":"Deny","Action":"*","Resource":"arn:aws:kms:*:*:alias/${aws:PrincipalTag/team}","Condition":{"Null":{"aws:PrincipalTag/team":false}}},
		{"Effect":"Allow","Action":"*","Resource":"*","Condition":{
			"StringLike":{"aws:PrincipalTag/team":"r*"},"StringEquals":{"aws:PrincipalTag/team":"${aws:ResourceTag/team}"},
			"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/*"},"DateGreaterThan":{"aws:CurrentTime":"2020"},
			"NumericLessThan":{"aws:MultiFactorAuthAge":"3600"},"IpAddress":{"aws:SourceIp":"203.0.113.0/24"},
			"ForAnyValue:StringEqualsIgnoreCase":{"kms:EncryptionContextKeys":"DEPARTMENT"}}}`)
	in.Identity = append(in.Identity, everyOperator)
	if got := policy.Decide(in, r); got != allowedByIdentity {
		t.Fatalf("got %+v", got)
	}
	in.Identity = in.Identity[1:]
	if got := policy.Decide(in, r); got != allowedByIdentity {
		t.Fatalf("by every operator: got %+v", got)
	}
	in, _ = benchInputs(t, 30)
	in.Identity = append(in.Identity, everyOperator)
	if n := testing.AllocsPerRun(100, func() { policy.Decide(in, r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
