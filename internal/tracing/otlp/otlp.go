// Package otlp sends spans to a collector, by OTLP over HTTP, in batches and behind
// the requests.
//
// It speaks for itself instead of using the usual exporter, which brings all of gRPC
// with it. Sending is tried once: when the collector is away, spans are dropped
// and the log says so. It refuses plain HTTP to other machines, since what is sent names
// keys and callers' requests, and redirects.
package otlp

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/tracing"
)

// Config says where spans go.
type Config struct {
	Endpoint string                 // "https://host:4318"; without a path, /v1/traces
	CA       *x509.CertPool         // nil: the system's
	Headers  map[string]secret.Text // added to each request

	// SampleRatio is the part of the traces begun here that are recorded, 0 to 1.
	SampleRatio float64
	// Accept goes on with the traces of callers, who then decide.
	Accept bool

	Service string // "kastellan"
	Version string
	Logger  *slog.Logger // nil: nothing is logged

	// Timeout bounds one request to the collector; zero means 10 s.
	Timeout time.Duration
	// Delay is how long spans wait for others; zero means 2 s.
	Delay time.Duration
}

// Exporter makes spans and sends them.
type Exporter struct {
	provider *sdk.TracerProvider
	accept   bool
}

// ParseEndpoint checks the URL of a collector and gives it a path if it has none.
func ParseEndpoint(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("is not a URL such as https://collector.example.com:4318")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("must have neither user, query nor fragment")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, errors.New("must begin with https://, unless the collector is on this machine")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces"
	}
	return u, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Open makes an Exporter. It does not touch the network: that a collector is
// away is seen, and logged, when there is something to send.
func Open(cfg Config) (*Exporter, error) {
	endpoint, err := ParseEndpoint(cfg.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("the collector's endpoint %w", err)
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Delay <= 0 {
		cfg.Delay = 2 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	exporter, err := otlptrace.New(context.Background(), newClient(endpoint.String(), cfg))
	if err != nil {
		return nil, fmt.Errorf("starting to export spans: %w", err)
	}
	return &Exporter{accept: cfg.Accept, provider: sdk.NewTracerProvider(
		sdk.WithBatcher(exporter, sdk.WithBatchTimeout(cfg.Delay), sdk.WithExportTimeout(cfg.Timeout)),
		sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(cfg.SampleRatio))),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", cfg.Service), attribute.String("service.version", cfg.Version),
		)),
	)}, nil
}

// Tracer begins the traces that the exporter sends.
func (e *Exporter) Tracer() *tracing.Tracer { return tracing.New(e.provider, e.accept) }

// Close sends what is left, until ctx is done.
func (e *Exporter) Close(ctx context.Context) error {
	if err := e.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("ending the traces: %w", err)
	}
	return nil
}

// client is an otlptrace.Client.
type client struct {
	endpoint string
	headers  map[string]secret.Text
	log      *slog.Logger
	http     *http.Client
}

var _ otlptrace.Client = (*client)(nil)

func newClient(endpoint string, cfg Config) *client {
	return &client{
		endpoint: endpoint, headers: cfg.Headers, log: cfg.Logger,
		http: &http.Client{
			Timeout:       cfg.Timeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{ // Proxy stays nil: the environment's is not for secrets
				TLSClientConfig:   &tls.Config{RootCAs: cfg.CA, MinVersion: tls.VersionTLS12},
				ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute,
			},
		},
	}
}

// Start implements otlptrace.Client.
func (c *client) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (c *client) Stop(context.Context) error {
	c.http.CloseIdleConnections()
	return nil
}

// UploadTraces implements otlptrace.Client. It never fails: what becomes of an error
// otherwise is for the whole process to say, and nobody could do anything about it.
func (c *client) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	if err := c.send(ctx, spans); err != nil {
		c.log.Warn("spans could not be sent to the collector and are dropped", "endpoint", c.endpoint, "error", err)
	}
	return nil
}

func (c *client) send(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	// On the wire these are the same as the ExportTraceServiceRequest of the collector's service.
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("User-Agent", "Kastellan")
	for name, value := range c.headers {
		req.Header.Set(name, value.Reveal())
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the collector answered with the status %d", resp.StatusCode)
	}
	return nil
}

var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

// CheckHeader tells what is wrong with a header for the collector; it does not tell the value.
func CheckHeader(name string, value secret.Text) error {
	if !headerName.MatchString(name) {
		return errors.New("the name is not that of a header")
	}
	for _, c := range []byte(value.Reveal()) {
		if c < ' ' && c != '\t' || c > '~' {
			return errors.New("the value has characters that a header cannot have")
		}
	}
	return nil
}
