package check

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
	"kastellan.dev/internal/xksapi"
)

// authVariant is a way to sign a request, right or wrong.
type authVariant struct {
	id, title string
	level     Level // empty means Must
	good      bool  // the proxy should accept it
	change    func(p *prober, r *request)
}

func signerWith(change func(*sigv4.Signer)) func(*prober, *request) {
	return func(p *prober, r *request) {
		r.signer = p.signer()
		change(r.signer)
	}
}

func signedAt(offset time.Duration) func(*prober, *request) {
	return func(_ *prober, r *request) { r.at = time.Now().Add(offset) }
}

func afterwards(change func(*http.Request)) func(*prober, *request) {
	return func(_ *prober, r *request) { r.after = change }
}

var authVariants = []authVariant{
	{id: "content-type-signed", title: "A signed Content-Type is honoured", good: true, change: signerWith(func(s *sigv4.Signer) {
		s.SignedHeaders = []string{"content-type", "host", "x-amz-date"}
	})},
	// A request must be recent; that 5 minutes are the limit is a recommendation.
	{id: "4-minutes-ago", title: "A clock 4 minutes behind", level: Should, good: true, change: signedAt(-4 * time.Minute)},
	{id: "in-4-minutes", title: "A clock 4 minutes ahead", level: Should, good: true, change: signedAt(4 * time.Minute)},
	{id: "6-minutes-ago", title: "A clock 6 minutes behind", level: Should, change: signedAt(-6 * time.Minute)},
	{id: "in-6-minutes", title: "A clock 6 minutes ahead", level: Should, change: signedAt(6 * time.Minute)},
	{id: "2-hours-ago", title: "A request of 2 hours ago", change: signedAt(-2 * time.Hour)},
	{id: "in-2-hours", title: "A request from the future, in 2 hours", level: Should, change: signedAt(2 * time.Hour)},
	{id: "none", title: "No signature", change: func(_ *prober, r *request) { r.bare = true }},
	{id: "no-date", title: "No X-Amz-Date", change: afterwards(func(r *http.Request) { r.Header.Del("X-Amz-Date") })},
	{id: "changed-date", title: "Another date than the signed one", change: afterwards(func(r *http.Request) {
		r.Header.Set("X-Amz-Date", time.Now().UTC().Add(-time.Minute).Format("20060102T150405Z"))
	})},
	{id: "changed-body", title: "Another body than the signed one", change: afterwards(func(r *http.Request) {
		body := []byte(`{"requestMetadata":{"kmsRequestId":"other","kmsOperation":"KmsHealthCheck","awsPrincipalArn":"other","kmsKeyArn":"other"}}`)
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	})},
	{id: "changed-signature", title: "A changed signature", change: afterwards(changeSignature)},
	{id: "cut-signature", title: "A signature cut short", change: afterwards(func(r *http.Request) {
		text := r.Header.Get("Authorization")
		r.Header.Set("Authorization", text[:len(text)-2])
	})},
	{id: "wrong-secret", title: "Another secret", change: signerWith(func(s *sigv4.Signer) {
		s.Credentials.Secret = secret.NewText(strings.Repeat("A", 43))
	})},
	{id: "unknown-id", title: "An access key id that nobody has", change: signerWith(func(s *sigv4.Signer) {
		s.Credentials.AccessKeyID = "KASTELLANNOSUCHKEYIDAAAAAAAAA"
	})},
	{id: "wrong-service", title: "Signed for another service", level: Should, change: signerWith(func(s *sigv4.Signer) { s.Service = "kms" })},
	{id: "wrong-region", title: "Signed for another Region", level: Should, change: signerWith(func(s *sigv4.Signer) { s.Region = "mars-west-1" })},
	{id: "unsigned-host", title: "Host is not among the signed headers", level: Should, change: signerWith(func(s *sigv4.Signer) {
		s.SignedHeaders = []string{"x-amz-date"}
	})},
	{id: "unsigned-date", title: "X-Amz-Date is not among the signed headers", level: Should, change: signerWith(func(s *sigv4.Signer) {
		s.SignedHeaders = []string{"host"}
	})},
	{id: "other-algorithm", title: "Another algorithm in Authorization", change: afterwards(func(r *http.Request) {
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "HMAC-SHA256", "HMAC-SHA1", 1))
	})},
	{id: "garbage", title: "An Authorization header that means nothing", change: afterwards(func(r *http.Request) {
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 what")
	})},
}

func changeSignature(r *http.Request) {
	text := []byte(r.Header.Get("Authorization"))
	last := &text[len(text)-1]
	if *last == '0' {
		*last = '1'
	} else {
		*last = '0'
	}
	r.Header.Set("Authorization", string(text))
}

func authCases() []testCase {
	var cases []testCase
	for _, v := range authVariants {
		cases = append(cases, v.testCase("auth."+v.id, v.title, healthPath, object{"requestMetadata": healthMetadata(xksapi.HealthCheck)}))
	}
	cases = append(cases, secondCredentialCase())
	wrong := authVariant{change: afterwards(changeSignature)}
	for _, op := range []struct {
		name string
		body object
	}{
		{"metadata", object{"requestMetadata": metadata("CreateKey")}},
		{"encrypt", encryptBody([]byte("Hello, world"), nil)},
		{"decrypt", decryptBody(xksapi.EncryptResponse{Ciphertext: make([]byte, 12), InitializationVector: make([]byte, 12), AuthenticationTag: make([]byte, 16)}, nil)},
	} {
		cases = append(cases, wrong.testCase("auth.changed-signature."+op.name, "A changed signature on "+op.name, "/keys/{key}/"+op.name, op.body))
	}
	return cases
}

// secondCredentialCase: credentials change without an interruption where two are good at once.
func secondCredentialCase() testCase {
	return testCase{
		id: "auth.second-credential", title: "Two credentials of one store are good at once", level: Should, expected: "200 with either",
		run: func(ctx context.Context, p *prober) (string, error) {
			if p.o.SecondAccessKeyID == "" {
				return "", skipped("the options name no second credential")
			}
			body := p.body(object{"requestMetadata": healthMetadata(xksapi.HealthCheck)})
			second := p.signer()
			second.Credentials = sigv4.Credentials{AccessKeyID: p.o.SecondAccessKeyID, Secret: p.o.SecondSecret}
			for _, signer := range []*sigv4.Signer{p.signer(), second} {
				a, err := p.send(ctx, request{path: healthPath, body: body, signer: signer})
				if err != nil {
					return "", err
				}
				if seen, err := a.wantOK(new(object)); err != nil {
					return seen, err
				}
			}
			return "200 with either", nil
		},
	}
}

func (v authVariant) testCase(id, title, path string, body object) testCase {
	c := testCase{id: id, title: title, level: Must, expected: expectation([]xksapi.ErrorName{xksapi.AuthenticationFailedException})}
	if v.level != "" {
		c.level = v.level
	}
	if v.good {
		c.expected = "200"
	}
	c.run = func(ctx context.Context, p *prober) (string, error) {
		r := request{path: p.expand(path), body: p.body(body)}
		v.change(p, &r)
		a, err := p.send(ctx, r)
		switch {
		case err != nil:
			return "", err
		case v.good:
			return a.wantOK(new(object))
		default:
			return a.wantError(xksapi.AuthenticationFailedException)
		}
	}
	return c
}
