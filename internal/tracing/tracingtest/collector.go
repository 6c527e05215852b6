// Package tracingtest is a collector of OTLP over HTTP for tests: it takes what a
// real one would be sent, over TLS, and decodes it. It refuses what is not such a request.
package tracingtest

import (
	"encoding/hex"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"kastellan.dev/internal/polltest"
)

// Span is a span that arrived.
type Span struct {
	Service, Name             string
	TraceID, SpanID, ParentID string // hexadecimal; ParentID is empty for the first of a trace
	Kind                      tracepb.Span_SpanKind
	Failed                    bool
	Attributes                map[string]string
}

// Collector collects spans.
type Collector struct {
	URL    string // "https://127.0.0.1:…"
	CAFile string // PEM file with the certificate to trust

	t  testing.TB
	mu sync.Mutex
	// guarded by mu
	spans   []Span
	bodies  [][]byte
	headers []http.Header
	status  int
}

// New starts a collector, which ends with the test.
func New(t testing.TB) *Collector {
	t.Helper()
	c := &Collector{t: t, status: http.StatusOK}
	server := httptest.NewTLSServer(c)
	t.Cleanup(server.Close)
	c.URL, c.CAFile = server.URL, filepath.Join(t.TempDir(), "collector.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(c.CAFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// Answer makes the collector answer with another status, and keep nothing, unless it is 200.
func (c *Collector) Answer(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = status
}

// ServeHTTP implements http.Handler.
func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var data tracepb.TracesData
	switch {
	case err != nil, r.Method != http.MethodPost, r.URL.Path != "/v1/traces", r.Header.Get("Content-Type") != "application/x-protobuf":
		c.t.Errorf("the collector got %s %s with Content-Type %q (%v)", r.Method, r.URL, r.Header.Get("Content-Type"), err)
	case proto.Unmarshal(body, &data) != nil:
		c.t.Errorf("the collector cannot decode %d bytes", len(body))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.headers = append(c.headers, r.Header.Clone())
	if c.status == http.StatusOK {
		c.bodies = append(c.bodies, body)
		c.take(&data)
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.WriteHeader(c.status)
}

func (c *Collector) take(data *tracepb.TracesData) {
	for _, resource := range data.GetResourceSpans() {
		service := texts(resource.GetResource().GetAttributes())["service.name"]
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				c.spans = append(c.spans, Span{
					Service: service, Name: s.GetName(), Kind: s.GetKind(), Attributes: texts(s.GetAttributes()),
					TraceID: hex.EncodeToString(s.GetTraceId()), SpanID: hex.EncodeToString(s.GetSpanId()), ParentID: hex.EncodeToString(s.GetParentSpanId()),
					Failed: s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR,
				})
			}
		}
	}
}

// texts gives the attributes whose values are text.
func texts(attributes []*commonpb.KeyValue) map[string]string {
	out := make(map[string]string)
	for _, a := range attributes {
		if s, ok := a.GetValue().GetValue().(*commonpb.AnyValue_StringValue); ok {
			out[a.GetKey()] = s.StringValue
		}
	}
	return out
}

// Spans gives what has arrived.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Bodies gives what has arrived, as it came.
func (c *Collector) Bodies() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.bodies)
}

// Headers gives those of all requests, of refused ones too.
func (c *Collector) Headers() []http.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.headers)
}

// Find waits for the span that is wanted; what says which it is.
func (c *Collector) Find(what string, want func(Span) bool) Span {
	c.t.Helper()
	var found Span
	polltest.Until(c.t, "the span "+what, func() bool {
		all := c.Spans()
		i := slices.IndexFunc(all, want)
		if i >= 0 {
			found = all[i]
		}
		return i >= 0
	})
	return found
}
