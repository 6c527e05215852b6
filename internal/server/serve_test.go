package server_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/server"
)

// serving is a fixture whose server has a life of its own.
type serving struct {
	*fixture
	stop  context.CancelFunc
	ended chan error
}

// serve runs a server by Serve, on the loopback interface.
func serve(t *testing.T, tlsConfig *tls.Config, change func(*server.Config)) *serving {
	t.Helper()
	f := start(t, change)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &serving{f, stop, make(chan error, 1)}
	go func() { s.ended <- f.server.Serve(ctx, ln, tlsConfig) }()
	transport := &http.Transport{TLSClientConfig: &tls.Config{}, ForceAttemptHTTP2: true}
	s.client = &http.Client{Transport: transport}
	s.url = "http://" + ln.Addr().String()
	if tlsConfig != nil {
		s.url = "https://" + ln.Addr().String()
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		stop()
	})
	return s
}

func TestServeEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := serve(t, nil, nil)
	if r := s.get("/healthz"); r.StatusCode != 200 {
		t.Error(r.Status)
	}
	s.stop()
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
	if resp, err := s.client.Get(s.url); err == nil {
		resp.Body.Close()
		t.Error("it still answers")
	}
}

func TestRequestsThatRunMayEnd(t *testing.T) {
	t.Parallel()
	s := serve(t, nil, nil)
	answer := make(chan reply)
	go func() { answer <- s.call("TrentService.Wait", encryptBody) }()
	<-s.started
	s.stop()
	// The server is asked without its listener, which is closed.
	polltest.Until(t, "the server to refuse new requests", func() bool { return handle(s.server, "/healthz") == http.StatusServiceUnavailable })
	select {
	case err := <-s.ended:
		t.Fatalf("the server has not waited: %v", err)
	default:
	}
	close(s.release)
	if r := <-answer; r.StatusCode != 200 {
		t.Error(r.Status)
	}
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
}

// handle gives the status that a handler answers to GET.
func handle(h http.Handler, path string) int {
	w := statusWriter{header: http.Header{}}
	r, _ := http.NewRequest(http.MethodGet, path, nil)
	h.ServeHTTP(&w, r)
	return w.status
}

type statusWriter struct {
	header http.Header
	status int
}

func (w *statusWriter) Header() http.Header         { return w.header }
func (w *statusWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *statusWriter) WriteHeader(status int)      { w.status = status }

func TestRequestsThatDoNotEndAreToldTo(t *testing.T) {
	t.Parallel()
	s := serve(t, nil, func(c *server.Config) { c.Grace = time.Millisecond })
	answer := s.answer("TrentService.AwaitDeadline")
	polltest.Until(t, "the request to be served", func() bool { return strings.Contains(s.get("/metrics").text, "kastellan_requests_in_flight 1\n") })
	s.stop()
	if err := <-s.ended; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if status := <-answer; status != 0 && status != 500 {
		t.Errorf("an operation that was told to end is answered with %d", status)
	}
}

// answer calls an operation, and gives the status of the answer or, if the
// connection ends before there is one, 0. Which of the two comes first, when a
// server ends, is open.
func (s *serving) answer(target string) <-chan int {
	status := make(chan int, 1)
	r := sign(s.request(target, encryptBody), encryptBody, "kms")
	go func() {
		resp, err := s.client.Do(r)
		if err != nil {
			status <- 0
			return
		}
		defer resp.Body.Close()
		status <- resp.StatusCode
	}()
	return status
}

// publicListener claims an address that others can reach.
type publicListener struct{ closed atomic.Bool }

func (*publicListener) Addr() net.Addr            { return &net.TCPAddr{IP: net.IPv4zero, Port: 80} }
func (*publicListener) Accept() (net.Conn, error) { return nil, errors.New("accepting fails") }
func (l *publicListener) Close() error            { l.closed.Store(true); return nil }

func TestPlainHTTPIsForTheLoopbackInterface(t *testing.T) {
	t.Parallel()
	ln := new(publicListener)
	err := start(t, nil).server.Serve(t.Context(), ln, nil)
	if err == nil || !strings.Contains(err.Error(), "plain HTTP on 0.0.0.0:80") || !ln.closed.Load() {
		t.Errorf("error %v, closed %v", err, ln.closed.Load())
	}
	ln = new(publicListener)
	err = start(t, func(c *server.Config) { c.AllowPlainHTTP = true }).server.Serve(t.Context(), ln, nil)
	if err == nil || !strings.Contains(err.Error(), "accepting fails") || !ln.closed.Load() {
		t.Errorf("when it is allowed: error %v, closed %v", err, ln.closed.Load())
	}
}

func TestIsLoopback(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		addr net.Addr
		want bool
	}{
		"127.0.0.1":      {&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, true},
		"127.9.9.9":      {&net.TCPAddr{IP: net.IPv4(127, 9, 9, 9)}, true},
		"::1":            {&net.TCPAddr{IP: net.IPv6loopback}, true},
		"0.0.0.0":        {&net.TCPAddr{IP: net.IPv4zero}, false},
		"::":             {&net.TCPAddr{IP: net.IPv6zero}, false},
		"no address":     {&net.TCPAddr{}, false},
		"10.0.0.1":       {&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}, false},
		"a Unix socket":  {&net.UnixAddr{Name: "/run/k", Net: "unix"}, true},
		"something else": {&net.IPAddr{IP: net.IPv4(127, 0, 0, 1)}, false},
	} {
		if got := server.IsLoopback(test.addr); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// pair is a self-signed certificate for 127.0.0.1 and its key, in PEM.
type pair struct{ cert, key []byte }

func newPair(t *testing.T, serial int64) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pair{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}
}

// files are a Certificate, and the clock it looks at.
type files struct {
	*server.Certificate
	t    *testing.T
	logs *logs
	now  atomic.Int64 // Unix seconds
}

func newFiles(t *testing.T, p pair) *files {
	dir := t.TempDir()
	f := &files{t: t, logs: new(logs)}
	f.Certificate = &server.Certificate{CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key"),
		Logger: f.logs.logger(slog.LevelInfo), Now: func() time.Time { return time.Unix(f.now.Load(), 0) }}
	f.write(p.cert, p.key)
	return f
}

func (f *files) write(cert, key []byte) {
	f.t.Helper()
	for name, content := range map[string][]byte{f.CertFile: cert, f.KeyFile: key} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			f.t.Fatal(err)
		}
	}
}

// served asks for the certificate as a handshake does.
func served(t *testing.T, cfg *tls.Config) int64 {
	t.Helper()
	c, err := cfg.GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	return c.Leaf.SerialNumber.Int64()
}

func TestCertificatesAreReloaded(t *testing.T) {
	t.Parallel()
	first, second := newPair(t, 1), newPair(t, 2)
	f := newFiles(t, first)
	cfg, err := f.TLSConfig()
	if err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		name    string
		pair    pair
		seconds int64
		want    int64
		logged  string
	}{
		{"nothing has changed", first, 1, 1, ""},
		{"a change within a second is not looked at", second, 0, 1, ""},
		{"then it is", second, 1, 2, "has been replaced"},
		{"a certificate without its key does not count", pair{first.cert, second.key}, 1, 2, "cannot be used"},
		{"and is logged once", pair{first.cert, second.key}, 1, 2, ""},
		{"another fault is logged again", pair{[]byte("none"), second.key}, 1, 2, "cannot be used"},
		{"when the key follows, both count", first, 1, 1, "has been replaced"},
		{"back and forth", second, 1, 2, "has been replaced"},
	}
	for _, step := range steps {
		f.write(step.pair.cert, step.pair.key)
		f.now.Add(step.seconds)
		before := f.logs.String()
		if got := served(t, cfg); got != step.want {
			t.Errorf("%s: certificate %d is served", step.name, got)
		}
		logged := strings.TrimPrefix(f.logs.String(), before)
		if (step.logged == "") != (logged == "") || !strings.Contains(logged, step.logged) {
			t.Errorf("%s: logged %q", step.name, logged)
		}
	}
	if err := os.Remove(f.KeyFile); err != nil {
		t.Fatal(err)
	}
	f.now.Add(1)
	if got := served(t, cfg); got != 2 {
		t.Errorf("without a key file certificate %d is served", got)
	}
	if strings.Contains(f.logs.String(), "PRIVATE KEY") {
		t.Error("the log shows the key")
	}
}

func TestTheFirstCertificateMustBeGood(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	for name, change := range map[string]func(f *files){
		"no certificate":   func(f *files) { _ = os.Remove(f.CertFile) },
		"no key":           func(f *files) { _ = os.Remove(f.KeyFile) },
		"a key of another": func(f *files) { f.write(p.cert, newPair(t, 2).key) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFiles(t, p)
			change(f)
			if _, err := f.TLSConfig(); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	f := newFiles(t, p)
	cfg, err := f.TLSConfig()
	if err != nil {
		t.Fatal(err)
	}
	cfg.MinVersion = tls.VersionTLS10 // which Serve does not do
	s := serve(t, cfg, nil)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.cert)
	tests := map[string]struct {
		version uint16
		http2   bool
		want    string
	}{
		"TLS 1.3 and HTTP/2":   {tls.VersionTLS13, true, "TLSv1.3"},
		"TLS 1.2 and HTTP/2":   {tls.VersionTLS12, true, "TLSv1.2"},
		"TLS 1.2 and HTTP/1.1": {tls.VersionTLS12, false, "TLSv1.2"},
		"TLS 1.1":              {tls.VersionTLS11, true, ""},
	}
	for name, test := range tests {
		transport := &http.Transport{ForceAttemptHTTP2: test.http2,
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS10, MaxVersion: test.version}}
		s.client = &http.Client{Transport: transport}
		r := sign(s.request("TrentService.Encrypt", encryptBody), encryptBody, "kms")
		if test.want == "" {
			if resp, err := s.client.Do(r); err == nil {
				resp.Body.Close()
				t.Errorf("%s is served", name)
			}
			continue
		}
		answer := s.do(r)
		checkHeaders(t, answer)
		if answer.StatusCode != 200 || (answer.ProtoMajor == 2) != test.http2 {
			t.Errorf("%s: %s %s %s", name, answer.Proto, answer.Status, answer.text)
			continue
		}
		if c := <-s.callers; c.TLSVersion != test.want || !strings.HasPrefix(c.CipherSuite, "TLS_") || c.Host != strings.TrimPrefix(s.url, "https://") {
			t.Errorf("%s: caller with %q, %q, %q", name, c.TLSVersion, c.CipherSuite, c.Host)
		}
		transport.CloseIdleConnections()
	}
	s.stop()
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
}

// A body that has been read must not be found in memory that the next request gets.
func TestScratchIsEmptyForTheNextRequest(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	long := `{"KeyId":"` + strings.Repeat("k", 300) + `","Plaintext":"Q0FOQVJZ"}`
	short := `{"KeyId":"k","Plaintext":"Zm9v"}`
	for range 20 {
		if r := f.call("TrentService.Encrypt", long); r.StatusCode != 200 {
			t.Fatal(r.text)
		}
		<-f.callers
		if r := f.call("TrentService.Encrypt", short); !bytes.Equal([]byte(r.text), []byte(`{"CiphertextBlob":"b29m","KeyId":"k","EncryptionAlgorithm":"SYMMETRIC_DEFAULT"}`)) {
			t.Fatal(r.text)
		}
		<-f.callers
	}
}
