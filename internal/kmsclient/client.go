// Package kmsclient calls a KMS endpoint as any other client does: over HTTP,
// AWS JSON 1.1, signed; and the other services that are served beside KMS. The program's own commands use it, so that they
// need no SDK and can call the operations that AWS does not have.
//
// It does not retry, does not know the operations' types, and refuses redirects and
// answers of more than 8 MiB.
package kmsclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/sigv4"
)

// The prefixes of operations in X-Amz-Target.
const (
	KMS       = "TrentService." // the operations of AWS KMS
	Kastellan = "Kastellan."    // our own
)

// maxAnswer is the largest answer that is read, in bytes.
const maxAnswer = 8 << 20

// Client calls one endpoint in one Region. It may be used from many goroutines.
type Client struct {
	endpoint string
	signer   *sigv4.Signer
	http     *http.Client
}

// New makes a client of the endpoint, a URL.
func New(endpoint, region string, credentials sigv4.Credentials) *Client {
	return &Client{
		endpoint: strings.TrimRight(endpoint, "/") + "/",
		signer:   &sigv4.Signer{Credentials: credentials, Service: "kms", Region: region},
		http:     &http.Client{Timeout: 30 * time.Second, CheckRedirect: refuseRedirect},
	}
}

// For gives a client that calls another service at the same endpoint, such as cloudhsm: the
// credential scope of its signatures names it.
func (c *Client) For(service string) *Client {
	other := *c
	other.signer = &sigv4.Signer{Credentials: c.signer.Credentials, Service: service, Region: c.signer.Region}
	return &other
}

// Trust replaces the system's CAs by others. It is called before For and the first Call.
func (c *Client) Trust(cas *x509.CertPool) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: cas, MinVersion: tls.VersionTLS12}
	c.http.Transport = transport
}

// refuseRedirect keeps session tokens and requests from going where nobody meant them to.
func refuseRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Call runs an operation, target being its name with its prefix. What the server refuses is
// a *kmsapi.Error. out may be nil if the answer does not matter.
func (c *Client) Call(ctx context.Context, target string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encoding the request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("making the request: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", target)
	c.signer.Sign(req, body, time.Now())
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("calling the server: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return refusal(resp.StatusCode, answer)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("decoding the answer: %w", err)
	}
	return nil
}

// refusal turns an answer other than 200 into an error.
func refusal(status int, answer []byte) error {
	var body struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	if json.Unmarshal(answer, &body) != nil || body.Type == "" {
		return fmt.Errorf("the server answered with HTTP status %d, and not as a KMS endpoint does", status)
	}
	_, name, found := strings.Cut(body.Type, "#")
	if !found {
		name = body.Type
	}
	return kmsapi.Errorf(kmsapi.Code(name), "%s", body.Message)
}
