package e2e_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"kastellan.dev/internal/config"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/keystore/xks/xkstest"
	"kastellan.dev/internal/tracing/tracingtest"
	"kastellan.dev/internal/xksproxy/xksproxytest"
)

// both is a server with an external key store behind the project's own proxy.
type both struct {
	*kastellantest.Server
	client *awskms.Client
	key    string // ARN
	id     string // of the key store
	proxy  *xksproxytest.Running
}

// ownProxy starts a proxy, changed, and says how a server reaches it.
func ownProxy(t *testing.T, change func(*proxyConfig)) (*xksproxytest.Running, config.ExternalKeyStores) {
	t.Helper()
	pki := xksproxytest.NewPKI(t)
	certificate := pki.Server(t, xksproxytest.Host)
	cfg := proxyConfigOf(t, &certificate)
	if change != nil {
		change(&cfg)
	}
	proxy := xksproxytest.StartServer(t, cfg, pki)
	ca := filepath.Join(t.TempDir(), "xks-ca.pem")
	if err := os.WriteFile(ca, pki.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	return proxy, config.ExternalKeyStores{Hosts: []config.Host{{Name: xksproxytest.Host, Address: proxy.Addr().String(), CA: ca}}}
}

// newBoth starts both; they are changed before.
func newBoth(t *testing.T, changeServer func(*kastellantest.Options), changeProxy func(*proxyConfig)) *both {
	t.Helper()
	b := &both{}
	o := kastellantest.Options{}
	b.proxy, o.External = ownProxy(t, changeProxy)
	if changeServer != nil {
		changeServer(&o)
	}
	b.Server = kastellantest.Start(t, o)
	b.client = b.Client(admin)
	b.id = b.KeyStore(&awskms.CreateCustomKeyStoreInput{
		CustomKeyStoreName:   aws.String("own"),
		CustomKeyStoreType:   types.CustomKeyStoreTypeExternalKeyStore,
		XksProxyConnectivity: types.XksProxyConnectivityTypePublicEndpoint,
		XksProxyUriEndpoint:  aws.String("https://" + xksproxytest.Host),
		XksProxyUriPath:      aws.String(xksproxytest.Prefix + "/kms/xks/v1"),
		XksProxyAuthenticationCredential: &types.XksProxyAuthenticationCredentialType{
			AccessKeyId: aws.String(xksproxytest.AccessKeyID), RawSecretAccessKey: aws.String(xksproxytest.SecretKey),
		},
	})
	b.key = *b.Key(&awskms.CreateKeyInput{
		Origin: types.OriginTypeExternalKeyStore, CustomKeyStoreId: &b.id, XksKeyId: aws.String(xksproxytest.Key),
	}).Arn
	return b
}

// traced is the server's configuration for a collector.
func traced(t *testing.T, c *tracingtest.Collector, accept bool) func(*kastellantest.Options) {
	t.Helper()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("Bearer of-the-server\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(o *kastellantest.Options) {
		o.Config = func(cfg *config.Config) {
			cfg.Tracing = config.Tracing{
				Endpoint: c.URL, CA: c.CAFile, AcceptTraceparent: accept,
				Headers: []config.TracingHeader{{Name: "Authorization", ValueFile: token}},
			}
		}
	}
}

// path follows a span up to the first of its trace: "service/name" of each.
func path(t *testing.T, c *tracingtest.Collector, from tracingtest.Span) []string {
	t.Helper()
	var out []string
	for at := from; ; {
		out = append(out, at.Service+"/"+at.Name)
		if at.ParentID == "" {
			return out
		}
		child := at
		at = c.Find("above "+child.Name, func(s tracingtest.Span) bool { return s.SpanID == child.ParentID })
		if at.TraceID != child.TraceID {
			t.Fatalf("%+v is in another trace than %+v", at, child)
		}
	}
}

func wantPath(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, " < ") != strings.Join(want, " < ") {
		t.Errorf("the spans are %s, want %s", strings.Join(got, " < "), strings.Join(want, " < "))
	}
}

func (b *both) encrypt(t *testing.T, change ...func(*awskms.Options)) (requestID string) {
	t.Helper()
	out, err := b.client.Encrypt(t.Context(), &awskms.EncryptInput{
		KeyId: &b.key, Plaintext: []byte("MARKER-plaintext"), EncryptionContext: map[string]string{"case": "MARKER-context"},
	}, change...)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := middleware.GetRequestIDMetadata(out.ResultMetadata)
	return id
}

// ofRequest finds a span of a service that names the request.
func ofRequest(service, name, requestID string) func(tracingtest.Span) bool {
	return func(s tracingtest.Span) bool {
		return s.Service == service && s.Name == name && s.Attributes["aws.request_id"] == requestID
	}
}

func TestOneTraceSpansTheServerAndTheProxy(t *testing.T) {
	t.Parallel()
	collector := tracingtest.New(t)
	b := newBoth(t, traced(t, collector, false), tracedProxy(t, collector, true))
	id := b.encrypt(t)
	handler := collector.Find("of the proxy", ofRequest("kastellan-xks-proxy", "Encrypt", id))
	wantPath(t, path(t, collector, handler),
		"kastellan-xks-proxy/Encrypt", "kastellan/XKS Encrypt", "kastellan/key store Encrypt", "kastellan/TrentService.Encrypt")
	if handler.Attributes["aws.kms.key_arn"] != b.key || handler.Attributes["aws.kms.xks_key_id"] != xksproxytest.Key {
		t.Errorf("the proxy's span has %v", handler.Attributes)
	}
	store := collector.Find("of the key store", func(s tracingtest.Span) bool {
		return s.TraceID == handler.TraceID && s.Name == "key store Encrypt"
	})
	if store.Attributes["aws.kms.key_arn"] != b.key || store.Attributes["aws.kms.custom_key_store_id"] != b.id {
		t.Errorf("the key store's span has %v", store.Attributes)
	}
	collector.Find("of the decision", func(s tracingtest.Span) bool {
		return s.TraceID == handler.TraceID && s.Name == "authorize" && s.Attributes["aws.iam.action"] == "kms:Encrypt"
	})
	for _, body := range collector.Bodies() {
		if bytes.Contains(body, []byte("MARKER")) {
			t.Error("a plaintext or an encryption context is in a trace")
		}
	}
	authorized := false
	for _, h := range collector.Headers() {
		authorized = authorized || h.Get("Authorization") == "Bearer of-the-server"
	}
	if !authorized {
		t.Error("the server's requests to the collector lack its header")
	}
}

func TestAProxyThatDoesNotAcceptTracesHasItsOwn(t *testing.T) {
	t.Parallel()
	collector := tracingtest.New(t)
	b := newBoth(t, traced(t, collector, false), tracedProxy(t, collector, false))
	handler := collector.Find("of the proxy", ofRequest("kastellan-xks-proxy", "Encrypt", b.encrypt(t)))
	wantPath(t, path(t, collector, handler), "kastellan-xks-proxy/Encrypt")
}

func TestAClientsTraceGoesOnOnlyWhereThatIsConfigured(t *testing.T) {
	t.Parallel()
	const trace = "0af7651916cd43dd8448eb211c80319c"
	for name, accept := range map[string]bool{"accepted": true, "not accepted": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			collector := tracingtest.New(t)
			b := newBoth(t, traced(t, collector, accept), nil)
			id := b.encrypt(t, func(o *awskms.Options) {
				o.APIOptions = append(o.APIOptions, smithyhttp.AddHeaderValue("Traceparent", "00-"+trace+"-b7ad6b7169203331-01"))
			})
			got := collector.Find("of the request", ofRequest("kastellan", "TrentService.Encrypt", id))
			if (got.TraceID == trace) != accept {
				t.Errorf("the request is in the trace %s", got.TraceID)
			}
		})
	}
}

func TestWithoutTracingTheProxyHearsOfNone(t *testing.T) {
	t.Parallel()
	for name, collector := range map[string]*tracingtest.Collector{"off": nil, "on": tracingtest.New(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := xkstest.New(t, xkstest.Options{})
			proxy.AddKey("external-key")
			o := kastellantest.Options{External: external(t, proxy)}
			if collector != nil {
				traced(t, collector, false)(&o)
			}
			s := kastellantest.Start(t, o)
			id := s.KeyStore(kastellantest.ProxyInput(proxy, "xks"))
			key := s.Key(&awskms.CreateKeyInput{Origin: types.OriginTypeExternalKeyStore, CustomKeyStoreId: &id, XksKeyId: aws.String("external-key")})
			if err := (&pair{Server: s, client: s.Client(admin)}).roundTrip(*key.Arn); err != nil {
				t.Fatal(err)
			}
			requests := proxy.Requests(xkstest.Encrypt)
			if len(requests) != 1 {
				t.Fatalf("%d requests", len(requests))
			}
			header := requests[0].Header
			if got := header.Get("Traceparent") != ""; got != (collector != nil) {
				t.Errorf("the proxy gets the traceparent %q", header.Get("Traceparent"))
			}
			if strings.Contains(strings.ToLower(header.Get("Authorization")), "traceparent") {
				t.Errorf("it is signed: %s", header.Get("Authorization"))
			}
		})
	}
}

func TestATraceGoesDownToTheToken(t *testing.T) {
	t.Parallel()
	collector := tracingtest.New(t)
	p := newPair(t, traced(t, collector, false))
	key := p.keys[types.OriginTypeAwsCloudhsm]
	if err := p.roundTrip(key); err != nil {
		t.Fatal(err)
	}
	for _, operation := range []string{"Encrypt", "Decrypt"} {
		got := collector.Find("of PKCS#11 "+operation, func(s tracingtest.Span) bool {
			return s.Name == "PKCS#11 "+operation+"GCM" && path(t, collector, s)[1] == "kastellan/HSM "+operation
		})
		wantPath(t, path(t, collector, got), "kastellan/PKCS#11 "+operation+"GCM", "kastellan/HSM "+operation,
			"kastellan/key store "+operation, "kastellan/TrentService."+operation)
	}
}

// BenchmarkTracing measures whole requests without tracing, with tracing that records none of
// them, and with tracing that records all: cpu-µs/op. The part of the sender behind the requests is in it.
func BenchmarkTracing(b *testing.B) {
	collector := tracingtest.New(b)
	for _, c := range []struct {
		name  string
		ratio *float64
	}{{"off", nil}, {"none recorded", aws.Float64(0)}, {"all recorded", aws.Float64(1)}} {
		b.Run(c.name, func(b *testing.B) {
			s := kastellantest.Start(b, kastellantest.Options{Config: func(cfg *config.Config) {
				if c.ratio != nil {
					cfg.Tracing = config.Tracing{Endpoint: collector.URL, CA: collector.CAFile, SampleRatio: c.ratio}
				}
			}})
			key := *s.Key(&awskms.CreateKeyInput{}).Arn
			measure(b, post(b, s.Endpoint, encode(map[string]any{"KeyId": key, "Plaintext": make([]byte, 32)}), "TrentService.Encrypt"))
		})
	}
}

func TestRequestsThatFailSayWhyInTheirTrace(t *testing.T) {
	t.Parallel()
	collector := tracingtest.New(t)
	s := kastellantest.Start(t, kastellantest.Options{
		Users: []kastellantest.User{{Name: "nobody", Policy: strings.Replace(kastellantest.Everything, "Allow", "Deny", 1)}},
		Config: func(cfg *config.Config) {
			cfg.Tracing = config.Tracing{Endpoint: collector.URL, CA: collector.CAFile}
		},
	})
	_, err := s.Client("nobody").ListKeys(t.Context(), nil)
	wantError(t, err, "AccessDeniedException")
	for _, name := range []string{"authorize", "TrentService.ListKeys"} {
		got := collector.Find(name, func(s tracingtest.Span) bool { return s.Name == name })
		if !got.Failed || got.Attributes["error.type"] != "AccessDeniedException" {
			t.Errorf("%+v", got)
		}
	}
	// A request whose signature is wrong begins no trace of its caller's choice.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Endpoint, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", "TrentService.ListAliases")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	got := collector.Find("of the stranger", func(s tracingtest.Span) bool { return s.Name == "TrentService.ListAliases" })
	if !got.Failed || got.ParentID != "" {
		t.Errorf("%+v", got)
	}
}
