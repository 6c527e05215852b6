//go:build !race

// The race detector makes sync.Pool forget on purpose.

package sigv4_test

import (
	"context"
	"strings"
	"testing"

	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
)

func TestVerifyAllocatesNothingForAKnownKey(t *testing.T) {
	r := signed(longTerm())
	v := kmsVerifier()
	known := sigv4.Secret{Key: secret.NewText(strings.Repeat("secret", 8)), Owner: owner}
	v.Lookup = func(context.Context, string, string) (sigv4.Secret, bool) { return known, true }
	sigv4.Sign(r, kmsBody, sigv4.Credentials{AccessKeyID: longTermKey, Secret: known.Key}, "kms", region, signedAt)
	n := testing.AllocsPerRun(200, func() {
		if _, err := v.Verify(context.Background(), r, kmsBody); err != nil {
			t.Fatal(err)
		}
	})
	if n >= 1 {
		t.Errorf("%v allocations", n)
	}
}
