package awsjson_test

import (
	"errors"
	"strings"
	"testing"

	"kastellan.dev/internal/awsjson"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// lists has the constraints of lists that no type of kmsapi has yet.
type lists struct {
	Colors  []color             `aws:"Colors,required"`
	Tags    []kmsapi.Tag        `aws:"Tags" len:",2"`
	Pairs   map[string]string   `aws:"Pairs" len:"1,2"`
	Grants  []string            `aws:"Grants" len:"1," each:"2,3"`
	Nets    []string            `aws:"Nets" pattern:"net-[0-9]+"`
	Filters map[string][]string `aws:"Filters" len:",1"`
}

func TestBrokenConstraints(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 2049)
	type test struct {
		into       any
		body, want string
	}
	tests := map[string]test{
		"too long": {new(kmsapi.EnableKeyRequest), `{"KeyId":"` + long + `"}`,
			"1 validation error detected: Value '" + long[:1024] + "…' at 'keyId' failed to satisfy constraint: Member must have length less than or equal to 2048"},
		"too short": {new(kmsapi.EnableKeyRequest), `{"KeyId":""}`,
			"1 validation error detected: Value '' at 'keyId' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		"a number too large": {new(kmsapi.GenerateRandomRequest), `{"NumberOfBytes":1025}`,
			"1 validation error detected: Value '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have value less than or equal to 1024"},
		"a number too small": {new(kmsapi.GenerateRandomRequest), `{"NumberOfBytes":0}`,
			"1 validation error detected: Value '0' at 'numberOfBytes' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		"a pattern": {new(kmsapi.DeleteAliasRequest), `{"AliasName":"alias/a b"}`,
			"1 validation error detected: Value 'alias/a b' at 'aliasName' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$"},
		"a pattern that only a part matches": {new(kmsapi.GetKeyPolicyRequest), `{"KeyId":"k","PolicyName":"de fault"}`,
			`1 validation error detected: Value 'de fault' at 'policyName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w]+`},
		"a pattern that all but a line break matches": {new(kmsapi.DeleteAliasRequest), `{"AliasName":"alias/a\n"}`,
			"1 validation error detected: Value 'alias/a\n' at 'aliasName' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$"},
		"a pattern of two alternatives": {new(kmsapi.UpdateCustomKeyStoreRequest), `{"CustomKeyStoreId":"c","XksProxyUriPath":"x/kms/xks/v1"}`,
			`1 validation error detected: Value 'x/kms/xks/v1' at 'xksProxyUriPath' failed to satisfy constraint: Member must satisfy regular expression pattern: ^(/[a-zA-Z0-9\/_-]+/kms/xks/v\d{1,2})$|^(/kms/xks/v\d{1,2})$`},
		"a pattern with code points": {new(kmsapi.PutKeyPolicyRequest), `{"KeyId":"k","Policy":"\u0000"}`,
			"1 validation error detected: Value '\x00' at 'policy' failed to satisfy constraint: " + `Member must satisfy regular expression pattern: [\u0009\u000A\u000D\u0020-\u00FF]+`},
		"an enumeration": {new(kmsapi.GenerateDataKeyRequest), `{"KeyId":"k","KeySpec":"AES_512"}`,
			"1 validation error detected: Value 'AES_512' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [AES_256, AES_128]"},
		"an empty enumeration": {new(kmsapi.GenerateDataKeyRequest), `{"KeyId":"k","KeySpec":""}`,
			"1 validation error detected: Value '' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [AES_256, AES_128]"},
		"missing": {new(kmsapi.EnableKeyRequest), `{"keyId":"k"}`,
			"1 validation error detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null"},
		"null": {new(kmsapi.EnableKeyRequest), `{"KeyId":"k","KeyId":null}`,
			"1 validation error detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null"},
		"missing with no body": {new(kmsapi.EnableKeyRequest), ``,
			"1 validation error detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null"},
		"a sensitive blob too short": {new(kmsapi.EncryptRequest), `{"KeyId":"k","Plaintext":""}`,
			"1 validation error detected: Value at 'plaintext' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		"a sensitive blob too long": {new(kmsapi.EncryptRequest), `{"KeyId":"k","Plaintext":"` + strings.Repeat("Q0FOQVJZ", 683) + `"}`,
			"1 validation error detected: Value at 'plaintext' failed to satisfy constraint: Member must have length less than or equal to 4096"},
		"a sensitive blob missing": {new(kmsapi.EncryptRequest), `{"KeyId":"k"}`,
			"1 validation error detected: Value null at 'plaintext' failed to satisfy constraint: Member must not be null"},
		"a blob is not echoed": {new(kmsapi.DecryptRequest), `{"CiphertextBlob":""}`,
			"1 validation error detected: Value at 'ciphertextBlob' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		"a password": {new(kmsapi.UpdateCustomKeyStoreRequest), `{"CustomKeyStoreId":"c","KeyStorePassword":"CANARY"}`,
			"1 validation error detected: Value at 'keyStorePassword' failed to satisfy constraint: Member must have length greater than or equal to 7"},
		"sensitive members of a structure": {new(kmsapi.UpdateCustomKeyStoreRequest),
			`{"CustomKeyStoreId":"c","XksProxyAuthenticationCredential":{"AccessKeyId":"canary","RawSecretAccessKey":"` + strings.Repeat("CANARY!", 9) + `"}}`,
			"3 validation errors detected: " +
				"Value at 'xksProxyAuthenticationCredential.accessKeyId' failed to satisfy constraint: Member must have length greater than or equal to 20; " +
				"Value at 'xksProxyAuthenticationCredential.accessKeyId' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[A-Z2-7]+$; " +
				`Value at 'xksProxyAuthenticationCredential.rawSecretAccessKey' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9\/+=]+$`},
		"nested in a list": {new(kmsapi.CreateKeyRequest), `{"Tags":[{"TagKey":"","TagValue":""},{"TagKey":"k","TagValue":"v"},{"TagKey":"k"}]}`,
			"2 validation errors detected: Value '' at 'tags.1.member.tagKey' failed to satisfy constraint: Member must have length greater than or equal to 1; " +
				"Value null at 'tags.3.member.tagValue' failed to satisfy constraint: Member must not be null"},
		"several constraints of one member": {new(kmsapi.DeleteAliasRequest), `{"AliasName":""}`,
			"2 validation errors detected: Value '' at 'aliasName' failed to satisfy constraint: Member must have length greater than or equal to 1; " +
				"Value '' at 'aliasName' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$"},
		"several members, in the order of the type": {new(kmsapi.CreateAliasRequest), `{"TargetKeyId":""}`,
			"2 validation errors detected: Value null at 'aliasName' failed to satisfy constraint: Member must not be null; " +
				"Value '' at 'targetKeyId' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		"a list too long": {new(kmsapi.DescribeKeyRequest), `{"KeyId":"k","GrantTokens":["a","b","c","d","e","f","g","h","i","j","k"]}`,
			"1 validation error detected: Value '[a, b, c, d, e, f, g, h, i, j, k]' at 'grantTokens' failed to satisfy constraint: Member must have length less than or equal to 10"},
		"a string in a list": {new(kmsapi.DescribeKeyRequest), `{"KeyId":"k","GrantTokens":["a",""]}`,
			"1 validation error detected: Value '[a, ]' at 'grantTokens' failed to satisfy constraint: Member must satisfy constraint: " +
				"[Member must have length less than or equal to 8192, Member must have length greater than or equal to 1]"},
		"a list too short, and its strings": {new(lists), `{"Colors":["RED"],"Grants":[]}`,
			"1 validation error detected: Value '[]' at 'grants' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		"an enumeration in a list": {new(lists), `{"Colors":["RED","BLUE"]}`,
			"1 validation error detected: Value '[RED, BLUE]' at 'colors' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [RED, GREEN]]"},
		"a pattern in a list": {new(lists), `{"Colors":[],"Nets":["net-1","net-2x"]}`,
			"1 validation error detected: Value '[net-1, net-2x]' at 'nets' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy regular expression pattern: net-[0-9]+]"},
		"a map of lists too large": {new(lists), `{"Colors":[],"Filters":{"a":[],"b":[]}}`,
			"1 validation error detected: Value at 'filters' failed to satisfy constraint: Member must have length less than or equal to 1"},
		"a list missing": {new(lists), `{}`,
			"1 validation error detected: Value null at 'colors' failed to satisfy constraint: Member must not be null"},
		"structures and maps are not echoed": {new(lists), `{"Colors":[],"Tags":[{"TagKey":"k","TagValue":""},{"TagKey":"k","TagValue":""},{"TagKey":"k","TagValue":""}],"Pairs":{}}`,
			"2 validation errors detected: Value at 'tags' failed to satisfy constraint: Member must have length less than or equal to 2; " +
				"Value at 'pairs' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		"a name of many capitals": {new(struct {
			A string `aws:"AWSAccountId,required"`
		}), `{}`,
			"1 validation error detected: Value null at 'aWSAccountId' failed to satisfy constraint: Member must not be null"},
		"the earlier of duplicates is not looked at": {new(kmsapi.EnableKeyRequest), `{"KeyId":"` + long + `","KeyId":""}`,
			"1 validation error detected: Value '' at 'keyId' failed to satisfy constraint: Member must have length greater than or equal to 1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := awsjson.Decode([]byte(test.body), test.into)
			var got *kmsapi.Error
			if !errors.As(err, &got) || got.Code != kmsapi.Validation {
				t.Fatalf("error %v", err)
			}
			if got.Message != test.want {
				t.Errorf("\n got %s\nwant %s", got.Message, test.want)
			}
		})
	}
}

func TestConstraintsThatHold(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		into any
		body string
	}{
		"length counts characters":          {new(kmsapi.EnableKeyRequest), `{"KeyId":"` + strings.Repeat("ä", 2048) + `"}`},
		"length counts characters, minimum": {new(kmsapi.UpdateCustomKeyStoreRequest), `{"CustomKeyStoreId":"ä","KeyStorePassword":"` + strings.Repeat("😀", 32) + `"}`},
		"required and empty":                {new(kmsapi.UpdateKeyDescriptionRequest), `{"KeyId":"k","Description":""}`},
		"either end of a range":             {new(kmsapi.GenerateRandomRequest), `{"NumberOfBytes":1024}`},
		"the first alternative":             {new(kmsapi.UpdateCustomKeyStoreRequest), `{"CustomKeyStoreId":"c","XksProxyUriPath":"/a/b/kms/xks/v1"}`},
		"the second alternative":            {new(kmsapi.UpdateCustomKeyStoreRequest), `{"CustomKeyStoreId":"c","XksProxyUriPath":"/kms/xks/v1"}`},
		"a Latin letter in a policy":        {new(kmsapi.CreateKeyRequest), `{"Policy":"\t\n\r é"}`},
		"a pattern of a list":               {new(lists), `{"Colors":[],"Nets":["net-1","net-22"]}`},
		"strings of a list":                 {new(lists), `{"Colors":[],"Grants":["ab","äöü"]}`},
		"an empty optional list":            {new(kmsapi.DescribeKeyRequest), `{"KeyId":"k","GrantTokens":[]}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := awsjson.Decode([]byte(test.body), test.into); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestErrorsStaySmall(t *testing.T) {
	t.Parallel()
	tags := strings.Repeat(`{"TagKey":"`+strings.Repeat("ä", 2000)+`"},`, 200)
	err := awsjson.Decode([]byte(`{"Tags":[`+tags[:len(tags)-1]+`]}`), new(kmsapi.CreateKeyRequest))
	if !strings.Contains(err.Error(), "10 validation errors detected") || len(err.Error()) > 20_000 {
		t.Errorf("%d bytes: %.100s", len(err.Error()), err)
	}
	tokens := strings.Repeat(`"`+strings.Repeat("t", 9000)+`",`, 50)
	err = awsjson.Decode([]byte(`{"KeyId":"k","GrantTokens":[`+tokens[:len(tokens)-1]+`]}`), new(kmsapi.DescribeKeyRequest))
	if !strings.Contains(err.Error(), "2 validation errors detected: Value '[ttt") || len(err.Error()) > 3_000 {
		t.Errorf("%d bytes: %.100s", len(err.Error()), err)
	}
}

func TestPrepareRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		v    any
		want string
	}{
		"nil":                    {nil, "not a structure"},
		"a number":               {5, "not a structure"},
		"a field without a name": {struct{ X string }{}, ".X: no name"},
		"an empty name": {struct {
			X string `aws:",required"`
		}{}, "no name"},
		"an unknown option": {struct {
			X string `aws:"X,requird"`
		}{}, `"requird"`},
		"a name twice": {struct {
			X string `aws:"X"`
			Y string `aws:"X"`
		}{}, "two members X"},
		"a float": {struct {
			X float64 `aws:"X"`
		}{}, "float64"},
		"a pointer to a pointer": {struct {
			X **int32 `aws:"X"`
		}{}, "**int32"},
		"a pointer to a blob": {struct {
			X *[]byte `aws:"X"`
		}{}, "*[]uint8"},
		"a list of pointers": {struct {
			X []*inner `aws:"X"`
		}{}, "no list can be of"},
		"a list of numbers": {struct {
			X []int32 `aws:"X"`
		}{}, "no list can be of"},
		"a list of secrets": {struct {
			X []secret.Text `aws:"X"`
		}{}, "no list can be of"},
		"a limit without a comma": {struct {
			X string `aws:"X" len:"5"`
		}{}, "min,max"},
		"a limit with a letter": {struct {
			X string `aws:"X" len:"a,5"`
		}{}, `"a"`},
		"a limit of elements": {struct {
			X []string `aws:"X" each:"a,"`
		}{}, `"a"`},
		"a limit of a value": {struct {
			X *int32 `aws:"X" range:",b"`
		}{}, `"b"`},
		"a pattern that is none": {struct {
			X string `aws:"X" pattern:"("`
		}{}, "missing"},
		"a length of a number": {struct {
			X *int32 `aws:"X" len:"1,2"`
		}{}, "without a length"},
		"each of a string": {struct {
			X string `aws:"X" each:"1,2"`
		}{}, "not a list of strings"},
		"each of structures": {struct {
			X []inner `aws:"X" each:"1,2"`
		}{}, "not a list of strings"},
		"a range of a string": {struct {
			X string `aws:"X" range:"1,2"`
		}{}, "not an integer"},
		"a pattern of a list of structures": {struct {
			X []inner `aws:"X" pattern:"a"`
		}{}, "not a string or a list of strings"},
		"a sensitive structure": {struct {
			X *inner `aws:"X,sensitive"`
		}{}, "sensitive"},
		"a blob that may be empty": {struct {
			X []byte `aws:"X,empty"`
		}{}, "not an optional string"},
		"a required string that may be empty": {struct {
			X string `aws:"X,required,empty"`
		}{}, "not an optional string"},
		"a fault inside": {struct {
			X *struct{ Y string } `aws:"X"`
		}{}, ".Y: no name"},
		"a fault inside of a list": {struct {
			X []struct{ Y string } `aws:"X"`
		}{}, ".Y: no name"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := awsjson.Prepare(test.v); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v does not say %q", err, test.want)
			}
		})
	}
}
