package xksproxy_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
	"kastellan.dev/internal/xksapi"
	"kastellan.dev/internal/xksproxy"
	"kastellan.dev/internal/xksproxy/xksproxytest"
)

// answerWriter drops what is written, without the cost of a recorder.
type answerWriter struct {
	header http.Header
	status int
}

func (w *answerWriter) Header() http.Header         { return w.header }
func (w *answerWriter) WriteHeader(status int)      { w.status = status }
func (w *answerWriter) Write(b []byte) (int, error) { return len(b), nil }

func benchmark(b *testing.B, h http.Handler) {
	b.Helper()
	body, err := json.Marshal(encryptOf(string(make([]byte, 256)), "aad"))
	if err != nil {
		b.Fatal(err)
	}
	r := signed(base+"/keys/key-1/encrypt", body)
	b.ReportAllocs()
	for b.Loop() {
		r.Body = io.NopCloser(bytes.NewReader(body))
		w := answerWriter{header: http.Header{}}
		h.ServeHTTP(&w, r)
		if w.status != http.StatusOK {
			b.Fatal(w.status)
		}
	}
}

// bare is the floor: it reads, verifies, decodes, encrypts, encodes and logs, and nothing else.
func bare(b *testing.B, log *slog.Logger) http.Handler {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		b.Fatal(err)
	}
	verifier := &sigv4.Verifier{
		Service: xksapi.Service,
		Lookup: func(context.Context, string, string) (sigv4.Secret, bool) {
			return sigv4.Secret{Key: secret.NewText(xksproxytest.SecretKey)}, true
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		body, _ := io.ReadAll(r.Body)
		if _, err := verifier.Verify(r.Context(), r, body); err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		var in xksapi.EncryptRequest
		if json.Unmarshal(body, &in) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		out := aead.Seal(nil, nil, in.Plaintext, in.AdditionalAuthenticatedData)
		end := len(out) - 16
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write(xksapi.Encode(xksapi.EncryptResponse{InitializationVector: out[:12], Ciphertext: out[12:end], AuthenticationTag: out[end:]}))
		log.LogAttrs(r.Context(), slog.LevelInfo, "request", slog.String("path", r.URL.Path), slog.Duration("took", time.Since(started)))
	})
}

func BenchmarkEncrypt(b *testing.B) {
	log := jsonLogger(io.Discard)
	b.Run("bare handler", func(b *testing.B) { benchmark(b, bare(b, log)) })
	b.Run("key file", func(b *testing.B) {
		benchmark(b, fileProxy(b, func(c *xksproxy.Config) { c.Logger = log }))
	})
	b.Run("token", func(b *testing.B) {
		ring := xksproxytest.TokenRing(b, pkcs11test.NewTokens(b, 1))
		cfg := xksproxytest.Config(ring)
		cfg.Logger = log
		p := newProxy(b, cfg)
		p.Warm(b.Context())
		benchmark(b, p)
	})
	b.Run("over TLS, bare handler", func(b *testing.B) {
		srv := httptest.NewUnstartedServer(bare(b, log))
		srv.EnableHTTP2 = true
		srv.StartTLS()
		defer srv.Close()
		benchmarkTLS(b, srv.Client(), srv.URL)
	})
	b.Run("over TLS, key file", func(b *testing.B) {
		cfg := xksproxytest.Config(xksproxytest.FileRing(b))
		cfg.Logger = log
		p := xksproxytest.Start(b, cfg)
		benchmarkTLS(b, client(b, p), "https://"+xksproxytest.Host)
	})
}

// benchmarkTLS makes one call after the other on one connection, the client's work included.
func benchmarkTLS(b *testing.B, c *http.Client, url string) {
	b.Helper()
	body, err := json.Marshal(encryptOf(string(make([]byte, 256)), "aad"))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url+base+"/keys/key-1/encrypt", bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		testSigner.Sign(r, body, time.Now())
		resp, err := c.Do(r)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			b.Fatal(resp.Status)
		}
	}
}
