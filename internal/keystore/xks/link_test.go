package xks_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/keystore/xks"
	"kastellan.dev/internal/keystore/xks/xkstest"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/xksapi"
)

// settled waits until the polls that warm a new connection have ended.
func settled(t *testing.T, r *rig) {
	t.Helper()
	polltest.Until(t, "the first polls", func() bool { return r.proxy.Count(xkstest.Health) >= 5 })
}

func TestOnlyTimeoutsAreTriedOnceMore(t *testing.T) {
	t.Parallel()
	const limit = 1500 * time.Millisecond
	r := newRig(t, xkstest.Options{})
	patient := r.connect(t)
	k := createKey(t, patient)
	for name, tt := range map[string]struct {
		fault    xkstest.Fault
		times    int // that it happens; 0: always
		requests int
		works    bool
	}{
		"one timeout":           {r.proxy.Hang(), 1, 2, true},
		"timeouts":              {r.proxy.Hang(), 0, 2, false},
		"an internal error":     {xkstest.Error(xksapi.InternalException), 1, 1, false},
		"throttling":            {xkstest.Error(xksapi.ThrottlingException), 1, 1, false},
		"a late key manager":    {xkstest.Error(xksapi.DependencyTimeoutException), 1, 1, false},
		"an answer in nonsense": {xkstest.Answer(http.StatusOK, "{}"), 1, 1, false},
		"a broken answer":       {xkstest.CutMidway(), 1, 1, false},
	} {
		c := patient
		if strings.Contains(name, "timeout") {
			c = r.hasty(t, limit)
		}
		before := r.proxy.Count(xkstest.Encrypt)
		r.proxy.FailNth(xkstest.Encrypt, 1, tt.times, tt.fault)
		_, err := c.Encrypt(t.Context(), call("Encrypt"), k, nil, []byte("x"), nil)
		r.proxy.Heal()
		if n := r.proxy.Count(xkstest.Encrypt) - before; n != tt.requests {
			t.Errorf("%s: %d requests, want %d", name, n, tt.requests)
		}
		if tt.works != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if !tt.works {
			wantCode(t, name, err, kmsapi.KMSInvalidState)
		}
	}
}

// A pooled connection that the other side has closed costs no failed call.
func TestStaleConnectionsCostNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, xkstest.Options{})
	c := r.connect(t)
	settled(t, r)
	k := createKey(t, c)
	for range 5 {
		r.proxy.Shut(r.proxy.Address)
		r.proxy.ListenAt(r.proxy.Address)
		encrypt(t, c, k, "x", "")
	}
}

func TestWhatTheCryptographicCallsSay(t *testing.T) {
	t.Parallel()
	r := newRig(t, xkstest.Options{})
	c := r.connect(t)
	k := createKey(t, c)
	sealed := encrypt(t, c, k, "x", "")
	for name, text := range map[xksapi.ErrorName]string{
		xksapi.InvalidStateException:         "not enabled",
		xksapi.InvalidCiphertextException:    "rejected the ciphertext",
		xksapi.InvalidKeyUsageException:      "does not support the operation",
		xksapi.AuthenticationFailedException: "could not authenticate",
		xksapi.AccessDeniedException:         "denied access",
		xksapi.KeyNotFoundException:          "was not found",
		xksapi.InvalidURIPathException:       "URI path",
		xksapi.ThrottlingException:           "very high request rate",
		xksapi.InternalException:             "cannot communicate with its external key manager",
		xksapi.UnsupportedOperationException: "does not support the operation",
		xksapi.DependencyTimeoutException:    "time allotted",
		xksapi.ValidationException:           "cannot be interpreted",
	} {
		r.proxy.Fail(xkstest.Encrypt, xkstest.Error(name))
		r.proxy.Fail(xkstest.Decrypt, xkstest.Error(name))
		_, sealErr := c.Encrypt(t.Context(), call("Encrypt"), k, nil, []byte("x"), nil)
		_, openErr := decrypt(t.Context(), c, k, sealed, "")
		for what, err := range map[string]error{"Encrypt": sealErr, "Decrypt": openErr} {
			wantCode(t, what+" "+string(name), err, kmsapi.KMSInvalidState)
			if err != nil && !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v does not say %q", name, err, text)
			}
		}
		r.proxy.Heal()
	}
	for name, change := range map[string]func(*xksapi.EncryptResponse){
		"an integrity value of something else": func(out *xksapi.EncryptResponse) { out.CiphertextDataIntegrityValue[0] ^= 1 },
		"no integrity value":                   func(out *xksapi.EncryptResponse) { out.CiphertextDataIntegrityValue = nil },
		"a changed ciphertext":                 func(out *xksapi.EncryptResponse) { out.Ciphertext[0] ^= 1 },
		"a changed tag":                        func(out *xksapi.EncryptResponse) { out.AuthenticationTag[0] ^= 1 },
		"a changed IV":                         func(out *xksapi.EncryptResponse) { out.InitializationVector[0] ^= 1 },
		"metadata out of nowhere":              func(out *xksapi.EncryptResponse) { out.CiphertextMetadata = []byte{1} },
		"too much metadata":                    func(out *xksapi.EncryptResponse) { out.CiphertextMetadata = make([]byte, 21) },
		"an IV of 13 bytes":                    func(out *xksapi.EncryptResponse) { out.InitializationVector = make([]byte, 13) },
		"a longer ciphertext":                  func(out *xksapi.EncryptResponse) { out.Ciphertext = append(out.Ciphertext, 0) },
		"a short tag":                          func(out *xksapi.EncryptResponse) { out.AuthenticationTag = out.AuthenticationTag[:12] },
	} {
		r.proxy.Fail(xkstest.Encrypt, xkstest.Edit(change))
		_, err := c.Encrypt(t.Context(), call("Encrypt"), k, nil, []byte("x"), nil)
		wantCode(t, name, err, kmsapi.KMSInvalidState)
		r.proxy.Heal()
	}
}

func TestCreateKeyChecksTheExternalKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, xkstest.Options{})
	c := r.connect(t)
	for name, tt := range map[string]struct {
		key   *xkstest.Key
		fault *xkstest.Fault
		want  kmsapi.Code
	}{
		"a key that is not there":  {nil, nil, kmsapi.XksKeyNotFound},
		"a key of another spec":    {&xkstest.Key{Spec: "AES_128"}, nil, kmsapi.XksKeyInvalidConfiguration},
		"a key that is disabled":   {&xkstest.Key{Status: xksapi.KeyDisabled}, nil, kmsapi.XksKeyInvalidConfiguration},
		"a key for encrypting":     {&xkstest.Key{Usage: []string{xksapi.UsageEncrypt}}, nil, kmsapi.XksKeyInvalidConfiguration},
		"a key for decrypting":     {&xkstest.Key{Usage: []string{xksapi.UsageDecrypt}}, nil, kmsapi.XksKeyInvalidConfiguration},
		"a key for more than that": {&xkstest.Key{Usage: []string{"SIGN", xksapi.UsageEncrypt, xksapi.UsageDecrypt}}, nil, ""},
		"a proxy that is busy":     {nil, new(xkstest.Error(xksapi.ThrottlingException)), kmsapi.CustomKeyStoreInvalidState},
		"a proxy that refuses":     {nil, new(xkstest.Error(xksapi.AccessDeniedException)), kmsapi.CustomKeyStoreInvalidState},
		"an answer in nonsense":    {nil, new(xkstest.Answer(http.StatusOK, `{"keySpec":"AES_256"}`)), kmsapi.CustomKeyStoreInvalidState},
	} {
		id := strings.ReplaceAll(name, " ", "-")
		if tt.key != nil {
			tt.key.ID = id
			r.proxy.SetKey(*tt.key)
		}
		if tt.fault != nil {
			r.proxy.Fail(xkstest.Metadata, *tt.fault)
		}
		_, err := c.CreateKey(t.Context(), call("CreateKey"), newKey(id))
		r.proxy.Heal()
		if tt.want == "" && err != nil {
			t.Errorf("%s: %v", name, err)
		} else if tt.want != "" {
			wantCode(t, name, err, tt.want)
		}
	}
	for _, id := range []string{".", ".."} {
		_, err := c.CreateKey(t.Context(), call("CreateKey"), newKey(id))
		wantCode(t, id, err, kmsapi.XksKeyNotFound)
	}
}

func TestTooManyCallsUnderWayAreThrottled(t *testing.T) {
	t.Parallel()
	r := newRig(t, xkstest.Options{}, func(_ *rig, cfg *xks.Config) { cfg.MaxInFlight = 3 })
	c := r.connect(t)
	k := createKey(t, c)
	release := make(chan struct{})
	r.proxy.Fail(xkstest.Encrypt, r.proxy.Until(release))
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if _, err := c.Encrypt(context.Background(), call("Encrypt"), k, nil, []byte("x"), nil); err != nil {
				t.Error(err)
			}
		})
	}
	polltest.Until(t, "three calls under way", func() bool { return r.proxy.Count(xkstest.Encrypt) == 3 })
	if h := c.(keystore.Reporter).Health().(xks.Health); h.InFlight != 3 {
		t.Errorf("%d calls are told to be under way", h.InFlight)
	}
	_, err := c.Encrypt(t.Context(), call("Encrypt"), k, nil, []byte("x"), nil)
	wantCode(t, "the fourth", err, kmsapi.Throttling)
	close(release)
	wg.Wait()
	encrypt(t, c, k, "x", "")
}

func TestClosingWaitsForCallsAndRefusesOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t, xkstest.Options{})
	c := r.connect(t)
	k := createKey(t, c)
	sealed := encrypt(t, c, k, "x", "")
	release, failed := make(chan struct{}), make(chan error, 1)
	r.proxy.Fail(xkstest.Decrypt, r.proxy.Until(release))
	go func() {
		_, err := decrypt(context.Background(), c, k, sealed, "")
		failed <- err
	}()
	polltest.Until(t, "a call under way", func() bool { return r.proxy.Count(xkstest.Decrypt) == 1 })
	closed := make(chan struct{})
	go func() { c.Close(context.Background()); close(closed) }()
	polltest.Until(t, "refusals", func() bool {
		_, err := c.Encrypt(t.Context(), call("Encrypt"), k, nil, []byte("x"), nil)
		return kmsapi.CodeOf(err) == kmsapi.KMSInvalidState
	})
	select {
	case <-closed:
		t.Error("Close did not wait")
	default:
	}
	close(release)
	if err := <-failed; err != nil {
		t.Errorf("the call under way: %v", err)
	}
	<-closed
	_, err := c.CreateKey(t.Context(), call("CreateKey"), newKey(externalKey))
	wantCode(t, "CreateKey", err, kmsapi.CustomKeyStoreInvalidState)
}

func TestResumingNeedsNoProxy(t *testing.T) {
	t.Parallel()
	r := newRig(t, xkstest.Options{}, func(_ *rig, cfg *xks.Config) { cfg.HealthInterval = 20 * time.Millisecond })
	first := r.connect(t)
	k := createKey(t, first)
	sealed := encrypt(t, first, k, "x", "")
	first.Close(context.Background())
	r.proxy.Shut(r.proxy.Address)
	c := r.resume(t)
	_, err := decrypt(t.Context(), c, k, sealed, "")
	wantCode(t, "without a proxy", err, kmsapi.KMSInvalidState)
	health := func() xks.Health { return c.(keystore.Reporter).Health().(xks.Health) }
	polltest.Until(t, "a failed poll", func() bool { return health().Failure != "" })
	r.proxy.ListenAt(r.proxy.Address)
	polltest.Until(t, "a good poll", func() bool { return health().Failure == "" && !health().LastSuccess.IsZero() })
	if plaintext, err := decrypt(t.Context(), c, k, sealed, ""); err != nil || plaintext != "x" {
		t.Errorf("decrypted %q, %v", plaintext, err)
	}
	if log := r.log.String(); !strings.Contains(log, "the external key store proxy can serve") {
		t.Errorf("the log does not tell that it is back: %s", log)
	}
}

func TestConnectionsAreWarm(t *testing.T) {
	t.Parallel()
	r := newRig(t, xkstest.Options{})
	c := r.connect(t)
	settled(t, r)
	k := createKey(t, c)
	before := r.proxy.Connections()
	for range 20 {
		encrypt(t, c, k, "x", "")
	}
	if n := r.proxy.Connections() - before; n != 0 || before < 2 {
		t.Errorf("%d connections were made for requests in a row, %d before", n, before)
	}
}

func TestAProxyMayAskForACertificate(t *testing.T) {
	t.Parallel()
	ca := xkstest.NewCA(t)
	r := newRig(t, xkstest.Options{ClientCAs: ca.Pool}, func(r *rig, cfg *xks.Config) {
		h := cfg.Hosts[r.proxy.Host]
		h.ClientCertificate = ca.Issue(t, xkstest.Leaf{Host: "kastellan", Client: true})
		cfg.Hosts[r.proxy.Host] = h
	})
	createKey(t, r.connect(t))
}

func TestNothingSecretIsLogged(t *testing.T) {
	t.Parallel()
	r := newRig(t, xkstest.Options{TLS: &tls.Config{MaxVersion: tls.VersionTLS12}})
	c := r.connect(t)
	k := createKey(t, c)
	sealed := encrypt(t, c, k, marker, "")
	for _, fault := range []xkstest.Fault{
		xkstest.CutMidway(), xkstest.Error(xksapi.InternalException), xkstest.Answer(http.StatusOK, `{"plaintext":"`+marker+`"}`),
		xkstest.Answer(http.StatusOK, marker), xkstest.Answer(http.StatusBadRequest, `{"errorName":"ValidationException","errorMessage":"`+r.proxy.Secret.Reveal()[:4]+`"}`),
	} {
		r.proxy.Fail(xkstest.Decrypt, fault)
		if _, err := decrypt(t.Context(), c, k, sealed, ""); err == nil || strings.Contains(err.Error(), marker) {
			t.Errorf("the error is %v", err)
		}
		r.proxy.Heal()
	}
	for _, s := range []string{marker, r.proxy.Secret.Reveal()} {
		if strings.Contains(r.log.String(), s) {
			t.Error("the log holds a secret")
		}
	}
}
