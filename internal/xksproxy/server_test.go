package xksproxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
	"kastellan.dev/internal/xksapi"
	"kastellan.dev/internal/xksproxy"
	"kastellan.dev/internal/xksproxy/xksproxytest"
)

// client is an HTTPS client of a running proxy.
func client(t testing.TB, p *xksproxytest.Running, certs ...tls.Certificate) *http.Client {
	t.Helper()
	tr := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: p.PKI.Pool(), Certificates: certs},
		ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, p.Addr().String())
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// call sends one signed request and gives the status.
func call(ctx context.Context, c *http.Client, s *sigv4.Signer, path string, in object) (int, []byte, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return 0, nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+xksproxytest.Host+base+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	s.Sign(r, body, time.Now())
	resp, err := c.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	return resp.StatusCode, out, err
}

func TestReloadUnderTrafficLosesNothing(t *testing.T) {
	t.Parallel()
	ring := xksproxytest.FileRing(t)
	p := xksproxytest.Start(t, xksproxytest.Config(ring))
	c := client(t, p)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var done atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				status, out, err := call(t.Context(), c, testSigner, "/keys/key-1/encrypt", encryptOf("x", ""))
				if err != nil || status != http.StatusOK {
					t.Errorf("%d %s %v", status, out, err)
					return
				}
				done.Add(1)
			}
		})
	}
	for i := range 30 {
		before := done.Load()
		cfg := xksproxytest.Config(ring)
		cfg.Stores[0].Limits.Concurrent = 100 + i
		if i%2 == 1 {
			cfg.Rings[0].Vendor = fmt.Sprint("vendor ", i) // another ring in its place
		}
		if err := p.Proxy().Reload(cfg); err != nil {
			t.Fatal(err)
		}
		eventually(t, "requests go on", func() bool { return done.Load() > before+2 || t.Failed() })
	}
	stop()
	wg.Wait()
}

func TestARunningRequestFinishesOnTheOldConfiguration(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	ring := &aRing{encrypt: func(context.Context, []byte) (xksproxy.Sealed, error) {
		entered <- struct{}{}
		<-leave
		return xksproxy.Sealed{IV: make([]byte, 12), Ciphertext: make([]byte, 1), Tag: make([]byte, 16)}, nil
	}}
	p := newProxy(t, xksproxytest.Config(xksproxy.RingConfig{Name: "r", Ring: ring}))
	status := make(chan int)
	go func() { status <- post(t, p, "/keys/key-1/encrypt", encryptOf("x", "")).Code }()
	<-entered
	cfg := xksproxytest.Config(xksproxytest.FileRing(t))
	cfg.Stores[0].Prefix = "/elsewhere"
	if err := p.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	wantError(t, post(t, p, "/keys/key-1/encrypt", encryptOf("x", "")), xksapi.InvalidURIPathException)
	close(leave)
	if got := <-status; got != http.StatusOK {
		t.Errorf("the running request: %d", got)
	}
}

func TestAWrongConfigurationChangesNothing(t *testing.T) {
	t.Parallel()
	p := fileProxy(t)
	bad := xksproxytest.Config(xksproxytest.FileRing(t))
	bad.Stores[0].Credentials[0].AccessKeyID = "short"
	if err := p.Reload(bad); err == nil {
		t.Fatal("no error")
	}
	encrypt(t, p, "key-1", "x", "")
}

func TestCredentialsRotateWithoutAnInterruption(t *testing.T) {
	t.Parallel()
	ring := xksproxytest.FileRing(t)
	p := xksproxytest.Start(t, xksproxytest.Config(ring))
	c := client(t, p)
	second := &sigv4.Signer{
		Credentials: sigv4.Credentials{AccessKeyID: xksproxytest.AccessKeyID2, Secret: secret.NewText(xksproxytest.SecretKey2)},
		Service:     xksapi.Service, Region: xksproxytest.Region,
	}
	want := func(s *sigv4.Signer, want int) {
		t.Helper()
		status, out, err := call(t.Context(), c, s, "/keys/key-1/encrypt", encryptOf("x", ""))
		if err != nil || status != want {
			t.Errorf("got %d %s %v, want %d", status, out, err, want)
		}
	}
	want(testSigner, http.StatusOK)
	want(second, http.StatusOK)
	cfg := xksproxytest.Config(ring)
	cfg.Stores[0].Credentials = cfg.Stores[0].Credentials[1:]
	if err := p.Proxy().Reload(cfg); err != nil {
		t.Fatal(err)
	}
	want(testSigner, http.StatusUnauthorized)
	want(second, http.StatusOK)
}

func TestMutualTLSWantsTheRightSubject(t *testing.T) {
	t.Parallel()
	pki, stranger := xksproxytest.NewPKI(t), xksproxytest.NewPKI(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pki.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	const kms = "cks.kms.us-east-1.amazonaws.com"
	cert := pki.Server(t, xksproxytest.Host)
	p := xksproxytest.StartServer(t, xksproxy.ServerConfig{
		Proxy: xksproxytest.Config(xksproxytest.FileRing(t)),
		TLS:   &xksproxy.TLSConfig{Certificate: &cert, ClientCAFile: ca, ClientNames: []string{kms}},
	}, pki)
	for _, c := range []struct {
		name  string
		certs []tls.Certificate
		ok    bool
	}{
		{"the common name", []tls.Certificate{pki.Client(t, kms)}, true},
		{"a DNS name", []tls.Certificate{pki.Client(t, "other", "x.example", kms)}, true},
		{"another subject", []tls.Certificate{pki.Client(t, "evil."+kms, "x.example")}, false},
		{"another authority", []tls.Certificate{stranger.Client(t, kms)}, false},
		{"no certificate", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, _, err := call(t.Context(), client(t, p, c.certs...), testSigner, "/keys/key-1/encrypt", encryptOf("x", ""))
			if ok := err == nil && status == http.StatusOK; ok != c.ok {
				t.Errorf("status %d, error %v", status, err)
			}
		})
	}
}

func TestARenewedCertificateIsTakenIntoUse(t *testing.T) {
	t.Parallel()
	pki, dir := xksproxytest.NewPKI(t), t.TempDir()
	certFile, keyFile := xksproxytest.WriteFiles(t, dir, pki.ServerFor(t, 24*time.Hour, xksproxytest.Host))
	p := xksproxytest.StartServer(t, xksproxy.ServerConfig{
		Proxy: xksproxytest.Config(xksproxytest.FileRing(t)),
		TLS:   &xksproxy.TLSConfig{CertFile: certFile, KeyFile: keyFile},
	}, pki)
	serial := func() string {
		conn, err := tls.Dial("tcp", p.Addr().String(), &tls.Config{RootCAs: pki.Pool(), ServerName: xksproxytest.Host})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	first := serial()
	if err := os.WriteFile(certFile, []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	xksproxy.RefreshCertificate(p.Server)
	if serial() != first {
		t.Fatal("a broken file was taken into use")
	}
	xksproxytest.WriteFiles(t, dir, pki.Server(t, xksproxytest.Host))
	xksproxy.RefreshCertificate(p.Server)
	if serial() == first {
		t.Error("the renewed certificate is not served")
	}
}

func TestOnlyTheAllowedSuitesOfTLS12AreNegotiated(t *testing.T) {
	t.Parallel()
	p := xksproxytest.Start(t, xksproxytest.Config(xksproxytest.FileRing(t)))
	dial := func(suites ...uint16) error {
		conn, err := tls.Dial("tcp", p.Addr().String(), &tls.Config{
			RootCAs: p.PKI.Pool(), ServerName: xksproxytest.Host, MaxVersion: tls.VersionTLS12, CipherSuites: suites,
		})
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
	if err := dial(tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384); err != nil {
		t.Error(err)
	}
	for _, suite := range []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
	} {
		if dial(suite) == nil {
			t.Errorf("%s was negotiated", tls.CipherSuiteName(suite))
		}
	}
}

func TestPlainHTTPIsForLoopbackAndOnlyWhenAskedFor(t *testing.T) {
	t.Parallel()
	cfg := xksproxy.ServerConfig{Proxy: xksproxytest.Config(xksproxytest.FileRing(t)), Listen: "127.0.0.1:0"}
	if _, err := xksproxy.NewServer(cfg); err == nil {
		t.Error("plain HTTP without being asked for")
	}
	cfg.PlainHTTP, cfg.Listen = true, "0.0.0.0:0"
	if _, err := xksproxy.NewServer(cfg); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("plain HTTP on all interfaces: %v", err)
	}
}

func TestMetricsAreOnTheirOwnListenerOnly(t *testing.T) {
	t.Parallel()
	pki := xksproxytest.NewPKI(t)
	cert := pki.Server(t, xksproxytest.Host)
	p := xksproxytest.StartServer(t, xksproxy.ServerConfig{
		Proxy: xksproxytest.Config(xksproxytest.FileRing(t)), TLS: &xksproxy.TLSConfig{Certificate: &cert}, MetricsListen: "127.0.0.1:0",
	}, pki)
	get := func(c *http.Client, url string) (int, string) {
		resp, err := c.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	plain := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if status, body := get(plain, "http://"+p.MetricsAddr().String()+"/metrics"); status != http.StatusOK || !strings.Contains(body, "kastellan_proxy_certificate_expires_seconds") {
		t.Errorf("%d %s", status, body)
	}
	if status, _ := get(plain, "http://"+p.MetricsAddr().String()+"/livez"); status != http.StatusOK {
		t.Errorf("liveness beside the metrics: %d", status)
	}
	c := client(t, p)
	if status, _ := get(c, "https://"+xksproxytest.Host+"/metrics"); status != http.StatusNotFound {
		t.Errorf("metrics on the public listener: %d", status)
	}
	if status, _ := get(c, "https://"+xksproxytest.Host+"/livez"); status != http.StatusOK {
		t.Errorf("liveness: %d", status)
	}
}

func TestShutdownWaitsForRunningRequests(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	ring := &aRing{encrypt: func(context.Context, []byte) (xksproxy.Sealed, error) {
		close(entered)
		<-leave
		return xksproxy.Sealed{IV: make([]byte, 12), Ciphertext: make([]byte, 1), Tag: make([]byte, 16)}, nil
	}}
	p := xksproxytest.Start(t, xksproxytest.Config(xksproxy.RingConfig{Name: "r", Ring: ring}))
	c := client(t, p)
	status := make(chan int)
	go func() {
		got, _, _ := call(context.Background(), c, testSigner, "/keys/key-1/encrypt", encryptOf("x", ""))
		status <- got
	}()
	<-entered
	stopped := make(chan error)
	go func() { stopped <- p.Stop() }()
	eventually(t, "new connections are refused", func() bool {
		conn, err := net.Dial("tcp", p.Addr().String())
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	close(leave)
	if got := <-status; got != http.StatusOK {
		t.Errorf("the running request: %d", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
