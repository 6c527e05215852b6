package xkstest

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base32"
	"encoding/base64"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
	"kastellan.dev/internal/xksapi"
)

// Options says how the proxy differs from one with defaults.
type Options struct {
	Host     string // "proxy.xks.example.com", if empty
	Path     string // "/kms/xks/v1", if empty
	Region   string // whose signatures are accepted; any, if empty
	IVSize   int    // 12, if zero
	Metadata string // ciphertextMetadata of what it encrypts; none, if empty

	CA          *CA              // a new one, if nil
	Certificate *tls.Certificate // one that CA issues for Host, if nil
	TLS         *tls.Config      // for versions and cipher suites; certificates are added
	ClientCAs   *x509.CertPool   // asks clients for a certificate of one of these
}

// Proxy is a running proxy. Its fields are what a client must know.
type Proxy struct {
	Host        string
	Path        string
	Address     string // "127.0.0.1:port"
	CA          *CA
	AccessKeyID string
	Secret      secret.Text

	t        testing.TB
	opts     Options
	tls      *tls.Config
	verifier *sigv4.Verifier
	stop     chan struct{}  // closed at the end: ends hanging answers
	running  sync.WaitGroup // answers

	mu           sync.Mutex
	servers      map[string]*http.Server
	keys         map[string]*key
	faults       map[Op][]*fault
	onConnection func(net.Conn) net.Conn
	requests     []Request
	fleet        []xksapi.EkmFleetDetails
	counts       map[Op]int
	connections  int
	closed       bool
}

// New starts a proxy, and stops it after the test.
func New(t testing.TB, o Options) *Proxy {
	t.Helper()
	if o.Host == "" {
		o.Host = "proxy.xks.example.com"
	}
	if o.Path == "" {
		o.Path = xksapi.BasePath
	}
	if o.IVSize == 0 {
		o.IVSize = 12
	}
	if o.CA == nil {
		o.CA = NewCA(t)
	}
	if o.Certificate == nil {
		o.Certificate = o.CA.Issue(t, Leaf{Host: o.Host})
	}
	p := &Proxy{
		Host: o.Host, Path: o.Path, CA: o.CA, t: t, opts: o, stop: make(chan struct{}),
		AccessKeyID: base32.StdEncoding.EncodeToString(randomBytes(15))[:24],
		Secret:      secret.NewText(base64.StdEncoding.EncodeToString(randomBytes(33))),
		servers:     map[string]*http.Server{}, keys: map[string]*key{}, faults: map[Op][]*fault{}, counts: map[Op]int{},
	}
	p.Fleet(xksapi.Active)
	p.tls = tlsConfig(o)
	p.verifier = &sigv4.Verifier{Service: xksapi.Service, Lookup: p.lookup}
	if o.Region != "" {
		p.verifier.Region = func(name string) bool { return name == o.Region }
	}
	p.Address = p.Listen()
	t.Cleanup(p.close)
	return p
}

func tlsConfig(o Options) *tls.Config {
	cfg := new(tls.Config)
	if o.TLS != nil {
		cfg = o.TLS.Clone()
	}
	cfg.Certificates = []tls.Certificate{*o.Certificate}
	if o.ClientCAs != nil {
		cfg.ClientCAs, cfg.ClientAuth = o.ClientCAs, tls.RequireAndVerifyClientCert
	}
	return cfg
}

// URIEndpoint is the XksProxyUriEndpoint: https:// and the host.
func (p *Proxy) URIEndpoint() string { return "https://" + p.Host }

// Listen makes the proxy reachable at one more address, as if it were one more
// instance with the same keys.
func (p *Proxy) Listen() (address string) {
	p.t.Helper()
	return p.ListenAt("127.0.0.1:0")
}

// ListenAt is Listen at a given address, for one that comes back.
func (p *Proxy) ListenAt(address string) string {
	p.t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		p.t.Fatal(err)
	}
	address = l.Addr().String()
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, address) }), TLSConfig: p.tls.Clone(),
		ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: 10 * time.Second,
	}
	p.mu.Lock()
	p.servers[address] = srv
	p.mu.Unlock()
	go func() { _ = srv.ServeTLS(&listener{Listener: l, p: p}, "", "") }()
	return address
}

// Shut closes one address and drops its connections, as if an instance died.
func (p *Proxy) Shut(address string) {
	p.mu.Lock()
	srv := p.servers[address]
	delete(p.servers, address)
	p.mu.Unlock()
	if srv != nil {
		_ = srv.Close()
	}
}

// close ends everything that the proxy does.
func (p *Proxy) close() {
	close(p.stop)
	p.mu.Lock()
	p.closed = true
	servers := p.servers
	p.mu.Unlock()
	for _, srv := range servers {
		_ = srv.Close()
	}
	p.running.Wait() // an answer that outlives the test could not report misuse
}

// begin counts an answer, unless the proxy is at its end.
func (p *Proxy) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.running.Add(1)
	}
	return !p.closed
}

// OnConnection changes what happens to new connections below TLS, for instance
// [HangTLS]; nil undoes it.
func (p *Proxy) OnConnection(change func(net.Conn) net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onConnection = change
}

// Connections is how many connections were accepted so far.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.connections
}

// Fleet sets what GetHealthStatus tells: one key manager for each status.
func (p *Proxy) Fleet(statuses ...string) {
	fleet := make([]xksapi.EkmFleetDetails, len(statuses))
	for i, status := range statuses {
		fleet[i] = xksapi.EkmFleetDetails{ID: "ekm-" + string(rune('a'+i)), Model: "Model T", HealthStatus: status}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fleet = fleet
}

// SetSecret makes the proxy expect another secret.
func (p *Proxy) SetSecret(s secret.Text) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Secret = s
}

func (p *Proxy) lookup(_ context.Context, accessKeyID, _ string) (sigv4.Secret, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return sigv4.Secret{Key: p.Secret}, accessKeyID == p.AccessKeyID
}

// Requests gives the requests to an operation that had a valid signature, oldest first.
func (p *Proxy) Requests(op Op) []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.requests), func(r Request) bool { return r.Op != op })
}

// Count is how many requests to an operation came, whatever became of them.
func (p *Proxy) Count(op Op) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[op]
}

// listener hands connections to onConnection before TLS.
type listener struct {
	net.Listener
	p *Proxy
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.p.mu.Lock()
	l.p.connections++
	change := l.p.onConnection
	l.p.mu.Unlock()
	if change != nil {
		conn = change(conn)
	}
	return conn, nil
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
