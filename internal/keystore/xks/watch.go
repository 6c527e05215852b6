package xks

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptrace"
	"strings"
	"sync"
	"syscall"
	"time"

	"kastellan.dev/internal/keystore"
)

// watch follows one request, to tell afterwards how far it came. Its hooks may
// run while and after the request ends, since the transport goes on dialling in the background.
type watch struct {
	trace   *keystore.Trace // gets the steps; may be nil
	started time.Time

	mu        sync.Mutex
	done      bool
	steps     map[string]func(detail string, err error) // begun and not ended
	reached   string                                    // address to which a TCP connection was made last
	conn      net.Conn                                  // that the request was sent on, TLS established
	handshake error                                     // why the TLS handshake failed
	answering bool                                      // a byte of the answer came
}

func (w *watch) hooks() *httptrace.ClientTrace {
	hooks := &httptrace.ClientTrace{
		// Again for each pooled connection that turned out to be closed: how far those came says nothing.
		GetConn: func(string) {
			w.with(func() { w.reached, w.conn, w.handshake, w.answering = "", nil, nil, false })
		},
		ConnectDone: func(_, address string, err error) {
			w.with(func() {
				if err == nil {
					w.reached = address
				}
				w.end("connect "+address, "", err)
			})
		},
		TLSHandshakeDone: func(state tls.ConnectionState, err error) {
			w.with(func() { w.handshake = err; w.end("TLS handshake", describeTLS(state, err), err) })
		},
		GotConn: func(info httptrace.GotConnInfo) {
			w.with(func() { w.conn = info.Conn; w.begin("send request", info.Conn.RemoteAddr().String()) })
		},
		GotFirstResponseByte: func() { w.with(func() { w.answering = true }) },
	}
	if w.trace != nil {
		hooks.DNSStart = func(info httptrace.DNSStartInfo) { w.with(func() { w.begin("resolve name", info.Host) }) }
		hooks.DNSDone = func(info httptrace.DNSDoneInfo) {
			w.with(func() { w.end("resolve name", fmt.Sprintf("%d addresses", len(info.Addrs)), info.Err) })
		}
		hooks.ConnectStart = func(_, address string) { w.with(func() { w.begin("connect "+address, address) }) }
		hooks.TLSHandshakeStart = func() { w.with(func() { w.begin("TLS handshake", "") }) }
	}
	return hooks
}

// with runs f unless the request has ended.
func (w *watch) with(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.done {
		f()
	}
}

func (w *watch) begin(key, target string) {
	if w.trace == nil {
		return
	}
	if w.steps == nil {
		w.steps = make(map[string]func(string, error))
	}
	name := key
	if strings.HasPrefix(key, "connect ") {
		name = "connect"
	}
	w.steps[key] = w.trace.Step(name, target)
}

func (w *watch) end(key, detail string, err error) {
	if end := w.steps[key]; end != nil {
		delete(w.steps, key)
		end(detail, err)
	}
}

// answered notes the answer.
func (w *watch) answered(op operation, status int, err error) {
	if w.trace != nil {
		w.with(func() { w.end("send request", fmt.Sprintf("%s: HTTP status %d", op.name, status), err) })
	}
}

// finish ends the steps that did not end by themselves; what comes later is ignored.
func (w *watch) finish(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = true
	for key := range w.steps {
		w.end(key, "", err)
	}
}

// remote is the address that the request was sent to, or would have been after
// the TLS handshake; empty if it did not come as far as that.
func (w *watch) remote() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn == nil {
		return w.reached
	}
	return w.conn.RemoteAddr().String()
}

// classify tells what an error of the transport means.
func (w *watch) classify(err error, late bool) error {
	var pe *proxyError
	if errors.As(err, &pe) {
		return pe
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return &proxyError{outcome: w.outcomeOf(err, late), cause: err}
}

func (w *watch) outcomeOf(err error, late bool) outcome {
	switch {
	case late || isTimeout(err):
		if w.reached != "" || w.conn != nil {
			return timedOut
		}
		return connectTimedOut
	case isLost(err):
		return connectionLost
	case isTLS(err) || w.conn == nil && w.handshake != nil:
		return tlsFailed
	case w.conn == nil:
		return unreachable
	case w.answering:
		return malformed
	default:
		return connectionLost
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// isLost tells a connection that was made and then broken by the other side.
func isLost(err error) bool {
	for _, lost := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED, net.ErrClosed} {
		if errors.Is(err, lost) {
			return true
		}
	}
	return false
}

// isTLS tells a failure of TLS itself: of the handshake, the certificate, or
// an alert, which for a missing client certificate comes after the handshake.
func isTLS(err error) bool {
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var op *net.OpError
	return errors.As(err, &verification) || errors.As(err, &record) || errors.As(err, &op) && op.Op == "remote error"
}

// describeTLS tells what operators ask for when TLS is in doubt.
func describeTLS(state tls.ConnectionState, err error) string {
	var verification *tls.CertificateVerificationError
	if errors.As(err, &verification) && len(verification.UnverifiedCertificates) > 0 {
		return describeCertificate(verification.UnverifiedCertificates[0])
	}
	if err != nil || len(state.PeerCertificates) == 0 {
		return ""
	}
	suite := tls.CipherSuiteName(state.CipherSuite)
	if state.CipherSuite == tls.TLS_AES_128_GCM_SHA256 {
		suite += " (not on AWS's list)"
	}
	return tls.VersionName(state.Version) + ", " + suite + ", " + describeCertificate(state.PeerCertificates[0])
}

func describeCertificate(c *x509.Certificate) string {
	return fmt.Sprintf("certificate for %s from %s, good until %s",
		strings.Join(c.DNSNames, ", "), printable(c.Issuer.CommonName), c.NotAfter.UTC().Format(time.RFC3339))
}
