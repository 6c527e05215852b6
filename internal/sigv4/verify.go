package sigv4

import (
	"context"
	"crypto/subtle"
	"net/http"
	"strconv"
	"strings"
	"time"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// Secret is what a Verifier must know of an access key.
type Secret struct {
	// Key is the secret access key. One of less than 10 characters, or none,
	// is treated as unknown.
	Key secret.Text
	// SessionToken is set for temporary credentials: requests must then
	// carry exactly it. Empty means a long-term key, with which a token is refused.
	SessionToken secret.Text
	// Expires is when temporary credentials end; zero means never.
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
	// Lookup finds the secret of an access key. Required. token is the session token
	// that the request carries, or empty: from it the secret of temporary
	// credentials can be had without a place where they are kept. Whether it is
	// the right one is for Verify to decide, by Secret.SessionToken. The strings
	// are parts of a request: clone what is kept of them.
	Lookup func(ctx context.Context, accessKeyID, token string) (Secret, bool)
	// Now is the clock; nil means time.Now.
	Now func() time.Time

	keys keyCache
}

// Verify checks the signature of r, whose whole body is body (the request's own
// Body is not read). A request in the header form is good for 5 minutes before
// and after its date; in the query form from 5 minutes before its date to
// X-Amz-Expires after it, or 5 minutes.
//
// Every error is a *kmsapi.Error that is fit for the caller, with the code
// MissingAuthentication, IncompleteSignature, InvalidSignature,
// UnrecognizedClient or ExpiredToken.
func (v *Verifier) Verify(ctx context.Context, r *http.Request, body []byte) (Result, error) {
	var c claim
	if err := c.read(r); err != nil {
		return Result{}, err
	}
	if err := c.parse(); err != nil {
		return Result{}, err
	}
	if err := c.checkSignedHeaders(r); err != nil {
		return Result{}, err
	}
	now := v.now()
	if err := c.checkTime(now); err != nil {
		return Result{}, err
	}
	if err := v.checkScope(&c); err != nil {
		return Result{}, err
	}
	known, err := v.checkSignature(ctx, r, body, &c, now)
	if err != nil {
		return Result{}, err
	}
	return Result{
		AccessKeyID: c.scope.accessKeyID,
		Region:      c.scope.region,
		Date:        c.at,
		Temporary:   !known.SessionToken.IsEmpty(),
		Query:       c.query,
		Owner:       known.Owner,
	}, nil
}

// now is to the second, as the dates it is compared with.
func (v *Verifier) now() time.Time {
	now := time.Now
	if v.Now != nil {
		now = v.Now
	}
	return now().UTC().Truncate(time.Second)
}

// checkSignedHeaders makes sure that nothing that matters is left unsigned. It
// takes one step for each name, since anybody may send as many as fit.
func (c *claim) checkSignedHeaders(r *http.Request) error {
	if !listed(c.signedHeaders, "host") {
		return invalid("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	if c.dateHeader != "" && !listed(c.signedHeaders, c.dateHeader) {
		return mustSign(c.dateHeader)
	}
	last, signed := "", 0
	for name := range strings.SplitSeq(c.signedHeaders, ";") {
		if name <= last || strings.ContainsFunc(name, notInHeaderName) {
			return invalid("'SignedHeaders' must be names in lower case, sorted, each once.")
		}
		if !present(r, name) {
			return invalid("'%s' is a 'SignedHeader' in the AWS Authorization, but the request does not have it.", name)
		}
		if mustBeSigned(name) {
			signed++
		}
		last = name
	}
	for name := range r.Header {
		if mustBeSigned(name) {
			signed--
		}
	}
	if signed != 0 {
		return mustSign(c.unsigned(r))
	}
	return nil
}

// unsigned finds a header that must be signed and is not, of those that stand
// in r as it is used there: in canonical form.
func (c *claim) unsigned(r *http.Request) string {
	signed := make(map[string]bool)
	for name := range strings.SplitSeq(c.signedHeaders, ";") {
		signed[http.CanonicalHeaderKey(name)] = true
	}
	for name := range r.Header {
		if mustBeSigned(name) && !signed[name] {
			return name
		}
	}
	return "x-amz-*" // unreachable: one more is there than is signed
}

func mustSign(name string) error {
	return invalid("'%s' must be a 'SignedHeader' in the AWS Authorization.", http.CanonicalHeaderKey(name))
}

func notInHeaderName(c rune) bool {
	return c <= ' ' || c > '~' || 'A' <= c && c <= 'Z' || c == ':' || c == ','
}

func (c *claim) checkTime(now time.Time) error {
	if end := c.at.Add(c.validity); now.After(end) {
		return invalid("Signature expired: %s is now earlier than %s (%s - %s.)", c.at.Format(timeFormat),
			now.Add(-c.validity).Format(timeFormat), now.Format(timeFormat), minutes(c.validity))
	}
	if latest := now.Add(skew); c.at.After(latest) {
		return invalid("Signature not yet current: %s is still later than %s (%s + %s.)", c.at.Format(timeFormat),
			latest.Format(timeFormat), now.Format(timeFormat), minutes(skew))
	}
	return nil
}

func minutes(d time.Duration) string {
	if d%time.Minute == 0 {
		return strconv.Itoa(int(d/time.Minute)) + " min"
	}
	return strconv.Itoa(int(d/time.Second)) + " sec"
}

// checkScope tells all that is wrong with the credential scope at once.
func (v *Verifier) checkScope(c *claim) error {
	wrong := ""
	if !v.serves(c.scope.region) {
		wrong += "Credential should be scoped to a valid region, not '" + c.scope.region + "'. "
	}
	if c.scope.service != v.Service {
		wrong += "Credential should be scoped to correct service: '" + v.Service + "'. "
	}
	if c.scope.terminator != terminator {
		wrong += "Credential should be scoped with a valid terminator: '" + terminator + "', not '" + c.scope.terminator + "'. "
	}
	var stamp [len(timeFormat)]byte
	if date := c.at.AppendFormat(stamp[:0], timeFormat)[:dateLength]; c.scope.date != string(date) {
		wrong += "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '" +
			c.scope.date + "' != '" + string(date) + "', from '" + c.date + "'. "
	}
	if wrong != "" {
		return invalid("%s", wrong)
	}
	return nil
}

func (v *Verifier) serves(region string) bool {
	if v.Region != nil {
		return v.Region(region)
	}
	return region != "" && len(region) <= 64 && !strings.ContainsFunc(region, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-'
	})
}

// unknownSecret stands in for the secret of an unknown access key, so that there
// is one way through the code. Nothing that is signed with it is accepted. Whether
// a key exists is no secret: as AWS does, the answer tells.
var unknownSecret = secret.NewText("no secret access key looks like this one")

func (v *Verifier) checkSignature(ctx context.Context, r *http.Request, body []byte, c *claim, now time.Time) (Secret, error) {
	known, ok := v.Lookup(ctx, c.scope.accessKeyID, c.token)
	if ok = ok && known.Key.Len() >= minSecretLength; !ok {
		known = Secret{Key: unknownSecret}
	}
	name := keyName{c.scope.accessKeyID, c.scope.date, c.scope.region}
	key, cached := v.keys.get(name, known.Key)
	if !cached {
		key = deriveKey(known.Key, c.scope.date, c.scope.region, v.Service)
	}

	w := worktables.Get().(*worktable)
	defer w.release()
	t := terms{params: c.params, signedHeaders: c.signedHeaders, at: c.at, region: c.scope.region, service: v.Service}
	w.sign(r, body, &t, key)
	same := subtle.ConstantTimeCompare(w.signature[:], []byte(c.signature)) == 1

	switch {
	case !ok, !known.SessionToken.Equal(secret.NewText(c.token)):
		return Secret{}, kmsapi.Errorf(kmsapi.UnrecognizedClient, "The security token included in the request is invalid.")
	case !known.SessionToken.IsEmpty() && !known.Expires.IsZero() && !now.Before(known.Expires):
		return Secret{}, kmsapi.Errorf(kmsapi.ExpiredToken, "The security token included in the request is expired")
	case !w.isBodyHash(c.contentHash), !w.isBodyHash(joined(r.Header["X-Amz-Content-Sha256"])):
		return Secret{}, invalid("The provided 'x-amz-content-sha256' does not match what was computed.")
	case !same:
		return Secret{}, invalid("The request signature we calculated does not match the signature you provided. " +
			"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	if !cached { // only now: what strangers make up must not push others out
		v.keys.put(name, key)
	}
	return known, nil
}

// isBodyHash tells whether said, which may be nothing, is the body's hash.
func (w *worktable) isBodyHash(said string) bool {
	return said == "" || said == string(w.bodyHash[:])
}
