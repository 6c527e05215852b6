// Package tracing notes how long the parts of a request take, as spans of OpenTelemetry.
//
// Only the edges of a process, which take requests in, hold a [Tracer] and begin
// traces. Everything below calls [Start], which goes on with the trace that
// is in the context. Where there is none, as always when tracing is not configured, that
// costs a look into the context and allocates nothing. What a span says is exported by
// package tracing/otlp.
//
// Spans carry names, ids and error codes. They refuse everything else: the values of
// attributes are for those who may see neither plaintext nor encryption context, and
// an error's text, which may quote what went wrong, is never among them.
package tracing

import (
	"context"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Scope is the name under which the spans are known.
const Scope = "kastellan.dev"

// The attributes of spans, but for those that one place alone sets.
const (
	RequestID = "aws.request_id"              // of the KMS request, in the proxy too
	Operation = "rpc.method"                  // "Encrypt"
	KeyARN    = "aws.kms.key_arn"             // of the KMS key
	StoreID   = "aws.kms.custom_key_store_id" // "cks-…"
	XksKeyID  = "aws.kms.xks_key_id"          // of the external key
	Member    = "kastellan.hsm_member"        // of a cluster, or of a proxy's ring
	errorType = "error.type"                  // the code, where it failed
	status    = "http.response.status_code"   //
)

// Tracer begins traces. A nil Tracer begins none.
type Tracer struct {
	tracer trace.Tracer
	accept bool
}

// New makes a Tracer that goes on with the traces of callers if accept says so.
func New(p trace.TracerProvider, accept bool) *Tracer {
	return &Tracer{tracer: p.Tracer(Scope), accept: accept}
}

// Serve begins the span of a request that came in at began. With trusted, and if
// the tracer accepts that, it goes on with the trace that the traceparent in the header
// names: then the caller has decided whether it is recorded.
func (t *Tracer) Serve(ctx context.Context, header http.Header, trusted bool, name string, began time.Time) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	if trusted && t.accept {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(header))
	}
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(began))
	return ctx, Span{span}
}

// Span is a part of a trace. The zero Span is none: its methods do nothing.
type Span struct{ span trace.Span }

// Start begins a span within the one of ctx, if there is one.
func Start(ctx context.Context, name string) (context.Context, Span) {
	return start(ctx, name, trace.SpanKindInternal)
}

// StartCall is Start for a question to another process.
func StartCall(ctx context.Context, name string) (context.Context, Span) {
	return start(ctx, name, trace.SpanKindClient)
}

func start(ctx context.Context, name string, kind trace.SpanKind) (context.Context, Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, Span{}
	}
	ctx, span := parent.TracerProvider().Tracer(Scope).Start(ctx, name, trace.WithSpanKind(kind))
	return ctx, Span{span}
}

// Inject names the trace of ctx to the server that gets the header.
func Inject(ctx context.Context, header http.Header) {
	if trace.SpanContextFromContext(ctx).IsValid() {
		propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(header))
	}
}

// TraceID is the id of the trace, 32 hexadecimal digits, of a span that is recorded; otherwise empty.
func (s Span) TraceID() string {
	if s.span == nil || !s.span.IsRecording() {
		return ""
	}
	return s.span.SpanContext().TraceID().String()
}

// Set gives the span an attribute, unless the value is empty.
func (s Span) Set(name, value string) {
	if s.span != nil && value != "" {
		s.span.SetAttributes(attribute.String(name, value))
	}
}

// SetStatus notes the status of an HTTP answer.
func (s Span) SetStatus(code int) {
	if s.span != nil {
		s.span.SetAttributes(attribute.Int(status, code))
	}
}

// End ends the span. The code says why it failed; it is empty if it did not.
func (s Span) End(code string) {
	if s.span == nil {
		return
	}
	if code != "" {
		s.span.SetAttributes(attribute.String(errorType, code))
		s.span.SetStatus(codes.Error, "")
	}
	s.span.End()
}
