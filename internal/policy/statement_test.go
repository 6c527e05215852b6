package policy_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"kastellan.dev/internal/policy"
)

// identityDecision decides by one identity policy.
func identityDecision(d *policy.Document, action, resource string, v policy.Values) policy.Decision {
	return policy.IdentityAllows(&policy.Inputs{Identity: []*policy.Document{d}},
		&policy.Request{Subject: alice, Action: action, Resource: resource, Values: v})
}

func TestActionsAndResources(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		statements       string
		action, resource string
		want             policy.Decision
	}{
		"a star allows": {allowAll, "kms:Encrypt", keyARN, policy.Allow},
		"a star covers an action without resource":    {allowAll, "kms:CreateKey", "*", policy.Allow},
		"a key does not cover an action without one":  {`{"Effect":"Allow","Action":"kms:*","Resource":"` + keyARN + `"}`, "kms:CreateKey", "*", policy.ImplicitDeny},
		"a deny wins over an earlier allow":           {allowAll + "," + denyEncrypt, "kms:Encrypt", keyARN, policy.ExplicitDeny},
		"a deny wins over a later allow":              {denyEncrypt + "," + allowAll, "kms:Encrypt", keyARN, policy.ExplicitDeny},
		"a deny of another action does not matter":    {allowAll + "," + denyEncrypt, "kms:Decrypt", keyARN, policy.Allow},
		"actions ignore case in the policy":           {`{"Effect":"Allow","Action":"KMS:encrypt","Resource":"*"}`, "kms:Encrypt", keyARN, policy.Allow},
		"actions ignore case in a deny with stars":    {allowAll + `,{"Effect":"Deny","Action":"kMs:eN*","Resource":"*"}`, "kms:Encrypt", keyARN, policy.ExplicitDeny},
		"case folds in ASCII only":                    {"{\"Effect\":\"Allow\",\"Action\":\"\u212ams:Encrypt\",\"Resource\":\"*\"}", "kms:Encrypt", keyARN, policy.ImplicitDeny},
		"resources mind case":                         {`{"Effect":"Allow","Action":"*","Resource":"arn:aws:kms:*:*:KEY/*"}`, "kms:Encrypt", keyARN, policy.ImplicitDeny},
		"a prefix of actions":                         {`{"Effect":"Allow","Action":"kms:GenerateDataKey*","Resource":"*"}`, "kms:GenerateDataKeyWithoutPlaintext", keyARN, policy.Allow},
		"a prefix covers the name itself":             {`{"Effect":"Allow","Action":"kms:GenerateDataKey*","Resource":"*"}`, "kms:GenerateDataKey", keyARN, policy.Allow},
		"an action is matched whole":                  {`{"Effect":"Allow","Action":"kms:Generate","Resource":"*"}`, "kms:GenerateDataKey", keyARN, policy.ImplicitDeny},
		"one of several actions":                      {`{"Effect":"Allow","Action":["kms:Decrypt","kms:Encrypt"],"Resource":"*"}`, "kms:Encrypt", keyARN, policy.Allow},
		"one of several, some with stars":             {`{"Effect":"Allow","Action":["kms:D*","kms:Encrypt"],"Resource":"*"}`, "kms:Decrypt", keyARN, policy.Allow},
		"the one without a star":                      {`{"Effect":"Allow","Action":["kms:D*","kms:Encrypt"],"Resource":"*"}`, "kms:Encrypt", keyARN, policy.Allow},
		"a question mark is one character":            {`{"Effect":"Allow","Action":"kms:?ncrypt","Resource":"*"}`, "kms:Encrypt", keyARN, policy.Allow},
		"a question mark is not none":                 {`{"Effect":"Allow","Action":"kms:Encrypt?","Resource":"*"}`, "kms:Encrypt", keyARN, policy.ImplicitDeny},
		"a resource with stars inside":                {`{"Effect":"Allow","Action":"*","Resource":"arn:aws:kms:*:111122223333:key/1234*"}`, "kms:Encrypt", keyARN, policy.Allow},
		"a resource of another account":               {`{"Effect":"Allow","Action":"*","Resource":"arn:aws:kms:*:444455556666:key/*"}`, "kms:Encrypt", keyARN, policy.ImplicitDeny},
		"an excepted action is not allowed":           {`{"Effect":"Allow","NotAction":["kms:Decrypt","kms:Enc*"],"Resource":"*"}`, "kms:Encrypt", keyARN, policy.ImplicitDeny},
		"an action excepted by name is not allowed":   {`{"Effect":"Allow","NotAction":["kms:Decrypt","kms:encrypt"],"Resource":"*"}`, "kms:Encrypt", keyARN, policy.ImplicitDeny},
		"what is not excepted is allowed":             {`{"Effect":"Allow","NotAction":"kms:Decrypt","Resource":"*"}`, "kms:Encrypt", keyARN, policy.Allow},
		"an excepted resource is not denied":          {allowAll + `,{"Effect":"Deny","Action":"*","NotResource":"` + keyARN + `"}`, "kms:Encrypt", keyARN, policy.Allow},
		"what is not excepted is denied":              {allowAll + `,{"Effect":"Deny","Action":"*","NotResource":"arn:other"}`, "kms:Encrypt", keyARN, policy.ExplicitDeny},
		"a star that is excepted leaves nothing":      {`{"Effect":"Allow","Action":"*","NotResource":"*"}`, "kms:Encrypt", keyARN, policy.ImplicitDeny},
		"a resource without variables in 2012 is one": {`{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::$bucket/{x}"}`, "s3:GetObject", "arn:aws:s3:::$bucket/{x}", policy.Allow},
		"a question mark is a whole character":        {`{"Effect":"Allow","Action":"*","Resource":"arn:aws:kms:r:a:alias/?"}`, "kms:Encrypt", "arn:aws:kms:r:a:alias/é", policy.Allow},
		"two question marks are not one character":    {`{"Effect":"Allow","Action":"*","Resource":"arn:aws:kms:r:a:alias/??"}`, "kms:Encrypt", "arn:aws:kms:r:a:alias/é", policy.ImplicitDeny},
		"nor behind a star":                           {`{"Effect":"Allow","Action":"*","Resource":"arn:aws:kms:r:a:alias/*??"}`, "kms:Encrypt", "arn:aws:kms:r:a:alias/€", policy.ImplicitDeny},
		"nor where a star takes more":                 {`{"Effect":"Allow","Action":"*","Resource":"arn:aws:kms:r:a:alias/*??bc"}`, "kms:Encrypt", "arn:aws:kms:r:a:alias/€bc", policy.ImplicitDeny},
		"bytes that are no text are not wildcards":    {`{"Effect":"Allow","Action":"*","Resource":"arn:aws:kms:r:a:alias/a"}`, "kms:Encrypt", "arn:aws:kms:r:a:alias/\xff", policy.ImplicitDeny},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := must(t, policy.ParseIdentity, test.statements)
			if got := identityDecision(d, test.action, test.resource, nil); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestAStatementOfAKeyPolicyWithoutActionOrResourceDoesNothing(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"no action":              `{"Effect":"Deny","Principal":"*","Resource":"*"}`,
		"no resource":            `{"Effect":"Deny","Principal":"*","Action":"kms:*"}`,
		"neither":                `{"Effect":"Deny","Principal":"*"}`,
		"no resource, NotAction": `{"Effect":"Deny","Principal":"*","NotAction":"kms:Decrypt"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := decision{subject: alice, resource: statement + "," + allowing(aws(alice.ARN)), want: allowedByResource}
			if got := d.decide(t); got != d.want {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestAKeyPolicyKnowsItsKeyByItsARN(t *testing.T) {
	t.Parallel()
	runDecisions(t, map[string]decision{
		"its own":       {subject: alice, resource: `{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"` + keyARN + `"}`, want: allowedByResource},
		"another key's": {subject: alice, resource: `{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"arn:aws:kms:eu-central-1:111122223333:key/x"}`, want: noResource},
	})
}

func TestATrustPolicyIsAboutItsRole(t *testing.T) {
	t.Parallel()
	in := policy.Inputs{Owner: owner, Resource: must(t, policy.ParseTrust,
		`{"Effect":"Allow","Principal":{"AWS":"`+alice.ARN+`","Federated":"`+provider.Provider+`"},"Action":["sts:AssumeRole","sts:AssumeRoleWithWebIdentity","sts:TagSession"]}`)}
	for name, test := range map[string]struct {
		subject *policy.Subject
		action  string
		want    policy.Outcome
	}{
		"whom it names may assume it":                 {alice, "sts:AssumeRole", allowedByResource},
		"others may not":                              {bob, "sts:AssumeRole", noResource},
		"whom its provider vouches for may assume it": {provider, "sts:AssumeRoleWithWebIdentity", allowedByResource},
		"not in another way":                          {provider, "sts:AssumeRoleWithSAML", noResource},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := policy.Request{Subject: test.subject, Action: test.action, Resource: roleARN}
			if got := policy.Decide(&in, &r); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

// Wildcards mean what the same regular expression means.
func TestWildcardsAgreeWithRegularExpressions(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringMatching(`[aAé€*?]{1,12}`).Draw(t, "pattern")
		text := rapid.StringMatching(`[aAé€]{0,14}`).Draw(t, "text")
		quoted := strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(pattern))

		check(t, map[string]any{"Action": "*", "Resource": "arn:" + pattern}, "kms:Encrypt", "arn:"+text,
			regexp.MustCompile(`(?s)^`+quoted+`$`).MatchString(text))
		if onlyASCII := strings.Trim(pattern+text, "aA*?") == ""; onlyASCII {
			check(t, map[string]any{"Action": "k:" + pattern, "Resource": "*"}, "K:"+text, "*",
				regexp.MustCompile(`(?si)^`+quoted+`$`).MatchString(text))
		}
	})
}

func check(t *rapid.T, statement map[string]any, action, resource string, match bool) {
	statement["Effect"] = "Allow"
	doc, err := json.Marshal(map[string]any{"Statement": statement})
	if err != nil {
		t.Fatal(err)
	}
	d, err := policy.ParseIdentity(doc)
	if err != nil {
		t.Fatal(err)
	}
	if got := identityDecision(d, action, resource, nil); (got == policy.Allow) != match {
		t.Fatalf("%s: %q on %q: got %v, want a match: %v", doc, action, resource, got, match)
	}
}

// A matcher that gives every star another try would not return from this.
func TestHostilePatternsTakeLittleTime(t *testing.T) {
	t.Parallel()
	d := must(t, policy.ParseIdentity, `{"Effect":"Allow","Action":"*","Resource":"arn:`+strings.Repeat("a*", 1000)+`b"}`)
	if got := identityDecision(d, "kms:Encrypt", "arn:"+strings.Repeat("a", 2000), nil); got != policy.ImplicitDeny {
		t.Errorf("got %v", got)
	}
}
