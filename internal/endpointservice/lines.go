package endpointservice

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Lines are the open connections of one endpoint. They know when each far side
// was last heard of, so that connections which lead nowhere can be told
// from those to a slow server. The zero value is ready for use.
type Lines struct {
	mu     sync.Mutex
	closed bool
	open   map[*line]struct{}
	heard  map[string]*atomic.Int64 // by remote address: when it was last read from, in Unix nanoseconds
}

// past is a deadline that has come for whoever has it.
var past = time.Unix(1, 0)

// line is a connection that notes when it hears something.
type line struct {
	net.Conn
	set    *Lines
	heard  *atomic.Int64
	opened time.Time
}

// Add takes a connection into the set and gives the one to use in its place.
// After Close it closes the connection and fails with net.ErrClosed.
func (l *Lines) Add(conn net.Conn) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	if l.open == nil {
		l.open, l.heard = make(map[*line]struct{}), make(map[string]*atomic.Int64)
	}
	remote := conn.RemoteAddr().String()
	heard := l.heard[remote]
	if heard == nil {
		heard = new(atomic.Int64)
		l.heard[remote] = heard
	}
	ln := &line{Conn: conn, set: l, heard: heard, opened: time.Now()}
	l.open[ln] = struct{}{}
	return ln, nil
}

// DropSilent times out the connections to a remote address that were open then
// if nothing was heard from it since, and tells whether that is so. Later ones are left
// to who opened them: they have not waited as long for an answer. Whoever reads
// or writes one that was dropped gets os.ErrDeadlineExceeded, and has to close it.
func (l *Lines) DropSilent(remote string, since time.Time) bool {
	l.mu.Lock()
	heard := l.heard[remote]
	if heard != nil && heard.Load() >= since.UnixNano() {
		l.mu.Unlock()
		return false
	}
	var silent []*line
	for ln := range l.open {
		if ln.opened.Before(since) && ln.RemoteAddr().String() == remote {
			silent = append(silent, ln)
		}
	}
	l.mu.Unlock()
	for _, ln := range silent {
		_ = ln.SetDeadline(past)
	}
	return true
}

// Close closes all connections, and those that come later.
func (l *Lines) Close() {
	l.mu.Lock()
	l.closed = true
	open := l.open
	l.open = nil
	l.mu.Unlock()
	for ln := range open {
		_ = ln.Conn.Close()
	}
}

// Read implements net.Conn.
func (ln *line) Read(b []byte) (int, error) {
	n, err := ln.Conn.Read(b)
	if n > 0 {
		ln.heard.Store(time.Now().UnixNano())
	}
	return n, err
}

// Close implements net.Conn.
func (ln *line) Close() error {
	ln.set.mu.Lock()
	delete(ln.set.open, ln)
	ln.set.mu.Unlock()
	return ln.Conn.Close()
}
