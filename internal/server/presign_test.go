package server_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/server"
)

const (
	temporaryKey = "ASIATEMPORARY0000001"
	sessionToken = "a/token+of=a session"
)

// withTemporaryKey has a key of temporary credentials beside Alice's.
func withTemporaryKey(t *testing.T) func(*server.Config) {
	t.Helper()
	d, err := identity.New([]identity.Account{{ID: "111122223333", Users: []identity.User{{Name: "alice", AccessKeys: []identity.AccessKey{
		{ID: accessKey, Secret: secretKey},
		{ID: temporaryKey, Secret: secretKey, SessionToken: secret.NewText(sessionToken)},
	}}}}})
	if err != nil {
		t.Fatal(err)
	}
	return func(c *server.Config) { c.Identities = identity.NewSource(d) }
}

// presign gives what the official signer makes of a request for an operation,
// as somebody would send it who got the URL and the headers.
func (f *fixture) presign(target, body, key, token string, change ...func(*v4.SignerOptions)) *http.Request {
	f.t.Helper()
	r := f.request(target, body)
	sum := sha256.Sum256([]byte(body))
	uri, header, err := v4.NewSigner().PresignHTTP(f.t.Context(), aws.Credentials{AccessKeyID: key, SecretAccessKey: secretKey.Reveal(), SessionToken: token},
		r, hex.EncodeToString(sum[:]), "kms", region, time.Now(), change...)
	if err != nil {
		f.t.Fatal(err)
	}
	sent, err := http.NewRequestWithContext(f.t.Context(), http.MethodPost, uri, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	for name, values := range header {
		if name != "Host" && name != "Content-Length" { // the transport's own
			sent.Header[name] = values
		}
	}
	return sent
}

func TestWhatTheSDKPresignsIsServed(t *testing.T) {
	t.Parallel()
	f := start(t, withTemporaryKey(t))
	keepHeaders := func(o *v4.SignerOptions) { o.DisableHeaderHoisting = true } // as botocore does
	for name, r := range map[string]*http.Request{
		"long-term credentials":   f.presign("TrentService.Encrypt", encryptBody, accessKey, ""),
		"temporary credentials":   f.presign("TrentService.Encrypt", encryptBody, temporaryKey, sessionToken),
		"the target in a header":  f.presign("TrentService.Encrypt", encryptBody, accessKey, "", keepHeaders),
		"a token, headers stay":   f.presign("TrentService.Encrypt", encryptBody, temporaryKey, sessionToken, keepHeaders),
		"another way of escaping": escapedTarget(f.presign("TrentService.Encrypt", encryptBody, accessKey, "")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := *f
			f.t = t
			if hoisted := r.Header.Get("X-Amz-Target") == ""; hoisted != r.URL.Query().Has("X-Amz-Target") {
				t.Fatalf("the SDK presigns in another way: %v %v", r.URL, r.Header)
			}
			answer := f.do(r.WithContext(t.Context()))
			if answer.StatusCode != 200 || !strings.Contains(answer.text, `"KeyId":"alias/a"`) {
				t.Errorf("%s %s", answer.Status, answer.text)
			}
			checkHeaders(t, answer)
		})
	}
}

// escapedTarget writes the target in a way that means the same.
func escapedTarget(r *http.Request) *http.Request {
	r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "X-Amz-Target=TrentService.", "X-Amz%2dTarget=%54rentService.", 1)
	return r
}

func TestPresignedRequestsAreHeldToTheirSignature(t *testing.T) {
	t.Parallel()
	f := start(t, withTemporaryKey(t))
	query := func(change func(url.Values)) *http.Request {
		r := f.presign("TrentService.Encrypt", encryptBody, temporaryKey, sessionToken)
		q := r.URL.Query()
		change(q)
		r.URL.RawQuery = q.Encode()
		return r
	}
	tests := map[string]struct {
		request *http.Request
		code    string
		message string
	}{
		"another target":                 {query(func(q url.Values) { q.Set("X-Amz-Target", "TrentService.EnableKey") }), "InvalidSignatureException", "does not match"},
		"no target":                      {query(func(q url.Values) { q.Del("X-Amz-Target") }), "UnknownOperationException", ""},
		"the target twice":               {query(func(q url.Values) { q.Add("X-Amz-Target", "TrentService.Encrypt") }), "UnknownOperationException", ""},
		"a target of another letter":     {query(func(q url.Values) { q.Del("X-Amz-Target"); q.Set("x-amz-target", "TrentService.Encrypt") }), "UnknownOperationException", ""},
		"another date":                   {query(func(q url.Values) { q.Set("X-Amz-Date", time.Now().Add(time.Minute).UTC().Format("20060102T150405Z")) }), "InvalidSignatureException", ""},
		"a longer life":                  {query(func(q url.Values) { q.Set("X-Amz-Expires", "604800") }), "InvalidSignatureException", "does not match"},
		"another token":                  {query(func(q url.Values) { q.Set("X-Amz-Security-Token", "x") }), "UnrecognizedClientException", ""},
		"no token":                       {query(func(q url.Values) { q.Del("X-Amz-Security-Token") }), "UnrecognizedClientException", ""},
		"the token in a header":          {inHeader(query(func(q url.Values) { q.Del("X-Amz-Security-Token") }), "X-Amz-Security-Token", sessionToken), "InvalidSignatureException", "'X-Amz-Security-Token' must be a 'SignedHeader'"},
		"a token for a long-term key":    {f.presign("TrentService.Encrypt", encryptBody, accessKey, sessionToken), "UnrecognizedClientException", ""},
		"a parameter more":               {query(func(q url.Values) { q.Set("a", "") }), "InvalidSignatureException", "does not match"},
		"a target in a header, too":      {inHeader(query(func(url.Values) {}), "X-Amz-Target", "TrentService.Encrypt"), "UnknownOperationException", ""},
		"another target in a header":     {inHeader(query(func(q url.Values) { q.Del("X-Amz-Target") }), "X-Amz-Target", "TrentService.Encrypt"), "InvalidSignatureException", "'X-Amz-Target' must be a 'SignedHeader'"},
		"a signature in a header, too":   {inHeader(query(func(url.Values) {}), "Authorization", "AWS4-HMAC-SHA256 x"), "InvalidSignatureException", "Found both"},
		"another body":                   {withBody(query(func(url.Values) {}), `{"KeyId":"alias/b","Plaintext":"Q0FOQVJZ"}`), "InvalidSignatureException", "does not match"},
		"a query that cannot be decoded": {query(func(q url.Values) {}), "UnknownOperationException", ""},
	}
	broken := tests["a query that cannot be decoded"].request
	broken.URL.RawQuery += "&a=%zz"
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := *f
			f.t = t
			r := f.do(test.request.WithContext(t.Context()))
			if code, message := r.code(t); r.StatusCode != 400 || code != test.code || !strings.Contains(message, test.message) {
				t.Errorf("%s %s", r.Status, r.text)
			}
		})
	}
}

func inHeader(r *http.Request, name, value string) *http.Request {
	r.Header.Set(name, value)
	return r
}

func withBody(r *http.Request, body string) *http.Request {
	other, err := http.NewRequest(r.Method, r.URL.String(), strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	other.Header = r.Header
	return other
}
