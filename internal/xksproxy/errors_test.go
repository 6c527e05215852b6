package xksproxy_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/xksapi"
	"kastellan.dev/internal/xksproxy"
	"kastellan.dev/internal/xksproxy/xksproxytest"
)

func send(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestEveryErrorHappensForItsCause(t *testing.T) {
	t.Parallel()
	body := encryptOf("x", "")
	integrity := encryptOf("x", "")
	integrity["ciphertextDataIntegrityValueAlgorithm"] = "SHA_256"
	for _, c := range []struct {
		name string
		want xksapi.ErrorName
		do   func(t *testing.T, p *xksproxy.Proxy) *httptest.ResponseRecorder
	}{
		{"a body that is no JSON", xksapi.ValidationException, func(t *testing.T, p *xksproxy.Proxy) *httptest.ResponseRecorder {
			return send(p, signed(base+"/keys/key-1/encrypt", []byte("{")))
		}},
		{"a body that is too large", xksapi.ValidationException, func(t *testing.T, p *xksproxy.Proxy) *httptest.ResponseRecorder {
			return send(p, signed(base+"/keys/key-1/encrypt", make([]byte, 130<<10)))
		}},
		{"a body of unknown length that is too large", xksapi.ValidationException, func(t *testing.T, p *xksproxy.Proxy) *httptest.ResponseRecorder {
			r := signed(base+"/keys/key-1/encrypt", make([]byte, 130<<10))
			r.ContentLength = -1
			return send(p, r)
		}},
		{"a disabled key", xksapi.InvalidStateException, func(t *testing.T, p *xksproxy.Proxy) *httptest.ResponseRecorder {
			return post(t, p, "/keys/"+xksproxytest.Disabled+"/encrypt", body)
		}},
		{"a forged ciphertext", xksapi.InvalidCiphertextException, func(t *testing.T, p *xksproxy.Proxy) *httptest.ResponseRecorder {
			return post(t, p, "/keys/key-1/decrypt", decryptOf(xksapi.EncryptResponse{
				Ciphertext: make([]byte, 4), InitializationVector: make([]byte, 12), AuthenticationTag: make([]byte, 16),
			}, ""))
		}},
		{"a ciphertext of a version that does not exist", xksapi.InvalidCiphertextException, func(t *testing.T, p *xksproxy.Proxy) *httptest.ResponseRecorder {
			e := encrypt(t, p, "key-1", "x", "")
			e.CiphertextMetadata[4]++
			return post(t, p, "/keys/key-1/decrypt", decryptOf(e, ""))
		}},
		{"a key that may not encrypt", xksapi.InvalidKeyUsageException, func(t *testing.T, p *xksproxy.Proxy) *httptest.ResponseRecorder {
			return post(t, p, "/keys/"+xksproxytest.DecryptOnly+"/encrypt", body)
		}},
		{"an integrity value without the right to decrypt", xksapi.InvalidKeyUsageException, func(t *testing.T, p *xksproxy.Proxy) *httptest.ResponseRecorder {
			return post(t, p, "/keys/"+xksproxytest.EncryptOnly+"/encrypt", integrity)
		}},
		{"no signature", xksapi.AuthenticationFailedException, func(t *testing.T, p *xksproxy.Proxy) *httptest.ResponseRecorder {
			return send(p, httptest.NewRequest(http.MethodPost, "https://"+xksproxytest.Host+base+"/health", strings.NewReader("{}")))
		}},
		{"a Date header instead of X-Amz-Date", xksapi.AuthenticationFailedException, func(t *testing.T, p *xksproxy.Proxy) *httptest.ResponseRecorder {
			r := signed(base+"/health", []byte("{}"))
			r.Header.Del("X-Amz-Date")
			r.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
			return send(p, r)
		}},
		{"a rule that denies", xksapi.AccessDeniedException, func(t *testing.T, p *xksproxy.Proxy) *httptest.ResponseRecorder {
			return post(t, p, "/keys/"+xksproxytest.Denied+"/encrypt", body)
		}},
		{"a key that the store does not show", xksapi.KeyNotFoundException, func(t *testing.T, p *xksproxy.Proxy) *httptest.ResponseRecorder {
			return post(t, p, "/keys/nobody/encrypt", body)
		}},
		{"a path that does not exist", xksapi.InvalidURIPathException, func(t *testing.T, p *xksproxy.Proxy) *httptest.ResponseRecorder {
			return post(t, p, "/keys/key-1", body)
		}},
		{"a plaintext above the maximum", xksapi.UnsupportedOperationException, func(t *testing.T, p *xksproxy.Proxy) *httptest.ResponseRecorder {
			return post(t, p, "/keys/key-1/encrypt", encryptOf(strings.Repeat("x", 4301), ""))
		}},
		{"additional data above the maximum", xksapi.UnsupportedOperationException, func(t *testing.T, p *xksproxy.Proxy) *httptest.ResponseRecorder {
			return post(t, p, "/keys/key-1/encrypt", encryptOf("x", strings.Repeat("x", 8193)))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wantError(t, c.do(t, fileProxy(t)), c.want)
		})
	}
}

func TestErrorsOfTheKeyManagerHaveTheirNames(t *testing.T) {
	t.Parallel()
	failing := func(err error) func(context.Context, string) error {
		return func(_ context.Context, call string) error {
			if call == "Encrypt" {
				return err
			}
			return nil
		}
	}
	for _, c := range []struct {
		name  string
		want  xksapi.ErrorName
		fault func(context.Context, string) error
	}{
		{"broken", xksapi.InternalException, failing(&pkcs11.Error{Function: "C_Encrypt", RV: pkcs11.CKR_DEVICE_ERROR})},
		{"of an unknown kind", xksapi.InternalException, failing(errors.New("what"))},
		{"without a free session", xksapi.ThrottlingException, failing(pkcs11.ErrBusy)},
		{"out of sessions", xksapi.ThrottlingException, failing(&pkcs11.Error{Function: "C_OpenSession", RV: pkcs11.CKR_SESSION_COUNT})},
		{"hanging in the module", xksapi.DependencyTimeoutException, failing(pkcs11.ErrTimeout)},
		{"late", xksapi.DependencyTimeoutException, func(ctx context.Context, call string) error {
			if call != "Encrypt" {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}},
		{"forbidding it", xksapi.InvalidKeyUsageException, failing(&pkcs11.Error{Function: "C_EncryptInit", RV: pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED})},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			token := newFakeToken(t, xksproxytest.Key)
			cfg := tokenConfig(token)
			cfg.Rings[0].Timeout = 500 * time.Millisecond
			p := newProxy(t, cfg)
			p.Warm(t.Context())
			token.break_(c.fault)
			wantError(t, post(t, p, "/keys/key-1/encrypt", encryptOf("x", "")), c.want)
		})
	}
}

// aRing is a ring of one key that does what the test says.
type aRing struct {
	encrypt func(ctx context.Context, plaintext []byte) (xksproxy.Sealed, error)
	decrypt func(ctx context.Context) ([]byte, error) // nil: gives something else
	health  func() []xksproxy.Member                  // nil: is well
}

func (r *aRing) Lookup(context.Context, []string) (xksproxy.Key, error) { return r, nil }
func (r *aRing) Health(context.Context) []xksproxy.Member {
	if r.health != nil {
		return r.health()
	}
	return []xksproxy.Member{{ID: "x", Model: "y", Status: xksapi.Active}}
}
func (r *aRing) Vendor() string { return "test" }
func (r *aRing) Close() error   { return nil }
func (r *aRing) Info() xksproxy.KeyInfo {
	return xksproxy.KeyInfo{Spec: xksapi.KeySpecAES256, Enabled: true, Encrypt: true, Decrypt: true}
}
func (r *aRing) Encrypt(ctx context.Context, plaintext, _ []byte) (xksproxy.Sealed, error) {
	return r.encrypt(ctx, plaintext)
}
func (r *aRing) Decrypt(ctx context.Context, _ xksproxy.Sealed, _ []byte) ([]byte, error) {
	if r.decrypt != nil {
		return r.decrypt(ctx)
	}
	return []byte("something else"), nil
}

func TestAKeyManagerIsNotTrusted(t *testing.T) {
	t.Parallel()
	sealed := xksproxy.Sealed{IV: make([]byte, 12), Ciphertext: make([]byte, 1), Tag: make([]byte, 16)}
	for name, change := range map[string]func(*xksproxy.Sealed){
		"a ciphertext of another length": func(s *xksproxy.Sealed) { s.Ciphertext = make([]byte, 17) },
		"an empty IV":                    func(s *xksproxy.Sealed) { s.IV = nil },
		"a short tag":                    func(s *xksproxy.Sealed) { s.Tag = s.Tag[:12] },
		"long metadata":                  func(s *xksproxy.Sealed) { s.Metadata = make([]byte, 21) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := sealed
			change(&out)
			ring := &aRing{encrypt: func(context.Context, []byte) (xksproxy.Sealed, error) { return out, nil }}
			p := newProxy(t, xksproxytest.Config(xksproxy.RingConfig{Name: "r", Ring: ring}))
			wantError(t, post(t, p, "/keys/key-1/encrypt", encryptOf("x", "")), xksapi.InternalException)
		})
	}
	t.Run("a ciphertext that does not decrypt to its plaintext", func(t *testing.T) {
		t.Parallel()
		ring := &aRing{encrypt: func(context.Context, []byte) (xksproxy.Sealed, error) { return sealed, nil }}
		p := newProxy(t, xksproxytest.Config(xksproxy.RingConfig{Name: "r", Ring: ring}))
		body := encryptOf("x", "")
		if w := post(t, p, "/keys/key-1/encrypt", body); w.Code != http.StatusOK {
			t.Fatalf("without an integrity value nobody looks: %d", w.Code)
		}
		body["ciphertextDataIntegrityValueAlgorithm"] = "SHA_256"
		wantError(t, post(t, p, "/keys/key-1/encrypt", body), xksapi.InternalException)
	})
}

func TestAPanicIsAnInternalExceptionAndTheNextRequestIsServed(t *testing.T) {
	t.Parallel()
	panics := true
	ring := &aRing{encrypt: func(context.Context, []byte) (xksproxy.Sealed, error) {
		if panics {
			panic("with the secret of the day")
		}
		return xksproxy.Sealed{IV: make([]byte, 12), Ciphertext: make([]byte, 1), Tag: make([]byte, 16)}, nil
	}}
	var log bytes.Buffer
	cfg := xksproxytest.Config(xksproxy.RingConfig{Name: "r", Ring: ring})
	cfg.Logger = jsonLogger(&log)
	cfg.MaxRequests = 1 // a slot that is not given back would show
	p := newProxy(t, cfg)
	w := post(t, p, "/keys/key-1/encrypt", encryptOf("x", ""))
	wantError(t, w, xksapi.InternalException)
	if !strings.Contains(log.String(), "TestAPanicIsAnInternalExceptionAndTheNextRequestIsServed.func") {
		t.Error("the log does not say where it happened")
	}
	if strings.Contains(log.String()+w.Body.String(), "secret of the day") {
		t.Error("what was thrown is shown")
	}
	panics = false
	if w := post(t, p, "/keys/key-1/encrypt", encryptOf("x", "")); w.Code != http.StatusOK {
		t.Errorf("the next request: %d %s", w.Code, w.Body)
	}
}

func TestOtherMethodsThanPOSTAreNotAllowed(t *testing.T) {
	t.Parallel()
	p := fileProxy(t)
	for _, path := range []string{"/health", "/keys/key-1/metadata", "/keys/key-1/encrypt", "/keys/key-1/decrypt"} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete} {
			w := send(p, httptest.NewRequest(method, "https://"+xksproxytest.Host+base+path, nil))
			if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "POST" {
				t.Errorf("%s %s: %d", method, path, w.Code)
			}
		}
	}
}

func TestLivenessNeedsNoSignature(t *testing.T) {
	t.Parallel()
	p := fileProxy(t, func(c *xksproxy.Config) { c.LivenessPath = "/alive" })
	if w := send(p, httptest.NewRequest(http.MethodGet, "http://10.0.0.1/alive", nil)); w.Code != http.StatusOK {
		t.Errorf("GET: %d", w.Code)
	}
	if w := send(p, httptest.NewRequest(http.MethodPost, "http://10.0.0.1/alive", nil)); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
	if w := send(p, httptest.NewRequest(http.MethodGet, "http://10.0.0.1/livez", nil)); w.Code != http.StatusNotFound {
		t.Errorf("the path that is not configured: %d", w.Code)
	}
}
