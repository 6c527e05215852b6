package policy_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"kastellan.dev/internal/policy"
)

const keyARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"

func parse(t testing.TB, statements ...string) []*policy.Document {
	t.Helper()
	var docs []*policy.Document
	for _, s := range statements {
		d, err := policy.Parse([]byte(`{"Version":"2012-10-17","Statement":` + s + `}`))
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, d)
	}
	return docs
}

func TestEvaluate(t *testing.T) {
	t.Parallel()
	const (
		allowAll = `{"Effect":"Allow","Action":"*","Resource":"*"}`
		denyAll  = `{"Effect":"Deny","Action":"*","Resource":"*"}`
	)
	tests := map[string]struct {
		docs             []string
		action, resource string
		want             policy.Decision
	}{
		"no policy denies": {nil, "kms:Encrypt", keyARN, policy.ImplicitDeny},
		"a star allows":    {[]string{allowAll}, "kms:Encrypt", keyARN, policy.Allow},
		"a star covers an action without resource":     {[]string{allowAll}, "kms:CreateKey", "*", policy.Allow},
		"a key does not cover an action without one":   {[]string{`{"Effect":"Allow","Action":"kms:*","Resource":"` + keyARN + `"}`}, "kms:CreateKey", "*", policy.ImplicitDeny},
		"a deny wins over an earlier allow":            {[]string{`[` + allowAll + `,` + denyAll + `]`}, "kms:Encrypt", keyARN, policy.ExplicitDeny},
		"a deny wins over a later allow":               {[]string{denyAll, allowAll}, "kms:Encrypt", keyARN, policy.ExplicitDeny},
		"a deny of another action does not matter":     {[]string{allowAll, `{"Effect":"Deny","Action":"kms:ConnectCustomKeyStore","Resource":"*"}`}, "kms:Encrypt", keyARN, policy.Allow},
		"connecting can be denied":                     {[]string{allowAll, `{"Effect":"Deny","Action":"kms:ConnectCustomKeyStore","Resource":"*"}`}, "kms:ConnectCustomKeyStore", "*", policy.ExplicitDeny},
		"actions ignore case in the policy":            {[]string{`{"Effect":"Allow","Action":"KMS:encrypt","Resource":"*"}`}, "kms:Encrypt", keyARN, policy.Allow},
		"actions ignore case in a deny with stars":     {[]string{allowAll, `{"Effect":"Deny","Action":"kMs:eN*","Resource":"*"}`}, "kms:Encrypt", keyARN, policy.ExplicitDeny},
		"case folds in ASCII only":                     {[]string{"{\"Effect\":\"Allow\",\"Action\":\"\u212ams:Encrypt\",\"Resource\":\"*\"}"}, "kms:Encrypt", keyARN, policy.ImplicitDeny},
		"resources mind case":                          {[]string{`{"Effect":"Allow","Action":"*","Resource":"arn:aws:kms:*:*:KEY/*"}`}, "kms:Encrypt", keyARN, policy.ImplicitDeny},
		"a prefix of actions":                          {[]string{`{"Effect":"Allow","Action":"kms:GenerateDataKey*","Resource":"*"}`}, "kms:GenerateDataKeyWithoutPlaintext", keyARN, policy.Allow},
		"a prefix covers the name itself":              {[]string{`{"Effect":"Allow","Action":"kms:GenerateDataKey*","Resource":"*"}`}, "kms:GenerateDataKey", keyARN, policy.Allow},
		"an action is matched whole":                   {[]string{`{"Effect":"Allow","Action":"kms:Generate","Resource":"*"}`}, "kms:GenerateDataKey", keyARN, policy.ImplicitDeny},
		"one of several actions":                       {[]string{`{"Effect":"Allow","Action":["kms:Decrypt","kms:Encrypt"],"Resource":"*"}`}, "kms:Encrypt", keyARN, policy.Allow},
		"a question mark is one character":             {[]string{`{"Effect":"Allow","Action":"kms:?ncrypt","Resource":"*"}`}, "kms:Encrypt", keyARN, policy.Allow},
		"a question mark is not none":                  {[]string{`{"Effect":"Allow","Action":"kms:Encrypt?","Resource":"*"}`}, "kms:Encrypt", keyARN, policy.ImplicitDeny},
		"a resource with stars inside":                 {[]string{`{"Effect":"Allow","Action":"*","Resource":"arn:aws:kms:*:111122223333:key/1234*"}`}, "kms:Encrypt", keyARN, policy.Allow},
		"a resource of another account":                {[]string{`{"Effect":"Allow","Action":"*","Resource":"arn:aws:kms:*:444455556666:key/*"}`}, "kms:Encrypt", keyARN, policy.ImplicitDeny},
		"an excepted action is not allowed":            {[]string{`{"Effect":"Allow","NotAction":["kms:Decrypt","kms:Enc*"],"Resource":"*"}`}, "kms:Encrypt", keyARN, policy.ImplicitDeny},
		"what is not excepted is allowed":              {[]string{`{"Effect":"Allow","NotAction":"kms:Decrypt","Resource":"*"}`}, "kms:Encrypt", keyARN, policy.Allow},
		"an excepted resource is not denied":           {[]string{allowAll, `{"Effect":"Deny","Action":"*","NotResource":"` + keyARN + `"}`}, "kms:Encrypt", keyARN, policy.Allow},
		"what is not excepted is denied":               {[]string{allowAll, `{"Effect":"Deny","Action":"*","NotResource":"arn:other"}`}, "kms:Encrypt", keyARN, policy.ExplicitDeny},
		"a statement without action allows nothing":    {[]string{`{"Effect":"Allow","Resource":"*"}`}, "kms:Encrypt", keyARN, policy.ImplicitDeny},
		"a statement without resource allows nothing":  {[]string{`{"Effect":"Allow","Action":"*"}`}, "kms:Encrypt", keyARN, policy.ImplicitDeny},
		"an allow to somebody is not for everybody":    {[]string{`{"Effect":"Allow","Action":"*","Resource":"*","Principal":"*"}`}, "kms:Encrypt", keyARN, policy.ImplicitDeny},
		"an allow to all but somebody is not either":   {[]string{`{"Effect":"Allow","Action":"*","Resource":"*","NotPrincipal":{"AWS":"1"}}`}, "kms:Encrypt", keyARN, policy.ImplicitDeny},
		"an allow under a condition does not allow":    {[]string{`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{}}`}, "kms:Encrypt", keyARN, policy.ImplicitDeny},
		"a deny under a condition denies":              {[]string{allowAll, `{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"Bool":{"a":"true"}}}`}, "kms:Encrypt", keyARN, policy.ExplicitDeny},
		"a conditional allow does not undo a real one": {[]string{allowAll, `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{}}`}, "kms:Encrypt", keyARN, policy.Allow},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := policy.Evaluate(parse(t, test.docs...), test.action, test.resource)
			if got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestTheZeroDecisionDenies(t *testing.T) {
	t.Parallel()
	var d policy.Decision
	if d != policy.ImplicitDeny || d.String() != "ImplicitDeny" || policy.Allow.String() != "Allow" || policy.ExplicitDeny.String() != "ExplicitDeny" {
		t.Error("decisions are misnamed")
	}
}

// Wildcards mean what the same regular expression means.
func TestWildcardsAgreeWithRegularExpressions(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringMatching(`[abAB:*?]{1,12}`).Draw(t, "pattern")
		text := rapid.StringMatching(`[abAB:]{0,14}`).Draw(t, "text")
		quoted := strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(pattern))

		doc, err := json.Marshal(map[string]any{"Effect": "Allow", "Action": "*", "Resource": pattern})
		if err != nil {
			t.Fatal(err)
		}
		check(t, string(doc), "kms:Encrypt", text, regexp.MustCompile(`(?s)^`+quoted+`$`).MatchString(text))

		doc, err = json.Marshal(map[string]any{"Effect": "Allow", "Action": pattern, "Resource": "*"})
		if err != nil {
			t.Fatal(err)
		}
		check(t, string(doc), text, "*", regexp.MustCompile(`(?si)^`+quoted+`$`).MatchString(text))
	})
}

func check(t *rapid.T, statement, action, resource string, match bool) {
	d, err := policy.Parse([]byte(`{"Statement":` + statement + `}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := policy.Evaluate([]*policy.Document{d}, action, resource); (got == policy.Allow) != match {
		t.Fatalf("%s: %q on %q: got %v, want a match: %v", statement, action, resource, got, match)
	}
}

// Whatever the order of documents, and however many others allow, one matching
// Deny denies, and a document more never takes a Deny away.
func TestTheOrderOfDocumentsDoesNotMatter(t *testing.T) {
	t.Parallel()
	statement := rapid.Custom(func(t *rapid.T) string {
		return `{"Effect":"` + rapid.SampledFrom([]string{"Allow", "Deny"}).Draw(t, "effect") +
			`","` + rapid.SampledFrom([]string{"Action", "NotAction"}).Draw(t, "element") +
			`":"` + rapid.SampledFrom([]string{"*", "kms:Encrypt", "kms:E*", "kms:Decrypt"}).Draw(t, "action") +
			`","Resource":"` + rapid.SampledFrom([]string{"*", keyARN, "arn:other"}).Draw(t, "resource") + `"}`
	})
	rapid.Check(t, func(rt *rapid.T) {
		docs := parse(t, rapid.SliceOfN(statement, 0, 6).Draw(rt, "statements")...)
		want := policy.ImplicitDeny
		for _, d := range docs {
			want = max(want, policy.Evaluate([]*policy.Document{d}, "kms:Encrypt", keyARN))
		}
		shuffled := rapid.Permutation(docs).Draw(rt, "order")
		if got := policy.Evaluate(shuffled, "kms:Encrypt", keyARN); got != want {
			rt.Fatalf("got %v, want %v", got, want)
		}
	})
}

// A matcher that gives every star another try would not return from this.
func TestHostilePatternsTakeLittleTime(t *testing.T) {
	t.Parallel()
	docs := parse(t, `{"Effect":"Allow","Action":"*","Resource":"`+strings.Repeat("a*", 1000)+`b"}`)
	if got := policy.Evaluate(docs, "kms:Encrypt", strings.Repeat("a", 2000)); got != policy.ImplicitDeny {
		t.Errorf("got %v", got)
	}
}

func TestEvaluateAllocatesNothing(t *testing.T) {
	docs := benchmarkDocuments(t)
	if n := testing.AllocsPerRun(100, func() { policy.Evaluate(docs, "kms:GenerateDataKey", keyARN) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func benchmarkDocuments(tb testing.TB) []*policy.Document {
	return parse(tb,
		`[{"Effect":"Allow","Action":["kms:Encrypt","kms:Decrypt","kms:ReEncrypt*","kms:GenerateDataKey*","kms:DescribeKey"],
		   "Resource":["arn:aws:kms:*:111122223333:key/*","arn:aws:kms:*:444455556666:key/*"]}]`,
		`{"Effect":"Deny","Action":["kms:*CustomKeyStore","kms:ScheduleKeyDeletion"],"Resource":"*"}`)
}

func BenchmarkEvaluate(b *testing.B) {
	docs := benchmarkDocuments(b)
	b.ReportAllocs()
	for b.Loop() {
		if policy.Evaluate(docs, "kms:GenerateDataKey", keyARN) != policy.Allow {
			b.Fatal("not allowed")
		}
	}
}
