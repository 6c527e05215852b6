package sigv4_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
)

const (
	longTermKey  = "AKIALONGTERM00000001"
	temporaryKey = "ASIATEMPORARY0000001"
	token        = "FwoGZXIvYXdzEXAMPLE//token=="
	region       = "eu-central-1"
)

var (
	signedAt = time.Date(2024, 8, 20, 23, 1, 43, 0, time.UTC)
	kmsBody  = []byte(`{"KeyId":"alias/dev","Plaintext":"aGVsbG8="}`)
	owner    = &struct{ name string }{"alice"}
)

func secretOf(id string) secret.Text { return secret.NewText("the secret access key of " + id) }

func lookup(_ context.Context, id, _ string) (sigv4.Secret, bool) {
	switch id {
	case longTermKey:
		return sigv4.Secret{Key: secretOf(id), Owner: owner}, true
	case temporaryKey:
		return sigv4.Secret{Key: secretOf(id), SessionToken: secret.NewText(token), Expires: signedAt.Add(time.Minute)}, true
	case "AKIAWITHOUTSECRET001":
		return sigv4.Secret{}, true
	case "AKIASHORTSECRET00001":
		return sigv4.Secret{Key: secret.NewText("123456789")}, true
	default:
		return sigv4.Secret{}, false
	}
}

func kmsVerifier() *sigv4.Verifier {
	return &sigv4.Verifier{Service: "kms", Lookup: lookup, Now: func() time.Time { return signedAt }}
}

func longTerm() sigv4.Credentials {
	return sigv4.Credentials{AccessKeyID: longTermKey, Secret: secretOf(longTermKey)}
}

func temporary(token string) sigv4.Credentials {
	return sigv4.Credentials{AccessKeyID: temporaryKey, Secret: secretOf(temporaryKey), SessionToken: secret.NewText(token)}
}

func unsigned() *http.Request {
	r := httptest.NewRequest("POST", "https://kms.eu-central-1.example.test:4599/", nil)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService.Encrypt")
	return r
}

func signed(c sigv4.Credentials) *http.Request {
	r := unsigned()
	sigv4.Sign(r, kmsBody, c, "kms", region, signedAt)
	return r
}

// presigned has the query form's parameters, with a signature that is wrong.
func presigned(change func(url.Values)) *http.Request {
	q := url.Values{
		"X-Amz-Algorithm":     {"AWS4-HMAC-SHA256"},
		"X-Amz-Credential":    {longTermKey + "/20240820/eu-central-1/kms/aws4_request"},
		"X-Amz-Date":          {"20240820T230143Z"},
		"X-Amz-SignedHeaders": {"content-type;host;x-amz-target"},
		"X-Amz-Signature":     {strings.Repeat("0", 64)},
	}
	change(q)
	r := unsigned()
	r.URL.RawQuery = q.Encode()
	return r
}

func TestVerifyTellsWhoSigned(t *testing.T) {
	t.Parallel()
	v := kmsVerifier()
	for range 2 { // derived, then remembered
		got, err := v.Verify(t.Context(), signed(longTerm()), kmsBody)
		if err != nil {
			t.Fatal(err)
		}
		if want := (sigv4.Result{AccessKeyID: longTermKey, Region: region, Date: signedAt, Owner: owner}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		got, err = v.Verify(t.Context(), signed(temporary(token)), kmsBody)
		if err != nil {
			t.Fatal(err)
		}
		if want := (sigv4.Result{AccessKeyID: temporaryKey, Region: region, Date: signedAt, Temporary: true}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

const (
	mismatch     = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
	unrecognized = "The security token included in the request is invalid."
	zeros        = "0000000000000000000000000000000000000000000000000000000000000000"
)

// authorization replaces the header of a signed request.
func authorization(value string) *http.Request {
	r := signed(longTerm())
	r.Header.Set("Authorization", value)
	return r
}

func with(name string, values ...string) *http.Request {
	r := signed(longTerm())
	r.Header[name] = values
	return r
}

// resigned signs after the change, so that nothing else is wrong with the request.
func resigned(change func(*http.Request), c sigv4.Credentials, headers ...string) *http.Request {
	r := unsigned()
	change(r)
	s := sigv4.Signer{Credentials: c, Service: "kms", Region: region, SignedHeaders: headers}
	s.Sign(r, kmsBody, signedAt)
	return r
}

func dated(date string) *http.Request {
	r := signed(longTerm())
	r.Header.Set("X-Amz-Date", date)
	return r
}

func scoped(service, region string, at time.Time) *http.Request {
	r := unsigned()
	sigv4.Sign(r, kmsBody, longTerm(), service, region, at)
	return r
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	const (
		credential = "Credential=" + longTermKey + "/20240820/eu-central-1/kms/aws4_request"
		headers    = "SignedHeaders=content-type;host;x-amz-date;x-amz-target"
		signature  = "Signature=" + zeros
		mustSign   = " must be a 'SignedHeader' in the AWS Authorization."
	)
	nothing := func(*http.Request) {}
	tests := map[string]struct {
		request *http.Request
		code    kmsapi.Code
		message string
	}{
		// The rows of AWS's own table, in its order.
		"header and query authentication at once": {func() *http.Request {
			r := presigned(func(url.Values) {})
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 "+credential)
			return r
		}(), kmsapi.InvalidSignature, "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header."},
		"any query parameter of a signature beside a header": {func() *http.Request {
			r := signed(longTerm())
			r.URL.RawQuery = "X-Amz-Signature=" + zeros
			return r
		}(), kmsapi.InvalidSignature, "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header."},
		"no authentication": {unsigned(), kmsapi.MissingAuthentication, "Request is missing Authentication Token"},
		"another scheme":    {authorization("Bearer AWS4-HMAC-SHA256"), kmsapi.MissingAuthentication, "Request is missing Authentication Token"},
		"an empty header":   {authorization(""), kmsapi.MissingAuthentication, "Request is missing Authentication Token"},
		"a header with nothing but an algorithm": {authorization("AWS4-HMAC-SHA256"), kmsapi.IncompleteSignature,
			"Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. Authorization=AWS4-HMAC-SHA256"},
		"no credential": {authorization("AWS4-HMAC-SHA256 " + headers + ", " + signature), kmsapi.IncompleteSignature,
			"Authorization header requires 'Credential' parameter. Authorization=AWS4-HMAC-SHA256 " + headers + ", " + signature},
		"no signed headers": {authorization("AWS4-HMAC-SHA256 " + credential + ", " + signature), kmsapi.IncompleteSignature,
			"Authorization header requires 'SignedHeaders' parameter. Authorization=AWS4-HMAC-SHA256 " + credential + ", " + signature},
		"an empty signature": {authorization("AWS4-HMAC-SHA256 " + credential + ", " + headers + ", Signature="), kmsapi.IncompleteSignature,
			"Authorization header requires 'Signature' parameter. Authorization=AWS4-HMAC-SHA256 " + credential + ", " + headers + ", Signature="},
		"no date": {func() *http.Request {
			r := authorization("AWS4-HMAC-SHA256 " + headers)
			r.Header.Del("X-Amz-Date")
			return r
		}(), kmsapi.IncompleteSignature, "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. " +
			"Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. Authorization=AWS4-HMAC-SHA256 " + headers},
		"a credential given twice": {authorization("AWS4-HMAC-SHA256 " + credential + "," + credential + "," + headers + "," + signature),
			kmsapi.IncompleteSignature, "Authorization header gives 'Credential' more than once."},
		"an Authorization header given twice": {func() *http.Request {
			r := signed(longTerm())
			r.Header["Authorization"] = append(r.Header["Authorization"], "Bearer x")
			return r
		}(), kmsapi.IncompleteSignature, "The request has more than one Authorization header."},
		"a credential of four parts": {authorization("AWS4-HMAC-SHA256 Credential=a/b/c/d, " + headers + ", " + signature), kmsapi.IncompleteSignature,
			"Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got 'a/b/c/d'"},
		"a credential of six parts": {authorization("AWS4-HMAC-SHA256 Credential=a/b/c/d/e/f, " + headers + ", " + signature), kmsapi.IncompleteSignature,
			"Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got 'a/b/c/d/e/f'"},
		"another algorithm": {authorization("AWS4-ECDSA-P256-SHA256 " + credential + ", " + headers + ", " + signature), kmsapi.IncompleteSignature,
			"Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256'."},
		"a date that is not ISO 8601":   {dated("Tue, 20 Aug 2024 23:01:43 GMT"), kmsapi.IncompleteSignature, "Date must be in ISO-8601 'basic format'. Got 'Tue, 20 Aug 2024 23:01:43 GMT'."},
		"a date in the extended format": {dated("2024-08-20T23:01:43Z"), kmsapi.IncompleteSignature, "Date must be in ISO-8601 'basic format'. Got '2024-08-20T23:01:43Z'."},
		"a date with a fraction":        {dated("20240820T230143.5Z"), kmsapi.IncompleteSignature, "Date must be in ISO-8601 'basic format'. Got '20240820T230143.5Z'."},
		"a date that does not exist":    {dated("20240230T230143Z"), kmsapi.IncompleteSignature, "Date must be in ISO-8601 'basic format'. Got '20240230T230143Z'."},
		"a date given twice": {with("X-Amz-Date", "20240820T230143Z", "20240820T230143Z"), kmsapi.IncompleteSignature,
			"Date must be in ISO-8601 'basic format'. Got '20240820T230143Z,20240820T230143Z'."},
		"a Host that is not signed": {resigned(nothing, longTerm(), "content-type", "x-amz-date", "x-amz-target"), kmsapi.InvalidSignature,
			"'Host' or ':authority'" + mustSign},
		"a date that is not signed":             {resigned(nothing, longTerm(), "content-type", "host", "x-amz-target"), kmsapi.InvalidSignature, "'X-Amz-Date'" + mustSign},
		"a target that is not signed":           {resigned(nothing, longTerm(), "host", "x-amz-date"), kmsapi.InvalidSignature, "'X-Amz-Target'" + mustSign},
		"an x-amz header that was added":        {with("X-Amz-Meta", "x"), kmsapi.InvalidSignature, "'X-Amz-Meta'" + mustSign},
		"an x-amz header that was added, lower": {with("x-amz-meta", "x"), kmsapi.InvalidSignature, "'X-Amz-Meta'" + mustSign},
		"a session token that is not signed":    {with("X-Amz-Security-Token", token), kmsapi.InvalidSignature, "'X-Amz-Security-Token'" + mustSign},
		"a Date header that is not signed": {func() *http.Request {
			r := unsigned()
			r.Header.Del("X-Amz-Target")
			r.Header.Set("Date", "20240820T230143Z")
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 "+credential+", SignedHeaders=host, "+signature)
			return r
		}(), kmsapi.InvalidSignature, "'Date'" + mustSign},
		"signed headers out of order": {resigned(nothing, longTerm(), "host", "content-type", "x-amz-date", "x-amz-target"), kmsapi.InvalidSignature,
			"'SignedHeaders' must be names in lower case, sorted, each once."},
		"a signed header listed twice": {resigned(nothing, longTerm(), "host", "host", "x-amz-date", "x-amz-target"), kmsapi.InvalidSignature,
			"'SignedHeaders' must be names in lower case, sorted, each once."},
		"signed headers in capitals": {resigned(nothing, longTerm(), "Host", "X-Amz-Date", "X-Amz-Target"), kmsapi.InvalidSignature,
			"'SignedHeaders' must be names in lower case, sorted, each once."},
		"a signed header that is not there": {resigned(nothing, longTerm(), "host", "x-amz-date", "x-amz-target", "x-custom"), kmsapi.InvalidSignature,
			"'x-custom' is a 'SignedHeader' in the AWS Authorization, but the request does not have it."},
		"a request that is too old": {scoped("kms", region, signedAt.Add(-5*time.Minute-time.Second)), kmsapi.InvalidSignature,
			"Signature expired: 20240820T225642Z is now earlier than 20240820T225643Z (20240820T230143Z - 5 min.)"},
		"a request from the future": {scoped("kms", region, signedAt.Add(5*time.Minute+time.Second)), kmsapi.InvalidSignature,
			"Signature not yet current: 20240820T230644Z is still later than 20240820T230643Z (20240820T230143Z + 5 min.)"},
		"a region that cannot be one": {scoped("kms", "EU Central", signedAt), kmsapi.InvalidSignature, "Credential should be scoped to a valid region, not 'EU Central'. "},
		"an empty region":             {scoped("kms", "", signedAt), kmsapi.InvalidSignature, "Credential should be scoped to a valid region, not ''. "},
		"another service":             {scoped("dynamodb", region, signedAt), kmsapi.InvalidSignature, "Credential should be scoped to correct service: 'kms'. "},
		"everything wrong in the scope": {authorization("AWS4-HMAC-SHA256 Credential=" + longTermKey + "/20240821/?/s3/aws5_request, " + headers + ", " + signature), kmsapi.InvalidSignature,
			"Credential should be scoped to a valid region, not '?'. Credential should be scoped to correct service: 'kms'. " +
				"Credential should be scoped with a valid terminator: 'aws4_request', not 'aws5_request'. " +
				"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20240821' != '20240820', from '20240820T230143Z'. "},
		"an unknown access key":             {resigned(nothing, sigv4.Credentials{AccessKeyID: "AKIAUNKNOWN000000001", Secret: secretOf(longTermKey)}), kmsapi.UnrecognizedClient, unrecognized},
		"an empty access key id":            {resigned(nothing, sigv4.Credentials{Secret: secretOf("")}), kmsapi.UnrecognizedClient, unrecognized},
		"an access key without a secret":    {resigned(nothing, sigv4.Credentials{AccessKeyID: "AKIAWITHOUTSECRET001", Secret: secretOf("x")}), kmsapi.UnrecognizedClient, unrecognized},
		"an access key with a short secret": {resigned(nothing, sigv4.Credentials{AccessKeyID: "AKIASHORTSECRET00001", Secret: secretOf("x")}), kmsapi.UnrecognizedClient, unrecognized},
		"the stand-in for unknown secrets": {resigned(nothing, sigv4.Credentials{AccessKeyID: "AKIAUNKNOWN000000001",
			Secret: secret.NewText("no secret access key looks like this one")}), kmsapi.UnrecognizedClient, unrecognized},
		"temporary credentials without their token": {resigned(nothing, temporary("")), kmsapi.UnrecognizedClient, unrecognized},
		"temporary credentials with another token":  {resigned(nothing, temporary(token+"x")), kmsapi.UnrecognizedClient, unrecognized},
		"a token with a long-term key": {resigned(func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", token) }, longTerm()),
			kmsapi.UnrecognizedClient, unrecognized},
		"a token given twice": {resigned(func(r *http.Request) { r.Header["X-Amz-Security-Token"] = []string{token, token} },
			sigv4.Credentials{AccessKeyID: temporaryKey, Secret: secretOf(temporaryKey)}), kmsapi.UnrecognizedClient, unrecognized},
		"another secret": {resigned(nothing, sigv4.Credentials{AccessKeyID: longTermKey, Secret: secretOf("x")}), kmsapi.InvalidSignature, mismatch},

		// What AWS's table does not speak of.
		"a payload that is not signed": {resigned(func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD") }, longTerm()),
			kmsapi.InvalidSignature, "The provided 'x-amz-content-sha256' does not match what was computed."},
		"the hash of another payload": {resigned(func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", zeros) }, longTerm()),
			kmsapi.InvalidSignature, "The provided 'x-amz-content-sha256' does not match what was computed."},
		"a payload that is not signed, in a query": {presigned(func(q url.Values) { q.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD") }),
			kmsapi.InvalidSignature, "The provided 'x-amz-content-sha256' does not match what was computed."},
		"a target without a path": {func() *http.Request {
			r := signed(longTerm())
			r.URL = &url.URL{Scheme: "kms", Opaque: "x"}
			return r
		}(), kmsapi.InvalidSignature, "The path or query string cannot be decoded."},
		"a query string that cannot be decoded": {func() *http.Request {
			r := signed(longTerm())
			r.URL.RawQuery = "a=%zz"
			return r
		}(), kmsapi.InvalidSignature, "The path or query string cannot be decoded."},
		"a query without date and headers": {presigned(func(q url.Values) { q.Del("X-Amz-Date"); q.Del("X-Amz-SignedHeaders") }), kmsapi.IncompleteSignature,
			"AWS query-string parameters must include 'X-Amz-SignedHeaders'. AWS query-string parameters must include 'X-Amz-Date'. Re-examine the query-string parameters."},
		"a query with two signatures": {presigned(func(q url.Values) { q.Add("X-Amz-Signature", zeros) }), kmsapi.IncompleteSignature,
			"The query string gives 'X-Amz-Signature' more than once."},
		"a query with another algorithm": {presigned(func(q url.Values) { q.Set("X-Amz-Algorithm", "AWS4-X") }), kmsapi.IncompleteSignature,
			"Unsupported AWS 'algorithm': 'AWS4-X'."},
		"a query that is good for more than a week": {presigned(func(q url.Values) { q.Set("X-Amz-Expires", "604801") }), kmsapi.IncompleteSignature,
			"X-Amz-Expires must be a number of seconds from 1 to 604800. Got '604801'."},
		"a query that is good for no time": {presigned(func(q url.Values) { q.Set("X-Amz-Expires", "0") }), kmsapi.IncompleteSignature,
			"X-Amz-Expires must be a number of seconds from 1 to 604800. Got '0'."},
		"a query with a wrong signature":                     {presigned(func(url.Values) {}), kmsapi.InvalidSignature, mismatch},
		"a query with an x-amz header that is not signed":    {presigned(func(q url.Values) { q.Set("X-Amz-SignedHeaders", "host") }), kmsapi.InvalidSignature, "'X-Amz-Target'" + mustSign},
		"a query with an unsigned Host":                      {presigned(func(q url.Values) { q.Set("X-Amz-SignedHeaders", "x-amz-target") }), kmsapi.InvalidSignature, "'Host' or ':authority'" + mustSign},
		"a query that is too old and says it lives a minute": {expired("60"), kmsapi.InvalidSignature, "Signature expired: 20240820T230041Z is now earlier than 20240820T230043Z (20240820T230143Z - 1 min.)"},
		"a query that is too old and says it lives seconds":  {expired("61"), kmsapi.InvalidSignature, "Signature expired: 20240820T230041Z is now earlier than 20240820T230042Z (20240820T230143Z - 61 sec.)"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := kmsVerifier().Verify(t.Context(), test.request, kmsBody)
			wantError(t, err, test.code, test.message)
			if got != (sigv4.Result{}) {
				t.Errorf("a result beside the error: %+v", got)
			}
		})
	}
}

// expired is 62 seconds old.
func expired(expires string) *http.Request {
	return presigned(func(q url.Values) { q.Set("X-Amz-Date", "20240820T230041Z"); q.Set("X-Amz-Expires", expires) })
}

func wantError(t *testing.T, err error, code kmsapi.Code, message string) {
	t.Helper()
	var e *kmsapi.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v is not a *kmsapi.Error", err)
	}
	if e.Code != code || e.Message != message {
		t.Errorf("got  %s: %s\nwant %s: %s", e.Code, e.Message, code, message)
	}
	if e.Code.Status() != http.StatusBadRequest {
		t.Errorf("status %d", e.Code.Status())
	}
}

func TestAnExpiredTokenIsToldBeforeAWrongSignature(t *testing.T) {
	t.Parallel()
	r := signed(temporary(token))
	v := kmsVerifier()
	for _, test := range []struct {
		after time.Duration
		ok    bool
	}{{59 * time.Second, true}, {time.Minute, false}} {
		v.Now = func() time.Time { return signedAt.Add(test.after) }
		_, err := v.Verify(t.Context(), r, kmsBody)
		if test.ok && err != nil {
			t.Error(err)
		}
		if !test.ok {
			wantError(t, err, kmsapi.ExpiredToken, "The security token included in the request is expired")
			_, err = v.Verify(t.Context(), r, nil)
			wantError(t, err, kmsapi.ExpiredToken, "The security token included in the request is expired")
		}
	}
}

func TestFiveMinutesEitherWayAreAccepted(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{-5 * time.Minute, 5 * time.Minute, 5*time.Minute + 999*time.Millisecond} {
		v := kmsVerifier()
		v.Now = func() time.Time { return signedAt.Add(off) }
		if _, err := v.Verify(t.Context(), signed(longTerm()), kmsBody); err != nil {
			t.Errorf("%v off: %v", off, err)
		}
	}
}

func TestTheVerifierAsksWhichRegionsAreServed(t *testing.T) {
	t.Parallel()
	v := kmsVerifier()
	v.Region = func(name string) bool { return name == "eu-west-1" }
	_, err := v.Verify(t.Context(), signed(longTerm()), kmsBody)
	wantError(t, err, kmsapi.InvalidSignature, "Credential should be scoped to a valid region, not 'eu-central-1'. ")
	if _, err := v.Verify(t.Context(), scoped("kms", "eu-west-1", signedAt), kmsBody); err != nil {
		t.Error(err)
	}
}

func TestADateHeaderStandsInForXAmzDate(t *testing.T) {
	t.Parallel()
	for _, date := range []string{"Tue, 20 Aug 2024 23:01:43 GMT", "20240820T230143Z"} {
		// The canonical request is that of x-amz-date but for the header's line,
		// so the signature is made by hand.
		r := httptest.NewRequest("POST", "https://kms.example.test/", nil)
		r.Header.Set("Date", date)
		canonical := "POST\n/\n\ndate:" + date + "\nhost:kms.example.test\n\ndate;host\n" + hexSHA256(kmsBody)
		toSign := "AWS4-HMAC-SHA256\n20240820T230143Z\n20240820/eu-central-1/kms/aws4_request\n" + hexSHA256([]byte(canonical))
		key := []byte("AWS4" + secretOf(longTermKey).Reveal())
		for _, part := range []string{"20240820", "eu-central-1", "kms", "aws4_request", toSign} {
			key = hmacSHA256(key, part)
		}
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+longTermKey+"/20240820/eu-central-1/kms/aws4_request,SignedHeaders=date;host,Signature="+hex.EncodeToString(key))
		if _, err := kmsVerifier().Verify(t.Context(), r, kmsBody); err != nil {
			t.Errorf("%s: %v", date, err)
		}
	}
}

func hexSHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func TestTheHashOfTheBodyMayBeGiven(t *testing.T) {
	t.Parallel()
	r := resigned(func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", hexSHA256(kmsBody)) }, longTerm())
	if _, err := kmsVerifier().Verify(t.Context(), r, kmsBody); err != nil {
		t.Error(err)
	}
}

func TestUnusualHeadersMayBeSigned(t *testing.T) {
	t.Parallel()
	long := "x-amz-" + strings.Repeat("long-", 20) + "name"
	r := resigned(func(r *http.Request) { r.Header.Set(long, " a  \tb \t"); r.Header.Set("X-Amz-Empty", "") }, longTerm())
	if !strings.Contains(r.Header.Get("Authorization"), ";"+long+";") {
		t.Error("the header is not signed")
	}
	if _, err := kmsVerifier().Verify(t.Context(), r, kmsBody); err != nil {
		t.Error(err)
	}
	r.Header.Set(long, "a \tb") // the same without blanks at the ends and runs of spaces
	if _, err := kmsVerifier().Verify(t.Context(), r, kmsBody); err != nil {
		t.Error(err)
	}
	r.Header.Set(long, "a b")
	_, err := kmsVerifier().Verify(t.Context(), r, kmsBody)
	wantError(t, err, kmsapi.InvalidSignature, mismatch)
}

// crowded has as many headers as a server lets through, all of them signed but those named.
func crowded(unsigned ...string) *http.Request {
	r := httptest.NewRequest("POST", "https://kms.example.test/", nil)
	for i := range 2000 {
		r.Header.Set(fmt.Sprintf("X-Amz-%04d", i), "")
	}
	sigv4.Sign(r, kmsBody, longTerm(), "kms", region, signedAt)
	for _, name := range unsigned {
		r.Header[name] = []string{""}
	}
	return r
}

func TestOneUnsignedHeaderAmongManyIsFound(t *testing.T) {
	t.Parallel()
	if _, err := kmsVerifier().Verify(t.Context(), crowded(), kmsBody); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"X-Amz-A", "x-amz-a", "X-AMZ-A"} {
		_, err := kmsVerifier().Verify(t.Context(), crowded(name), kmsBody)
		wantError(t, err, kmsapi.InvalidSignature, "'X-Amz-A' must be a 'SignedHeader' in the AWS Authorization.")
	}
	// In another form a name is not the one that is signed.
	_, err := kmsVerifier().Verify(t.Context(), crowded("x-amz-0007"), kmsBody)
	wantError(t, err, kmsapi.InvalidSignature, "'X-Amz-0007' must be a 'SignedHeader' in the AWS Authorization.")
}

// A server keeps the length of a body in a field when it did not come as a header.
func TestContentLengthMayBeSigned(t *testing.T) {
	t.Parallel()
	r := unsigned()
	r.ContentLength = int64(len(kmsBody))
	signWithSDK(t, r, kmsBody, "", "service")
	if !strings.Contains(r.Header.Get("Authorization"), "content-length;") || r.Header.Get("Content-Length") != "" {
		t.Fatal("the SDK does not sign content-length any more")
	}
	if _, err := exampleVerifier("").Verify(t.Context(), r, kmsBody); err != nil {
		t.Error(err)
	}
	r.ContentLength++
	if _, err := exampleVerifier("").Verify(t.Context(), r, kmsBody); err == nil {
		t.Error("another length is accepted")
	}
}

// AWS KMS signs nothing but host and date for a proxy; curl adds content-type.
func TestXKSProxiesVerifyFewSignedHeaders(t *testing.T) {
	t.Parallel()
	v := kmsVerifier()
	v.Service = "kms-xks-proxy"
	body := []byte(`{"requestMetadata":{}}`)
	for _, headers := range [][]string{{"host", "x-amz-date"}, {"content-type", "host", "x-amz-date"}} {
		s := sigv4.Signer{Credentials: longTerm(), Service: "kms-xks-proxy", Region: region, SignedHeaders: headers}
		r := httptest.NewRequest("POST", "https://proxy.example.test:8443/example/kms/xks/v1/health", nil)
		r.Header.Set("Content-Type", "application/json")
		s.Sign(r, body, signedAt)
		if _, err := v.Verify(t.Context(), r, body); err != nil {
			t.Errorf("%v: %v", headers, err)
		}
		r.Header.Set("Content-Type", "text/plain")
		_, err := v.Verify(t.Context(), r, body)
		if isSigned := len(headers) == 3; isSigned != (err != nil) {
			t.Errorf("%v: another content-type: %v", headers, err)
		}
	}
}
