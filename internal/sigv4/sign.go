package sigv4

import (
	"net/http"
	"time"

	"kastellan.dev/internal/secret"
)

// Credentials are what a request is signed with. SessionToken is empty for
// long-term credentials.
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

	// SignedHeaders names, in lower case and ascending order, what is signed; it must
	// include host and x-amz-date. Nil means host, content-type if
	// the request has it, and every x-amz-* header.
	SignedHeaders []string
}

// Sign sets X-Amz-Date, Authorization and, with temporary credentials,
// X-Amz-Security-Token. body is the whole body that will be sent; the
// request's own Body is not read. Like the official SDKs it drops a default
// port from r.Host.
func (s *Signer) Sign(r *http.Request, body []byte, at time.Time) {}

// Sign signs one request. Whoever signs many keeps a [Signer].
func Sign(r *http.Request, body []byte, c Credentials, service, region string, at time.Time) {
	(&Signer{Credentials: c, Service: service, Region: region}).Sign(r, body, at)
}
