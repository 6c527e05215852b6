package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

const (
	// readTimeout is how long a client may take to send a request.
	readTimeout = 30 * time.Second
	// headerTimeout is its part for the header.
	headerTimeout = 10 * time.Second
	// writeTimeout is how long a client may take to receive an answer.
	writeTimeout = 30 * time.Second
	// idleTimeout is how long a connection may wait for the next request.
	idleTimeout = 2 * time.Minute
	// maxHeader is the largest header of a request, in bytes.
	maxHeader = 64 << 10
)

// Serve answers on ln, with HTTP/1.1 and, under TLS, HTTP/2, until ctx ends.
// Then it accepts nothing more and lets running requests end within
// Config.Grace; those that do not are told to by their contexts, and their
// connections are closed, which is an error. Serve always closes ln.
//
// Without a tlsConfig it serves plain HTTP, on the loopback interface or if
// Config.AllowPlainHTTP is set. With one, TLS below 1.2 is off whatever it says.
func (s *Server) Serve(ctx context.Context, ln net.Listener, tlsConfig *tls.Config) error {
	ln = limitConnections(ln, s.cfg.MaxConnections)
	defer ln.Close()
	if tlsConfig == nil && !s.cfg.AllowPlainHTTP && !IsLoopback(ln.Addr()) {
		return fmt.Errorf("server: plain HTTP on %v could be read by others", ln.Addr())
	}
	requests, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	srv := s.httpServer(requests, tlsConfig)
	ended := make(chan error, 1)
	go func() {
		if tlsConfig == nil {
			ended <- srv.Serve(ln)
			return
		}
		ended <- srv.ServeTLS(ln, "", "")
	}()
	select {
	case err := <-ended:
		return errors.Join(fmt.Errorf("server: accepting connections: %w", err), srv.Close())
	case <-ctx.Done():
	}
	s.stopping.Store(true)
	grace, cancel := context.WithTimeout(requests, s.cfg.Grace)
	defer cancel()
	err := srv.Shutdown(grace)
	<-ended
	if err != nil {
		abandon()
		return errors.Join(fmt.Errorf("server: requests still ran %v after the end: %w", s.cfg.Grace, err), srv.Close())
	}
	return nil
}

// httpServer sets all limits. ctx is what the contexts of requests come from.
func (s *Server) httpServer(ctx context.Context, tlsConfig *tls.Config) *http.Server {
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      readTimeout + s.cfg.Timeout + writeTimeout, // counts from the header on
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		Protocols:         new(http.Protocols),
	}
	srv.Protocols.SetHTTP1(true)
	if tlsConfig != nil {
		srv.Protocols.SetHTTP2(true)
		srv.TLSConfig = tlsConfig.Clone()
		srv.TLSConfig.MinVersion = max(tlsConfig.MinVersion, tls.VersionTLS12)
	}
	return srv
}

// IsLoopback tells whether only this machine can reach an address.
func IsLoopback(addr net.Addr) bool {
	switch a := addr.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	default:
		return false
	}
}
