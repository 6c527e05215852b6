package xkstest

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"kastellan.dev/internal/xksapi"
)

// Fault is something that a proxy does wrong.
type Fault struct {
	// Before runs before the request is looked at; true means that it answered.
	Before func(w http.ResponseWriter, r *http.Request) bool
	// Edit changes a right answer: a pointer to one of the response types of xksapi.
	Edit func(answer any)
}

// fault is a Fault with the requests that it meets.
type fault struct {
	Fault
	from, times int // from the from-th request of now on, that many times; 0 is for ever
}

// Fail makes the operation do something wrong until [Proxy.Heal].
func (p *Proxy) Fail(op Op, f Fault) { p.FailNth(op, 1, 0, f) }

// FailOnce makes the next request to the operation fail.
func (p *Proxy) FailOnce(op Op, f Fault) { p.FailNth(op, 1, 1, f) }

// FailNth makes requests to the operation fail: from the n-th that comes from
// now on (the next is the first), the given number of times, or for ever if that is zero.
func (p *Proxy) FailNth(op Op, n, times int, f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults[op] = append(p.faults[op], &fault{f, p.counts[op] + n, times})
}

// Heal makes everything work again.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.faults)
	p.onConnection = nil
}

// fault counts a request and gives what shall go wrong with it.
func (p *Proxy) fault(op Op) *fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[op]++
	n := p.counts[op]
	for _, f := range p.faults[op] {
		if n >= f.from && (f.times == 0 || n < f.from+f.times) {
			return f
		}
	}
	return nil
}

// Error answers with an error of the specification and its status.
func Error(name xksapi.ErrorName) Fault {
	return Fault{Before: func(w http.ResponseWriter, _ *http.Request) bool { fail(w, name); return true }}
}

// Answer answers with anything.
func Answer(status int, body string) Fault {
	return Fault{Before: func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return true
	}}
}

// Redirect answers with 307 and a location.
func Redirect(location string) Fault {
	return Fault{Before: func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusTemporaryRedirect)
		return true
	}}
}

// Hang never answers.
func (p *Proxy) Hang() Fault {
	return Fault{Before: func(_ http.ResponseWriter, r *http.Request) bool {
		select {
		case <-p.stop:
		case <-r.Context().Done():
		}
		return true
	}}
}

// HangAt never answers requests that come to one address.
func (p *Proxy) HangAt(address string) Fault {
	hang := p.Hang()
	return Fault{Before: func(w http.ResponseWriter, r *http.Request) bool {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		return local != nil && local.String() == address && hang.Before(w, r)
	}}
}

// Until answers rightly, but not before release is closed.
func (p *Proxy) Until(release <-chan struct{}) Fault {
	return Fault{Before: func(_ http.ResponseWriter, r *http.Request) bool {
		select {
		case <-p.stop:
		case <-release:
		case <-r.Context().Done():
		}
		return false
	}}
}

// Drip sends an answer byte by byte, each after a pause.
func (p *Proxy) Drip(pause time.Duration) Fault {
	return Fault{Before: func(w http.ResponseWriter, r *http.Request) bool {
		for _, c := range []byte(`{"xksProxyFleetSize":1,"xksProxyVendor":"` + string(bytes.Repeat([]byte{'x'}, 4096))) {
			_, _ = w.Write([]byte{c})
			_ = http.NewResponseController(w).Flush()
			select {
			case <-p.stop:
				return true
			case <-r.Context().Done():
				return true
			case <-time.After(pause):
			}
		}
		return true
	}}
}

// Huge answers 200 with a body of n bytes.
func Huge(n int) Fault {
	return Answer(http.StatusOK, `{"plaintext":"`+string(bytes.Repeat([]byte{'A'}, n))+`"}`)
}

// Cut breaks the connection without an answer.
func Cut() Fault { return cut(nil) }

// CutMidway breaks the connection in the middle of the body.
func CutMidway() Fault {
	return cut([]byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(1000) + "\r\n\r\n{\"xksProxyFleet"))
}

// NotHTTP answers with bytes that are no HTTP.
func NotHTTP() Fault { return cut([]byte("SSH-2.0-OpenSSH_9.2\r\n")) }

func cut(last []byte) Fault {
	return Fault{Before: func(w http.ResponseWriter, _ *http.Request) bool {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = conn.Write(last)
			_ = conn.Close()
		}
		return true
	}}
}

// Edit changes right answers of one type.
func Edit[T any](change func(*T)) Fault {
	return Fault{Edit: func(answer any) {
		if a, ok := answer.(*T); ok {
			change(a)
		}
	}}
}

// HangTLS is for [Proxy.OnConnection]: the TLS handshake gets no answer.
func HangTLS(c net.Conn) net.Conn { return &deaf{Conn: c, closed: make(chan struct{})} }

// CloseAtOnce is for [Proxy.OnConnection]: connections are closed right after they were made.
func CloseAtOnce(c net.Conn) net.Conn {
	_ = c.Close()
	return c
}

// PlainHTTP is for [Proxy.OnConnection]: there is no TLS on the other side.
func PlainHTTP(c net.Conn) net.Conn {
	_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
	return c
}

// deaf is a connection whose owner hears nothing until it is closed.
type deaf struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

// Read implements net.Conn.
func (d *deaf) Read([]byte) (int, error) {
	<-d.closed
	return 0, net.ErrClosed
}

// Close implements net.Conn.
func (d *deaf) Close() error {
	d.once.Do(func() { close(d.closed) })
	return d.Conn.Close()
}

// BlackHole gives an address at which connecting never succeeds nor fails: a
// listener whose backlog is full.
func BlackHole(t testing.TB) (address string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address = net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*syscall.SockaddrInet4).Port))
	for range 16 {
		conn, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Skip("this system accepts connections beyond the backlog")
	return ""
}

// Nowhere gives an address at which nobody listens.
func Nowhere(t testing.TB) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	_ = l.Close()
	return address
}
