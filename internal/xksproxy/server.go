package xksproxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"kastellan.dev/internal/tracing/otlp"
)

// ServerConfig is a proxy with its listeners.
type ServerConfig struct {
	Proxy Config

	// Listen is the address of the API, "host:port". Listener is used instead
	// when it is not nil.
	Listen   string
	Listener net.Listener
	// TLS of the API. Nil needs PlainHTTP, and an address on the loopback interface.
	TLS       *TLSConfig
	PlainHTTP bool

	// MetricsListen is the address of a listener of its own, plain HTTP, for
	// GET /metrics and GET /livez; empty means none.
	MetricsListen string

	// Tracing says where traces go; nil means that there are none. Logger and Version are filled in.
	Tracing *otlp.Config

	// ShutdownTimeout is how long running requests may take to end; zero means 10 s.
	ShutdownTimeout time.Duration
}

const (
	maxHeaderBytes  = 16 << 10
	readTimeout     = 10 * time.Second
	writeTimeout    = 10 * time.Second
	idleTimeout     = 10 * time.Minute // KMS keeps connections warm
	warmUp          = 2 * time.Second  // at most, before the first request is taken
	certificateLook = 30 * time.Second // between looks at the certificate's files
)

// Server listens for a Proxy.
type Server struct {
	proxy   *Proxy
	api     net.Listener
	metrics net.Listener // nil: none
	log     *slog.Logger

	exporter *otlp.Exporter // of traces; nil: none

	mu    sync.Mutex // Reload
	cfg   ServerConfig
	stamp string
	tls   atomic.Pointer[tls.Config]
}

// NewServer opens the listeners and makes the proxy. Nothing is answered until Serve.
func NewServer(cfg ServerConfig) (_ *Server, err error) {
	s := &Server{cfg: cfg, log: cfg.Proxy.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.loadTLS(cfg.TLS); err != nil {
		return nil, err
	}
	if cfg.TLS == nil && !cfg.PlainHTTP {
		return nil, errors.New("the proxy needs a TLS certificate, unless plain HTTP is asked for")
	}
	if err := s.openTracing(); err != nil {
		return nil, err
	}
	if s.proxy, err = New(s.cfg.Proxy); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = s.abandon()
		}
	}()
	if s.api = cfg.Listener; s.api == nil {
		if s.api, err = net.Listen("tcp", cfg.Listen); err != nil {
			return nil, fmt.Errorf("listening: %w", err)
		}
	}
	if cfg.TLS == nil && !onLoopback(s.api.Addr()) {
		return nil, fmt.Errorf("plain HTTP is for the loopback interface only, and %s is not on it", s.api.Addr())
	}
	if cfg.MetricsListen != "" {
		if s.metrics, err = net.Listen("tcp", cfg.MetricsListen); err != nil {
			return nil, fmt.Errorf("listening for metrics: %w", err)
		}
	}
	s.showExpiry()
	return s, nil
}

// abandon undoes a NewServer that failed.
func (s *Server) abandon() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, l := range []net.Listener{s.api, s.metrics} {
		if l != nil {
			_ = l.Close()
		}
	}
	return errors.Join(s.proxy.Close(ctx), s.closeTracing(ctx))
}

func onLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback() // what is not TCP is a socket of this machine, or of a test
}

// Addr is where the API listens.
func (s *Server) Addr() net.Addr { return s.api.Addr() }

// MetricsAddr is where the metrics are; nil when they are nowhere.
func (s *Server) MetricsAddr() net.Addr {
	if s.metrics == nil {
		return nil
	}
	return s.metrics.Addr()
}

// Proxy is the handler behind the listener.
func (s *Server) Proxy() *Proxy { return s.proxy }

// Serve answers until ctx is done; then it takes no new connections, lets
// running requests finish and closes the key rings. It returns nil after that.
func (s *Server) Serve(ctx context.Context) error {
	warm, cancel := context.WithTimeout(ctx, warmUp)
	s.proxy.Warm(warm)
	cancel()

	quiet := slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)
	api := newHTTPServer(s.proxy, quiet)
	listener := s.api
	if s.tls.Load() != nil {
		listener = tls.NewListener(s.api, &tls.Config{
			NextProtos: []string{"h2", "http/1.1"},
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
				return s.tls.Load(), nil
			},
		})
	}
	servers := []*http.Server{api}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serve(api, listener) })
	if s.metrics != nil {
		side := newHTTPServer(s.side(), quiet)
		servers = append(servers, side)
		group.Go(func() error { return serve(side, s.metrics) })
	}
	group.Go(func() error { return s.watchCertificate(ctx) })
	group.Go(func() error {
		<-ctx.Done()
		return s.shutdown(servers)
	})
	return group.Wait()
}

func newHTTPServer(h http.Handler, log *log.Logger) *http.Server {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readTimeout / 2,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          log,
		// "OPTIONS *" is a path like others that do not exist.
		DisableGeneralOptionsHandler: true,
		Protocols:                    new(http.Protocols),
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetHTTP2(true)
	return srv
}

func serve(srv *http.Server, l net.Listener) error {
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

func (s *Server) shutdown(servers []*http.Server) error {
	s.mu.Lock()
	timeout := orDefault(s.cfg.ShutdownTimeout, 10*time.Second)
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var errs []error
	for _, srv := range servers {
		if err := srv.Shutdown(ctx); err != nil {
			errs = append(errs, fmt.Errorf("waiting for requests to end: %w", err), srv.Close())
		}
	}
	if err := s.proxy.Close(ctx); err != nil {
		errs = append(errs, fmt.Errorf("closing the proxy: %w", err))
	}
	if err := s.closeTracing(ctx); err != nil {
		s.log.Warn("the last spans could not be sent", "error", err.Error())
	}
	return errors.Join(errs...)
}

// side is what the second listener answers.
func (s *Server) side() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.proxy.MetricsHandler())
	mux.HandleFunc("/livez", live)
	return mux
}

// Reload puts a new configuration to work without closing a connection. If any part of
// it is wrong, or would need a restart, nothing changes.
func (s *Server) Reload(cfg ServerConfig) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cfg.Listen != s.cfg.Listen || cfg.MetricsListen != s.cfg.MetricsListen || (cfg.TLS == nil) != (s.cfg.TLS == nil) {
		return errors.New("the addresses to listen on, and whether there is TLS, need a restart")
	}
	if !sameTracing(cfg.Tracing, s.cfg.Tracing) {
		return errTracingRestart
	}
	var next *tls.Config
	stamp := ""
	if cfg.TLS != nil {
		var err error
		stamp = cfg.TLS.stamp()
		if next, err = cfg.TLS.load(); err != nil {
			return err
		}
	}
	if err := s.proxy.Reload(cfg.Proxy); err != nil {
		return err
	}
	s.cfg, s.stamp = cfg, stamp
	s.tls.Store(next)
	s.showExpiry()
	return nil
}

// loadTLS takes the certificate into use.
func (s *Server) loadTLS(cfg *TLSConfig) error {
	if cfg == nil {
		return nil
	}
	stamp := cfg.stamp()
	next, err := cfg.load()
	if err != nil {
		return err
	}
	s.stamp = stamp
	s.tls.Store(next)
	return nil
}

// watchCertificate takes renewed files into use.
func (s *Server) watchCertificate(ctx context.Context) error {
	tick := time.NewTicker(certificateLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.refreshCertificate()
		}
	}
}

// refreshCertificate loads the files if they have changed. While they cannot be used,
// as in the middle of a renewal, the old ones serve on.
func (s *Server) refreshCertificate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.TLS == nil || s.cfg.TLS.stamp() == s.stamp {
		return
	}
	if err := s.loadTLS(s.cfg.TLS); err != nil {
		s.log.Error("the changed TLS certificate cannot be used", "error", err.Error())
		return
	}
	s.showExpiry()
	s.log.Info("TLS certificate loaded anew")
}

func (s *Server) showExpiry() {
	cfg := s.tls.Load()
	if cfg == nil {
		return
	}
	leaf := cfg.Certificates[0].Leaf
	if leaf == nil {
		var err error
		if leaf, err = x509.ParseCertificate(cfg.Certificates[0].Certificate[0]); err != nil {
			return
		}
	}
	s.proxy.metrics.expires.Set(float64(leaf.NotAfter.Unix()))
}
