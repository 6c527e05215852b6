package xksproxy

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/tracing"
	"kastellan.dev/internal/tracing/otlp"
)

// FileTracing says where traces of requests go.
type FileTracing struct {
	Endpoint    string              `yaml:"otlp_endpoint"` // "https://host:4318"; without a path, /v1/traces
	CA          string              `yaml:"ca"`            // PEM file; empty means the system's CAs
	SampleRatio *float64            `yaml:"sample_ratio"`  // of requests, 0 to 1; none means 1
	Headers     []FileTracingHeader `yaml:"headers"`
	// AcceptTraceparent goes on with the traces of KMS, which then decides what is recorded.
	AcceptTraceparent bool `yaml:"accept_traceparent"`
}

// FileTracingHeader is a header for the collector.
type FileTracingHeader struct {
	Name  string    `yaml:"name"`
	Value SecretRef `yaml:"value"`
}

func (t *FileTracing) resolve() (*otlp.Config, error) {
	out := &otlp.Config{
		Endpoint: t.Endpoint, SampleRatio: 1, Accept: t.AcceptTraceparent,
		Headers: make(map[string]secret.Text), Service: "kastellan-xks-proxy",
	}
	if _, err := otlp.ParseEndpoint(t.Endpoint); err != nil {
		return nil, &FieldError{"tracing.otlp_endpoint", err.Error()}
	}
	if t.SampleRatio != nil {
		out.SampleRatio = *t.SampleRatio
	}
	if r := out.SampleRatio; !(r >= 0 && r <= 1) {
		return nil, &FieldError{"tracing.sample_ratio", "must be between 0 and 1"}
	}
	if t.CA != "" {
		text, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, &FieldError{"tracing.ca", err.Error()}
		}
		out.CA = x509.NewCertPool()
		if !out.CA.AppendCertsFromPEM(text) {
			return nil, &FieldError{"tracing.ca", "holds no PEM certificate"}
		}
	}
	for i, h := range t.Headers {
		at := fmt.Sprintf("tracing.headers[%d]", i)
		if _, twice := out.Headers[h.Name]; twice {
			return nil, &FieldError{at + ".name", "is there twice"}
		}
		value, err := h.Value.read()
		if err == nil {
			err = otlp.CheckHeader(h.Name, value)
		}
		if err != nil {
			return nil, &FieldError{at, err.Error()}
		}
		out.Headers[h.Name] = value
	}
	return out, nil
}

// openTracing begins to export the traces that the configuration asks for, if any.
func (s *Server) openTracing() error {
	if s.cfg.Tracing == nil {
		return nil
	}
	cfg := *s.cfg.Tracing
	cfg.Logger, cfg.Version = s.log, s.cfg.Proxy.Version
	var err error
	if s.exporter, err = otlp.Open(cfg); err != nil {
		return fmt.Errorf("opening the traces: %w", err)
	}
	s.cfg.Proxy.Tracer = s.exporter.Tracer()
	return nil
}

func (s *Server) closeTracing(ctx context.Context) error {
	if s.exporter == nil {
		return nil
	}
	return s.exporter.Close(ctx)
}

// sameTracing tells whether two configurations say the same of traces, as far as it is not
// secret or in other files.
func sameTracing(a, b *otlp.Config) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Endpoint == b.Endpoint && a.SampleRatio == b.SampleRatio && a.Accept == b.Accept
}

var errTracingRestart = errors.New("the settings of tracing need a restart")

// endTrace tells the span what became of the request. What the caller said is
// cleaned as in the log.
func (c *call) endTrace() {
	c.span.Set(tracing.RequestID, clean(c.metadata.KMSRequestID))
	c.span.Set(tracing.KeyARN, clean(c.metadata.KMSKeyARN))
	c.span.Set(tracing.XksKeyID, c.route.keyID)
	c.span.Set("aws.kms.operation", clean(c.metadata.KMSOperation))
	c.span.SetStatus(c.status)
	code := ""
	if c.err != nil {
		code = string(c.err.Name)
	}
	c.span.End(code)
}
