package xks_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/keystore/xks"
	"kastellan.dev/internal/keystore/xks/xkstest"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/xksapi"
)

// mishap is something that happens to the proxy of a store that is connected.
type mishap struct {
	outcome string // as the package calls it
	key     kmsapi.Code
	text    string // of the exception of a cryptographic operation
	happens func(t *testing.T, r *rig)
	limit   time.Duration // of calls, for those that are to time out
}

const (
	cannotCommunicate = "KMS cannot communicate with the external key store proxy."
	uninterpretable   = "The answer of the external key store proxy cannot be interpreted."
)

// always makes all operations that use a key fail.
func always(f xkstest.Fault) func(*testing.T, *rig) {
	return func(_ *testing.T, r *rig) {
		for _, op := range []xkstest.Op{xkstest.Metadata, xkstest.Encrypt, xkstest.Decrypt} {
			r.proxy.Fail(op, f)
		}
	}
}

// anew drops the connections; those that come are as change makes them.
func anew(change func(r *rig)) func(*testing.T, *rig) {
	return func(_ *testing.T, r *rig) {
		r.proxy.Shut(r.proxy.Address)
		change(r)
		r.proxy.ListenAt(r.proxy.Address)
	}
}

func mishaps() map[string]mishap {
	const (
		invalidState = kmsapi.CustomKeyStoreInvalidState
		limit        = 1500 * time.Millisecond
	)
	all := map[string]mishap{
		"the proxy is gone": {"not reachable", invalidState, cannotCommunicate,
			func(_ *testing.T, r *rig) { r.proxy.Shut(r.proxy.Address) }, 0},
		"the proxy closes connections":  {"connection lost", invalidState, cannotCommunicate, always(xkstest.Cut()), 0},
		"the proxy stops in the middle": {"connection lost", invalidState, cannotCommunicate, always(xkstest.CutMidway()), 0},
		"the proxy speaks no TLS any more": {"TLS failed", invalidState, "KMS cannot establish a TLS connection to the external key store proxy.",
			anew(func(r *rig) { r.proxy.OnConnection(xkstest.PlainHTTP) }), 0},
		"the proxy does not answer": {"timed out", invalidState, "The external key store proxy did not respond in time.",
			func(t *testing.T, r *rig) { always(r.proxy.Hang())(t, r) }, limit},
		"handshakes get no answer": {"timed out", invalidState, "The external key store proxy did not respond in time.",
			anew(func(r *rig) { r.proxy.OnConnection(new(stopped).connection) }), limit},
		"something else answers": {"malformed answer", invalidState, uninterpretable, always(xkstest.Answer(http.StatusBadGateway, "<html>")), 0},
		"the answer is empty":    {"malformed answer", invalidState, uninterpretable, always(xkstest.Answer(http.StatusOK, "{}")), 0},
		"the proxy redirects":    {"malformed answer", invalidState, uninterpretable, always(xkstest.Redirect("https://" + host + "/kms/xks/v1/health")), 0},
	}
	for name, m := range map[xksapi.ErrorName]struct {
		key  kmsapi.Code
		text string
	}{
		xksapi.ValidationException:           {invalidState, uninterpretable},
		xksapi.InvalidStateException:         {kmsapi.XksKeyInvalidConfiguration, "The external key is not enabled."},
		xksapi.InvalidCiphertextException:    {invalidState, "The external key store proxy rejected the ciphertext or the encryption context."},
		xksapi.InvalidKeyUsageException:      {kmsapi.XksKeyInvalidConfiguration, "The external key does not support the operation."},
		xksapi.AuthenticationFailedException: {invalidState, "The external key store proxy could not authenticate KMS."},
		xksapi.AccessDeniedException:         {invalidState, "The external key store proxy denied access."},
		xksapi.KeyNotFoundException:          {kmsapi.XksKeyNotFound, "The external key was not found."},
		xksapi.InvalidURIPathException:       {invalidState, "The URI path of the external key store proxy is not valid."},
		xksapi.ThrottlingException:           {invalidState, "The external key store proxy rejected the request due to a very high request rate."},
		xksapi.InternalException:             {invalidState, "The external key store proxy cannot communicate with its external key manager."},
		xksapi.UnsupportedOperationException: {invalidState, "The external key store proxy does not support the operation."},
		xksapi.DependencyTimeoutException:    {invalidState, "The external key store proxy did not respond in the time allotted"},
	} {
		all[string(name)] = mishap{string(name), m.key, m.text, always(xkstest.Error(name)), 0}
	}
	return all
}

// What CreateKey, Encrypt and Decrypt of a connected store say of each thing
// that can happen, when it really happens.
func TestMishapsOfAConnectedStore(t *testing.T) {
	t.Parallel()
	for name, m := range mishaps() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, xkstest.Options{})
			c := r.connect(t)
			settled(t, r)
			k := createKey(t, c)
			sealed := encrypt(t, c, k, marker, "aad")
			if m.limit != 0 {
				c = r.hasty(t, m.limit)
			}
			m.happens(t, r)

			_, created := c.CreateKey(t.Context(), call("CreateKey"), newKey(externalKey))
			wantCode(t, "CreateKey", created, m.key)
			_, encrypted := c.Encrypt(t.Context(), call("Encrypt"), k, nil, []byte(marker), []byte("aad"))
			plaintext, decrypted := decrypt(t.Context(), c, k, sealed, "aad")
			for operation, err := range map[string]error{"CreateKey": created, "Encrypt": encrypted, "Decrypt": decrypted} {
				if err == nil {
					t.Errorf("%s succeeds", operation)
					continue
				}
				if operation != "CreateKey" {
					wantCode(t, operation, err, kmsapi.KMSInvalidState)
				}
				if text := err.Error(); !strings.Contains(text, m.text) || !strings.Contains(text, m.outcome) || strings.Contains(text, marker) {
					t.Errorf("%s says %q, want %q of the outcome %q", operation, text, m.text, m.outcome)
				}
			}
			if plaintext != "" {
				t.Errorf("%d bytes of plaintext came out", len(plaintext))
			}
		})
	}
}

// The rest cannot come once a store is connected, or is tested elsewhere.
func TestEveryOutcomeHappensToAConnectedStore(t *testing.T) {
	t.Parallel()
	happens := []string{
		"inner layer failed",           // TestProxyCannotExchangePlaintexts
		"connecting timed out",         // TestNetworkThatIsGoneAfterARestart
		"all key managers unavailable", // of the health alone: TestTroubles
		"endpoint service not found", "endpoint service violates a rule",
	}
	for _, m := range mishaps() {
		happens = append(happens, m.outcome)
	}
	for _, o := range xks.Outcomes() {
		if !slices.Contains(happens, o) {
			t.Errorf("nothing causes %q", o)
		}
	}
}

func TestNetworkThatIsGoneAfterARestart(t *testing.T) {
	t.Parallel()
	sealer := rootkey.Random().Direct() // a restarted process has the same
	same := func(_ *rig, cfg *xks.Config) { cfg.Sealer = sealer }
	before := newRig(t, xkstest.Options{}, same)
	c := before.connect(t)
	k := createKey(t, c)
	sealed := encrypt(t, c, k, marker, "")
	after := newRig(t, xkstest.Options{}, both(same, both(timeout(200*time.Millisecond), at(xkstest.BlackHole)(t))))
	c = after.resume(t)
	_, created := c.CreateKey(t.Context(), call("CreateKey"), newKey(externalKey))
	wantCode(t, "CreateKey", created, kmsapi.CustomKeyStoreInvalidState)
	_, encrypted := c.Encrypt(t.Context(), call("Encrypt"), k, nil, []byte(marker), nil)
	wantCode(t, "Encrypt", encrypted, kmsapi.KMSInvalidState)
	_, decrypted := decrypt(t.Context(), c, k, sealed, "")
	wantCode(t, "Decrypt", decrypted, kmsapi.KMSInvalidState)
	for _, err := range []error{created, encrypted, decrypted} {
		if err == nil || !strings.Contains(err.Error(), cannotCommunicate) || !strings.Contains(err.Error(), "connecting timed out") {
			t.Errorf("the error is %v", err)
		}
	}
}
