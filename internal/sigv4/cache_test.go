package sigv4_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/sigv4"
)

func TestAChangedSecretIsNotCoveredByARememberedKey(t *testing.T) {
	t.Parallel()
	current := secretOf("old")
	v := kmsVerifier()
	v.Lookup = func(context.Context, string, string) (sigv4.Secret, bool) { return sigv4.Secret{Key: current}, true }
	old := signed(sigv4.Credentials{AccessKeyID: longTermKey, Secret: secretOf("old")})
	if _, err := v.Verify(t.Context(), old, kmsBody); err != nil {
		t.Fatal(err)
	}
	current = secretOf("new")
	_, err := v.Verify(t.Context(), old, kmsBody)
	wantError(t, err, kmsapi.InvalidSignature, mismatch)
	renewed := signed(sigv4.Credentials{AccessKeyID: longTermKey, Secret: secretOf("new")})
	if _, err := v.Verify(t.Context(), renewed, kmsBody); err != nil {
		t.Error(err)
	}
}

func TestTheCacheOfKeysIsBounded(t *testing.T) {
	t.Parallel()
	v := kmsVerifier()
	for i := range sigv4.MaxKeys + 10 {
		r := scoped("kms", "r-"+strings.Repeat("x", i%50)+string(rune('a'+i/50)), signedAt)
		if _, err := v.Verify(t.Context(), r, kmsBody); err != nil {
			t.Fatal(err)
		}
		if n := sigv4.CachedKeys(v); n == 0 || n > sigv4.MaxKeys {
			t.Fatalf("%d keys after %d requests", n, i+1)
		}
	}
}

func TestStrangersDoNotFillTheCacheOfKeys(t *testing.T) {
	t.Parallel()
	v := kmsVerifier()
	for _, c := range []sigv4.Credentials{
		{AccessKeyID: "AKIAUNKNOWN000000001", Secret: secretOf("x")},
		{AccessKeyID: longTermKey, Secret: secretOf("x")},
		temporary("x"),
	} {
		if _, err := v.Verify(t.Context(), signed(c), kmsBody); err == nil {
			t.Fatal("no error")
		}
	}
	if n := sigv4.CachedKeys(v); n != 0 {
		t.Errorf("%d keys", n)
	}
}

func TestASignerGoesOnTheNextDay(t *testing.T) {
	t.Parallel()
	v := kmsVerifier()
	s := sigv4.Signer{Credentials: longTerm(), Service: "kms", Region: region}
	for _, at := range []time.Time{signedAt, signedAt.Add(time.Hour), signedAt} {
		r := unsigned()
		s.Sign(r, kmsBody, at)
		v.Now = func() time.Time { return at }
		if _, err := v.Verify(t.Context(), r, kmsBody); err != nil {
			t.Errorf("%v: %v", at, err)
		}
	}
}

func TestSignMakesTheHeadersOfARequestWithoutAny(t *testing.T) {
	t.Parallel()
	r := &http.Request{Method: "GET", URL: unsigned().URL}
	sigv4.Sign(r, nil, longTerm(), "kms", region, signedAt)
	if _, err := kmsVerifier().Verify(t.Context(), r, nil); err != nil {
		t.Error(err)
	}
}
