package xks

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"time"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/tracing"
	"kastellan.dev/internal/xksapi"
)

// operation is one of the four of the proxy API.
type operation struct {
	name string // as in AWS's metrics
	path string // last element of its path
}

var (
	opMetadata = operation{"GetKeyMetadata", "metadata"}
	opEncrypt  = operation{"Encrypt", "encrypt"}
	opDecrypt  = operation{"Decrypt", "decrypt"}
	opHealth   = operation{"GetHealthStatus", "health"}
)

// request is a call to the proxy.
type request struct {
	op          operation
	call        keystore.Call
	externalKey string          // empty for health
	in          any             // body, to be encoded
	out         any             // where the answer goes
	check       func() error    // holds out against the specification; nil: nothing is to be checked
	trace       *keystore.Trace // nil unless the call is part of connecting
}

// do calls the proxy, and once more if the network timed out. It fails with a
// *proxyError, with what check found, or with an error of ctx if that is done.
func (l *link) do(ctx context.Context, r request) error {
	started := time.Now()
	body := xksapi.Encode(r.in)
	err := l.attempt(ctx, r, body)
	if isOutcome(err, timedOut, connectTimedOut) && ctx.Err() == nil {
		err = l.attempt(ctx, r, body)
	}
	if err == nil && r.check != nil {
		err = r.check()
	}
	if ctx.Err() == nil || err == nil {
		took := time.Since(started)
		l.metrics.called(l.storeID, r, took, err)
		l.report(ctx, r, took, err)
	}
	return err
}

// report logs a call that failed with the id by which the proxy's log knows it. Of polls
// only changes are news, and of connecting there is evidence.
func (l *link) report(ctx context.Context, r request, took time.Duration, err error) {
	if err == nil || r.op == opHealth {
		return
	}
	level, errorType, exception := slog.LevelWarn, "", ""
	if errorType, exception = classify(err); errorType == nonRetryable {
		level = slog.LevelInfo
	}
	l.log.LogAttrs(ctx, level, "a call to the external key store proxy failed",
		slog.String("requestId", r.call.RequestID), slog.String("kmsOperation", r.call.Operation), slog.String("xksOperation", r.op.name),
		slog.String("errorType", errorType), slog.String("exception", exception), slog.Duration("took", took), slog.String("error", err.Error()))
}

// attempt makes one request within the time that one may take.
func (l *link) attempt(parent context.Context, r request, body []byte) error {
	// Begun before its time runs, so that a call which began later has not waited longer.
	w := &watch{trace: r.trace, started: time.Now()}
	ctx, cancel := context.WithTimeout(parent, l.timeout)
	defer cancel()
	ctx, span := tracing.StartCall(ctx, "XKS "+r.op.name)
	span.Set(tracing.RequestID, r.call.RequestID)
	span.Set(tracing.StoreID, l.storeID)
	span.Set(tracing.XksKeyID, r.externalKey)
	err := l.exchange(httptrace.WithClientTrace(ctx, w.hooks()), r, body, w)
	if err == nil {
		w.finish(nil)
		span.End("")
		return nil
	}
	if parent.Err() != nil {
		err = fmt.Errorf("asking the external key store proxy: %w", parent.Err())
	} else {
		err = w.classify(err, ctx.Err() != nil)
	}
	w.finish(err)
	_, exception := classify(err)
	span.End(exception)
	if remote := w.remote(); remote != "" && isOutcome(err, timedOut) {
		l.route.Silent(remote, w.started)
	}
	return err
}

// exchange sends the request and reads the answer. Errors of the transport
// are not classified yet.
func (l *link) exchange(ctx context.Context, r request, body []byte, w *watch) error {
	req := l.newRequest(ctx, r, body)
	resp, err := l.transport.RoundTrip(req) // not a Client: that would follow redirects
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := readAll(resp)
	if err == nil {
		// Giving up tells the other side, which may end a half answer as if it
		// were whole before the connection is closed here.
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	if r.op == opHealth && resp.TLS != nil {
		l.metrics.sawCertificate(l.storeID, resp.TLS, l.now())
	}
	if resp.StatusCode != http.StatusOK {
		err := refusal(resp.StatusCode, answer)
		w.answered(r.op, resp.StatusCode, err)
		return err
	}
	err = decode(answer, r.out)
	if r.op == opDecrypt {
		clear(answer)
	}
	w.answered(r.op, resp.StatusCode, err)
	return err
}

func (l *link) newRequest(ctx context.Context, r request, body []byte) *http.Request {
	req := (&http.Request{
		Method: http.MethodPost, URL: l.url(r.op, r.externalKey), Host: l.host,
		Header: http.Header{
			"Content-Type": {"application/json"},
			"User-Agent":   {"Kastellan"},
			// Present but empty: not sent, and tells the transport that the request may
			// be sent again if a pooled connection turns out to be closed.
			"Idempotency-Key": {},
		},
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
		GetBody: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
	}).WithContext(ctx)
	l.signer.Sign(req, body, l.now())
	// After signing: what goes on to another tracing system may be changed on the way.
	tracing.Inject(ctx, req.Header)
	return req
}

// health asks how the proxy is, and fails if none of its key managers can serve.
func (l *link) health(ctx context.Context, call keystore.Call, trace *keystore.Trace) (*xksapi.HealthResponse, error) {
	out := new(xksapi.HealthResponse)
	err := l.do(ctx, request{
		op: opHealth, call: call, out: out, trace: trace,
		in: &xksapi.HealthRequest{RequestMetadata: &xksapi.RequestMetadata{KMSOperation: call.Operation, KMSRequestID: call.RequestID}},
		check: func() error {
			end := trace.Step("check key managers", l.host)
			err := checkHealth(out)
			end(fleet(out), err)
			return err
		},
	})
	if err != nil && !isOutcome(err, allUnavailable) {
		return nil, err
	}
	return out, err
}

// metadataOf describes a call to the proxy.
func metadataOf(call keystore.Call) *xksapi.RequestMetadata {
	m := &xksapi.RequestMetadata{
		AWSPrincipalARN: call.PrincipalARN, AWSSourceVPC: call.SourceVPC, AWSSourceVPCE: call.SourceVPCE,
		KMSOperation: call.Operation, KMSRequestID: call.RequestID,
	}
	if m.AWSPrincipalARN == "" {
		m.AWSPrincipalARN = "AWS Internal" // what AWS says when it acts by itself
	}
	return m
}

// metadataFor describes a call that uses a KMS key.
func metadataFor(call keystore.Call, key keystore.Key) *xksapi.RequestMetadata {
	m := metadataOf(call)
	m.KMSKeyARN, m.KMSViaService = key.ARN, call.ViaService
	return m
}
