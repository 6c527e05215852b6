package syslog_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/audit/syslog"
	"kastellan.dev/internal/polltest"
)

// collector is a syslog server.
type collector struct {
	messages chan string
	accepted chan net.Conn
}

func newCollector() *collector {
	return &collector{messages: make(chan string, 1000), accepted: make(chan net.Conn, 10)}
}

// next gives the next message, and takes it apart.
func (c *collector) next(t *testing.T) audit.Record {
	t.Helper()
	select {
	case text := <-c.messages:
		m := regexp.MustCompile(`^<85>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z kms-1 kastellan \d+ audit - (\{.*\})$`).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("not a message of RFC 5424: %q", text)
		}
		var r audit.Record
		if err := json.Unmarshal([]byte(m[1]), &r); err != nil {
			t.Fatal(err)
		}
		return r
	case <-time.After(30 * time.Second):
		t.Fatal("no message came")
		panic("unreachable")
	}
}

func (c *collector) serveStream(l net.Listener, read func(*bufio.Reader) (string, error)) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		c.accepted <- conn
		go func() {
			for r := bufio.NewReader(conn); ; {
				text, err := read(r)
				if err != nil {
					return
				}
				c.messages <- text
			}
		}()
	}
}

func (c *collector) serveDatagrams(conn net.PacketConn) {
	for b := make([]byte, 64<<10); ; {
		n, _, err := conn.ReadFrom(b)
		if err != nil {
			return
		}
		c.messages <- string(b[:n])
	}
}

func counted(r *bufio.Reader) (string, error) {
	digits, err := r.ReadString(' ')
	if err != nil {
		return "", err
	}
	size, err := strconv.Atoi(strings.TrimSuffix(digits, " "))
	if err != nil {
		return "", err
	}
	b := make([]byte, size)
	_, err = io.ReadFull(r, b)
	return string(b), err
}

func line(r *bufio.Reader) (string, error) {
	text, err := r.ReadString('\n')
	return strings.TrimSuffix(text, "\n"), err
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func listenPacket(t *testing.T, network, address string) net.PacketConn {
	t.Helper()
	conn, err := net.ListenPacket(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// certificate gives a server's certificate for 127.0.0.1, and who trusts it.
func certificate(t *testing.T) (*tls.Config, *tls.Config) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	t.Cleanup(s.Close)
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return &tls.Config{Certificates: s.TLS.Certificates}, &tls.Config{RootCAs: pool}
}

func open(t *testing.T, cfg syslog.Config) *audit.Log {
	t.Helper()
	cfg.Hostname = "kms-1"
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	sink, err := syslog.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	log := audit.NewLog(sink)
	t.Cleanup(func() { _ = log.Close() })
	return log
}

func write(t *testing.T, log *audit.Log, id string) {
	t.Helper()
	if err := log.Write(t.Context(), &audit.Record{EventID: id, UserAgent: "ü\n\"quoted\""}); err != nil {
		t.Fatal(err)
	}
}

func TestRecordsArriveOverEveryTransport(t *testing.T) {
	t.Parallel()
	for name, serve := range map[string]func(t *testing.T, c *collector) syslog.Config{
		"a local socket of datagrams": func(t *testing.T, c *collector) syslog.Config {
			path := filepath.Join(t.TempDir(), "log")
			go c.serveDatagrams(listenPacket(t, "unixgram", path))
			return syslog.Config{URL: "unix://" + path}
		},
		"a local socket of a stream": func(t *testing.T, c *collector) syslog.Config {
			path := filepath.Join(t.TempDir(), "log")
			go c.serveStream(listen(t, "unix", path), line)
			return syslog.Config{URL: "unix://" + path}
		},
		"UDP": func(t *testing.T, c *collector) syslog.Config {
			conn := listenPacket(t, "udp", "127.0.0.1:0")
			go c.serveDatagrams(conn)
			return syslog.Config{URL: "udp://" + conn.LocalAddr().String()}
		},
		"TCP": func(t *testing.T, c *collector) syslog.Config {
			l := listen(t, "tcp", "127.0.0.1:0")
			go c.serveStream(l, counted)
			return syslog.Config{URL: "tcp://" + l.Addr().String()}
		},
		"TLS": func(t *testing.T, c *collector) syslog.Config {
			server, client := certificate(t)
			l := tls.NewListener(listen(t, "tcp", "127.0.0.1:0"), server)
			go c.serveStream(l, counted)
			return syslog.Config{URL: "tls://" + l.Addr().String(), TLS: client}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCollector()
			log := open(t, serve(t, c))
			for i := range 3 {
				id := fmt.Sprint("event-", i)
				write(t, log, id)
				if got := c.next(t); got.EventID != id || got.UserAgent != "ü\n\"quoted\"" {
					t.Errorf("%+v", got)
				}
			}
		})
	}
}

func TestRecordsThatComeTogetherAreSeparateMessages(t *testing.T) {
	t.Parallel()
	c := newCollector()
	l := listen(t, "tcp", "127.0.0.1:0")
	go c.serveStream(l, counted)
	log := open(t, syslog.Config{URL: "tcp://" + l.Addr().String()})
	const writers = 50
	failed := make(chan error, writers)
	for i := range writers {
		go func() { failed <- log.Write(context.Background(), &audit.Record{EventID: fmt.Sprint(i)}) }()
	}
	seen := make(map[string]bool)
	for range writers {
		if err := <-failed; err != nil {
			t.Error(err)
		}
		seen[c.next(t).EventID] = true
	}
	if len(seen) != writers {
		t.Errorf("%d different records, want %d", len(seen), writers)
	}
}

func TestAServerThatEndsTheConnectionIsConnectedToAgain(t *testing.T) {
	t.Parallel()
	c := newCollector()
	l := listen(t, "tcp", "127.0.0.1:0")
	go c.serveStream(l, counted)
	sink, err := syslog.New(syslog.Config{URL: "tcp://" + l.Addr().String(), Hostname: "kms-1"})
	if err != nil {
		t.Fatal(err)
	}
	log := audit.NewLog(sink)
	defer log.Close()
	for i := range 3 {
		id := fmt.Sprint("event-", i)
		write(t, log, id)
		if got := c.next(t); got.EventID != id {
			t.Errorf("%+v", got)
		}
		if err := (<-c.accepted).Close(); err != nil {
			t.Fatal(err)
		}
		polltest.Until(t, "the end of the connection to be noticed", func() bool { return syslog.Lost(sink) })
	}
}

func TestAServerThatCannotBeReachedIsAnErrorInTime(t *testing.T) {
	t.Parallel()
	silent := listen(t, "tcp", "127.0.0.1:0") // connects, and reads nothing
	closed := listen(t, "tcp", "127.0.0.1:0")
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	server, trusting := certificate(t)
	foreign := tls.NewListener(listen(t, "tcp", "127.0.0.1:0"), server)
	go newCollector().serveStream(foreign, counted)
	_, port, _ := net.SplitHostPort(foreign.Addr().String())
	for name, cfg := range map[string]syslog.Config{
		"nobody listens":                        {URL: "tcp://" + closed.Addr().String()},
		"no local socket":                       {URL: "unix://" + filepath.Join(t.TempDir(), "log")},
		"no TLS handshake":                      {URL: "tls://" + silent.Addr().String(), Timeout: 50 * time.Millisecond},
		"a certificate that nobody trusts":      {URL: "tls://" + foreign.Addr().String()},
		"a certificate that is for other names": {URL: "tls://localhost:" + port, TLS: trusting},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := open(t, cfg).Write(t.Context(), &audit.Record{}); err == nil {
				t.Error("the record is taken")
			}
		})
	}
	t.Run("a server that reads nothing", func(t *testing.T) {
		t.Parallel()
		log := open(t, syslog.Config{URL: "tcp://" + silent.Addr().String(), Timeout: 50 * time.Millisecond})
		big := &audit.Record{RequestParameters: json.RawMessage(`"` + strings.Repeat("x", 1<<20) + `"`)}
		for range 100 {
			if err := log.Write(t.Context(), big); err != nil {
				return
			}
		}
		t.Error("100 MiB are taken")
	})
}

func TestWhatIsNoPlaceToSendToIsRefused(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "host:514", "tcp://host", "tcp://:514", "http://host:514", "unix://log", "unix://host/dev/log", "tcp://host:514/path", "tls://user@host:1", "udp://host:1?x"} {
		if _, err := syslog.New(syslog.Config{URL: url}); err == nil {
			t.Errorf("%q is taken", url)
		}
	}
	if _, err := syslog.New(syslog.Config{URL: "unix:///dev/log", Facility: "other"}); err == nil {
		t.Error("a facility that does not exist is taken")
	}
}
