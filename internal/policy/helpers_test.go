package policy_test

import (
	"strings"
	"testing"

	"kastellan.dev/internal/policy"
)

const (
	owner   = "111122223333"
	other   = "444455556666"
	keyARN  = "arn:aws:kms:eu-central-1:" + owner + ":key/1234abcd-12ab-34cd-56ef-1234567890ab"
	roleARN = "arn:aws:iam::" + owner + ":role/ops/Auditor"
)

// Those who ask.
var (
	alice    = &policy.Subject{Account: owner, ARN: "arn:aws:iam::" + owner + ":user/ops/alice"}
	bob      = &policy.Subject{Account: owner, ARN: "arn:aws:iam::" + owner + ":user/bob"}
	root     = &policy.Subject{Account: owner, ARN: "arn:aws:iam::" + owner + ":root", Root: true}
	auditor  = &policy.Subject{Account: owner, ARN: "arn:aws:sts::" + owner + ":assumed-role/Auditor/s1", Role: roleARN}
	fed      = &policy.Subject{Account: owner, ARN: "arn:aws:sts::" + owner + ":federated-user/fred"}
	stranger = &policy.Subject{Account: other, ARN: "arn:aws:iam::" + other + ":user/eve"}
	farRoot  = &policy.Subject{Account: other, ARN: "arn:aws:iam::" + other + ":root", Root: true}
	farRole  = &policy.Subject{Account: other, ARN: "arn:aws:sts::" + other + ":assumed-role/Reader/s1", Role: "arn:aws:iam::" + other + ":role/Reader"}
	service  = &policy.Subject{Service: "logs.amazonaws.com"}
	provider = &policy.Subject{Provider: "arn:aws:iam::" + owner + ":oidc-provider/login.example.com"}
)

// values are the condition keys of a request, with names in lower case.
type values map[string][]string

func (v values) Lookup(key string) ([]string, bool) {
	found, ok := v[key]
	return found, ok
}

type parser func([]byte) (*policy.Document, error)

// must parses one statement, or several beside each other.
func must(t testing.TB, parse parser, statements string) *policy.Document {
	t.Helper()
	d, err := parse([]byte(`{"Version":"2012-10-17","Statement":[` + statements + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// identityPolicies has each string as a policy; allow and the like are words for common ones.
func identityPolicies(t testing.TB, statements ...string) []*policy.Document {
	t.Helper()
	var docs []*policy.Document
	for _, s := range statements {
		docs = append(docs, must(t, policy.ParseIdentity, s))
	}
	return docs
}

// Statements of identity policies.
const (
	allowAll     = `{"Effect":"Allow","Action":"*","Resource":"*"}`
	allowEncrypt = `{"Effect":"Allow","Action":"kms:Encrypt","Resource":"*"}`
	allowDecrypt = `{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*"}`
	denyEncrypt  = `{"Effect":"Deny","Action":"kms:Encrypt","Resource":"*"}`
)

// allowing is a statement of a key policy that allows everything to a principal.
func allowing(principal string) string {
	return `{"Effect":"Allow","Principal":` + principal + `,"Action":"kms:*","Resource":"*"}`
}

func denying(principal string) string {
	return `{"Effect":"Deny","Principal":` + principal + `,"Action":"kms:*","Resource":"*"}`
}

func aws(names ...string) string { return `{"AWS":["` + strings.Join(names, `","`) + `"]}` }

func encrypt(s *policy.Subject) *policy.Request {
	return &policy.Request{Subject: s, Action: "kms:Encrypt", Resource: keyARN}
}
