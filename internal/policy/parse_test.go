package policy_test

import (
	"strings"
	"testing"

	"kastellan.dev/internal/policy"
)

// kinds are the functions that read policies, and what a statement of theirs has
// beside its effect when it is as short as can be.
var kinds = map[string]struct {
	parse   parser
	minimal string
}{
	"identity":   {policy.ParseIdentity, `"Action":"*","Resource":"*"`},
	"session":    {policy.ParseSession, `"Action":"*","Resource":"*"`},
	"key policy": {policy.ParseKeyPolicy, `"Principal":"*"`},
	"trust":      {policy.ParseTrust, `"Principal":"*","Action":"sts:AssumeRole"`},
}

func TestParse(t *testing.T) {
	t.Parallel()
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := kind.parse([]byte(`{"Version":"2012-10-17","Id":"key-default-1","Statement":[{"Sid":"A","Effect":"Allow",` + kind.minimal + `},
				{"Effect":"Deny",` + kind.minimal + `}]}`))
			if err != nil {
				t.Fatal(err)
			}
			if d.Version != policy.Version2012 || d.ID != "key-default-1" || d.Statements != 2 {
				t.Errorf("got %+v", d)
			}
			d, err = kind.parse([]byte(`{"Statement": {"Effect":"Allow",` + kind.minimal + `}}`))
			if err != nil {
				t.Fatal(err)
			}
			if d.Version != policy.Version2008 || d.Statements != 1 {
				t.Errorf("without version and list: got %+v", d)
			}
		})
	}
}

// No kind of policy may have these.
func TestEveryParseRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ doc, want string }{ // <> is what a statement has to have
		"an empty document":              {``, "unexpected end of JSON"},
		"text that is not JSON":          {`{"Version": }`, "not valid JSON"},
		"text after the document":        {`{"Statement":{"Effect":"Allow",<>}}{}`, "not valid JSON"},
		"a trailing comma":               {`{"Statement":[{"Effect":"Allow",<>},]}`, "not valid JSON"},
		"invalid UTF-8":                  {"{\"Id\": \"\xff\"}", "UTF-8"},
		"a list":                         {`[]`, "the document must be an object"},
		"null":                           {`null`, "the document must be an object"},
		"an unknown version":             {`{"Version": "2024-01-01", "Statement": {"Effect":"Allow",<>}}`, `Version "2024-01-01"`},
		"a version that is a number":     {`{"Version": 2012, "Statement": {"Effect":"Allow",<>}}`, "Version must be a string"},
		"no statement":                   {`{"Version": "2012-10-17"}`, "no Statement"},
		"an empty list of statements":    {`{"Statement":[]}`, "no Statement"},
		"a statement that is a string":   {`{"Statement":["x"]}`, "statement 1: it must be an object"},
		"an unknown member":              {`{"version": "2012-10-17"}`, `unknown member "version"`},
		"an unknown statement member":    {`{"Statement":[{"Effect":"Allow",<>},{"Effect":"Allow","action":"*"}]}`, `statement 2: it has an unknown member "action"`},
		"a member given twice":           {`{"Id":"a","Id":"a"}`, `member "Id" twice`},
		"a member given twice, escaped":  {`{"Statement":{"Effect":"Deny","\u0045ffect":"Allow",<>}}`, `member "Effect" twice`},
		"a condition key given twice":    {`{"Statement":{"Effect":"Deny",<>,"Condition":{"Bool":{"a:b":"true","a:b":"false"}}}}`, `"a:b" twice`},
		"an operator given twice":        {`{"Statement":{"Effect":"Deny",<>,"Condition":{"Bool":{},"Bool":{}}}}`, `"Bool" twice`},
		"no effect":                      {`{"Statement":{<>}}`, "Effect is missing"},
		"an unknown effect":              {`{"Statement":{"Effect":"allow",<>}}`, `Effect "allow"`},
		"an effect that is a list":       {`{"Statement":{"Effect":["Allow"],<>}}`, "Effect must be a string"},
		"an empty list of actions":       {`{"Statement":{"Effect":"Allow","NotAction":[]}}`, "NotAction is an empty list"},
		"an empty action":                {`{"Statement":{"Effect":"Allow","Action":""}}`, "Action has an empty string"},
		"an action that is null":         {`{"Statement":{"Effect":"Allow","Action":null}}`, "Action must be a string or a list of strings"},
		"an action that is an object":    {`{"Statement":{"Effect":"Allow","Action":{}}}`, "Action must be"},
		"a list within a list":           {`{"Statement":{"Effect":"Allow","Resource":[["*"]]}}`, "Resource must be"},
		"Action and NotAction":           {`{"Statement":{"Effect":"Allow","Action":"a:b","NotAction":"a:c"}}`, "both Action and NotAction"},
		"NotResource and Resource":       {`{"Statement":{"Effect":"Allow","NotResource":"a","Resource":"b"}}`, "both Resource and NotResource"},
		"Principal and NotPrincipal":     {`{"Statement":{"Effect":"Deny","Principal":"*","NotPrincipal":"*"}}`, "both Principal and NotPrincipal"},
		"a principal that is a name":     {`{"Statement":{"Effect":"Allow","Principal":"alice"}}`, "Principal must be an object"},
		"an unknown principal type":      {`{"Statement":{"Effect":"Allow","Principal":{"IAM":"alice"}}}`, `unknown type "IAM"`},
		"a principal type given twice":   {`{"Statement":{"Effect":"Deny","Principal":{"AWS":"*","AWS":"*"}}}`, `"AWS" twice`},
		"an empty principal":             {`{"Statement":{"Effect":"Allow","Principal":{}}}`, "Principal is empty"},
		"a principal with no name":       {`{"Statement":{"Effect":"Allow","Principal":{"AWS":[]}}}`, "Principal AWS is an empty list"},
		"a condition that is a list":     {`{"Statement":{"Effect":"Allow",<>,"Condition":[]}}`, "Condition must be an object"},
		"an operator that is a string":   {`{"Statement":{"Effect":"Allow",<>,"Condition":{"Bool":"x"}}}`, "Condition Bool must be an object"},
		"a condition value that is null": {`{"Statement":{"Effect":"Allow",<>,"Condition":{"Bool":{"a:b":null}}}}`, "Condition Bool a:b must be a value"},
		"an action of nobody":            {`{"Statement":{"Effect":"Allow",<.>,"Action":"Encrypt"}}`, `action "Encrypt"`},
		"a wildcard for service":         {`{"Statement":{"Effect":"Allow",<.>,"Action":"k*:Encrypt"}}`, `action "k*:Encrypt"`},
		"a nameless action":              {`{"Statement":{"Effect":"Allow",<.>,"NotAction":"sts:"}}`, `action "sts:"`},
	}
	for about, kind := range kinds {
		for name, test := range tests {
			t.Run(about+": "+name, func(t *testing.T) {
				t.Parallel()
				others := strings.Split(kind.minimal, `,"Action"`)[0]
				if strings.HasPrefix(kind.minimal, `"Action"`) {
					others = `"Resource":"*"`
				}
				doc := strings.NewReplacer("<>", kind.minimal, "<.>", others).Replace(test.doc)
				refused(t, kind.parse, doc, test.want)
			})
		}
	}
}

func refused(t *testing.T, parse parser, doc, want string) {
	t.Helper()
	d, err := parse([]byte(doc))
	if err == nil {
		t.Fatalf("%s: no error; want one with %q", doc, want)
	}
	if !strings.HasPrefix(err.Error(), "policy: ") || !strings.Contains(err.Error(), want) {
		t.Errorf("error %q does not say %q", err, want)
	}
	if d != nil {
		t.Error("a document is returned beside the error")
	}
}

func TestEachKindRefusesWhatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		parse           parser
		statement, want string
	}{
		"identity: a principal":         {policy.ParseIdentity, `"Action":"*","Resource":"*","Principal":"*"`, "an identity policy must not have a Principal"},
		"identity: a negated principal": {policy.ParseIdentity, `"Action":"*","Resource":"*","NotPrincipal":"*"`, "must not have a Principal"},
		"identity: no action":           {policy.ParseIdentity, `"Resource":"*"`, "Action or NotAction is missing"},
		"identity: no resource":         {policy.ParseIdentity, `"Action":"*"`, "Resource or NotResource is missing"},
		"identity: a bare key id":       {policy.ParseIdentity, `"Action":"*","Resource":["*","1234abcd"]`, `resource "1234abcd"`},
		"identity: a Sid with a space":  {policy.ParseIdentity, `"Sid":"a b","Action":"*","Resource":"*"`, `Sid "a b"`},
		"identity: a Sid twice":         {policy.ParseIdentity, `"Sid":"a","Action":"*","Resource":"*"},{"Effect":"Deny","Sid":"a","Action":"*","Resource":"*"`, `Sid "a" is used twice`},
		"session: a principal":          {policy.ParseSession, `"Action":"*","Resource":"*","Principal":"*"`, "must not have a Principal"},
		"key policy: no principal":      {policy.ParseKeyPolicy, `"Action":"*","Resource":"*"`, "Principal is missing"},
		"trust: no principal":           {policy.ParseTrust, `"Action":"sts:AssumeRole"`, "Principal is missing"},
		"trust: no action":              {policy.ParseTrust, `"Principal":"*"`, "Action or NotAction is missing"},
		"trust: a resource":             {policy.ParseTrust, `"Principal":"*","Action":"sts:AssumeRole","Resource":"*"`, "a trust policy must not have a Resource"},
		"trust: another's action":       {policy.ParseTrust, `"Principal":"*","Action":["sts:AssumeRole","kms:Encrypt"]`, `action "kms:Encrypt" is not one of sts`},
		"trust: every action":           {policy.ParseTrust, `"Principal":"*","Action":"*"`, `action "*" is not one of sts`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused(t, test.parse, `{"Version":"2012-10-17","Statement":[{"Effect":"Deny",`+test.statement+`}]}`, test.want)
		})
	}
	const except = `{"Statement":{"Effect":"Allow","NotPrincipal":{"AWS":"111122223333"},"Action":"sts:AssumeRole"}}`
	refused(t, policy.ParseKeyPolicy, except, "NotPrincipal is for Deny only")
	refused(t, policy.ParseTrust, except, "NotPrincipal is for Deny only")
}

func TestParseIdentityAcceptsSeveralStatementsWithoutSid(t *testing.T) {
	t.Parallel()
	must(t, policy.ParseIdentity, `{"Effect":"Allow","Action":["kms:*"],"Resource":"arn:aws:kms:*:*:alias/${aws:username}"},
		{"Effect":"Deny","NotAction":"*","NotResource":"*"}`)
}

func TestPrincipalsThatAreAccepted(t *testing.T) {
	t.Parallel()
	for _, p := range []string{
		`"*"`, `{"AWS":"*"}`, `{"AWS":["*","111122223333"]}`,
		aws("111122223333"),
		aws("arn:aws:iam::111122223333:root"),
		aws("arn:aws-cn:iam::111122223333:root"),
		aws("arn:aws-us-gov:iam::111122223333:user/alice"),
		aws("arn:aws:iam::111122223333:user/a/b/alice+x=y,z.@-_"),
		aws("arn:aws:iam::111122223333:role/aws-service-role/ops.example.com/R"),
		aws("arn:aws:sts::111122223333:assumed-role/R/session@example.com"),
		aws("arn:aws:sts::111122223333:federated-user/fred"),
		aws("AROACKCEVSQ6C2EXAMPLE"), aws("AIDACKCEVSQ6C2EXAMPLE"),
		`{"Service":"logs.eu-central-1.amazonaws.com"}`, `{"Service":["a.amazonaws.com","b.amazonaws.com"],"AWS":"111122223333"}`,
		`{"Federated":"cognito-identity.amazonaws.com"}`,
		`{"Federated":"arn:aws:iam::111122223333:oidc-provider/login.example.com/id/X"}`,
		`{"Federated":"arn:aws:iam::111122223333:saml-provider/ADFS"}`,
		`{"CanonicalUser":"79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be"}`,
	} {
		must(t, policy.ParseKeyPolicy, allowing(p))
		must(t, policy.ParseKeyPolicy, `{"Sid":"all but these","Effect":"Deny","NotPrincipal":`+p+`,"Action":"kms:*","Resource":"*"}`)
		must(t, policy.ParseTrust, `{"Effect":"Allow","Principal":`+p+`,"Action":["sts:AssumeRole","sts:Tag*"]}`)
	}
}

func TestPrincipalsThatAreRefused(t *testing.T) {
	t.Parallel()
	for p, want := range map[string]string{
		aws("arn:aws:iam::111122223333:group/admins"):     "a group is not a principal",
		aws("arn:aws:iam::111122223333:user/*"):           "wildcard",
		aws("arn:aws:iam::111122223333:*"):                "wildcard",
		aws("arn:aws:iam::*:root"):                        "wildcard",
		aws("arn:aws:sts::111122223333:assumed-role/R/*"): "wildcard",
		aws("1111*"):                         "wildcard",
		aws("11112222333"):                   "neither an account's id nor the ARN",
		aws("1111222233334"):                 "neither an account's id nor the ARN",
		aws("alice"):                         "neither an account's id nor the ARN",
		aws("arn:aws:iam::11112222333:root"): "neither an account's id nor the ARN",
		aws("arn:aws:iam:eu-central-1:111122223333:root"):           "neither an account's id nor the ARN",
		aws("arn:azure:iam::111122223333:root"):                     "neither an account's id nor the ARN",
		aws("arn:aws:s3:::bucket"):                                  "neither an account's id nor the ARN",
		aws("arn:aws:iam::111122223333:user/"):                      "neither an account's id nor the ARN",
		aws("arn:aws:iam::111122223333:user/a/"):                    "neither an account's id nor the ARN",
		aws("arn:aws:iam::111122223333:user/a b"):                   "neither an account's id nor the ARN",
		aws("arn:aws:iam::111122223333:user"):                       "neither an account's root nor",
		aws("arn:aws:iam::111122223333:root/x"):                     "neither an account's root nor",
		aws("arn:aws:iam::111122223333:policy/x"):                   "neither an account's root nor",
		aws("arn:aws:sts::111122223333:role/R"):                     "neither an account's root nor",
		aws("arn:aws:iam::111122223333:assumed-role/R/s"):           "neither an account's root nor",
		aws("arn:aws:sts::111122223333:assumed-role/R"):             "neither an account's root nor",
		aws("arn:aws:sts::111122223333:assumed-role/p/R/s"):         "neither an account's root nor",
		aws("arn:aws:iam::111122223333:oidc-provider/x.com"):        "neither an account's root nor",
		`{"Service":"*"}`:                                           "not valid as Service",
		`{"Service":"logs"}`:                                        "not valid as Service",
		`{"Federated":"*"}`:                                         "not valid as Federated",
		`{"Federated":"arn:aws:iam::111122223333:user/alice"}`:      "not valid as Federated",
		`{"Federated":"arn:aws:iam::111122223333:saml-provider/*"}`: "not valid as Federated",
		`{"CanonicalUser":"alice"}`:                                 "not valid as CanonicalUser",
	} {
		refused(t, policy.ParseKeyPolicy, `{"Statement":`+allowing(p)+`}`, want)
	}
}

func TestConditionsThatAreRefused(t *testing.T) {
	t.Parallel()
	for condition, want := range map[string]string{
		`"StringIs":{"a:b":"x"}`:                             "Condition StringIs a:b: the operator is unknown",
		`"":{"a:b":"x"}`:                                     "the operator is unknown",
		`"IfExists":{"a:b":"x"}`:                             "the operator is unknown",
		`"StringEqualsIfExistsIfExists":{"a:b":"x"}`:         "the operator is unknown",
		`"ForSomeValues:StringEquals":{"a:b":"x"}`:           "neither ForAnyValue nor ForAllValues",
		`"ForAnyValue:ForAllValues:StringEquals":{"a:b":""}`: "the operator is unknown",
		`"NullIfExists":{"a:b":"true"}`:                      "Null takes no prefix",
		`"ForAnyValue:Null":{"a:b":"true"}`:                  "Null takes no prefix",
		`"BinaryNotEquals":{"a:b":"x"}`:                      "the operator is unknown",
		`"StringEquals":{"b":"x"}`:                           "not of the form service:key",
		`"StringEquals":{":b":"x"}`:                          "not of the form service:key",
		`"StringEquals":{"a:":"x"}`:                          "not of the form service:key",
		`"NumericEquals":{"a:b":"seven"}`:                    `"seven" is not a number`,
		`"NumericEquals":{"a:b":[7,""]}`:                     `"" is not a number`,
		`"NumericEquals":{"a:b":"0x7"}`:                      "not a number",
		`"NumericEquals":{"a:b":"Infinity"}`:                 "not a number",
		`"NumericEquals":{"a:b":"NaN"}`:                      "not a number",
		`"NumericEquals":{"a:b":"1e999"}`:                    "not a number",
		`"NumericEquals":{"a:b":"${a:c}"}`:                   "not a number",
		`"NumericEquals":{"a:b":true}`:                       "not a number",
		`"DateLessThan":{"a:b":"yesterday"}`:                 "not a date",
		`"DateLessThan":{"a:b":"2023-02-29T00:00:00Z"}`:      "not a date",
		`"DateLessThan":{"a:b":"01/02/2024"}`:                "not a date",
		`"DateLessThan":{"a:b":""}`:                          "not a date",
		`"DateLessThan":{"a:b":"1e300"}`:                     "not a date",
		`"Bool":{"a:b":"yes"}`:                               "not true or false",
		`"Bool":{"a:b":1}`:                                   "not true or false",
		`"Null":{"a:b":"x"}`:                                 "not true or false",
		`"BinaryEquals":{"a:b":"a"}`:                         "not base64",
		`"BinaryEquals":{"a:b":"****"}`:                      "not base64",
		`"IpAddress":{"a:b":"203.0.113.0/33"}`:               "not an IP address",
		`"IpAddress":{"a:b":"203.0.113"}`:                    "not an IP address",
		`"IpAddress":{"a:b":"203.0.113.*"}`:                  "not an IP address",
		`"NotIpAddress":{"a:b":"fe80::1%eth0"}`:              "not an IP address",
		`"NotIpAddress":{"a:b":"fe80::1%eth0/64"}`:           "not an IP address",
		`"StringEquals":{"a:b":"${a:c"}`:                     "without an end",
		`"StringEquals":{"a:b":"${}"}`:                       "malformed",
		`"StringEquals":{"a:b":"${a:${b:c}}"}`:               "malformed",
		`"StringEquals":{"a:b":"${a:c, x}"}`:                 "not in single quotes",
		`"StringEquals":{"a:b":"${a:c, 'x' 'y'}"}`:           "not in single quotes",
		`"ArnLike":{"a:b":"${a:c, 'x}"}`:                     "without an end",
	} {
		refused(t, policy.ParseKeyPolicy, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Condition":{`+condition+`}}}`, want)
	}
	refused(t, policy.ParseIdentity, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"arn:${aws:username"}}`, "without an end")
}
