package xksproxy

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"kastellan.dev/internal/xksapi"
)

// record writes the access log and counts. Values come from the caller: they are
// shortened and freed of control characters, whatever handler writes them.
func (p *Proxy) record(c *call, r *http.Request) {
	took := time.Since(c.started)
	store := ""
	if c.store != nil {
		store = c.store.name
	}
	var name xksapi.ErrorName
	if c.err != nil {
		name = c.err.Name
	}
	p.metrics.count(store, c.route.op, c.status, name, took)
	if c.route.op == opEncrypt && c.err == nil {
		p.metrics.encrypted.WithLabelValues(store, c.route.keyID).Inc()
	}

	c.lookAtMetadata()
	defer c.endTrace()
	attrs := make([]slog.Attr, 0, 20)
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, clean(value)))
		}
	}
	add("store", store)
	add("operation", string(c.route.op))
	add("keyId", c.route.keyID)
	add("kmsRequestId", c.metadata.KMSRequestID)
	add("kmsOperation", c.metadata.KMSOperation)
	add("principal", c.metadata.AWSPrincipalARN)
	add("kmsKeyArn", c.metadata.KMSKeyARN)
	add("kmsViaService", c.metadata.KMSViaService)
	add("sourceVpc", c.metadata.AWSSourceVPC)
	add("sourceVpce", c.metadata.AWSSourceVPCE)
	add("credential", c.credential)
	add("remote", r.RemoteAddr)
	add("traceId", c.span.TraceID())
	attrs = append(attrs, slog.Int("status", c.status), slog.Float64("latencyMs", float64(took.Microseconds())/1000))
	if c.err == nil {
		p.log.LogAttrs(context.Background(), slog.LevelInfo, "request", attrs...)
		return
	}
	add("errorName", string(c.err.Name))
	add("errorMessage", c.err.Message)
	if c.err.cause != nil {
		add("cause", c.err.cause.Error())
	}
	if e, ok := errors.AsType[*panicError](c.err); ok {
		attrs = append(attrs, slog.String("stack", e.stack))
	}
	switch name {
	case xksapi.AccessDeniedException:
		add("rule", c.rule)
	case xksapi.AuthenticationFailedException:
		add("claimedCredential", claimedKey(r))
	}
	if c.store == nil || c.err == errMethod {
		add("method", r.Method)
		add("path", r.URL.EscapedPath())
	}
	p.log.LogAttrs(context.Background(), levelOf(c.status), "request", attrs...)
}

// lookAtMetadata finds out for whom a signed request was that failed before anybody had
// looked, because it was throttled or because the rest of it makes no sense: the log is where
// somebody who saw an error in KMS looks for its kmsRequestId.
func (c *call) lookAtMetadata() {
	if c.err == nil || c.body == nil || c.metadata.KMSRequestID != "" {
		return
	}
	var in xksapi.HealthRequest
	if json.Unmarshal(c.body, &in) == nil {
		c.understood(in.RequestMetadata)
	}
}

func levelOf(status int) slog.Level {
	switch {
	case status >= 500:
		return slog.LevelError
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusTooManyRequests:
		return slog.LevelWarn
	default:
		return slog.LevelInfo
	}
}

const maxLogged = 4096 // bytes of one value

// clean shortens text and replaces what could forge a line of a log or speak to a terminal.
func clean(text string) string {
	text = text[:min(len(text), maxLogged)]
	if strings.IndexFunc(text, unsafe) < 0 {
		return text
	}
	return strings.Map(func(r rune) rune {
		if unsafe(r) {
			return '?'
		}
		return r
	}, text)
}

func unsafe(r rune) bool { return r < 0x20 || r > 0x7E }
