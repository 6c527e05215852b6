package policy_test

import (
	"strings"
	"testing"

	"kastellan.dev/internal/policy"
)

func TestVariables(t *testing.T) {
	t.Parallel()
	request := values{
		"aws:username":                {"alice"},
		"aws:principaltag/team":       {"red"},
		"aws:principaltag/wild":       {"*"},
		"aws:principaltag/bad":        {"\xff"},
		"aws:principaltag/empty":      {""},
		"aws:principaltag/my project": {"x"},
		"aws:tagkeys":                 {"a", "b"},
		"kms:requestalias":            {"alias/alice"},
		"aws:resourcetag/owner":       {"ALICE"},
		"kms:encryptioncontext:arn":   {"arn:aws:s3:::alice/x"},
	}
	resource := func(pattern string) string {
		return `{"Effect":"Allow","Action":"*","Resource":"arn:aws:kms:r:a:alias/` + pattern + `"}`
	}
	where := func(condition string) string {
		return `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{` + condition + `}}`
	}
	const allow, silent, deny = policy.Allow, policy.ImplicitDeny, policy.ExplicitDeny
	tests := map[string]struct {
		statements, alias string
		want              policy.Decision
	}{
		"a variable in a resource":                    {resource("${aws:username}"), "alice", allow},
		"a variable with another value":               {resource("${aws:username}"), "bob", silent},
		"names of keys ignore case":                   {resource("${AWS:UserName}"), "alice", allow},
		"a name with a space":                         {resource("${aws:PrincipalTag/my project}"), "x", allow},
		"several variables beside wildcards":          {resource("${aws:username}-*-${aws:PrincipalTag/team}"), "alice-7-red", allow},
		"a star in a value is a star only":            {resource("${aws:PrincipalTag/wild}"), "*", allow},
		"a star in a value is not a wildcard":         {resource("${aws:PrincipalTag/wild}"), "alice", silent},
		"a value that is no text is none":             {resource("${aws:PrincipalTag/bad}"), "alice", silent},
		"an empty value is a value":                   {resource("a${aws:PrincipalTag/empty}b"), "ab", allow},
		"the literal star":                            {resource("${*}"), "*", allow},
		"the literal star is not a wildcard":          {resource("${*}"), "alice", silent},
		"the literal question mark":                   {resource("a${?}"), "a?", allow},
		"the literal question mark is not a wildcard": {resource("a${?}"), "ab", silent},
		"the literal dollar":                          {resource("${$}{aws:username}"), "${aws:username}", allow},
		"a default is for a key that is missing":      {resource("${aws:PrincipalTag/none, 'x-y'}"), "x-y", allow},
		"a default is not for a key that is there":    {resource("${aws:username, 'x'}"), "x", silent},
		"a default can be empty":                      {resource("a${aws:PrincipalTag/none,''}"), "a", allow},
		"a default can have braces":                   {resource("${aws:PrincipalTag/none, '{}'}"), "{}", allow},
		"a star in a default is a star only":          {resource("${aws:PrincipalTag/none, '*'}"), "alice", silent},
		"a variable without a value matches nothing":  {resource("*${aws:PrincipalTag/none}"), "alice", silent},
		"a variable of several values has none":       {resource("${aws:TagKeys}"), "a", silent},
		"nor its default":                             {resource("${aws:TagKeys, 'a'}"), "a", silent},
		"a deny without a value does not deny":        {allowAll + `,{"Effect":"Deny","Action":"*","Resource":"arn:aws:kms:r:a:alias/${aws:PrincipalTag/none}"}`, "alice", allow},
		"a deny of all but what is not known denies":  {allowAll + `,{"Effect":"Deny","Action":"*","NotResource":"arn:aws:kms:r:a:alias/${aws:PrincipalTag/none}"}`, "alice", deny},
		"an allow of all but what is not known":       {`{"Effect":"Allow","Action":"*","NotResource":"arn:aws:kms:r:a:alias/${aws:PrincipalTag/none}"}`, "alice", silent},
		"an allow of all but what is known":           {`{"Effect":"Allow","Action":"*","NotResource":"arn:aws:kms:r:a:alias/${aws:username}"}`, "bob", allow},
		"a variable in StringEquals":                  {where(`"StringEquals":{"kms:RequestAlias":"alias/${aws:username}"}`), "x", allow},
		"a variable in StringEqualsIgnoreCase":        {where(`"StringEqualsIgnoreCase":{"aws:ResourceTag/Owner":"${aws:username}"}`), "x", allow},
		"a variable minds case in StringEquals":       {where(`"StringEquals":{"aws:ResourceTag/Owner":"${aws:username}"}`), "x", silent},
		"a variable in StringLike":                    {where(`"StringLike":{"kms:RequestAlias":"a*/${aws:username}"}`), "x", allow},
		"a star in a value in StringLike":             {where(`"StringLike":{"kms:RequestAlias":"alias/${aws:PrincipalTag/wild}"}`), "x", silent},
		"a variable in an ARN":                        {where(`"ArnLike":{"kms:EncryptionContext:arn":"arn:aws:s3:::${aws:username}/*"}`), "x", allow},
		"without a value nothing is equal":            {where(`"StringEquals":{"aws:username":"${aws:PrincipalTag/none}"}`), "x", silent},
		"without a value everything is not equal":     {where(`"StringNotEquals":{"aws:username":"${aws:PrincipalTag/none}"}`), "x", allow},
		"without a value nothing is like":             {where(`"StringLike":{"aws:username":"*${aws:PrincipalTag/none}"}`), "x", silent},
		"a condition with a value not equal":          {where(`"StringNotEquals":{"aws:username":"${aws:username}"}`), "x", silent},
		"a dollar alone is a dollar":                  {resource("$a$"), "$a$", allow},
		"a value longer than most":                    {resource("${aws:PrincipalTag/none, '" + strings.Repeat("x", 1000) + "'}"), strings.Repeat("x", 1000), allow},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := must(t, policy.ParseIdentity, test.statements)
			if got := identityDecision(d, "kms:Encrypt", "arn:aws:kms:r:a:alias/"+test.alias, request); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestVariablesAreTextInVersion2008(t *testing.T) {
	t.Parallel()
	for _, version := range []string{`"Version":"2008-10-17",`, ""} {
		d, err := policy.ParseIdentity([]byte(`{` + version + `"Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:kms:r:a:alias/${aws:username}",
			"Condition":{"StringEquals":{"a:b":"${a"}}}}`))
		if err != nil {
			t.Fatal(err)
		}
		v := values{"aws:username": {"alice"}, "a:b": {"${a"}}
		if got := identityDecision(d, "kms:Encrypt", "arn:aws:kms:r:a:alias/alice", v); got != policy.ImplicitDeny {
			t.Errorf("%q: the variable is taken for its value", version)
		}
		if got := identityDecision(d, "kms:Encrypt", "arn:aws:kms:r:a:alias/${aws:username}", v); got != policy.Allow {
			t.Errorf("%q: the variable is not itself", version)
		}
	}
}

func TestTheVersionMayComeLast(t *testing.T) {
	t.Parallel()
	d, err := policy.ParseIdentity([]byte(`{"Statement":{"Effect":"Allow","Action":"*","Resource":"arn:${aws:username}"},"Version":"2012-10-17"}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := identityDecision(d, "kms:Encrypt", "arn:alice", values{"aws:username": {"alice"}}); got != policy.Allow {
		t.Errorf("got %v", got)
	}
}
