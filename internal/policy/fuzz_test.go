package policy_test

import (
	"strings"
	"testing"

	"kastellan.dev/internal/policy"
)

var fuzzSeeds = []string{
	`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"}]}`,
	`{"Version":"2008-10-17","Id":"x","Statement":{"Sid":"s","Effect":"Deny","Principal":{"AWS":["111122223333","*"]},"NotAction":["kms:a?b"],"NotResource":"arn:**"}}`,
	`{"Version":"2012-10-17","Statement":{"Effect":"Deny","NotPrincipal":{"Service":"a.b"},"Action":"sts:*","Condition":{"ForAnyValue:ArnNotLikeIfExists":{"a:b":["arn:${a:c, '}'}:*","${*}${?}${$}"]}}}}`,
	`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"Bool":{"a:b":[true,"FALSE"]},"DateLessThan":{"a:b":["2024","1e3"]},"NumericEquals":{"a:b":-1.5e3},"IpAddress":{"a:b":["::ffff:1.2.3.4/100","10.0.0.0/8"]},"BinaryEquals":{"a:b":"AA=="},"Null":{"a:c":"true"}}}}`,
	`{"Statement":[{"Effect":"Allow","Effect":"Deny"}]}`,
	`{"Statement":[]}`, `[`, `null`, `{"\ud800":1}`,
}

// Whatever a document says, every kind of reader returns a document or an error
// that says so; what the stricter accept, its grammar accepts; and it decides
// in the same way each time, for everybody.
func FuzzParse(f *testing.F) {
	for _, seed := range fuzzSeeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		for name, kind := range kinds {
			d, err := kind.parse(doc)
			if (err == nil) != (d != nil) || err != nil && !strings.HasPrefix(err.Error(), "policy: ") {
				t.Fatalf("%s: document %v, error %v", name, d, err)
			}
			if d != nil {
				decideForEverybody(t, d, "kms:Encrypt", "1")
			}
		}
	})
}

func decideForEverybody(t *testing.T, d *policy.Document, action, value string) {
	for _, s := range []*policy.Subject{alice, root, auditor, fed, stranger, service, provider, {}} {
		in := policy.Inputs{Resource: d, Owner: owner, Identity: []*policy.Document{d}, Boundary: d, Session: []*policy.Document{d}}
		r := policy.Request{Subject: s, Action: action, Resource: keyARN, Values: everyKey{value}}
		first := policy.Decide(&in, &r)
		if first.By == policy.FromNone || first != policy.Decide(&in, &r) {
			t.Fatalf("%+v is not an outcome, or not the only one", first)
		}
		if s.ARN == "" && first.By == policy.FromIdentity && first.Decision == policy.Allow {
			t.Fatal("what is nobody is allowed by policies of its own")
		}
	}
}

// everyKey has one value for every condition key.
type everyKey [1]string

func (v everyKey) Lookup(string) ([]string, bool) { return v[:], true }

// A request is decided whatever it has for action and values, also where they are no text.
func FuzzDecide(f *testing.F) {
	for _, value := range []string{"", "2024-01-01T00:00:00Z", "arn:aws:s3:::b", "1e400", "fe80::1%eth0", "\xff*\xfe?", "::ffff:1.2.3.4", "true", "AA=="} {
		f.Add(fuzzSeeds[2], "kms:Encrypt", value)
		f.Add(fuzzSeeds[3], "kms:\u212aEY", value)
	}
	f.Fuzz(func(t *testing.T, doc, action, value string) {
		for _, kind := range kinds {
			if d, err := kind.parse([]byte(doc)); err == nil {
				decideForEverybody(t, d, action, value)
			}
		}
	})
}
