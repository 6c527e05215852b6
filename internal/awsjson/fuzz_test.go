package awsjson_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"kastellan.dev/internal/awsjson"
	"kastellan.dev/internal/kmsapi"
)

// targets are types that have every kind of member and constraint between them.
var targets = []func() any{
	func() any { return new(everything) },
	func() any { return new(kmsapi.EncryptRequest) },
	func() any { return new(kmsapi.DecryptRequest) },
	func() any { return new(kmsapi.CreateKeyRequest) },
	func() any { return new(kmsapi.CreateCustomKeyStoreRequest) },
	func() any { return new(kmsapi.DescribeCustomKeyStoresResponse) },
	func() any { return new(lists) },
}

// FuzzDecode holds that decoding never panics, that it accepts no more than
// encoding/json does, refuses only with errors a caller may see, and that what
// it accepts is written as a body that says the same.
func FuzzDecode(f *testing.F) {
	for i, body := range []string{
		``, `{}`, `[]`, `{"Text":"a","Text":null}`,
		`{"Text":"\ud83d\ude00\u00e9\n","Blob":"AAEC/w==","Number":-5,"Flag":true,"At":1537582718.431,"Pairs":{"a":"b"},"Tags":[{"TagKey":"k","TagValue":""}],"Inner":{"Text":"x"}}`,
		`{"KeyId":"alias/a","Plaintext":"aGVsbG8=","EncryptionContext":{"purpose":"test"},"GrantTokens":["t"],"DryRun":false}`,
		`{"CiphertextBlob":"AA==","Recipient":{"KeyEncryptionAlgorithm":"RSAES_OAEP_SHA_256","AttestationDocument":"AA=="},"DryRunModifiers":["IGNORE_CIPHERTEXT"]}`,
		`{"Policy":"{\"Version\":\"2012-10-17\"}","KeySpec":"RSA_2048","Tags":[{"TagKey":""}],"MultiRegion":false}`,
		`{"CustomKeyStoreName":"n","KeyStorePassword":"password","XksProxyAuthenticationCredential":{"AccessKeyId":"A","RawSecretAccessKey":"B"}}`,
		`{"CustomKeyStores":[{"CustomKeyStoreId":"cks-1","CreationDate":1,"XksProxyConfiguration":{"UriPath":"/kms/xks/v1"}}],"Truncated":false}`,
		`{"Colors":["RED","BLUE"],"Pairs":{},"Grants":["ab"]}`,
		`{"Lists":{"clusterIds":["a","\u0062"],"states":[]},"Nets":["net-1"]}`,
		`{"X":[[[{"Y":[1e5,-0.1,true,null]}]]]}`,
	} {
		f.Add(uint8(i), []byte(body))
	}
	f.Fuzz(func(t *testing.T, target uint8, body []byte) {
		fresh := targets[int(target)%len(targets)]
		first := fresh()
		if err := awsjson.Decode(body, first); err != nil {
			if code := kmsapi.CodeOf(err); code != kmsapi.Serialization && code != kmsapi.Validation {
				t.Fatalf("error %v", err)
			}
			return
		}
		if len(bytes.TrimSpace(body)) > 0 && !json.Valid(body) {
			t.Fatal("accepted what is not JSON")
		}
		written := awsjson.Append(nil, first)
		if !json.Valid(written) {
			t.Fatalf("wrote what is not JSON: %s", written)
		}
		second := fresh()
		if err := awsjson.Decode(written, second); err != nil {
			t.Fatalf("%s: %v", written, err)
		}
		if again := awsjson.Append(nil, second); !bytes.Equal(written, again) {
			t.Fatalf("\n once %s\ntwice %s", written, again)
		}
	})
}
