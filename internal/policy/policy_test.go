package policy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"kastellan.dev/internal/policy"
)

func TestParseKeepsWhatTheDocumentSays(t *testing.T) {
	t.Parallel()
	got, err := policy.Parse([]byte(`{
		"Version": "2012-10-17", "Id": "key-default-1",
		"Statement": [
			{"Sid": "Enable IAM", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root", "Service": ["a.amazonaws.com", "b.amazonaws.com"]},
			 "Action": "kms:*", "Resource": "*"},
			{"Effect": "Deny", "NotPrincipal": "*", "NotAction": ["kms:Encrypt"], "NotResource": ["arn:aws:kms:*:*:key/*"],
			 "Condition": {"Bool": {"aws:SecureTransport": false}, "NumericLessThan": {"kms:X": [7, "8"]}, "StringEquals": {"a": []}}},
			{"Effect": "Allow", "Principal": "*"}
		]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := &policy.Document{Version: policy.Version2012, ID: "key-default-1", Statements: []policy.Statement{
		{Sid: "Enable IAM", Effect: policy.EffectAllow, Principal: map[string][]string{
			"AWS": {"arn:aws:iam::111122223333:root"}, "Service": {"a.amazonaws.com", "b.amazonaws.com"}}},
		{Effect: policy.EffectDeny, NotPrincipal: map[string][]string{"AWS": {"*"}}, Condition: map[string]map[string][]string{
			"Bool": {"aws:SecureTransport": {"false"}}, "NumericLessThan": {"kms:X": {"7", "8"}}, "StringEquals": {"a": {}}}},
		{Effect: policy.EffectAllow, Principal: map[string][]string{"AWS": {"*"}}},
	}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(policy.Statement{})); diff != "" {
		t.Error(diff)
	}
}

func TestParseAcceptsOneStatementWithoutAListAndNoVersion(t *testing.T) {
	t.Parallel()
	got, err := policy.Parse([]byte(`{"Statement": {"Effect": "Allow"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if got.Version != policy.Version2008 || len(got.Statements) != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	// The statement that stands in the place of %.
	in := func(s string) string { return `{"Version": "2012-10-17", "Statement": [` + s + `]}` }
	tests := map[string]struct{ doc, want string }{
		"an empty document":              {``, "unexpected end of JSON"},
		"text that is not JSON":          {`{"Version": }`, "not valid JSON"},
		"text after the document":        {in(`{"Effect":"Allow"}`) + `{}`, "not valid JSON"},
		"a trailing comma":               {in(`{"Effect":"Allow"},`), "not valid JSON"},
		"invalid UTF-8":                  {"{\"Id\": \"\xff\"}", "UTF-8"},
		"a list":                         {`[]`, "the document must be an object"},
		"null":                           {`null`, "the document must be an object"},
		"an unknown version":             {`{"Version": "2024-01-01", "Statement": {"Effect":"Allow"}}`, `Version "2024-01-01"`},
		"a version that is a number":     {`{"Version": 2012, "Statement": {"Effect":"Allow"}}`, "Version must be a string"},
		"no statement":                   {`{"Version": "2012-10-17"}`, "no Statement"},
		"an empty list of statements":    {in(``), "no Statement"},
		"a statement that is a string":   {in(`"x"`), "statement 1: it must be an object"},
		"an unknown member":              {`{"version": "2012-10-17"}`, `unknown member "version"`},
		"an unknown statement member":    {in(`{"Effect":"Allow"},{"Effect":"Allow","action":"*"}`), `statement 2: it has an unknown member "action"`},
		"a member given twice":           {`{"Id":"a","Id":"a"}`, `member "Id" twice`},
		"a member given twice, escaped":  {in(`{"Effect":"Deny","\u0045ffect":"Allow"}`), `member "Effect" twice`},
		"a condition key given twice":    {in(`{"Effect":"Deny","Condition":{"Bool":{"a":"1","a":"2"}}}`), `"a" twice`},
		"an operator given twice":        {in(`{"Effect":"Deny","Condition":{"Bool":{},"Bool":{}}}`), `"Bool" twice`},
		"a principal type given twice":   {in(`{"Effect":"Deny","Principal":{"AWS":"a","AWS":"b"}}`), `"AWS" twice`},
		"no effect":                      {in(`{"Action":"*"}`), "Effect is missing"},
		"an unknown effect":              {in(`{"Effect":"allow"}`), `Effect "allow"`},
		"an effect that is a list":       {in(`{"Effect":["Allow"]}`), "Effect must be a string"},
		"Action and NotAction":           {in(`{"Effect":"Allow","Action":"a","NotAction":"b"}`), "both Action and NotAction"},
		"NotResource and Resource":       {in(`{"Effect":"Allow","NotResource":"a","Resource":"b"}`), "both NotResource and Resource"},
		"Principal and NotPrincipal":     {in(`{"Effect":"Allow","Principal":"*","NotPrincipal":"*"}`), "both Principal and NotPrincipal"},
		"an empty list of actions":       {in(`{"Effect":"Allow","NotAction":[]}`), "NotAction is an empty list"},
		"an empty action":                {in(`{"Effect":"Allow","Action":""}`), "Action has an empty string"},
		"an action that is null":         {in(`{"Effect":"Allow","Action":null}`), "Action must be a string or a list of strings"},
		"an action that is an object":    {in(`{"Effect":"Allow","Action":{}}`), "Action must be"},
		"a list within a list":           {in(`{"Effect":"Allow","Resource":[["*"]]}`), "Resource must be"},
		"a principal that is a name":     {in(`{"Effect":"Allow","Principal":"alice"}`), "Principal must be an object"},
		"an unknown principal type":      {in(`{"Effect":"Allow","Principal":{"IAM":"alice"}}`), `unknown type "IAM"`},
		"an empty principal":             {in(`{"Effect":"Allow","Principal":{}}`), "Principal is empty"},
		"a principal with no name":       {in(`{"Effect":"Allow","Principal":{"AWS":[]}}`), "Principal AWS is an empty list"},
		"a condition that is a list":     {in(`{"Effect":"Allow","Condition":[]}`), "Condition must be an object"},
		"an operator that is a string":   {in(`{"Effect":"Allow","Condition":{"Bool":"x"}}`), "Condition Bool must be an object"},
		"a condition value that is null": {in(`{"Effect":"Allow","Condition":{"Bool":{"k":null}}}`), "Condition Bool k must be a value"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := policy.Parse([]byte(test.doc))
			wantError(t, err, test.want)
			if d != nil {
				t.Error("a document is returned beside the error")
			}
		})
	}
}

func TestParseIdentityRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ statement, want string }{
		"a principal":            {`"Action":"*","Resource":"*","Principal":"*"`, "must not have a Principal"},
		"a negated principal":    {`"Action":"*","Resource":"*","NotPrincipal":"*"`, "must not have a Principal"},
		"a condition":            {`"Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"true"}}`, "conditions are not evaluated yet"},
		"an empty condition":     {`"Action":"*","Resource":"*","Condition":{}`, "conditions are not evaluated yet"},
		"no action":              {`"Resource":"*"`, "Action or NotAction is missing"},
		"no resource":            {`"Action":"*"`, "Resource or NotResource is missing"},
		"an action of nobody":    {`"Action":"Encrypt","Resource":"*"`, `action "encrypt"`},
		"a wildcard for service": {`"Action":"k*:Encrypt","Resource":"*"`, `action "k*:encrypt"`},
		"a nameless action":      {`"NotAction":"kms:","Resource":"*"`, `action "kms:"`},
		"a bare key id":          {`"Action":"*","Resource":["*","1234abcd"]`, `resource "1234abcd"`},
		"a policy variable":      {`"Action":"*","NotResource":"arn:aws:kms:*:*:alias/${aws:username}"`, "variables are not evaluated yet"},
		"a Sid twice":            {`"Sid":"a","Action":"*","Resource":"*"},{"Effect":"Deny","Sid":"a","Action":"*","Resource":"*"`, `Sid "a" is used twice`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doc := `{"Version":"2012-10-17","Statement":[{"Effect":"Deny",` + test.statement + `}]}`
			_, err := policy.ParseIdentity([]byte(doc))
			wantError(t, err, test.want)
			if _, err := policy.Parse([]byte(doc)); err != nil {
				t.Errorf("the document is not even a policy: %v", err)
			}
		})
	}
}

func TestParseIdentityAcceptsSeveralStatementsWithoutSid(t *testing.T) {
	t.Parallel()
	_, err := policy.ParseIdentity([]byte(`{"Version":"2008-10-17","Statement":[
		{"Effect":"Allow","Action":["kms:*"],"Resource":"arn:aws:kms:*:*:alias/${literal in 2008}"},
		{"Effect":"Deny","NotAction":"*","NotResource":"*"}]}`))
	if err != nil {
		t.Error(err)
	}
}

func TestCheckKeyPolicy(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ doc, want string }{
		"the default policy of a key": {`{"Version":"2012-10-17","Id":"key-default-1","Statement":[{"Sid":"Enable IAM User Permissions","Effect":"Allow",
			"Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"}]}`, ""},
		"a negated principal":                           {`{"Statement":{"Effect":"Deny","NotPrincipal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}}`, ""},
		"a statement that has no effect for its gaps":   {`{"Statement":{"Effect":"Allow","Principal":"*"}}`, ""},
		"conditions, which are kept":                    {`{"Statement":{"Effect":"Allow","Principal":"*","Condition":{"Bool":{"a":true}}}}`, ""},
		"no principal":                                  {`{"Statement":[{"Effect":"Allow","Principal":"*"},{"Effect":"Allow","Action":"*","Resource":"*"}]}`, "statement 2: Principal is missing"},
		"no effect":                                     {`{"Statement":{"Principal":"*"}}`, "Effect is missing"},
		"text that is not JSON":                         {`{`, "not valid JSON"},
		"an unknown effect":                             {`{"Statement":{"Effect":"Permit","Principal":"*"}}`, `Effect "Permit"`},
		"a principal twice, of which one would be lost": {`{"Statement":{"Effect":"Allow","Principal":{"AWS":"1"},"Principal":"*"}}`, "twice"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := policy.CheckKeyPolicy(test.doc)
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, test.want)
		})
	}
}

func wantError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", text)
	}
	if !strings.HasPrefix(err.Error(), "policy: ") || !strings.Contains(err.Error(), text) {
		t.Errorf("error %q does not say %q", err, text)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"}]}`,
		`{"Version":"2008-10-17","Id":"x","Statement":{"Sid":"s","Effect":"Deny","Principal":{"AWS":["1","2"]},"NotAction":["a?b"],"NotResource":"**"}}`,
		`{"Statement":{"Effect":"Deny","NotPrincipal":"*","Condition":{"Bool":{"a":[true,1,"x"]}}}}`,
		`{"Statement":[{"Effect":"Allow","Effect":"Deny"}]}`,
		`{"Statement":[]}`, `[`, `null`, `{"\ud800":1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		d, err := policy.Parse(doc)
		if (err == nil) != (d != nil) {
			t.Fatalf("document %v, error %v", d, err)
		}
		if err != nil {
			if _, err := policy.ParseIdentity(doc); err == nil {
				t.Fatal("ParseIdentity accepts what Parse refuses")
			}
			return
		}
		docs := []*policy.Document{d}
		decision := policy.Evaluate(docs, "kms:Encrypt", "arn:aws:kms:us-east-1:111122223333:key/x")
		if decision == policy.Allow && !hasPlainAllow(d) {
			t.Fatal("access without a statement that allows it plainly")
		}
	})
}

func hasPlainAllow(d *policy.Document) bool {
	for _, s := range d.Statements {
		if s.Effect == policy.EffectAllow && s.Principal == nil && s.NotPrincipal == nil && s.Condition == nil {
			return true
		}
	}
	return false
}
