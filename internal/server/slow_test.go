package server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/server"
)

// pipes is a listener in memory, whose time is that of a synctest bubble.
type pipes struct {
	conns    chan net.Conn
	closed   chan struct{}
	failures int // how often Accept fails before it works
}

func (*pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

func (p *pipes) Accept() (net.Conn, error) {
	if p.failures > 0 {
		p.failures--
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	return nil
}

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// inBubble runs a test against a server with a clock and a network of its own.
func inBubble(t *testing.T, tlsConfig *tls.Config, change func(*server.Config), test func(t *testing.T, p *pipes)) {
	t.Helper()
	polltest.NeedsBubble(t)
	synctest.Test(t, func(t *testing.T) {
		rec := newRecord()
		cfg := server.Config{APIs: rec.apis(), Identities: identities(t), Logger: new(logs).logger(0)}
		if change != nil {
			change(&cfg)
		}
		s, err := server.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{}), failures: 3}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- s.Serve(ctx, p, tlsConfig) }()
		test(t, p)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// Nobody holds a connection for longer by sending or reading slowly.
func TestSlowClientsAreCutOff(t *testing.T) {
	t.Parallel()
	const header = "POST / HTTP/1.1\r\nHost: kms\r\nContent-Type: application/x-amz-json-1.1\r\nX-Amz-Target: TrentService.Encrypt\r\n"
	never := strings.NewReader("")
	tests := map[string]struct {
		begin string
		drip  io.Reader // sent a byte each second; it may end before the server loses patience
		after time.Duration
		want  string // how the answer begins
	}{
		"nothing at all":                           {"", never, 10 * time.Second, ""},
		"half a header":                            {"POST / HTTP/1.1\r\nHo", never, 10 * time.Second, "HTTP/1.1 400 "},
		"a header that drips":                      {"POST / HTTP/1.1\r\nHost: kms\r\nX-Long: ", strings.NewReader(strings.Repeat("x", 1000)), 10 * time.Second, ""},
		"a body that does not come":                {header + "Content-Length: 100\r\n\r\n", never, 30 * time.Second, "HTTP/1.1 400 "},
		"a body shorter than it says":              {header + "Content-Length: 100\r\n\r\n{}", never, 30 * time.Second, "HTTP/1.1 400 "},
		"a body that drips":                        {header + "Content-Length: 1000\r\n\r\n", strings.NewReader(strings.Repeat(" ", 1000)), 30 * time.Second, "HTTP/1.1 400 "},
		"chunks that drip":                         {header + "Transfer-Encoding: chunked\r\n\r\n", strings.NewReader(strings.Repeat("1\r\n \r\n", 1000)), 30 * time.Second, "HTTP/1.1 400 "},
		"a connection that is not used any longer": {header + "Content-Length: 2\r\n\r\n{}", never, 2 * time.Minute, "HTTP/1.1 400 "},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, nil, func(t *testing.T, p *pipes) {
				began := time.Now()
				conn, err := p.dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				dripped := make(chan struct{})
				go func() { defer close(dripped); drip(conn, test.begin, test.drip) }()
				answer, err := io.ReadAll(conn)
				if err != nil || !strings.HasPrefix(string(answer), test.want) || test.want == "" && len(answer) > 0 {
					t.Errorf("answer %q, error %v", answer, err)
				}
				if took := time.Since(began).Round(time.Second); took != test.after {
					t.Errorf("the connection was open for %v, want %v", took, test.after)
				}
				_ = conn.Close()
				<-dripped
			})
		})
	}
}

// drip sends begin at once, then a byte each second, until somebody closes.
func drip(conn net.Conn, begin string, rest io.Reader) {
	if _, err := io.WriteString(conn, begin); err != nil {
		return
	}
	for one := make([]byte, 1); ; <-time.After(time.Second) {
		if _, err := rest.Read(one); err != nil {
			return
		}
		if _, err := conn.Write(one); err != nil {
			return
		}
	}
}

func TestAClientThatDoesNotReadIsCutOff(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, nil, func(t *testing.T, p *pipes) {
		conn, err := p.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: kms\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
			t.Fatal(err)
		}
		// What is written blocks, since the pipe has no buffer; so nothing can be
		// written any more once the server has closed.
		for {
			_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
			if _, err := conn.Write([]byte("POST")); !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
				break
			}
			if time.Since(began) > time.Hour {
				t.Fatal("the connection stays open")
			}
		}
		if took := time.Since(began); took > 2*time.Minute {
			t.Errorf("the connection was open for %v", took)
		}
		_ = conn.Close()
	})
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// HTTP/2 has streams: each has the time that an HTTP/1.1 connection has.
func TestSlowStreamsAreCutOff(t *testing.T) {
	t.Parallel()
	p1 := newPair(t, 1)
	pair, err := tls.X509KeyPair(p1.cert, p1.key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p1.cert)
	real := time.Now() // certificates are of this time, not of the bubble's
	config := &tls.Config{Certificates: []tls.Certificate{pair}, Time: func() time.Time { return real }}
	inBubble(t, config, nil, func(t *testing.T, p *pipes) {
		transport := &http.Transport{ForceAttemptHTTP2: true,
			TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", Time: config.Time},
			DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return p.dial(ctx) }}
		defer transport.CloseIdleConnections()
		body, endless := io.Pipe()
		defer endless.Close()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://127.0.0.1/", body)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		resp, err := transport.RoundTrip(r)
		if err == nil {
			_, _ = io.Copy(io.Discard, bufio.NewReader(resp.Body))
			resp.Body.Close()
			if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusBadRequest {
				t.Errorf("%s %s", resp.Proto, resp.Status)
			}
		}
		if took := time.Since(began).Round(time.Second); took != 30*time.Second {
			t.Errorf("the stream was open for %v (%v)", took, err)
		}
	})
}

// A connection with HTTP/2 has many requests at once, so a limit on connections is none on
// what strangers can make the server hold.
func TestStreamsCountTowardsTheLimitOfConnections(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	pair, err := tls.X509KeyPair(p.cert, p.key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.cert)
	real := time.Now()
	config := &tls.Config{Certificates: []tls.Certificate{pair}, Time: func() time.Time { return real }}
	few := func(c *server.Config) { c.MaxConnections, c.MaxConcurrent = 2, 1 }
	inBubble(t, config, few, func(t *testing.T, p *pipes) {
		transport := &http.Transport{ForceAttemptHTTP2: true,
			TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", Time: config.Time},
			DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return p.dial(ctx) }}
		defer transport.CloseIdleConnections()
		post := func(body io.Reader) string {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://127.0.0.1/", body)
			if err != nil {
				t.Error(err)
				return ""
			}
			resp, err := transport.RoundTrip(r)
			if err != nil {
				return err.Error()
			}
			defer resp.Body.Close()
			text, _ := io.ReadAll(resp.Body)
			return string(text)
		}
		if answer := post(strings.NewReader("{}")); !strings.Contains(answer, "UnknownOperationException") { // the connection stands
			t.Fatalf("alone: %s", answer)
		}
		var slow sync.WaitGroup
		var ends []*io.PipeWriter
		for range 2 {
			body, end := io.Pipe()
			ends = append(ends, end)
			slow.Go(func() { post(body) })
			synctest.Wait()
		}
		if answer := post(strings.NewReader("{}")); !strings.Contains(answer, "ThrottlingException") {
			t.Errorf("beyond the limit: %s", answer)
		}
		for _, end := range ends {
			end.Close()
		}
		slow.Wait()
		if answer := post(strings.NewReader("{}")); !strings.Contains(answer, "UnknownOperationException") {
			t.Errorf("when the others have ended: %s", answer)
		}
	})
}
