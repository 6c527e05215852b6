package sigv4_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"pgregory.net/rapid"

	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
)

func hmacSHA256(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// message is a request that a client might make. Its path is normalised
// already, which the SDK leaves to its caller.
type message struct {
	method, target string
	header         http.Header
	body           []byte
	credentials    aws.Credentials
	region         string
}

var messages = rapid.Custom(func(t *rapid.T) message {
	segment := rapid.StringMatching(`[a-zA-Z0-9_~!$&'()*+,;=:@-]{1,6}|%2[Ff]|%C3%BC|%20`)
	m := message{
		method: rapid.SampledFrom([]string{"GET", "POST", "PUT"}).Draw(t, "method"),
		target: "/" + strings.Join(rapid.SliceOfN(segment, 0, 4).Draw(t, "path"), "/"),
		header: http.Header{},
		body:   rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "body"),
		region: rapid.SampledFrom([]string{"us-east-1", "eu-central-1", "local"}).Draw(t, "region"),
		credentials: aws.Credentials{
			AccessKeyID:     rapid.StringMatching(`[A-Z0-9]{16,20}`).Draw(t, "id"),
			SecretAccessKey: rapid.StringMatching(`[A-Za-z0-9/+=]{40,64}`).Draw(t, "secret"),
			SessionToken:    rapid.StringMatching(`|[A-Za-z0-9/+=]{1,50}`).Draw(t, "token"),
		},
	}
	if strings.HasSuffix(m.target, "/") || rapid.Bool().Draw(t, "slash") {
		m.target = strings.TrimSuffix(m.target, "/") + "/"
	}
	query := url.Values{}
	parameter := rapid.StringMatching(`[a-cA-C =&/~.%+ü;-]{1,4}`)
	for range rapid.IntRange(0, 4).Draw(t, "parameters") {
		query.Add(parameter.Draw(t, "name"), rapid.StringMatching(`[a-c0-9 =&/~.%+ü;-]{0,5}`).Draw(t, "value"))
	}
	if q := query.Encode(); q != "" {
		m.target += "?" + q
	}
	m.header.Set("Content-Type", "application/x-amz-json-1.1")
	value := rapid.StringMatching(`[a-z"]([a-z ,;\t]{0,8}[a-z"])?`)
	for _, name := range []string{"X-Amz-Target", "X-Amz-Meta-Two", "X-Amz-Meta-Three"} {
		for range rapid.IntRange(0, 2).Draw(t, name) {
			m.header.Add(name, value.Draw(t, "value"))
		}
	}
	return m
})

func (m message) request(t *rapid.T) *http.Request {
	r, err := http.NewRequest(m.method, "https://kms.example.test:8443"+m.target, bytes.NewReader(m.body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = m.header.Clone()
	return r
}

func (m message) verifier() *sigv4.Verifier {
	return &sigv4.Verifier{
		Service: "kms",
		Now:     func() time.Time { return signedAt },
		Lookup: func(_ context.Context, id, _ string) (sigv4.Secret, bool) {
			return sigv4.Secret{Key: secret.NewText(m.credentials.SecretAccessKey), SessionToken: secret.NewText(m.credentials.SessionToken)},
				id == m.credentials.AccessKeyID
		},
	}
}

// received sends the request through the wire format and a server's parser.
func received(t *rapid.T, r *http.Request, body []byte) *http.Request {
	var wire bytes.Buffer
	r = r.Clone(r.Context())
	r.Body = http.NoBody
	if len(body) > 0 {
		r.Body = readCloser{bytes.NewReader(body)}
	}
	if err := r.Write(&wire); err != nil {
		t.Fatal(err)
	}
	got, err := http.ReadRequest(bufio.NewReader(&wire))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

func (m message) bySDK(t *rapid.T) *http.Request {
	r := m.request(t)
	err := v4.NewSigner().SignHTTP(context.Background(), m.credentials, r, hexSHA256(m.body), "kms", m.region, signedAt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWhatTheSDKSignsIsVerified(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := messages.Draw(t, "message")
		got, err := m.verifier().Verify(context.Background(), received(t, m.bySDK(t), m.body), m.body)
		if err != nil {
			t.Fatal(err)
		}
		if got.AccessKeyID != m.credentials.AccessKeyID || got.Region != m.region || !got.Date.Equal(signedAt) || got.Query {
			t.Fatalf("got %+v", got)
		}
	})
}

func TestWhatTheSDKPresignsIsVerifiedUntilItExpires(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := messages.Draw(t, "message")
		expires := rapid.IntRange(1, 604800).Draw(t, "expires")
		r := m.request(t)
		q := r.URL.Query()
		q.Set("X-Amz-Expires", strconv.Itoa(expires))
		r.URL.RawQuery = q.Encode()
		at := rapid.SampledFrom([]time.Time{signedAt, signedAt.Add(5 * time.Minute), signedAt.Add(-time.Duration(expires) * time.Second)}).Draw(t, "at")
		uri, header, err := v4.NewSigner().PresignHTTP(context.Background(), m.credentials, r, hexSHA256(m.body), "kms", m.region, at)
		if err != nil {
			t.Fatal(err)
		}
		sent, err := http.NewRequest(m.method, uri, bytes.NewReader(m.body))
		if err != nil {
			t.Fatal(err)
		}
		sent.Header = header
		sent.Header.Del("Content-Length") // the transport's own

		v := m.verifier()
		got, err := v.Verify(context.Background(), received(t, sent, m.body), m.body)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Query || !got.Date.Equal(at) {
			t.Fatalf("got %+v", got)
		}
		v.Now = func() time.Time { return at.Add(time.Duration(expires+1) * time.Second) }
		if _, err := v.Verify(context.Background(), received(t, sent, m.body), m.body); err == nil || !strings.Contains(err.Error(), "Signature expired") {
			t.Fatalf("a second too late: %v", err)
		}
	})
}

func TestWeSignAsTheSDKDoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := messages.Draw(t, "message")
		port := rapid.SampledFrom([]string{"", ":443", ":80", ":8443"}).Draw(t, "port")
		ours := m.request(t)
		ours.URL.Host = "KMS.example.test" + port
		ours.Host = ""
		ours.ContentLength = 0 // which the SDK would sign
		theirs := ours.Clone(context.Background())

		sigv4.Sign(ours, m.body, sigv4.Credentials{
			AccessKeyID: m.credentials.AccessKeyID, Secret: secret.NewText(m.credentials.SecretAccessKey), SessionToken: secret.NewText(m.credentials.SessionToken),
		}, "kms", m.region, signedAt.In(time.FixedZone("", 7200)))
		if err := v4.NewSigner().SignHTTP(context.Background(), m.credentials, theirs, hexSHA256(m.body), "kms", m.region, signedAt); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"Authorization", "X-Amz-Date", "X-Amz-Security-Token"} {
			if got, want := ours.Header[name], theirs.Header[name]; !slices.Equal(got, want) {
				t.Fatalf("%s\ngot  %q\nwant %q", name, got, want)
			}
		}
		if ours.Host != theirs.Host {
			t.Fatalf("Host %q, want %q", ours.Host, theirs.Host)
		}
	})
}

// Whichever byte of what is signed changes, the signature no longer holds.
func TestTamperingIsNoticed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := messages.Draw(t, "message")
		r := received(t, m.bySDK(t), m.body)
		body := slices.Clone(m.body)
		v := m.verifier()
		if _, err := v.Verify(context.Background(), r, body); err != nil {
			t.Fatal(err)
		}
		what := tamper(t, r, &body)
		if what == "" {
			t.Skip("the change means the same")
		}
		if _, err := v.Verify(context.Background(), r, body); err == nil {
			t.Fatalf("not noticed: %s", what)
		}
	})
}

// tamper changes one byte and says which; nothing if the request means what it did.
func tamper(t *rapid.T, r *http.Request, body *[]byte) string {
	change := func(s string) string {
		b := []byte(s)
		b[rapid.IntRange(0, len(b)-1).Draw(t, "index")] ^= byte(1) << rapid.IntRange(0, 6).Draw(t, "bit")
		return string(b)
	}
	switch place := rapid.SampledFrom([]string{"method", "path", "query", "host", "header", "body", "token"}).Draw(t, "place"); place {
	case "method":
		r.Method = change(r.Method)
		return place
	case "path":
		before := r.URL.EscapedPath()
		u, err := url.ParseRequestURI(change(before))
		if err != nil || strings.TrimSuffix(u.EscapedPath(), "/") == strings.TrimSuffix(before, "/") || u.RawQuery != "" || strings.Contains(u.Path, "//") {
			return ""
		}
		r.URL.Path, r.URL.RawPath = u.Path, u.RawPath
		return place + " " + u.EscapedPath()
	case "query":
		if r.URL.RawQuery == "" {
			return ""
		}
		before, _ := url.ParseQuery(r.URL.RawQuery)
		r.URL.RawQuery = change(r.URL.RawQuery)
		after, err := url.ParseQuery(r.URL.RawQuery)
		if err == nil && before.Encode() == after.Encode() {
			return ""
		}
		return place + " " + r.URL.RawQuery
	case "host":
		r.Host = change(r.Host)
		return place
	case "header":
		names := strings.Split(between(r.Header.Get("Authorization"), "SignedHeaders=", ","), ";")
		values := r.Header[http.CanonicalHeaderKey(rapid.SampledFrom(names).Draw(t, "name"))]
		if len(values) == 0 || values[0] == "" { // host; an empty value has no byte
			return ""
		}
		before := strings.Join(strings.Fields(values[0]), " ")
		values[0] = change(values[0])
		if strings.Join(strings.Fields(values[0]), " ") == before {
			return ""
		}
		return place + " " + values[0]
	case "body":
		if len(*body) == 0 {
			*body = []byte{0}
			return place
		}
		*body = []byte(change(string(*body)))
		return place
	default:
		authorization := r.Header.Get("Authorization")
		_, signature, _ := strings.Cut(authorization, "Signature=")
		r.Header.Set("Authorization", strings.Replace(authorization, signature, change(signature), 1))
		return place
	}
}

// What a client of either protocol version sends is what the server verifies:
// the port in Host, :authority, content-length.
func TestSignaturesHoldOverRealConnections(t *testing.T) {
	t.Parallel()
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprintf("HTTP/%d", version), func(t *testing.T) {
			t.Parallel()
			v := exampleVerifier("")
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var body bytes.Buffer
				if _, err := body.ReadFrom(r.Body); err != nil {
					t.Error(err)
				}
				if r.ProtoMajor != version {
					t.Errorf("HTTP/%d", r.ProtoMajor)
				}
				if _, err := v.Verify(r.Context(), r, body.Bytes()); err != nil {
					http.Error(w, err.Error(), http.StatusBadRequest)
				}
			}))
			s.EnableHTTP2 = version == 2
			s.StartTLS()
			defer s.Close()
			for name, sign := range map[string]func(r *http.Request){
				"by the SDK": func(r *http.Request) { signWithSDK(t, r, kmsBody, "", "service") },
				"by us": func(r *http.Request) {
					sigv4.Sign(r, kmsBody, sigv4.Credentials{AccessKeyID: exampleKey, Secret: secret.NewText(exampleSecret)}, "service", "us-east-1", exampleTime)
				},
			} {
				r, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/a%20b/c%2Fd/?x=%2B+1&y", bytes.NewReader(kmsBody))
				if err != nil {
					t.Fatal(err)
				}
				sign(r)
				answer, err := s.Client().Do(r)
				if err != nil {
					t.Fatal(err)
				}
				answer.Body.Close()
				if answer.StatusCode != http.StatusOK {
					t.Errorf("%s: %s", name, answer.Status)
				}
			}
		})
	}
}
