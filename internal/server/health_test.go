package server_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"kastellan.dev/internal/server"
)

func newRegistry() *prometheus.Registry { return prometheus.NewRegistry() }

func TestHealth(t *testing.T) {
	t.Parallel()
	var ready atomic.Bool
	f := start(t, func(c *server.Config) { c.Ready = ready.Load })
	if r := f.get("/healthz"); r.StatusCode != 503 || r.text != "unavailable\n" {
		t.Errorf("%s %q", r.Status, r.text)
	}
	ready.Store(true)
	if r := f.get("/healthz"); r.StatusCode != 200 || r.text != "ok\n" {
		t.Errorf("%s %q", r.Status, r.text)
	}
	if r := start(t, nil).get("/healthz"); r.StatusCode != 200 {
		t.Errorf("%s without a Ready", r.Status)
	}
}

func TestMetricsCountOutcomes(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.call("TrentService.Encrypt", encryptBody)
	f.call("TrentService.Encrypt", encryptBody)
	f.call("TrentService.Encrypt", "{}")
	f.call("TrentService.Fail", encryptBody)
	f.call("TrentService.Nothing", "{}")
	f.do(sign(f.request("TrentService.Encrypt", encryptBody), "another body", "kms"))
	text := f.get("/metrics").text
	for _, want := range []string{
		`kastellan_requests_total{api="TrentService",code="OK",operation="Encrypt"} 2`,
		`kastellan_requests_total{api="TrentService",code="ValidationException",operation="Encrypt"} 1`,
		`kastellan_requests_total{api="TrentService",code="KMSInternalException",operation="Fail"} 1`,
		`kastellan_requests_total{api="",code="UnknownOperationException",operation="unknown"} 1`,
		`kastellan_request_duration_seconds_count{api="TrentService",operation="Encrypt"} 4`,
		`kastellan_authentication_failures_total{code="InvalidSignatureException"} 1`,
		`kastellan_requests_in_flight 0`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

func TestRequestsAreLoggedAtLevelDebug(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	id := f.call("TrentService.Encrypt", encryptBody).Header.Get("x-amzn-RequestId")
	f.call("TrentService.Nothing", "{}")
	text := f.logs.String()
	for _, want := range []string{"level=DEBUG", "requestId=" + id, "source=127.0.0.1", "operation=TrentService.Encrypt", "principal=" + aliceARN,
		"code=OK", "status=200", "took=", "code=UnknownOperationException"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if strings.Contains(text, "alias/a") || strings.Contains(text, "Q0FOQVJZ") {
		t.Errorf("the log shows the body:\n%s", text)
	}
}

func TestTheConsoleHasItsPaths(t *testing.T) {
	t.Parallel()
	f := start(t, func(c *server.Config) {
		c.Console = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "console "+r.URL.Path) })
	})
	for path, want := range map[string]string{
		"/console":      "console /console",
		"/console/keys": "console /console/keys",
		"/consoles":     `{"__type":"UnknownOperationException"}`,
	} {
		if r := f.get(path); r.text != want {
			t.Errorf("%s: %s %q", path, r.Status, r.text)
		}
	}
}
