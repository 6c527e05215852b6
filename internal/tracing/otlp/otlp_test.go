package otlp_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/tracing"
	"kastellan.dev/internal/tracing/otlp"
	"kastellan.dev/internal/tracing/tracingtest"
)

// open opens an exporter to the collector, which sends at once.
func open(t *testing.T, c *tracingtest.Collector, change func(*otlp.Config)) *otlp.Exporter {
	t.Helper()
	text, err := os.ReadFile(c.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	cfg := otlp.Config{Endpoint: c.URL, CA: x509.NewCertPool(), SampleRatio: 1, Accept: true, Service: "test", Delay: time.Millisecond}
	cfg.CA.AppendCertsFromPEM(text)
	if change != nil {
		change(&cfg)
	}
	e, err := otlp.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close(context.WithoutCancel(t.Context())) })
	return e
}

const caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func traceparent(value string) http.Header { return http.Header{"Traceparent": {value}} }

func named(name string) func(tracingtest.Span) bool {
	return func(s tracingtest.Span) bool { return s.Name == name }
}

func TestSpansArriveAsOneTrace(t *testing.T) {
	t.Parallel()
	c := tracingtest.New(t)
	e := open(t, c, func(cfg *otlp.Config) {
		cfg.Headers = map[string]secret.Text{"Authorization": secret.NewText("Bearer of-spans")}
	})
	ctx, request := e.Tracer().Serve(t.Context(), traceparent(caller), true, "request", time.Now())
	_, part := tracing.StartCall(ctx, "part")
	part.Set(tracing.StoreID, "cks-1")
	part.Set(tracing.XksKeyID, "")
	part.End("SomeException")
	request.End("")
	got := c.Find("request", named("request"))
	inner := c.Find("part", named("part"))
	if got.TraceID != caller[3:35] || got.ParentID != caller[36:52] || got.Failed || got.Service != "test" {
		t.Errorf("the request's span is %+v", got)
	}
	if inner.TraceID != got.TraceID || inner.ParentID != got.SpanID || !inner.Failed ||
		inner.Attributes["error.type"] != "SomeException" || inner.Attributes[tracing.StoreID] != "cks-1" || len(inner.Attributes) != 2 {
		t.Errorf("the part's span is %+v", inner)
	}
	if h := c.Headers()[0].Get("Authorization"); h != "Bearer of-spans" {
		t.Errorf("the collector got the header %q", h)
	}
}

func TestOnlyTrustedCallersOfATracerThatAcceptsThemDecide(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ accept, trusted bool }{
		"a caller who is not authenticated":        {true, false},
		"a tracer that does not accept the header": {false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			collector := tracingtest.New(t)
			e := open(t, collector, func(cfg *otlp.Config) { cfg.Accept = c.accept })
			_, span := e.Tracer().Serve(t.Context(), traceparent(caller), c.trusted, "request", time.Now())
			span.End("")
			if got := collector.Find("request", named("request")); got.ParentID != "" || got.TraceID == caller[3:35] {
				t.Errorf("the span goes on with the caller's trace: %+v", got)
			}
		})
	}
}

func TestWhatIsNotSampledIsNotSentAndSaysSo(t *testing.T) {
	t.Parallel()
	c := tracingtest.New(t)
	e := open(t, c, func(cfg *otlp.Config) { cfg.SampleRatio = 0 })
	ctx, span := e.Tracer().Serve(t.Context(), nil, true, "request", time.Now())
	below, part := tracing.Start(ctx, "part")
	header := http.Header{}
	tracing.Inject(below, header)
	if !strings.HasSuffix(header.Get("Traceparent"), "-00") {
		t.Errorf("the next server is told %q", header.Get("Traceparent"))
	}
	if span.TraceID() != "" {
		t.Errorf("the log would name the trace %s, which is nowhere", span.TraceID())
	}
	part.End("")
	span.End("")
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := c.Spans(); len(got) != 0 {
		t.Errorf("sent: %+v", got)
	}
}

func TestWithoutATraceNothingIsToldToTheNextServer(t *testing.T) {
	t.Parallel()
	header := http.Header{}
	tracing.Inject(t.Context(), header)
	if len(header) != 0 {
		t.Errorf("the header is %v", header)
	}
}

// logged is a log that can be read while it is written.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func TestACollectorThatRefusesIsLoggedAndBlocksNobody(t *testing.T) {
	t.Parallel()
	c := tracingtest.New(t)
	c.Answer(http.StatusServiceUnavailable)
	log := &logged{}
	e := open(t, c, func(cfg *otlp.Config) {
		cfg.Logger = slog.New(slog.NewTextHandler(log, nil))
		cfg.Headers = map[string]secret.Text{"Authorization": secret.NewText("Bearer of-spans")}
	})
	_, span := e.Tracer().Serve(t.Context(), nil, true, "request", time.Now())
	span.End("")
	polltest.Until(t, "a line in the log", func() bool { return strings.Contains(log.String(), "503") })
	if strings.Contains(log.String(), "of-spans") {
		t.Errorf("the log tells the header: %s", log)
	}
	c.Answer(http.StatusOK)
	_, span = e.Tracer().Serve(t.Context(), nil, true, "later", time.Now())
	span.End("")
	c.Find("later", named("later"))
}

func TestACollectorThatIsNotTrustedGetsNothing(t *testing.T) {
	t.Parallel()
	c := tracingtest.New(t)
	log := &logged{}
	e := open(t, c, func(cfg *otlp.Config) {
		cfg.CA, cfg.Logger = x509.NewCertPool(), slog.New(slog.NewTextHandler(log, nil))
	})
	_, span := e.Tracer().Serve(t.Context(), nil, true, "request", time.Now())
	span.End("")
	polltest.Until(t, "a line in the log", func() bool { return strings.Contains(log.String(), "certificate") })
	if len(c.Headers()) != 0 {
		t.Error("it got a request")
	}
}

func TestEndpointsThatWouldLeakAreRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://collector.example.com:4318":       "https://collector.example.com:4318/v1/traces",
		"https://collector.example.com/otlp/":      "https://collector.example.com/otlp/",
		"http://127.0.0.1:4318":                    "http://127.0.0.1:4318/v1/traces",
		"http://[::1]:4318/":                       "http://[::1]:4318/v1/traces",
		"http://localhost:4318":                    "http://localhost:4318/v1/traces",
		"http://collector.example.com:4318":        "",
		"grpc://collector.example.com:4317":        "",
		"collector.example.com:4318":               "",
		"https://user:word@collector.example.com":  "",
		"https://collector.example.com?key=secret": "",
		"": "",
	} {
		u, err := otlp.ParseEndpoint(text)
		switch {
		case want == "" && err == nil:
			t.Errorf("%q is accepted as %s", text, u)
		case want != "" && (err != nil || u.String() != want):
			t.Errorf("%q gives %v, %v; want %s", text, u, err, want)
		}
	}
}
