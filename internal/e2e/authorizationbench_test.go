package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kastellan.dev/internal/kastellantest"
)

// thirty makes a policy of 30 statements, of which the last says yes. The others are of the kinds that
// people write: other actions, other principals, conditions that do not hold.
func thirty(principal, last string) string {
	var statements []string
	add := func(effect, who, rest string) {
		if principal != "" {
			who = `"Principal":{"AWS":"arn:aws:iam::` + kastellantest.Account + who + `"},`
		} else {
			who = ""
		}
		statements = append(statements, `{"Effect":"`+effect+`",`+who+rest+`}`)
	}
	for i := 1; len(statements) < 29; i++ {
		add("Allow", fmt.Sprint(":role/service/role-", i), `"Action":["kms:Encrypt","kms:Decrypt","kms:GenerateDataKey*"],"Resource":"`+resourceOf(principal, i)+`"`)
		add("Allow", fmt.Sprint(":user/admin-", i), `"Action":["kms:Create*","kms:Put*","kms:Schedule*"],"Resource":"*"`)
		add("Deny", principal, `"Action":"kms:*","Resource":"*","Condition":{"StringNotLike":{"aws:PrincipalArn":"arn:aws:iam::`+kastellantest.Account+`:*"}}`)
		add("Deny", principal, fmt.Sprintf(`"Action":["kms:Encrypt","kms:Decrypt"],"Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:tenant":"tenant-%d"}}`, i))
		add("Deny", principal, `"Action":"kms:Encrypt","Resource":"*","Condition":{"StringNotEquals":{"kms:EncryptionAlgorithm":"SYMMETRIC_DEFAULT"}}`)
	}
	statements = statements[:29]
	add("Allow", principal, last)
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

// resourceOf is another key in the policies of identities; in key policies it is the key itself.
func resourceOf(principal string, i int) string {
	if principal != "" {
		return "*"
	}
	return fmt.Sprintf("arn:aws:kms:%s:%s:key/%08d-0000-4000-8000-000000000000", kastellantest.Region, kastellantest.Account, i)
}

// BenchmarkAuthorization measures whole requests that are hard to decide about, beside the floor of
// BenchmarkRequests and a request under the default policy.
func BenchmarkAuthorization(b *testing.B) {
	const lonely, busy = "lonely", "busy"
	silent := thirty("", `"Action":"kms:ListKeys","Resource":"*"`)
	server := kastellantest.Start(b, kastellantest.Options{Users: []kastellantest.User{
		{Name: busy, Policy: thirty("", `"Action":"kms:*","Resource":"*"`)}, {Name: lonely, Policy: silent},
	}})
	key := func(policy string) string {
		in := &awskms.CreateKeyInput{}
		if policy != "" {
			in.Policy = &policy
		}
		return *server.Key(in).Arn
	}
	grant := func(key, grantee string, n int, operation types.GrantOperation) {
		for i := range n {
			who := grantee
			if strings.HasSuffix(grantee, "-") {
				who += fmt.Sprint(i)
			}
			_, err := server.Client(admin).CreateGrant(b.Context(), &awskms.CreateGrantInput{KeyId: &key, GranteePrincipal: &who, Operations: []types.GrantOperation{operation}})
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	plain := key("")
	policies := key(thirty(":root", `"Action":"kms:*","Resource":"*"`))
	among := key("")
	grant(among, "arn:aws:iam::"+kastellantest.Account+":role/service-", 999, types.GrantOperationEncrypt)
	grant(among, arnOf(lonely), 1, types.GrantOperationEncrypt)
	alone := key(keyPolicy(statement("Allow", arnOf(admin))))
	grant(alone, arnOf(busy), 1000, types.GrantOperationDecrypt)
	grant(alone, ownAccount, 1, types.GrantOperationEncrypt) // which is looked at last
	everything := key(thirty(":root", `"Action":"kms:*","Resource":"*"`))
	grant(everything, arnOf(busy), 1000, types.GrantOperationDecrypt)

	b.Run("floor", func(b *testing.B) { measure(b, post(b, floor(b), floorBody)) })
	for _, tc := range []struct{ name, who, key string }{
		{"the default policy", admin, plain},
		{"two policies of 30 statements", busy, policies},
		{"two policies of 30 statements, and 1000 grants", busy, everything},
		{"a grant among 1000, and a policy of 30 statements", lonely, among},
		{"a grant behind 1000 others of the same grantee", busy, alone},
	} {
		body := encode(map[string]any{"KeyId": tc.key, "Plaintext": make([]byte, 32), "EncryptionContext": map[string]string{"tenant": "a"}})
		b.Run(tc.name, func(b *testing.B) { measure(b, postAs(b, tc.who, server.Endpoint, body, "TrentService.Encrypt")) })
	}
}
