package check

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"time"

	"kastellan.dev/internal/sigv4"
	"kastellan.dev/internal/xksapi"
)

// prober sends requests and keeps what all answers had in common.
type prober struct {
	o       Options
	base    string // ends in /kms/xks/v1
	client  *http.Client
	answers []answer // every one, for the cases on form
	silent  int      // calls in a row that got no answer in time
}

// answer is what the proxy said.
type answer struct {
	what   string // the request, in short
	status int
	header http.Header
	proto  string
	body   []byte
	took   time.Duration
	reused bool // the connection
	tls    *tls.ConnectionState
}

// request is one before it is signed.
type request struct {
	method string // empty means POST
	path   string // behind the base
	url    string // instead of base and path
	body   []byte
	at     time.Time // empty means now
	signer *sigv4.Signer
	bare   bool                // not signed
	after  func(*http.Request) // changes it once it is signed
}

func newProber(o Options) (*prober, error) {
	base, err := o.check()
	if err != nil {
		return nil, err
	}
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	if o.UnknownKeyID == "" {
		o.UnknownKeyID = "kastellan-check.no-such-key"
	}
	if o.Calls <= 0 {
		o.Calls = 200
	}
	if o.Concurrency <= 0 {
		o.Concurrency = 32
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	p := &prober{o: o, base: base}
	p.client = p.newClient(p.tlsConfig(), true)
	return p, nil
}

func (p *prober) close() { p.client.CloseIdleConnections() }

func (p *prober) tlsConfig() *tls.Config {
	cfg := &tls.Config{RootCAs: p.o.CA, MinVersion: tls.VersionTLS12}
	if p.o.ClientCert != nil {
		cfg.Certificates = []tls.Certificate{*p.o.ClientCert}
	}
	return cfg
}

// newClient follows no redirects and asks no proxies of the environment.
func (p *prober) newClient(cfg *tls.Config, http2 bool) *http.Client {
	t := &http.Transport{
		TLSClientConfig:     cfg,
		ForceAttemptHTTP2:   http2,
		DisableCompression:  true,
		MaxIdleConnsPerHost: p.o.Concurrency,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if p.o.Address != "" {
				address = p.o.Address
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	return &http.Client{
		Transport:     t,
		Timeout:       p.o.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (p *prober) signer() *sigv4.Signer {
	return &sigv4.Signer{
		Credentials: sigv4.Credentials{AccessKeyID: p.o.AccessKeyID, Secret: p.o.Secret},
		Service:     xksapi.Service, Region: p.o.Region,
		SignedHeaders: []string{"host", "x-amz-date"},
	}
}

// send sends a request and keeps the answer.
func (p *prober) send(ctx context.Context, r request) (answer, error) {
	a, err := p.sendWith(ctx, p.client, r)
	var late net.Error
	switch {
	case err == nil:
		p.silent = 0
		p.answers = append(p.answers, a)
	case errors.As(err, &late) && late.Timeout():
		p.silent++
	}
	return a, err
}

func (p *prober) sendWith(ctx context.Context, client *http.Client, r request) (answer, error) {
	req, err := p.build(ctx, r)
	if err != nil {
		return answer{}, err
	}
	a := answer{what: req.Method + " " + req.URL.Path}
	req = req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(c httptrace.GotConnInfo) { a.reused = c.Reused },
	}))
	started := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	if a.body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20)); err != nil {
		return answer{}, err
	}
	a.took = time.Since(started)
	a.status, a.header, a.proto, a.tls = resp.StatusCode, resp.Header, resp.Proto, resp.TLS
	return a, nil
}

func (p *prober) build(ctx context.Context, r request) (*http.Request, error) {
	method, target, signer, at := r.method, r.url, r.signer, r.at
	if method == "" {
		method = http.MethodPost
	}
	if target == "" {
		target = p.base + r.path
	}
	if signer == nil {
		signer = p.signer()
	}
	if at.IsZero() {
		at = time.Now()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if !r.bare {
		signer.Sign(req, r.body, at)
	}
	if r.after != nil {
		r.after(req)
	}
	return req, nil
}

// object is a JSON object that cases bend.
type object map[string]any

func (o object) with(changes object) object {
	out := maps.Clone(o)
	maps.Copy(out, changes)
	return out
}

func (o object) without(name string) object {
	out := maps.Clone(o)
	delete(out, name)
	return out
}

func (o object) json() []byte {
	b, err := json.Marshal(o)
	if err != nil {
		panic("check: " + err.Error()) // cases hold nothing that cannot be encoded
	}
	return b
}

// metadata of a request for a key, complete.
func metadata(kmsOperation string) object {
	return object{
		"awsPrincipalArn": madePrincipal,
		"kmsKeyArn":       madeKeyARN,
		"kmsOperation":    kmsOperation,
		"kmsRequestId":    "4112f4d6-db54-4af4-ae30-c55a22a8dfae",
	}
}

func (p *prober) post(ctx context.Context, path string, body object) (answer, error) {
	return p.send(ctx, request{path: path, body: p.body(body)})
}

// body is o in JSON, with the principal and the key ARN of the options in place of the made-up ones.
func (p *prober) body(o object) []byte {
	m, ok := o["requestMetadata"].(object)
	if !ok {
		return o.json()
	}
	m = maps.Clone(m)
	for name, value := range map[string]struct{ made, given string }{
		"awsPrincipalArn": {madePrincipal, p.o.Principal}, "kmsKeyArn": {madeKeyARN, p.o.KMSKeyARN},
	} {
		if m[name] == value.made && value.given != "" {
			m[name] = value.given
		}
	}
	return o.with(object{"requestMetadata": m}).json()
}

// What requests name where the options name nothing.
const (
	madePrincipal = "arn:aws:iam::123456789012:user/kastellan-check"
	madeKeyARN    = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
)

func keyPath(id, operation string) string { return "/keys/" + id + "/" + operation }

// wantOK says what came if it is not a 200 with a JSON object, which it decodes into v.
func (a answer) wantOK(v any) (seen string, err error) {
	seen = a.String()
	if a.status != http.StatusOK {
		return seen, errNotMet
	}
	if err := json.Unmarshal(a.body, v); err != nil {
		return seen, fmt.Errorf("the body is not the JSON object of this operation: %w", err)
	}
	return seen, nil
}

// wantError says what came if it is none of the named errors with its status.
func (a answer) wantError(names ...xksapi.ErrorName) (seen string, err error) {
	seen = a.String()
	name, ok := a.errorName()
	if !ok || !slices.Contains(names, name) {
		return seen, errNotMet
	}
	if want, _ := name.Status(); want != a.status {
		return seen, fmt.Errorf("the status of %s is %d", name, want)
	}
	return seen, nil
}

func (a answer) errorName() (xksapi.ErrorName, bool) {
	var e xksapi.ErrorResponse
	if json.Unmarshal(a.body, &e) != nil || a.status == http.StatusOK {
		return "", false
	}
	return e.ErrorName, true
}

// String shows status and error, never the values of a good answer.
func (a answer) String() string {
	if name, ok := a.errorName(); ok {
		return fmt.Sprintf("%d %s", a.status, name)
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", a.status, http.StatusText(a.status)))
}
