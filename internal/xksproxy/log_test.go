package xksproxy_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"kastellan.dev/internal/xksapi"
	"kastellan.dev/internal/xksproxy"
	"kastellan.dev/internal/xksproxy/xksproxytest"
)

func jsonLogger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// logged is a log that can be read while it is written.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// last gives the latest record of a request.
func (l *logged) last(t *testing.T) object {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(l.String()), "\n")
	var record object
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &record); err != nil {
		t.Fatal(err)
	}
	return record
}

func TestTheAccessLogTellsWhoAskedWhatAndWhy(t *testing.T) {
	t.Parallel()
	log := &logged{}
	p := fileProxy(t, func(c *xksproxy.Config) { c.Logger = jsonLogger(log) })
	encrypt(t, p, "key-1", "x", "")
	got := log.last(t)
	for name, want := range map[string]any{
		"msg": "request", "level": "INFO", "store": "/acme", "operation": "Encrypt", "keyId": "key-1", "kmsRequestId": "request-1", "kmsOperation": "Encrypt",
		"principal": "arn:aws:iam::123456789012:user/alice", "kmsKeyArn": "arn:aws:kms:us-east-1:123456789012:key/k",
		"credential": xksproxytest.AccessKeyID, "status": 200.0,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if _, ok := got["latencyMs"].(float64); !ok {
		t.Errorf("latencyMs is %v", got["latencyMs"])
	}
	post(t, p, "/keys/"+xksproxytest.Denied+"/encrypt", encryptOf("x", ""))
	if got := log.last(t); got["rule"] != "nobody uses this key" || got["errorName"] != "AccessDeniedException" || got["level"] != "WARN" || got["status"] != 403.0 {
		t.Errorf("a denial: %v", got)
	}
}

func TestNoPlaintextCiphertextOrSecretReachesLogOrError(t *testing.T) {
	t.Parallel()
	const marker = "MARKER-plaintext-MARKER"
	encoded := base64.StdEncoding.EncodeToString([]byte(marker))
	log := &logged{}
	p := fileProxy(t, func(c *xksproxy.Config) { c.Logger = jsonLogger(log) })
	var answers strings.Builder
	note := func(w *httptest.ResponseRecorder) {
		if w.Code != http.StatusOK {
			answers.WriteString(w.Body.String())
		}
	}
	e := encrypt(t, p, "key-1", marker, marker)
	note(post(t, p, "/keys/key-1/decrypt", decryptOf(e, marker)))
	note(post(t, p, "/keys/key-1/decrypt", decryptOf(e, "other")))
	note(post(t, p, "/keys/nobody/encrypt", encryptOf(marker, marker)))
	note(post(t, p, "/keys/key-1/encrypt", object{"plaintext": marker, "requestMetadata": metadata("Encrypt")}))
	note(post(t, p, "/keys/key-1/encrypt", object{"plaintext": object{marker: marker}, "requestMetadata": metadata("Encrypt")}))
	note(send(p, signed(base+"/keys/key-1/encrypt", []byte(`{"plaintext": `+marker))))
	note(send(p, signed(base+"/keys/key-1/encrypt", []byte(`{"encryptionAlgorithm": 12345678901234567890}`))))
	r := signed(base+"/keys/key-1/encrypt", []byte(`{}`))
	r.Header.Set("Authorization", r.Header.Get("Authorization")+marker)
	note(send(p, r))
	text := log.String() + answers.String()
	for _, secret := range []string{
		marker, encoded, base64.StdEncoding.EncodeToString(e.Ciphertext), "12345678901234567890",
		xksproxytest.SecretKey, xksproxytest.SecretKey2,
	} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is shown", secret)
		}
	}
}

func TestCallersCannotForgeLinesOfTheLog(t *testing.T) {
	t.Parallel()
	log := &logged{}
	p := fileProxy(t, func(c *xksproxy.Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) })
	m := metadata("Encrypt")
	m["kmsRequestId"] = "a\nlevel=ERROR msg=forged\x1b[31m\u202e"
	m["awsPrincipalArn"] = strings.Repeat("a", 10000)
	body := encryptOf("x", "")
	body["requestMetadata"] = m
	before := strings.Count(log.String(), "\n")
	if w := post(t, p, "/keys/key-1/encrypt", body); w.Code != http.StatusOK {
		t.Fatal(w.Code)
	}
	text := log.String()
	if strings.Count(text, "\n") != before+1 || strings.ContainsAny(text, "\x1b\u202e") || strings.Contains(text, `\n`) {
		t.Errorf("the log has %q", text)
	}
	if len(text) > 8<<10 {
		t.Errorf("a record of %d bytes", len(text))
	}
}

func TestMetricsCountByNamesThatCallersDoNotChoose(t *testing.T) {
	t.Parallel()
	p := fileProxy(t)
	encrypt(t, p, "key-1", "x", "")
	post(t, p, "/keys/key-chosen-by-caller/encrypt", encryptOf("x", ""))
	send(p, httptest.NewRequest(http.MethodGet, "https://a.example/path-chosen-by-caller", nil))
	p.Warm(t.Context())
	w := httptest.NewRecorder()
	p.MetricsHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{
		`kastellan_proxy_requests_total{error="",operation="Encrypt",status="200",store="/acme"} 1`,
		`kastellan_proxy_requests_total{error="` + string(xksapi.KeyNotFoundException) + `",operation="Encrypt",status="404",store="/acme"} 1`,
		`kastellan_proxy_requests_total{error="InvalidUriPathException",operation="",status="404",store=""} 1`,
		`kastellan_proxy_key_encryptions_total{key="key-1",store="/acme"} 1`,
		`kastellan_proxy_request_seconds_count{operation="Encrypt",store="/acme"} 2`,
		`kastellan_proxy_key_manager_state{member="file",ring="file",state="ACTIVE"} 1`,
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	if strings.Contains(w.Body.String(), "chosen-by-caller") {
		t.Error("a caller chose a label")
	}
}
