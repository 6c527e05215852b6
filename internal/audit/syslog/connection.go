package syslog

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"syscall"
	"time"
)

// connection is a connection whose end is noticed.
type connection struct {
	net.Conn
	framing framing
	gone    chan struct{} // closed when the other side has ended it; nil for datagrams
}

// dial connects. A local socket is one of datagrams mostly, and otherwise a stream.
func (s *Sink) dial(deadline time.Time) (*connection, error) {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	var dialer net.Dialer
	if s.target.network == "unix" {
		conn, err := dialer.DialContext(ctx, "unixgram", s.target.address)
		if err == nil {
			return &connection{Conn: conn, framing: datagrams}, nil
		}
		if !errors.Is(err, syscall.EPROTOTYPE) {
			return nil, err
		}
	}
	conn, err := dialer.DialContext(ctx, s.target.network, s.target.address)
	if err != nil {
		return nil, err
	}
	switch {
	case s.target.network == "udp":
		return &connection{Conn: conn, framing: datagrams}, nil
	case s.target.network == "unix":
		return watched(conn, lineEnds), nil
	case !s.target.secure:
		return watched(conn, counted), nil
	}
	protected := tls.Client(conn, s.tls)
	if err := protected.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return watched(protected, counted), nil
}

// watched waits for the other side to end the connection: a server sends nothing.
func watched(conn net.Conn, f framing) *connection {
	c := &connection{Conn: conn, framing: f, gone: make(chan struct{})}
	go func() {
		defer close(c.gone)
		var b [1]byte
		_, _ = conn.Read(b[:])
	}()
	return c
}

// lost tells that the other side has ended the connection, or has said something.
func (c *connection) lost() bool {
	if c.gone == nil {
		return false
	}
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

func (c *connection) close() {
	_ = c.Close()
	if c.gone != nil {
		<-c.gone
	}
}
