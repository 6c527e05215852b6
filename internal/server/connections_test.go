package server_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/server"
)

func TestConnectionsHaveALimit(t *testing.T) {
	t.Parallel()
	s := serve(t, nil, func(c *server.Config) { c.MaxConnections = 1 })
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		return conn
	}
	ask := func(conn net.Conn) error {
		if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: kms\r\n\r\n"); err != nil {
			return err
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	first, second := dial(), dial()
	if err := ask(first); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() { answered <- ask(second) }()
	for range 50 {
		if err := ask(first); err != nil {
			t.Fatalf("the connection that is open: %v", err)
		}
	}
	select {
	case err := <-answered:
		t.Fatalf("a second connection is served beside the first: %v", err)
	default:
	}
	first.Close()
	if err := <-answered; err != nil {
		t.Errorf("the second connection, when the first is closed: %v", err)
	}
	s.stop()
	second.Close()
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
}

// Shutting down must not wait for a place that a request has which does not end.
func TestServeEndsWhileConnectionsWait(t *testing.T) {
	t.Parallel()
	s := serve(t, nil, func(c *server.Config) { c.MaxConnections, c.Grace = 1, time.Millisecond })
	answer := s.answer("TrentService.Wait")
	<-s.started
	s.stop()
	if err := <-s.ended; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if status := <-answer; status != 0 && status != 500 {
		t.Errorf("an operation that was told to end is answered with %d", status)
	}
}

// The first three attempts to accept fail, as they do without file descriptors.
func TestFailuresToAcceptTakeNoPlaces(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(c *server.Config) { c.MaxConnections = 2 }, func(t *testing.T, p *pipes) {
		conn, err := p.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET /healthz HTTP/1.0\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if answer, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.0 200 ") {
			t.Errorf("answer %q, error %v", answer, err)
		}
	})
}
