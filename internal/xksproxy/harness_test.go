package xksproxy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
	"kastellan.dev/internal/xksapi"
	"kastellan.dev/internal/xksproxy"
	"kastellan.dev/internal/xksproxy/xksproxytest"
)

func TestMain(m *testing.M) {
	pkcs11.WorkerMain()
	goleak.VerifyTestMain(m)
}

type object = map[string]any

// newProxy makes a proxy that is closed at the end of the test.
func newProxy(t testing.TB, cfg xksproxy.Config) *xksproxy.Proxy {
	t.Helper()
	p, err := xksproxy.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := p.Close(ctx); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return p
}

// fileProxy is a proxy of a key file in memory, with changes to its configuration.
func fileProxy(t testing.TB, changes ...func(*xksproxy.Config)) *xksproxy.Proxy {
	t.Helper()
	cfg := xksproxytest.Config(xksproxytest.FileRing(t))
	for _, change := range changes {
		change(&cfg)
	}
	return newProxy(t, cfg)
}

var testSigner = &sigv4.Signer{
	Credentials: sigv4.Credentials{AccessKeyID: xksproxytest.AccessKeyID, Secret: secret.NewText(xksproxytest.SecretKey)},
	Service:     xksapi.Service, Region: xksproxytest.Region,
}

const base = xksproxytest.Prefix + xksapi.BasePath

func signed(path string, body []byte) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "https://"+xksproxytest.Host+path, bytes.NewReader(body))
	testSigner.Sign(r, body, time.Now())
	return r
}

// post sends a signed request to a path behind the base.
func post(t testing.TB, h http.Handler, path string, in object) *httptest.ResponseRecorder {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, signed(base+path, body))
	return w
}

func decode[T any](t testing.TB, w *httptest.ResponseRecorder) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	return v
}

func metadata(kmsOperation string) object {
	return object{
		"awsPrincipalArn": "arn:aws:iam::123456789012:user/alice", "kmsKeyArn": "arn:aws:kms:us-east-1:123456789012:key/k",
		"kmsOperation": kmsOperation, "kmsRequestId": "request-1",
	}
}

func encryptOf(plaintext, aad string) object {
	return object{
		"requestMetadata": metadata("Encrypt"), "plaintext": []byte(plaintext),
		"encryptionAlgorithm": "AES_GCM", "additionalAuthenticatedData": []byte(aad),
	}
}

func decryptOf(e xksapi.EncryptResponse, aad string) object {
	return object{
		"requestMetadata": metadata("Decrypt"), "ciphertext": e.Ciphertext, "encryptionAlgorithm": "AES_GCM",
		"initializationVector": e.InitializationVector, "authenticationTag": e.AuthenticationTag,
		"ciphertextMetadata": e.CiphertextMetadata, "additionalAuthenticatedData": []byte(aad),
	}
}

func encrypt(t testing.TB, h http.Handler, key, plaintext, aad string) xksapi.EncryptResponse {
	t.Helper()
	w := post(t, h, "/keys/"+key+"/encrypt", encryptOf(plaintext, aad))
	if w.Code != http.StatusOK {
		t.Fatalf("Encrypt: %d %s", w.Code, w.Body)
	}
	return decode[xksapi.EncryptResponse](t, w)
}

func wantPlaintext(t testing.TB, w *httptest.ResponseRecorder, plaintext string) {
	t.Helper()
	if w.Code != http.StatusOK {
		t.Fatalf("Decrypt: %d %s", w.Code, w.Body)
	}
	if got := decode[xksapi.DecryptResponse](t, w).Plaintext; string(got) != plaintext {
		t.Fatalf("Decrypt gave %q, want %q", got, plaintext)
	}
}

func wantError(t testing.TB, w *httptest.ResponseRecorder, name xksapi.ErrorName) {
	t.Helper()
	status, _ := name.Status()
	if got := decode[xksapi.ErrorResponse](t, w); got.ErrorName != name || w.Code != status {
		t.Errorf("got %d %s, want %d %s", w.Code, w.Body, status, name)
	}
}

func health(t testing.TB, h http.Handler) xksapi.HealthResponse {
	t.Helper()
	w := post(t, h, "/health", object{"requestMetadata": object{"kmsOperation": "KmsHealthCheck", "kmsRequestId": "r"}})
	if w.Code != http.StatusOK {
		t.Fatalf("GetHealthStatus: %d %s", w.Code, w.Body)
	}
	return decode[xksapi.HealthResponse](t, w)
}

// eventually waits until ok holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(2 * time.Millisecond) // between looks, not instead of them
	}
}
