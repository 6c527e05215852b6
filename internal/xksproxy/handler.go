package xksproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"time"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/tracing"
	"kastellan.dev/internal/xksapi"
)

// call is one request on its way through the checks: what the answer, the log
// and the metrics need to know of it.
type call struct {
	state      *state
	store      *store // nil until the path is known to lead to one
	route      route
	started    time.Time
	metadata   xksapi.RequestMetadata // as far as it was understood
	credential string                 // access key id, once the signature is verified
	body       []byte                 // once the signature is verified
	rule       string                 // that decided
	span       tracing.Span           // none until the signature has been looked at
	status     int
	err        *Error // nil for 200
}

// errMethod has no name in the XKS Proxy API: it is answered with 405 and no body.
var errMethod = &Error{Message: "the method is not POST"}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	st := p.acquire()
	if st == nil {
		writeError(w, Errorf(xksapi.InternalException, "the proxy is shutting down"))
		return
	}
	defer st.requests.Done()
	if r.URL.Path == st.cfg.LivenessPath {
		live(w, r)
		return
	}
	c := &call{state: st, started: time.Now()}
	p.metrics.inFlight.Inc()
	defer p.metrics.inFlight.Dec()
	answer := p.answer(c, w, r)
	if c.err != nil {
		c.status = writeError(w, c.err)
	} else {
		c.status = http.StatusOK
		write(w, http.StatusOK, xksapi.Encode(answer))
	}
	p.record(c, r)
}

// answer runs the checks and the operation; a panic in them is an InternalException.
func (p *Proxy) answer(c *call, w http.ResponseWriter, r *http.Request) (answer any) {
	defer func() {
		if v := recover(); v != nil {
			c.err = Errorf(xksapi.InternalException, "the proxy failed").Because(panicked(v))
		}
	}()
	answer, err := p.serve(c, w, r)
	if err != nil {
		c.err = asError(err)
		return nil
	}
	return answer
}

// panicError tells what was thrown and where. Only the runtime's own errors are
// shown: anything else might hold the request. So might the arguments of functions, which a
// stack trace shows: their names have to do.
type panicError struct {
	what  string
	stack string
}

func (e *panicError) Error() string { return "panic: " + e.what }

func panicked(v any) error {
	what := fmt.Sprintf("%T", v)
	if e, ok := v.(runtime.Error); ok {
		what = e.Error()
	}
	return &panicError{what, callers()}
}

// callers names the functions that were running when something panicked, innermost first, for
// panicked, which the deferred function calls that recovers.
func callers() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(4, pcs[:])])
	var names []string
	for {
		frame, more := frames.Next()
		names = append(names, fmt.Sprintf("%s:%d", frame.Function, frame.Line))
		if !more {
			return strings.Join(names, "; ")
		}
	}
}

func (p *Proxy) serve(c *call, w http.ResponseWriter, r *http.Request) (any, error) {
	if err := c.find(r); err != nil {
		return nil, err
	}
	body, err := c.read(w, r)
	if err != nil {
		return nil, err
	}
	if !c.state.gate.enter() {
		return nil, errTooMany
	}
	defer c.state.gate.leave()
	err = c.authenticate(r, body)
	ctx, span := p.tracer.Serve(r.Context(), r.Header, err == nil, string(c.route.op), c.started)
	c.span = span
	if err != nil {
		return nil, err
	}
	c.body = body
	if c.route.op == opHealth {
		return c.health(ctx, body)
	}
	if !c.store.gate.enter() {
		return nil, Errorf(xksapi.ThrottlingException, "the store has too many requests at once")
	}
	defer c.store.gate.leave()
	if c.store.limiter != nil && !c.store.limiter.Allow() {
		return nil, Errorf(xksapi.ThrottlingException, "the store has too many requests per second")
	}
	ctx, cancel := context.WithTimeout(ctx, c.store.ring.cfg.Timeout)
	defer cancel()
	switch c.route.op {
	case opMetadata:
		return c.getKeyMetadata(ctx, body)
	case opEncrypt:
		return c.encrypt(ctx, body)
	default:
		return c.decrypt(ctx, body)
	}
}

// find looks at path and method.
func (c *call) find(r *http.Request) error {
	found, ok := parsePath(r.URL.EscapedPath())
	if ok {
		c.route = found
		c.store = c.state.stores[found.prefix]
	}
	switch {
	case c.store == nil:
		return Errorf(xksapi.InvalidURIPathException, "there is no such path")
	case r.Method != http.MethodPost:
		return errMethod
	case r.URL.RawQuery != "" || r.URL.ForceQuery:
		return Errorf(xksapi.InvalidURIPathException, "a query string is not part of this API")
	}
	return nil
}

// bodyTimeout is how long a body may take to arrive: KMS has given up long before.
const bodyTimeout = 2 * time.Second

var errTooMany = Errorf(xksapi.ThrottlingException, "the proxy has too many requests")

// read reads the body. That has a gate and a time of its own: strangers who send slowly must
// not keep out those who have sent.
func (c *call) read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	limit := c.state.cfg.MaxBody
	if r.ContentLength > limit {
		w.Header().Set("Connection", "close")
		return nil, tooLarge(limit)
	}
	if !c.state.reading.enter() {
		return nil, errTooMany
	}
	defer c.state.reading.leave()
	control := http.NewResponseController(w) // what is no connection has no deadlines, and needs none
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := readBody(http.MaxBytesReader(w, r.Body, limit), r.ContentLength)
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, tooLarge(limit)
	case err != nil:
		return nil, invalid("the body cannot be read").Because(err)
	}
	_ = control.SetReadDeadline(time.Time{})
	return body, nil
}

// usualBody is above the largest body that KMS sends, in bytes.
const usualBody = 32 << 10

func readBody(r io.Reader, announced int64) ([]byte, error) {
	var body bytes.Buffer
	if announced > 0 {
		body.Grow(int(min(announced, usualBody)) + bytes.MinRead)
	}
	_, err := io.Copy(&body, r)
	return body.Bytes(), err
}

func tooLarge(limit int64) error { return invalid("the body has more than %d bytes", limit) }

func (c *call) authenticate(r *http.Request, body []byte) error {
	if r.Header.Get("X-Amz-Date") == "" {
		return Errorf(xksapi.AuthenticationFailedException, "the request has no X-Amz-Date")
	}
	result, err := c.store.verifier.Verify(r.Context(), withoutUnsigned(r), body)
	if err != nil {
		return Errorf(xksapi.AuthenticationFailedException, "%s", whyNot(err)).Because(err)
	}
	c.credential = result.AccessKeyID
	return nil
}

// whyNot is what the caller is told of a signature that was refused.
func whyNot(err error) string {
	var known *kmsapi.Error
	switch {
	case !errors.As(err, &known) || known.Message == "":
		return "the request is not signed as it must be"
	case known.Code == kmsapi.UnrecognizedClient:
		return "the store has no credential of this access key id"
	default:
		return known.Message
	}
}

func writeError(w http.ResponseWriter, err *Error) (status int) {
	if err == errMethod {
		w.Header().Set("Allow", http.MethodPost)
		w.WriteHeader(http.StatusMethodNotAllowed)
		return http.StatusMethodNotAllowed
	}
	status, ok := err.Name.Status()
	if !ok {
		err, status = Errorf(xksapi.InternalException, "the proxy failed").Because(err), http.StatusInternalServerError
	}
	write(w, status, xksapi.Encode(xksapi.ErrorResponse{
		ErrorName: err.Name, ErrorMessage: printable(err.Message, xksapi.MaxErrorMessage),
	}))
	return status
}

func write(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a caller who went away is no error of ours
}

// live answers a load balancer's probe.
func live(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "ok\n")
}
