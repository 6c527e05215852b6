package sigv4

import (
	"context"
	"net/http"
	"time"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// Secret is what a Verifier must know of an access key.
type Secret struct {
	// Key is the secret access key. An empty one is treated as unknown.
	Key secret.Text
	// SessionToken is set for temporary credentials: requests must then
	// carry exactly it. Empty means a long-term key, with which a token is refused.
	SessionToken secret.Text
	// Expires is when temporary credentials end; zero means never. It is not looked at
	// for long-term keys.
	Expires time.Time
	// Owner is handed through to [Result.Owner], so that whose key it is need
	// not be looked up again, in a directory that may have changed meanwhile.
	// A pointer costs no allocation.
	Owner any
}

// Result tells what a valid signature stands for.
type Result struct {
	AccessKeyID string
	Region      string    // of the credential scope
	Date        time.Time // when the request was signed, to the second
	Temporary   bool      // signed with temporary credentials
	Query       bool      // the signature was in the query string
	Owner       any       // what Lookup gave
}

// Verifier verifies the requests to one service. Its fields must not change
// after the first use; it may be used from many goroutines, and not copied.
type Verifier struct {
	// Service is the service of the credential scope, "kms" or "kms-xks-proxy".
	Service string
	// Region tells whether this endpoint serves a Region. Nil allows every
	// name that is well formed.
	Region func(name string) bool
	// Lookup finds the secret of an access key. Required.
	Lookup func(ctx context.Context, accessKeyID string) (Secret, bool)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Verify checks the signature of r, whose whole body is body (the request's own
// Body is not read). Every error is a *kmsapi.Error that is fit for the
// caller: InvalidSignature, MissingAuthentication, IncompleteSignature, UnrecognizedClient, ExpiredToken.
func (v *Verifier) Verify(ctx context.Context, r *http.Request, body []byte) (Result, error) {
	return Result{}, kmsapi.Errorf(kmsapi.MissingAuthentication, "Request is missing Authentication Token")
}
