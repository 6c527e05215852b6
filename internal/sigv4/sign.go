package sigv4

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"kastellan.dev/internal/secret"
)

// Credentials are what a request is signed with. Secret has at least 10
// characters; SessionToken is empty for long-term credentials.
type Credentials struct {
	AccessKeyID  string
	Secret       secret.Text
	SessionToken secret.Text
}

// Signer signs requests of one service in one Region with one set of
// credentials. It keeps the derived signing key of the day. Its fields must
// not change after the first use; it may be used from many goroutines.
type Signer struct {
	Credentials Credentials
	Service     string
	Region      string

	// SignedHeaders names, in lower case and ascending order, what is signed; it
	// must include host and every x-amz-* header that requests have, at least
	// x-amz-date. Nil means host, content-type if the request has it, and every
	// x-amz-* header.
	SignedHeaders []string

	today atomic.Pointer[day]
}

// day is what a Signer needs all day long.
type day struct {
	date          string
	key           *signingKey
	signedHeaders string // empty if each request has its own
}

// Sign sets X-Amz-Date, Authorization and, with temporary credentials,
// X-Amz-Security-Token. body is the whole body that will be sent; the
// request's own Body is not read. Like the official SDKs it drops a default
// port from r.Host. A query string that cannot be decoded is not signed: a
// [Verifier] refuses it whatever the signature.
func (s *Signer) Sign(r *http.Request, body []byte, at time.Time) {
	at = at.UTC()
	stamp := at.Format(timeFormat)
	d := s.on(stamp[:dateLength])

	if r.Header == nil {
		r.Header = http.Header{}
	}
	r.Header["X-Amz-Date"] = []string{stamp}
	if !s.Credentials.SessionToken.IsEmpty() {
		r.Header["X-Amz-Security-Token"] = []string{s.Credentials.SessionToken.Reveal()}
	}
	dropDefaultPort(r)

	t := terms{signedHeaders: d.signedHeaders, at: at, region: s.Region, service: s.Service}
	if t.signedHeaders == "" {
		t.signedHeaders = usualHeaders(r.Header)
	}
	t.params, _ = parseQuery(r.URL.RawQuery)

	w := worktables.Get().(*worktable)
	defer w.release()
	w.sign(r, body, &t, d.key)
	r.Header["Authorization"] = []string{s.authorization(w, d.date, t.signedHeaders)}
}

// Sign signs one request. Whoever signs many keeps a [Signer].
func Sign(r *http.Request, body []byte, c Credentials, service, region string, at time.Time) {
	s := Signer{Credentials: c, Service: service, Region: region}
	s.Sign(r, body, at)
}

func (s *Signer) on(date string) *day {
	if d := s.today.Load(); d != nil && d.date == date {
		return d
	}
	d := &day{
		date:          date,
		key:           deriveKey(s.Credentials.Secret, date, s.Region, s.Service),
		signedHeaders: strings.Join(s.SignedHeaders, ";"),
	}
	s.today.Store(d)
	return d
}

func (s *Signer) authorization(w *worktable, date, signedHeaders string) string {
	b := append(w.text[:0], algorithm+" Credential="...)
	b = append(b, s.Credentials.AccessKeyID...)
	b = append(b, '/')
	b = appendScope(b, date, s.Region, s.Service)
	b = append(b, ", SignedHeaders="...)
	b = append(b, signedHeaders...)
	b = append(b, ", Signature="...)
	b = append(b, w.signature[:]...)
	w.text = b
	return string(b)
}

func usualHeaders(h http.Header) string {
	names := []string{"host"}
	for name := range h {
		if mustBeSigned(name) || strings.EqualFold(name, "content-type") {
			names = append(names, strings.ToLower(name))
		}
	}
	slices.Sort(names)
	return strings.Join(names, ";")
}

// dropDefaultPort makes Host what servers and the official signers take it for.
func dropDefaultPort(r *http.Request) {
	port := ":80"
	if r.URL.Scheme == "https" {
		port = ":443"
	}
	if host, ok := strings.CutSuffix(hostOf(r), port); ok && r.URL.Scheme != "" {
		r.Host = host
	}
}
