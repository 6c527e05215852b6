package xksproxy_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/xksapi"
	"kastellan.dev/internal/xksproxy"
	"kastellan.dev/internal/xksproxy/xksproxytest"
)

func deviceError(context.Context, string) error {
	return &pkcs11.Error{Function: "C_Any", RV: pkcs11.CKR_DEVICE_ERROR}
}

func TestAMemberThatFailsIsPassedByAndComesBack(t *testing.T) {
	t.Parallel()
	a, b := newFakeToken(t, xksproxytest.Key), newFakeToken(t, xksproxytest.Key)
	p := newProxy(t, tokenConfig(a, b))
	p.Warm(t.Context())
	b.break_(deviceError)
	for range 20 {
		wantPlaintext(t, post(t, p, "/keys/key-1/decrypt", decryptOf(encrypt(t, p, "key-1", "x", "y"), "y")), "x")
	}
	var asked atomic.Int32
	b.break_(func(_ context.Context, call string) error {
		asked.Add(1)
		return nil
	})
	eventually(t, "the member serves again", func() bool {
		asked.Store(0)
		for range 20 {
			encrypt(t, p, "key-1", "x", "y")
		}
		return asked.Load() >= 3
	})
	a.break_(deviceError)
	encrypt(t, p, "key-1", "x", "y")
}

func TestAMemberThatHangsCostsAShareOfTheTime(t *testing.T) {
	t.Parallel()
	a, b := newFakeToken(t, xksproxytest.Key), newFakeToken(t, xksproxytest.Key)
	cfg := tokenConfig(a, b)
	cfg.Rings[0].Timeout = 600 * time.Millisecond
	p := newProxy(t, cfg)
	p.Warm(t.Context())
	hang := func(ctx context.Context, call string) error {
		<-ctx.Done()
		return ctx.Err()
	}
	a.break_(hang)
	for range 6 { // whichever member comes first
		encrypt(t, p, "key-1", "x", "y")
	}
	b.break_(hang)
	started := time.Now()
	wantError(t, post(t, p, "/keys/key-1/encrypt", encryptOf("x", "")), xksapi.DependencyTimeoutException)
	if took := time.Since(started); took > 2*time.Second {
		t.Errorf("the answer took %s", took)
	}
}

func TestManyMembersThatTakeTheirTimeServe(t *testing.T) {
	t.Parallel()
	tokens := make([]*fakeToken, 10)
	for i := range tokens {
		tokens[i] = newFakeToken(t, xksproxytest.Key)
	}
	cfg := tokenConfig(tokens...)
	cfg.Rings[0].Timeout = 2 * time.Second
	p := newProxy(t, cfg)
	p.Warm(t.Context())
	for _, token := range tokens {
		token.break_(func(ctx context.Context, call string) error {
			select {
			case <-time.After(300 * time.Millisecond): // more than a tenth of the time, less than half
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}
	encrypt(t, p, "key-1", "x", "")
}

func TestALostSessionIsMadeAnewWithoutTheCallerNoticing(t *testing.T) {
	t.Parallel()
	token := newFakeToken(t, xksproxytest.Key)
	p := newProxy(t, tokenConfig(token))
	encrypt(t, p, "key-1", "x", "")
	before, _ := token.count()
	token.logOut()
	encrypt(t, p, "key-1", "x", "")
	if after, _ := token.count(); after != before+1 {
		t.Errorf("%d logins, want 1 more than %d", after, before)
	}
	var once atomic.Bool
	token.break_(func(context.Context, string) error {
		if once.CompareAndSwap(false, true) {
			return pkcs11.ErrLost
		}
		return nil
	})
	encrypt(t, p, "key-1", "x", "")
}

func TestARefusedPINIsNotTriedAgainUntilTheConfigurationIsReloaded(t *testing.T) {
	t.Parallel()
	token := newFakeToken(t, xksproxytest.Key)
	token.break_(func(_ context.Context, call string) error {
		if call == "Login" {
			return &pkcs11.Error{Function: "C_Login", RV: pkcs11.CKR_PIN_INCORRECT}
		}
		return nil
	})
	cfg := tokenConfig(token)
	p := newProxy(t, cfg)
	p.Warm(t.Context())
	for range 5 {
		wantError(t, post(t, p, "/keys/key-1/encrypt", encryptOf("x", "")), xksapi.InternalException)
	}
	if logins, _ := token.count(); logins != 1 {
		t.Fatalf("%d logins with a wrong PIN, want 1", logins)
	}
	token.break_(nil)
	if err := p.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the PIN is tried again", func() bool {
		return post(t, p, "/keys/key-1/encrypt", encryptOf("x", "")).Code == http.StatusOK
	})
}

func TestATokenStaysOpenWhenItsConfigurationStays(t *testing.T) {
	t.Parallel()
	token := newFakeToken(t, xksproxytest.Key)
	p := newProxy(t, tokenConfig(token))
	p.Warm(t.Context())
	before, _ := token.count()
	reload := func(change func(*xksproxy.Config)) int {
		cfg := tokenConfig(token) // with secrets of its own
		change(&cfg)
		if err := p.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		p.Warm(t.Context())
		logins, _ := token.count()
		return logins
	}
	if after := reload(func(c *xksproxy.Config) { c.Stores[0].Limits.Rate = 1800 }); after != before {
		t.Errorf("%d logins after a reload of the same ring, want %d", after, before)
	}
	token.logOut()
	after := reload(func(c *xksproxy.Config) { c.Rings[0].Tokens.Members[0].PIN = secret.NewText("other") })
	if after != before+1 {
		t.Errorf("%d logins after the PIN was changed, want %d", after, before+1)
	}
}

func TestHandlesAreKept(t *testing.T) {
	t.Parallel()
	token := newFakeToken(t, xksproxytest.Key)
	p := newProxy(t, tokenConfig(token))
	p.Warm(t.Context())
	encrypt(t, p, "key-1", "x", "")
	_, before := token.count()
	for range 50 {
		encrypt(t, p, "key-1", "x", "")
	}
	if _, after := token.count(); after != before {
		t.Errorf("%d searches for 50 encryptions", after-before)
	}
}

func TestAnAmbiguousOrUnfitKeyIsNotUsed(t *testing.T) {
	t.Parallel()
	twice := newFakeToken(t, xksproxytest.Key, xksproxytest.Key)
	wantError(t, post(t, newProxy(t, tokenConfig(twice)), "/keys/key-1/encrypt", encryptOf("x", "")), xksapi.InternalException)

	short := newFakeToken(t, xksproxytest.Key)
	short.attrs.ValueLen = 16
	p := newProxy(t, tokenConfig(short))
	wantError(t, post(t, p, "/keys/key-1/encrypt", encryptOf("x", "")), xksapi.InvalidKeyUsageException)
	w := post(t, p, "/keys/key-1/metadata", object{"requestMetadata": metadata("CreateKey")})
	if m := decode[xksapi.MetadataResponse](t, w); m.KeySpec != "AES_128" {
		t.Errorf("keySpec %q", m.KeySpec)
	}
}

func TestAMissingKeyIsNotFoundOnlyIfEveryMemberSaysSo(t *testing.T) {
	t.Parallel()
	a, b := newFakeToken(t), newFakeToken(t)
	p := newProxy(t, tokenConfig(a, b))
	p.Warm(t.Context())
	wantError(t, post(t, p, "/keys/key-1/encrypt", encryptOf("x", "")), xksapi.KeyNotFoundException)
	b.break_(deviceError)
	for range 2 {
		wantError(t, post(t, p, "/keys/key-1/encrypt", encryptOf("x", "")), xksapi.InternalException)
	}
	c := newFakeToken(t, xksproxytest.Key)
	p = newProxy(t, tokenConfig(a, c)) // a was not given the key yet
	for range 4 {
		encrypt(t, p, "key-1", "x", "")
	}
}

func TestAForgeryIsToldFromABrokenToken(t *testing.T) {
	t.Parallel()
	token := newFakeToken(t, xksproxytest.Key)
	p := newProxy(t, tokenConfig(token))
	e := encrypt(t, p, "key-1", "x", "")
	forged := e
	forged.AuthenticationTag = make([]byte, 16)
	wantError(t, post(t, p, "/keys/key-1/decrypt", decryptOf(forged, "")), xksapi.InvalidCiphertextException)
	token.break_(func(_ context.Context, call string) error {
		if call == "Decrypt" {
			return &pkcs11.Error{Function: "C_Decrypt", RV: pkcs11.CKR_GENERAL_ERROR}
		}
		return nil
	})
	wantError(t, post(t, p, "/keys/key-1/decrypt", decryptOf(e, "")), xksapi.InternalException)
}

func TestATokenKeyRotatesBehindItsID(t *testing.T) {
	t.Parallel()
	token := newFakeToken(t, "old", "new")
	withLabels := func(labels ...string) xksproxy.Config {
		cfg := tokenConfig(token)
		cfg.Stores[0].Keys = []xksproxy.KeyConfig{{ID: "key-1", Labels: labels}}
		return cfg
	}
	p := newProxy(t, withLabels("old"))
	first := encrypt(t, p, "key-1", "x", "y")
	if err := p.Reload(withLabels("old", "new")); err != nil {
		t.Fatal(err)
	}
	second := encrypt(t, p, "key-1", "x", "y")
	if len(first.CiphertextMetadata) != 0 || len(second.CiphertextMetadata) == 0 {
		t.Errorf("metadata %x and %x", first.CiphertextMetadata, second.CiphertextMetadata)
	}
	for _, e := range []xksapi.EncryptResponse{first, second} {
		wantPlaintext(t, post(t, p, "/keys/key-1/decrypt", decryptOf(e, "y")), "x")
	}
	stripped := second
	stripped.CiphertextMetadata = nil
	wantError(t, post(t, p, "/keys/key-1/decrypt", decryptOf(stripped, "y")), xksapi.InvalidCiphertextException)
	future := second
	future.CiphertextMetadata = slices.Clone(second.CiphertextMetadata)
	future.CiphertextMetadata[4] = 3
	wantError(t, post(t, p, "/keys/key-1/decrypt", decryptOf(future, "y")), xksapi.InvalidCiphertextException)
}

func TestSaturationIsThrottledAndDoesNotPileUp(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]func(*xksproxy.Config){
		"of the store":       func(c *xksproxy.Config) { c.Stores[0].Limits.Concurrent = 2 },
		"of the key manager": func(c *xksproxy.Config) { c.Rings[0].Tokens.Members[0].Concurrent = 2 },
		"of the proxy":       func(c *xksproxy.Config) { c.MaxRequests = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			token := newFakeToken(t, xksproxytest.Key)
			cfg := tokenConfig(token)
			cfg.Rings[0].Timeout = 20 * time.Second
			limit(&cfg)
			p := newProxy(t, cfg)
			p.Warm(t.Context())
			encrypt(t, p, "key-1", "x", "")

			entered, leave := make(chan struct{}, 10), make(chan struct{})
			token.break_(func(ctx context.Context, call string) error {
				if call == "Encrypt" {
					entered <- struct{}{}
					<-leave
				}
				return nil
			})
			var wg sync.WaitGroup
			running := make([]*httptest.ResponseRecorder, 2)
			for i := range running {
				wg.Go(func() { running[i] = post(t, p, "/keys/key-1/encrypt", encryptOf("x", "")) })
			}
			<-entered
			<-entered
			wantError(t, post(t, p, "/keys/key-1/encrypt", encryptOf("x", "")), xksapi.ThrottlingException)
			token.break_(nil)
			close(leave)
			wg.Wait()
			for _, w := range running {
				if w.Code != http.StatusOK {
					t.Errorf("a request within the limit: %d %s", w.Code, w.Body)
				}
			}
			encrypt(t, p, "key-1", "x", "")
		})
	}
}

func TestARateAboveTheLimitIsThrottled(t *testing.T) {
	t.Parallel()
	p := fileProxy(t, func(c *xksproxy.Config) { c.Stores[0].Limits.Rate, c.Stores[0].Limits.Burst = 0.001, 3 })
	for range 3 {
		encrypt(t, p, "key-1", "x", "")
	}
	wantError(t, post(t, p, "/keys/key-1/encrypt", encryptOf("x", "")), xksapi.ThrottlingException)
	health(t, p) // is never throttled
}

func TestHealthTellsTheStateOfEachToken(t *testing.T) {
	t.Parallel()
	states := func(p *xksproxy.Proxy) (out []string) {
		for _, m := range health(t, p).EkmFleetDetails {
			out = append(out, m.HealthStatus)
		}
		return out
	}
	well, broken, busy := newFakeToken(t), newFakeToken(t), newFakeToken(t)
	broken.break_(deviceError)
	busy.break_(func(_ context.Context, call string) error {
		if call == "Encrypt" {
			return pkcs11.ErrBusy
		}
		return nil
	})
	keyless := newFakeToken(t)
	keyless.labels = []string{"another"}
	p := newProxy(t, tokenConfig(well, broken, busy, keyless))
	p.Warm(t.Context())
	want := []string{xksapi.Active, xksapi.Unavailable, xksapi.Degraded, xksapi.Degraded}
	if got := states(p); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if h := health(t, p); h.EkmVendor != "Fakes Ltd" || h.EkmFleetDetails[0].Model != "Model F" || h.EkmFleetDetails[0].ID != "a" {
		t.Errorf("%+v", h)
	}
	broken.break_(nil)
	eventually(t, "health sees that the token was mended", func() bool { return states(p)[1] == xksapi.Active })

	slow := newFakeToken(t)
	cfg := tokenConfig(slow)
	cfg.Rings[0].Tokens.SlowAfter = time.Nanosecond
	if got := states(newProxy(t, cfg)); !slices.Equal(got, []string{xksapi.Degraded}) {
		t.Errorf("a slow token is %v", got)
	}
}

func TestHealthOfManyTokensFitsInTenEntries(t *testing.T) {
	t.Parallel()
	tokens := make([]*fakeToken, 12)
	for i := range tokens {
		tokens[i] = newFakeToken(t)
	}
	tokens[11].break_(deviceError)
	p := newProxy(t, tokenConfig(tokens...))
	p.Warm(t.Context())
	h := health(t, p).EkmFleetDetails
	if len(h) != 10 || h[8].HealthStatus != xksapi.Active || h[9].HealthStatus != xksapi.Degraded {
		t.Errorf("%+v", h)
	}
}

func TestHealthChecksAreSharedAndRemembered(t *testing.T) {
	t.Parallel()
	token := newFakeToken(t)
	p := newProxy(t, tokenConfig(token))
	p.Warm(t.Context())
	health(t, p)
	var asked atomic.Int32
	token.break_(func(_ context.Context, call string) error {
		asked.Add(1)
		return nil
	})
	for range 20 {
		health(t, p)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("%d calls on the token for a health check that is remembered", n)
	}
}

func TestARealTokenThatIsSlowBrokenOrGone(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	faults := pkcs11test.NewFaults(t)
	ring := xksproxytest.TokenRing(t, []pkcs11test.TokenRef{faults.Break(t, ref)})
	ring.Timeout = 2 * time.Second
	p := newProxy(t, xksproxytest.Config(ring))
	p.Warm(t.Context())
	encrypt(t, p, "key-1", "x", "")
	steps := []struct {
		fault string
		want  xksapi.ErrorName
	}{
		{"C_Encrypt delay=6000", xksapi.DependencyTimeoutException},
		{"C_Encrypt rv=0x30", xksapi.InternalException},
	}
	for _, s := range steps {
		faults.Set(t, s.fault)
		wantError(t, post(t, p, "/keys/key-1/encrypt", encryptOf("x", "")), s.want)
		faults.Clear(t)
		eventually(t, "the token serves again after "+s.fault, func() bool {
			return post(t, p, "/keys/key-1/encrypt", encryptOf("x", "")).Code == http.StatusOK
		})
	}
	faults.Set(t, "C_Encrypt crash count=1")
	encrypt(t, p, "key-1", "x", "") // in a fresh process, without the caller noticing
}

func TestATokenThatRefusesForNoReasonIsOpenedAnew(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	faults := pkcs11test.NewFaults(t)
	ring := xksproxytest.TokenRing(t, []pkcs11test.TokenRef{faults.Break(t, ref)})
	ring.Timeout = 10 * time.Second
	faults.Set(t, "C_Login rv=0x5 count=1")
	p := newProxy(t, xksproxytest.Config(ring))
	eventually(t, "the token serves", func() bool {
		return post(t, p, "/keys/key-1/encrypt", encryptOf("x", "")).Code == http.StatusOK
	})
	if n := faults.Calls(t, "C_Initialize"); n != 2 {
		t.Errorf("the module was loaded %d times", n)
	}
}

func TestAKeyThatWasMadeInATokenIsServed(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	member := xksproxy.TokenMember{Name: "a", PKCS11: ref.Config(), PIN: secret.NewText(ref.PIN)}
	log := slog.New(slog.DiscardHandler)
	for _, label := range []string{xksproxytest.Key, xksproxytest.HealthKey} {
		if err := xksproxy.CreateTokenKey(t.Context(), member, label, log); err != nil {
			t.Fatal(err)
		}
	}
	if err := xksproxy.CreateTokenKey(t.Context(), member, xksproxytest.Key, log); err == nil {
		t.Error("a label was given twice")
	}
	p := newProxy(t, xksproxytest.Config(xksproxy.RingConfig{
		Name: "hsm", Timeout: 10 * time.Second,
		Tokens: &xksproxy.TokenRing{HealthKey: xksproxytest.HealthKey, Members: []xksproxy.TokenMember{member}},
	}))
	p.Warm(t.Context())
	wantPlaintext(t, post(t, p, "/keys/key-1/decrypt", decryptOf(encrypt(t, p, "key-1", "x", "y"), "y")), "x")
	if got := health(t, p).EkmFleetDetails[0].HealthStatus; got == xksapi.Unavailable {
		t.Errorf("health %s", got)
	}
}
