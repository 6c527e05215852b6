package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"kastellan.dev/internal/awsjson"
	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/tracing"
)

// exchange is one request to an API and its answer.
type exchange struct {
	s       *Server
	w       http.ResponseWriter
	r       *http.Request
	id      string
	began   time.Time
	op      *operation      // nil if the target is unknown
	caller  identity.Caller // its Principal is nil until the signature is verified
	span    tracing.Span    // none until the signature has been looked at
	scratch *scratch
	body    body

	protocol protocol
	json     awsjson.Document
}

// scratch is memory that requests use one after the other.
type scratch struct {
	in  bytes.Buffer // the request's body
	out []byte       // the response's body
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// maxScratch is how much memory a scratch may keep, in bytes.
const maxScratch = 64 << 10

// release gives the memory back without what was in it: plaintext goes in and out here.
func (b *scratch) release() {
	clear(b.in.Bytes())
	clear(b.out[:cap(b.out)])
	if b.in.Cap() > maxScratch || cap(b.out) > maxScratch {
		return
	}
	b.in.Reset()
	scratches.Put(b)
}

func (x *exchange) serve() {
	x.protocol.begin(x)
	if err := x.work(); err != nil {
		x.fail(err)
		return
	}
	write(x.w, x.id, http.StatusOK, x.protocol.contentType(), x.scratch.out)
	x.done(codeOK, http.StatusOK)
}

// work goes through the steps that the package comment lists. The answer is in
// the scratch. It outlives a panic in any of them.
func (x *exchange) work() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the request %w", secret.Panicked(r))
		}
	}()
	if x.s.open.Add(1) > int64(max(x.s.cfg.MaxConnections, x.s.cfg.MaxConcurrent)) {
		return x.overloaded(limitOpen)
	}
	if err := x.read(); err != nil {
		return err
	}
	// Only now, so that whoever sends slowly takes nobody's place.
	select {
	case x.s.slots <- struct{}{}:
	default:
		return x.overloaded(limitRequests)
	}
	x.s.meters.inFlight.Inc()
	defer func() {
		x.s.meters.inFlight.Dec()
		<-x.s.slots
	}()

	ctx, cancel := context.WithTimeout(x.r.Context(), x.s.cfg.Timeout)
	defer cancel()
	if err := x.protocol.parse(x); err != nil {
		return err
	}
	err = x.authenticate(ctx)
	ctx, x.span = x.s.cfg.Tracer.Serve(ctx, x.r.Header, err == nil, x.op.target, x.began)
	x.span.Set(tracing.RequestID, x.id)
	x.span.Set(tracing.Operation, x.op.Name)
	if err != nil {
		x.s.meters.refusals.WithLabelValues(string(kmsapi.CodeOf(err))).Inc()
		return err
	}
	return x.call(ctx)
}

func (x *exchange) read() error {
	limit := x.s.cfg.MaxBody
	if x.r.ContentLength > limit {
		return tooLarge(limit)
	}
	x.body = body{from: http.MaxBytesReader(x.w, x.r.Body, limit), all: &x.s.held, limit: x.s.cfg.MaxBuffered}
	_, err := x.scratch.in.ReadFrom(&x.body)
	if errors.Is(err, errHeld) {
		return x.overloaded(limitBuffered)
	}
	if over := (*http.MaxBytesError)(nil); errors.As(err, &over) {
		return tooLarge(limit)
	}
	if err != nil {
		return kmsapi.Errorf(kmsapi.Serialization, "The request body could not be read to its end.").Because(err)
	}
	return nil
}

func (x *exchange) overloaded(limit string) error {
	x.s.meters.overloads.WithLabelValues(limit).Inc()
	return kmsapi.Errorf(kmsapi.Throttling, "Too many requests are being served at once. Reduce the frequency of your calls.")
}

func tooLarge(limit int64) error {
	return kmsapi.Errorf(kmsapi.RequestEntityTooLarge, "The request body is larger than %d bytes.", limit)
}

// nobody is the principal of requests that are not signed.
var nobody = new(identity.Principal)

func (x *exchange) authenticate(ctx context.Context) error {
	principal, region := nobody, x.s.region()
	if !x.op.Anonymous {
		result, err := x.op.verifier.Verify(ctx, x.r, x.scratch.in.Bytes())
		if err != nil {
			return err
		}
		principal, region = result.Owner.(*identity.Principal), result.Region
	}
	x.caller = identity.Caller{
		Principal: principal,
		Region:    region,
		RequestID: x.id,
		SourceIP:  sourceIP(x.r),
		UserAgent: clipped(x.r.UserAgent()),
		Referer:   clipped(x.r.Referer()),
		Host:      x.r.Host,
	}
	if state := x.r.TLS; state != nil {
		x.caller.TLSVersion = strings.Replace(tls.VersionName(state.Version), "TLS ", "TLSv", 1)
		x.caller.CipherSuite = tls.CipherSuiteName(state.CipherSuite)
	}
	return nil
}

// region is where requests are that do not say it: us-east-1 is where AWS has
// endpoints that belong to no Region.
func (s *Server) region() string {
	if len(s.cfg.Regions) > 0 {
		return s.cfg.Regions[0]
	}
	return "us-east-1"
}

// maxClientText is how much is kept of what a client says of itself, in bytes: it is compared
// with patterns in policies, and recorded.
const maxClientText = 1024

// clipped cuts at a character.
func clipped(text string) string {
	if len(text) <= maxClientText {
		return text
	}
	end := maxClientText
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

func sourceIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// call decodes, runs the operation, and encodes.
func (x *exchange) call(ctx context.Context) error {
	in := x.op.New()
	if err := x.protocol.decode(x, in); err != nil {
		if x.op.Refused != nil {
			err = x.op.Refused(ctx, x.caller, err)
		}
		return err
	}
	out, err := x.op.Call(ctx, x.caller, in)
	if err != nil {
		return err
	}
	x.protocol.encode(x, out)
	return nil
}

// codeCanceled is the outcome of requests whose client did not wait for the answer.
const codeCanceled = "Canceled"

// fail answers with an error, and logs what it does not show of it.
func (x *exchange) fail(err error) {
	var shown *kmsapi.Error
	known := errors.As(err, &shown)
	if !known {
		shown = kmsapi.Errorf(kmsapi.KMSInternal, "The request failed for a reason that only the server's log tells.")
	}
	code, status := x.protocol.onWire(x, shown.Code)
	level := slog.LevelInfo
	switch {
	case !known && x.r.Context().Err() != nil:
		code, level = codeCanceled, slog.LevelDebug
	case status >= http.StatusInternalServerError:
		level = slog.LevelError
	}
	if !known || shown.Unwrap() != nil {
		x.log(level, "request failed", slog.String("error", err.Error()))
	}
	x.protocol.encodeError(x, shown)
	write(x.w, x.id, status, x.protocol.contentType(), x.scratch.out)
	x.done(code, status)
}

// done counts the request and, at level debug, logs it.
func (x *exchange) done(code string, status int) {
	took := time.Since(x.began)
	meter := &x.s.meters.unknown
	if x.op != nil {
		meter = &x.op.meter
	}
	meter.count(code, took)
	x.log(slog.LevelDebug, "request served", slog.String("code", code), slog.Int("status", status), slog.Duration("took", took))
	x.span.SetStatus(status)
	if code == codeOK {
		code = ""
	}
	x.span.End(code)
}

func (x *exchange) log(level slog.Level, message string, more ...slog.Attr) {
	ctx, logger := x.r.Context(), x.s.cfg.Logger
	if !logger.Enabled(ctx, level) {
		return
	}
	attrs := append(more, slog.String("requestId", x.id), slog.String("source", sourceIP(x.r)))
	if x.op != nil {
		attrs = append(attrs, slog.String("operation", x.op.target))
	}
	if x.caller.Principal != nil {
		attrs = append(attrs, slog.String("principal", x.caller.ARN))
	}
	if id := x.span.TraceID(); id != "" {
		attrs = append(attrs, slog.String("traceId", id))
	}
	logger.LogAttrs(ctx, level, message, attrs...)
}
