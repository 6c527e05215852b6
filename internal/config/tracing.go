package config

import (
	"context"
	"crypto/x509"
	"log/slog"
	"time"

	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/tracing"
	"kastellan.dev/internal/tracing/otlp"
)

// Tracing says where traces of requests go. Without an endpoint there are none.
type Tracing struct {
	Endpoint    string          `yaml:"otlp-endpoint"` // "https://host:4318"; without a path, /v1/traces
	CA          string          `yaml:"ca"`            // PEM file; empty means the system's CAs
	SampleRatio *float64        `yaml:"sample-ratio"`  // of requests, 0 to 1; none means 1
	Headers     []TracingHeader `yaml:"headers"`
	// AcceptTraceparent goes on with the traces of clients, who then decide what is recorded.
	AcceptTraceparent bool `yaml:"accept-traceparent"`
}

// TracingHeader is a header for the collector. Its value may be a secret: one of the two is set.
type TracingHeader struct {
	Name      string `yaml:"name"`
	ValueFile string `yaml:"value-file"`
	ValueEnv  string `yaml:"value-env"`
}

func (c *Config) checkTracing(p *problems) {
	t, w := c.Tracing, where{"tracing"}
	if t.Endpoint == "" {
		if t.CA != "" || t.SampleRatio != nil || len(t.Headers) > 0 || t.AcceptTraceparent {
			p.add(w, "needs otlp-endpoint")
		}
		return
	}
	_, err := otlp.ParseEndpoint(t.Endpoint)
	p.check(w.at("otlp-endpoint"), err)
	if t.CA != "" {
		_, err := readPool(c.path(t.CA))
		p.check(w.at("ca"), err)
	}
	if r := t.SampleRatio; r != nil && !(*r >= 0 && *r <= 1) {
		p.add(w.at("sample-ratio"), "is not between 0 and 1")
	}
	seen := make(map[string]bool)
	for i, h := range t.Headers {
		at := w.at("headers", i)
		if seen[h.Name] {
			p.add(at.at("name"), "is given twice")
		}
		seen[h.Name] = true
		_, err := c.headerValue(h)
		p.check(at, err)
	}
}

func (c *Config) headerValue(h TracingHeader) (secret.Text, error) {
	value, err := c.oneSecret(h.ValueFile, h.ValueEnv)
	if err != nil {
		return value, err
	}
	return value, otlp.CheckHeader(h.Name, value)
}

// flushTimeout bounds sending what is left when the server ends.
const flushTimeout = 5 * time.Second

// openTracing makes what begins traces; it is nil if there are none.
func (n *Node) openTracing(version string) (*tracing.Tracer, error) {
	t := n.cfg.Tracing
	if t.Endpoint == "" {
		return nil, nil
	}
	cfg := otlp.Config{
		Endpoint: t.Endpoint, SampleRatio: 1, Accept: t.AcceptTraceparent, Headers: make(map[string]secret.Text),
		Service: "kastellan", Version: version, Logger: n.log,
	}
	if t.SampleRatio != nil {
		cfg.SampleRatio = *t.SampleRatio
	}
	var err error
	if cfg.CA, err = n.tracingCA(); err != nil {
		return nil, err
	}
	for _, h := range t.Headers {
		if cfg.Headers[h.Name], err = n.cfg.headerValue(h); err != nil {
			return nil, err
		}
	}
	exporter, err := otlp.Open(cfg)
	if err != nil {
		return nil, err
	}
	n.later(func() { flush(exporter, n.log) })
	return exporter.Tracer(), nil
}

func (n *Node) tracingCA() (*x509.CertPool, error) {
	if n.cfg.Tracing.CA == "" {
		return nil, nil
	}
	return readPool(n.cfg.path(n.cfg.Tracing.CA))
}

func flush(exporter *otlp.Exporter, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	if err := exporter.Close(ctx); err != nil {
		log.Warn("the last spans could not be sent", "error", err)
	}
}
