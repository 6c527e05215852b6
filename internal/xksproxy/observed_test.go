package xksproxy_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/tracing/otlp"
	"kastellan.dev/internal/xksapi"
	"kastellan.dev/internal/xksproxy"
	"kastellan.dev/internal/xksproxy/xksproxytest"
)

// What operators see of requests that fail, and of key managers that do.

func TestTheLogNamesTheRequestOfASignedCallerWhateverFailed(t *testing.T) {
	t.Parallel()
	log := &logged{}
	p := fileProxy(t, func(c *xksproxy.Config) {
		c.Logger = jsonLogger(log)
		c.Stores[0].Limits.Rate, c.Stores[0].Limits.Burst = 0.001, 1
	})
	wantError(t, post(t, p, "/keys/key-1/encrypt", with(encryptOf("x", ""), "plaintext", "not*base64")), xksapi.ValidationException)
	if got := log.last(t); got["kmsRequestId"] != "request-1" || got["principal"] == nil {
		t.Errorf("a request that makes no sense: %v", got)
	}
	wantError(t, post(t, p, "/keys/key-1/encrypt", encryptOf("x", "")), xksapi.ThrottlingException)
	if got := log.last(t); got["kmsRequestId"] != "request-1" || got["kmsOperation"] != "Encrypt" || got["errorName"] != "ThrottlingException" || got["credential"] != xksproxytest.AccessKeyID {
		t.Errorf("a throttled request: %v", got)
	}
}

func TestTheLogTellsWhichAccessKeyWasClaimedAndBelievesNothingElse(t *testing.T) {
	t.Parallel()
	log := &logged{}
	p := fileProxy(t, func(c *xksproxy.Config) { c.Logger = jsonLogger(log) })
	r := signed(base+"/keys/key-1/encrypt", []byte(`{"requestMetadata":{"kmsRequestId":"forged"}}`))
	text := r.Header.Get("Authorization")
	r.Header.Set("Authorization", text[:len(text)-1]+"x")
	wantError(t, send(p, r), xksapi.AuthenticationFailedException)
	got := log.last(t)
	if got["claimedCredential"] != xksproxytest.AccessKeyID || got["credential"] != nil || got["kmsRequestId"] != nil {
		t.Errorf("a forged request: %v", got)
	}
}

func scrape(p *xksproxy.Proxy) string {
	w := httptest.NewRecorder()
	p.MetricsHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

func TestMetricsShowAKeyManagerThatDiedWhileNobodyAsked(t *testing.T) {
	t.Parallel()
	token := newFakeToken(t, xksproxytest.Key)
	cfg := tokenConfig(token)
	cfg.HealthCache = time.Millisecond
	p := newProxy(t, cfg)
	p.Warm(t.Context())
	state := func(state string) string {
		return `kastellan_proxy_key_manager_state{member="a",ring="hsm",state="` + state + `"} 1`
	}
	if !strings.Contains(scrape(p), state(xksapi.Active)) {
		t.Fatal("the token is not shown as active")
	}
	token.break_(deviceError)
	eventually(t, "the metrics show it", func() bool { return strings.Contains(scrape(p), state(xksapi.Unavailable)) })
	text := scrape(p)
	for _, want := range []string{
		`kastellan_proxy_token_errors_total{class="CKR_DEVICE_ERROR",member="a",ring="hsm"} `,
		`kastellan_proxy_token_use_seconds_count{member="a",ring="hsm"} `, `kastellan_proxy_token_uses_in_flight{member="a",ring="hsm"} `,
		`kastellan_proxy_build_info{goversion="go`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}

func TestWhatATokenRefusesIsNoFailureOfIt(t *testing.T) {
	t.Parallel()
	p := newProxy(t, tokenConfig(newFakeToken(t, xksproxytest.Key)))
	p.Warm(t.Context())
	sealed := encrypt(t, p, xksproxytest.Key, "x", "")
	wantError(t, post(t, p, "/keys/"+xksproxytest.Key+"/decrypt", decryptOf(sealed, "another context")), xksapi.InvalidCiphertextException)
	if text := scrape(p); strings.Contains(text, "kastellan_proxy_token_errors_total{") {
		t.Errorf("it is counted as one:\n%s", text)
	}
}

func TestWhereTracesGoIsSettledAtTheStart(t *testing.T) {
	t.Parallel()
	pki := xksproxytest.NewPKI(t)
	certificate := pki.Server(t, xksproxytest.Host)
	cfg := xksproxy.ServerConfig{Proxy: xksproxytest.Config(xksproxytest.FileRing(t)), TLS: &xksproxy.TLSConfig{Certificate: &certificate}}
	p := xksproxytest.StartServer(t, cfg, pki)
	if err := p.Reload(cfg); err != nil {
		t.Errorf("the same configuration: %v", err)
	}
	cfg.Tracing = &otlp.Config{Endpoint: "https://collector.example.com"}
	if err := p.Reload(cfg); err == nil || !strings.Contains(err.Error(), "tracing") {
		t.Errorf("another one: %v", err)
	}
}

func TestMetricsForgetARingThatIsNoMore(t *testing.T) {
	t.Parallel()
	p := newProxy(t, tokenConfig(newFakeToken(t, xksproxytest.Key)))
	p.Warm(t.Context())
	if err := p.Reload(xksproxytest.Config(xksproxytest.FileRing(t))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "only the new ring is shown", func() bool {
		text := scrape(p)
		return strings.Contains(text, `ring="file"`) && !strings.Contains(text, `ring="hsm"`)
	})
}

func TestTheLogTellsWhenTheStateOfAKeyManagerChanges(t *testing.T) {
	t.Parallel()
	log := &logged{}
	token := newFakeToken(t, xksproxytest.Key)
	cfg := tokenConfig(token)
	cfg.HealthCache, cfg.Logger = time.Millisecond, jsonLogger(log)
	p := newProxy(t, cfg)
	p.Warm(t.Context())
	health(t, p)
	if strings.Contains(log.String(), "state of a key manager") {
		t.Fatal("a token that is well is worth a record")
	}
	token.break_(deviceError)
	eventually(t, "it is seen", func() bool { return health(t, p).EkmFleetDetails[0].HealthStatus == xksapi.Unavailable })
	for _, want := range []string{`"member":"a"`, `"was":"ACTIVE"`, `"is":"UNAVAILABLE"`, "CKR_DEVICE_ERROR"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s", want)
		}
	}
	token.break_(nil)
	eventually(t, "it is seen", func() bool { return health(t, p).EkmFleetDetails[0].HealthStatus == xksapi.Active })
	if !strings.Contains(log.String(), `"was":"UNAVAILABLE","is":"ACTIVE"`) {
		t.Error("the log does not tell that it is well again")
	}
}

func TestAPanicInAHealthCheckMakesAKeyManagerUnavailableAndNotTheProxy(t *testing.T) {
	t.Parallel()
	ring := &aRing{health: func() []xksproxy.Member { panic("with the secret of the day") }}
	token := newFakeToken(t, xksproxytest.Key)
	token.break_(func(_ context.Context, call string) error {
		if call == "Encrypt" {
			panic("with the secret of the day")
		}
		return nil
	})
	for name, cfg := range map[string]xksproxy.Config{
		"of a ring":         xksproxytest.Config(xksproxy.RingConfig{Name: "r", Ring: ring}),
		"of a ring's token": tokenConfig(token),
	} {
		t.Run(name, func(t *testing.T) {
			log := &logged{}
			cfg.Logger = jsonLogger(log)
			p := newProxy(t, cfg)
			if got := health(t, p).EkmFleetDetails; len(got) != 1 || got[0].HealthStatus != xksapi.Unavailable {
				t.Errorf("%+v", got)
			}
			if !strings.Contains(log.String(), "panic") || strings.Contains(log.String(), "secret of the day") {
				t.Errorf("the log has %s", log)
			}
		})
	}
}

func TestHealthIsNoOlderThanTheCacheAndNeverDeniedNorThrottled(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	ring := &aRing{health: func() []xksproxy.Member {
		asked.Add(1)
		return []xksproxy.Member{{ID: "x", Model: "y", Status: xksapi.Active}}
	}}
	cfg := xksproxytest.Config(xksproxy.RingConfig{Name: "r", Ring: ring})
	cfg.HealthCache = time.Nanosecond
	cfg.Stores[0].Rules = []xksproxy.Rule{{Name: "all", Effect: xksproxy.Deny}}
	cfg.Stores[0].Default = xksproxy.Deny
	cfg.Stores[0].Limits.Rate, cfg.Stores[0].Limits.Burst = 0.001, 1
	p := newProxy(t, cfg)
	p.Warm(t.Context())
	before := asked.Load()
	for range 5 {
		health(t, p)
	}
	if got := asked.Load() - before; got != 5 {
		t.Errorf("%d checks for 5 requests with a cache of no time", got)
	}
}

func TestATokenWhosePINIsLockedIsUnavailable(t *testing.T) {
	t.Parallel()
	token := newFakeToken(t, xksproxytest.Key)
	token.break_(func(_ context.Context, call string) error {
		if call == "Login" {
			return &pkcs11.Error{Function: "C_Login", RV: pkcs11.CKR_PIN_LOCKED}
		}
		return nil
	})
	p := newProxy(t, tokenConfig(token))
	p.Warm(t.Context())
	if got := health(t, p).EkmFleetDetails[0].HealthStatus; got != xksapi.Unavailable {
		t.Errorf("a token whose PIN is locked is %s", got)
	}
}
