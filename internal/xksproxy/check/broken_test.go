package check_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
	"kastellan.dev/internal/xksapi"
	"kastellan.dev/internal/xksproxy"
	"kastellan.dev/internal/xksproxy/check"
	"kastellan.dev/internal/xksproxy/xksproxytest"
)

// exchange is a request that a broken proxy may answer as it likes, with a sound
// proxy to ask.
type exchange struct {
	r     *http.Request
	body  []byte
	in    map[string]any
	sound http.Handler
}

// forward asks the sound proxy as the caller did.
func (x *exchange) forward() *httptest.ResponseRecorder {
	r := x.r.Clone(x.r.Context())
	r.Body = io.NopCloser(bytes.NewReader(x.body))
	w := httptest.NewRecorder()
	x.sound.ServeHTTP(w, r)
	return w
}

// instead asks the sound proxy something else, well signed.
func (x *exchange) instead(path string, in map[string]any) *httptest.ResponseRecorder {
	body, _ := json.Marshal(in)
	r := httptest.NewRequest(http.MethodPost, "https://"+xksproxytest.Host+path, bytes.NewReader(body)).WithContext(x.r.Context())
	sigv4.Sign(r, body, sigv4.Credentials{AccessKeyID: xksproxytest.AccessKeyID, Secret: secret.NewText(xksproxytest.SecretKey)},
		xksapi.Service, xksproxytest.Region, time.Now())
	w := httptest.NewRecorder()
	x.sound.ServeHTTP(w, r)
	return w
}

func (x *exchange) ends(suffix string) bool { return strings.HasSuffix(x.r.URL.Path, suffix) }

func (x *exchange) has(text string) bool { return bytes.Contains(x.body, []byte(text)) }

func (x *exchange) with(name string, value any) map[string]any {
	out := maps.Clone(x.in)
	out[name] = value
	return out
}

func fail(name xksapi.ErrorName) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	status, _ := name.Status()
	return answer(w, status, xksapi.ErrorResponse{ErrorName: name})
}

func answer(w *httptest.ResponseRecorder, status int, v any) *httptest.ResponseRecorder {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(xksapi.Encode(v))
	return w
}

// edited changes the JSON of an answer.
func edited(w *httptest.ResponseRecorder, change func(map[string]any)) *httptest.ResponseRecorder {
	var out map[string]any
	if json.Unmarshal(w.Body.Bytes(), &out) != nil {
		return w
	}
	change(out)
	return answer(httptest.NewRecorder(), w.Code, out)
}

// remembering gives for decrypt requests what the encryption of the same IV had in a member.
func remembering(member, inAnswer string) func(*exchange) *httptest.ResponseRecorder {
	var known sync.Map
	return func(x *exchange) *httptest.ResponseRecorder {
		switch {
		case x.ends("/encrypt"):
			w := x.forward()
			var out map[string]any
			if json.Unmarshal(w.Body.Bytes(), &out) == nil && w.Code == 200 {
				out["aad"] = x.in["additionalAuthenticatedData"]
				known.Store(out["initializationVector"], out[inAnswer])
			}
			return w
		case x.ends("/decrypt"):
			if v, ok := known.Load(x.in["initializationVector"]); ok && v != nil {
				return x.instead(x.r.URL.Path, x.with(member, v))
			}
		}
		return nil
	}
}

type broken struct {
	name   string
	answer func(*exchange) *httptest.ResponseRecorder // nil, or gives nil: as the sound proxy would
	tls    func(*tls.Config)
	valid  time.Duration
	option func(t *testing.T, p *xksproxytest.PKI, o *check.Options)
	want   []string
}

func brokenProxies() []broken {
	var encryptions atomic.Int32
	var first atomic.Pointer[httptest.ResponseRecorder]
	const oneDay = 24 * time.Hour
	return []broken{
		{name: "leaves ekmVendor out", want: []string{"health.answer"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if !x.ends("/health") {
				return nil
			}
			return edited(x.forward(), func(out map[string]any) { delete(out, "ekmVendor") })
		}},
		{name: "accepts a health check without members", want: []string{"health.empty-metadata"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if x.ends("/health") && x.has(`"requestMetadata":{}`) {
				return answer(httptest.NewRecorder(), 200, map[string]any{})
			}
			return nil
		}},
		{name: "denies health checks that it does not know", want: []string{"health.operation.SomethingNew"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if x.ends("/health") && x.has("SomethingNew") {
				return fail(xksapi.AccessDeniedException)
			}
			return nil
		}},
		{name: "has lost its key manager", want: []string{"health.all-active", "health.available"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if !x.ends("/health") {
				return nil
			}
			w := x.forward()
			return edited(w, func(out map[string]any) {
				if w.Code == 200 {
					out["ekmFleetDetails"] = []xksapi.EkmFleetDetails{{ID: "a", Model: "b", HealthStatus: xksapi.Unavailable}}
				}
			})
		}},
		{name: "calls unknown keys invalid", want: []string{"metadata.unknown-key"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if x.ends("no-such-key/metadata") {
				return fail(xksapi.ValidationException)
			}
			return nil
		}},
		{name: "uses an initialization vector twice", want: []string{"encrypt.fresh-iv"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if !x.ends("/encrypt") || x.in["plaintext"] != "dGhlIHNhbWU=" {
				return nil
			}
			first.CompareAndSwap(nil, x.forward())
			return first.Load()
		}},
		{name: "makes wrong integrity values", want: []string{"encrypt.integrity-value", "encrypt.integrity-value.no-aad"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if !x.ends("/encrypt") || !x.has("SHA_256") {
				return nil
			}
			w := x.forward()
			return edited(w, func(out map[string]any) {
				if w.Code == 200 {
					out["ciphertextDataIntegrityValue"] = make([]byte, 32)
				}
			})
		}},
		{name: "makes integrity values with a key that cannot decrypt", want: []string{"usage.encrypt-only.integrity"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if x.ends(xksproxytest.EncryptOnly+"/encrypt") && x.has("SHA_256") {
				return x.instead(x.r.URL.Path, x.with("ciphertextDataIntegrityValueAlgorithm", nil))
			}
			return nil
		}},
		{name: "does not look at the tag", want: []string{"decrypt.tampered.empty-tag", "decrypt.tampered.short-tag", "decrypt.tampered.tag", "decrypt.tampered.tag-begin", "decrypt.tampered.tag-of-another"},
			answer: remembering("authenticationTag", "authenticationTag")},
		{name: "does not authenticate additional data", want: []string{"decrypt.tampered.aad", "decrypt.tampered.aad-absent", "decrypt.tampered.aad-begin", "decrypt.tampered.aad-longer"},
			answer: remembering("additionalAuthenticatedData", "aad")},
		{name: "does not authenticate metadata", want: []string{"decrypt.tampered.metadata", "decrypt.tampered.metadata-absent", "decrypt.tampered.metadata-begin", "decrypt.tampered.metadata-long"},
			answer: remembering("ciphertextMetadata", "ciphertextMetadata")},
		{name: "does not look at the ciphertext", want: []string{"decrypt.tampered.ciphertext", "decrypt.tampered.ciphertext-begin", "decrypt.tampered.ciphertext-cut",
			"decrypt.tampered.ciphertext-empty", "decrypt.tampered.ciphertext-longer", "decrypt.tampered.ciphertext-of-another"},
			answer: remembering("ciphertext", "ciphertext")},
		{name: "looks at the first half of additional data only", want: []string{"decrypt.tampered.aad"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if text, ok := x.in["additionalAuthenticatedData"].(string); ok && x.ends("/decrypt") && strings.HasPrefix(text, exampleAAD[:20]) && len(text) == len(exampleAAD) {
				return x.instead(x.r.URL.Path, x.with("additionalAuthenticatedData", exampleAAD))
			}
			return nil
		}},
		{name: "never asks for the date", want: []string{"auth.2-hours-ago", "auth.6-minutes-ago", "auth.in-2-hours", "auth.in-6-minutes"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if at := x.signed(); !at.IsZero() && time.Since(at).Abs() > 5*time.Minute {
				return x.instead(x.r.URL.Path, x.in)
			}
			return nil
		}},
		{name: "has one credential only", want: []string{"auth.second-credential"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if strings.Contains(x.r.Header.Get("Authorization"), xksproxytest.AccessKeyID2) {
				return fail(xksapi.AuthenticationFailedException)
			}
			return nil
		}},
		{name: "lets a key decrypt that may do nothing", want: []string{"usage.impotent.decrypt"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if x.ends(xksproxytest.Impotent + "/decrypt") {
				return fail(xksapi.InvalidCiphertextException)
			}
			return nil
		}},
		{name: "has a clock that is wrong", want: []string{"reach.clock"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			w := x.forward()
			w.Header().Set("Date", time.Now().Add(-4*time.Minute).UTC().Format(http.TimeFormat))
			return w
		}},
		{name: "is slow to decrypt", want: []string{"load.latency.decrypt"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if text, _ := x.in["ciphertext"].(string); len(text) == 344 {
				time.Sleep(300 * time.Millisecond) // what is measured
			}
			return nil
		}, option: func(_ *testing.T, _ *xksproxytest.PKI, o *check.Options) { o.Calls = 2 }},
		{name: "has a name that KMS cannot reach", want: []string{"reach.endpoint"}, option: func(_ *testing.T, _ *xksproxytest.PKI, o *check.Options) {
			o.URL = "https://" + xksproxytest.Host + ":8443" + xksproxytest.Prefix
		}},
		{name: "takes any client certificate", want: []string{"tls.client-stranger"}, tls: func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert },
			option: func(t *testing.T, p *xksproxytest.PKI, o *check.Options) {
				cert := p.Client(t, "kms")
				o.ClientCert = &cert
			}},
		{name: "takes 4096 bytes of plaintext only", want: []string{"encrypt.max-both", "encrypt.max-plaintext"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if text, _ := x.in["plaintext"].(string); len(text) > 4096*4/3+4 {
				return fail(xksapi.UnsupportedOperationException)
			}
			return nil
		}},
		{name: "uses disabled keys", want: []string{"usage.disabled.decrypt", "usage.disabled.encrypt", "usage.disabled.metadata"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if strings.Contains(x.r.URL.Path, xksproxytest.Disabled) {
				return x.instead(strings.Replace(x.r.URL.Path, xksproxytest.Disabled, xksproxytest.Key, 1), x.in)
			}
			return nil
		}},
		{name: "takes requests from 6 minutes ago", want: []string{"auth.2-hours-ago", "auth.6-minutes-ago"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if at := x.signed(); at.Before(time.Now().Add(-5*time.Minute)) && !at.IsZero() {
				return x.instead(x.r.URL.Path, x.in)
			}
			return nil
		}},
		{name: "has a narrow window", want: []string{"auth.4-minutes-ago", "auth.in-4-minutes"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if at := x.signed(); !at.IsZero() && time.Since(at).Abs() > 3*time.Minute {
				return fail(xksapi.AuthenticationFailedException)
			}
			return nil
		}},
		{name: "does not insist on a signed host", want: []string{"auth.unsigned-host"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if strings.Contains(x.r.Header.Get("Authorization"), "SignedHeaders=x-amz-date,") {
				return x.instead(x.r.URL.Path, x.in)
			}
			return nil
		}},
		{name: "knows every access key", want: []string{"auth.unknown-id"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if strings.Contains(x.r.Header.Get("Authorization"), "NOSUCHKEY") {
				return x.instead(x.r.URL.Path, x.in)
			}
			return nil
		}},
		{name: "does not care for the Region", want: []string{"auth.wrong-region"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if strings.Contains(x.r.Header.Get("Authorization"), "mars-west-1") {
				return x.instead(x.r.URL.Path, x.in)
			}
			return nil
		}},
		{name: "has no answer to GET", want: []string{"http.get.decrypt", "http.get.encrypt", "http.get.health", "http.get.metadata"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if x.r.Method == http.MethodGet {
				return fail(xksapi.InvalidURIPathException)
			}
			return nil
		}},
		{name: "ignores the query string", want: []string{"http.query"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if x.r.URL.RawQuery != "" {
				return x.instead(x.r.URL.Path, x.in)
			}
			return nil
		}},
		{name: "denies unknown paths", want: []string{"http.unknown-path"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if x.ends("/nothing") {
				return fail(xksapi.AccessDeniedException)
			}
			return nil
		}},
		{name: "closes every connection", want: []string{"http.keep-alive"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			w := x.forward()
			if x.r.ProtoMajor == 1 {
				w.Header().Set("Connection", "close")
			}
			return w
		}},
		{name: "says errors in French", want: []string{"form.errors"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			return edited(x.forward(), func(out map[string]any) {
				if out["errorMessage"] != nil {
					out["errorMessage"] = "pas trouvé"
				}
			})
		}},
		{name: "invents an error", want: []string{"form.errors", "rules.denied.metadata"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if x.ends(xksproxytest.Denied + "/metadata") {
				return answer(httptest.NewRecorder(), 403, map[string]string{"errorName": "ForbiddenException"})
			}
			return nil
		}},
		{name: "gives a wrong status", want: []string{"encrypt.unknown-key", "form.errors"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if x.ends("no-such-key/encrypt") {
				return answer(httptest.NewRecorder(), 400, xksapi.ErrorResponse{ErrorName: xksapi.KeyNotFoundException})
			}
			return nil
		}},
		{name: "indents its JSON", want: []string{"form.one-line"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			w := x.forward()
			var out bytes.Buffer
			if json.Indent(&out, w.Body.Bytes(), "", "  ") == nil {
				w.Body = &out
			}
			return w
		}},
		{name: "sends text", want: []string{"form.content-type"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			w := x.forward()
			w.Header().Set("Content-Type", "text/plain")
			return w
		}},
		{name: "refuses members that it does not know", want: []string{"json.unknown-members", "metadata.surplus"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if x.has("somethingNew") {
				return fail(xksapi.ValidationException)
			}
			return nil
		}},
		{name: "parses ARNs", want: []string{"json.odd-arn", "metadata.surplus"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if x.has(":/key/") {
				return fail(xksapi.ValidationException)
			}
			return nil
		}},
		{name: "calls unknown KMS operations invalid", want: []string{"decrypt.operation.unknown", "encrypt.operation.unknown"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if !x.ends("/health") && x.has(`"SomethingNew"`) {
				return fail(xksapi.ValidationException)
			}
			return nil
		}},
		{name: "does not miss kmsKeyArn", want: []string{"encrypt.missing.kmsKeyArn"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			m, _ := x.in["requestMetadata"].(map[string]any)
			if x.ends("/encrypt") && m != nil && m["kmsKeyArn"] == nil {
				m["kmsKeyArn"] = "arn"
				return x.instead(x.r.URL.Path, x.in)
			}
			return nil
		}},
		{name: "is slow", want: []string{"load.cold", "load.latency"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if text, _ := x.in["plaintext"].(string); len(text) == 344 {
				time.Sleep(300 * time.Millisecond) // what is measured
			}
			return nil
		}, option: func(_ *testing.T, _ *xksproxytest.PKI, o *check.Options) { o.Calls = 2 }},
		{name: "breaks under load", want: []string{"load.burst"}, answer: func(x *exchange) *httptest.ResponseRecorder {
			if text, _ := x.in["plaintext"].(string); len(text) == 344 && encryptions.Add(1) > 2+5+1 {
				return fail(xksapi.InternalException)
			}
			return nil
		}, option: func(_ *testing.T, _ *xksproxytest.PKI, o *check.Options) { o.Calls = 2 }},
		{name: "speaks TLS 1.1", want: []string{"tls.old-versions"}, tls: func(c *tls.Config) { c.MinVersion = tls.VersionTLS10 }},
		{name: "has AES-128 in TLS 1.2 only", want: []string{"tls.suites"}, tls: func(c *tls.Config) {
			c.MaxVersion = tls.VersionTLS12
			c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
		}},
		{name: "has a certificate that ends soon", want: []string{"tls.certificate-days"}, valid: 3 * oneDay},
		{name: "has a certificate that has expired", want: []string{"reach"}, valid: -oneDay},
		{name: "is meant to want a client certificate", want: []string{"tls.client-certificate", "tls.client-stranger"}, option: func(t *testing.T, p *xksproxytest.PKI, o *check.Options) {
			cert := p.Client(t, "kms")
			o.ClientCert = &cert
		}},
	}
}

// exampleAAD is what most cases authenticate, in base64.
const exampleAAD = "cHJvamVjdD1uaWxlLGRlcGFydG1lbnQ9bWFya2V0aW5n"

func (x *exchange) signed() time.Time {
	at, _ := time.Parse("20060102T150405Z", x.r.Header.Get("X-Amz-Date"))
	return at
}

func TestEachBrokenProxyFailsExactlyTheCasesMeant(t *testing.T) {
	t.Parallel()
	pki := xksproxytest.NewPKI(t)
	for _, b := range brokenProxies() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			o := start(t, b, pki)
			r := run(t, o)
			got := notPassed(r, b.want...)
			slices.Sort(got)
			if diff := cmp.Diff(b.want, got); diff != "" {
				t.Errorf("cases that did not pass (-want +got):\n%s", diff)
			}
		})
	}
}

func start(t *testing.T, b broken, pki *xksproxytest.PKI) check.Options {
	t.Helper()
	sound, err := xksproxy.New(xksproxytest.Config(xksproxytest.FileRing(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sound.Close(t.Context()) })
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{r: r, sound: sound}
		x.body, _ = io.ReadAll(r.Body)
		_ = json.Unmarshal(x.body, &x.in)
		var out *httptest.ResponseRecorder
		if b.answer != nil {
			out = b.answer(x)
		}
		if out == nil {
			out = x.forward()
		}
		maps.Copy(w.Header(), out.Header())
		w.WriteHeader(out.Code)
		_, _ = w.Write(out.Body.Bytes())
	}))
	if b.valid == 0 {
		b.valid = 90 * 24 * time.Hour
	}
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pki.ServerFor(t, b.valid, xksproxytest.Host)}}
	if b.tls != nil {
		b.tls(srv.TLS)
	}
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = nil
	srv.StartTLS()
	t.Cleanup(srv.Close)
	o := xksproxytest.Options(srv.Listener.Addr().String(), pki)
	o.Calls = 3
	if b.option != nil {
		b.option(t, pki, &o)
	}
	return o
}
