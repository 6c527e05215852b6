package syslog

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"kastellan.dev/internal/audit"
)

// Config says where messages go and how. URL is required.
type Config struct {
	// URL is "unix:///dev/log", "udp://host:514", "tcp://host:601" or "tls://host:6514".
	URL      string
	TLS      *tls.Config   // for tls; nil means the system's CAs
	Facility string        // a name such as "local0"; empty means "authpriv"
	Hostname string        // of the messages; empty means this machine's
	Timeout  time.Duration // of one batch, connecting included; zero means 2 s
}

// Facilities are the names of the facilities, by their numbers.
var Facilities = []string{
	"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
	"ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
}

const severity = 5 // notice

// framing is how messages are told apart on the way.
type framing int

const (
	datagrams framing = iota
	counted           // "LENGTH SPACE message"
	lineEnds          // message LF, as local sockets have it
)

// target is a URL that was taken apart.
type target struct {
	network, address string
	secure           bool
}

// parse takes a URL apart; ok is false if messages cannot be sent there.
func parse(text string) (t target, ok bool) {
	u, err := url.Parse(text)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return t, false
	}
	switch u.Scheme {
	case "unix":
		return target{network: "unix", address: u.Path}, u.Host == "" && strings.HasPrefix(u.Path, "/")
	case "udp", "tcp", "tls":
		t = target{network: strings.Replace(u.Scheme, "tls", "tcp", 1), address: u.Host, secure: u.Scheme == "tls"}
		return t, u.Hostname() != "" && u.Port() != "" && u.Path == ""
	}
	return t, false
}

// Check tells what is wrong with a URL.
func Check(url string) error {
	if _, ok := parse(url); !ok {
		return errors.New("is not a URL such as unix:///dev/log, tcp://host:601, tls://host:6514 or udp://host:514")
	}
	return nil
}

// Answers tells whether whoever sends to the URL learns that nobody is there.
func Answers(url string) bool { return !strings.HasPrefix(url, "udp:") }

// Secure tells whether the URL is one of TLS.
func Secure(url string) bool { return strings.HasPrefix(url, "tls:") }

// Sink sends records.
type Sink struct {
	target   target
	tls      *tls.Config
	timeout  time.Duration
	priority string // "<85>1 "
	origin   string // " host kastellan 123 audit - "

	conn *connection // nil: there is none
	buf  []byte
}

var _ audit.Sink = (*Sink)(nil)

// New makes a sink. It connects when there is something to send.
func New(cfg Config) (*Sink, error) {
	t, ok := parse(cfg.URL)
	if !ok {
		return nil, fmt.Errorf("syslog: %w", Check(cfg.URL))
	}
	s := &Sink{target: t, timeout: cfg.Timeout, tls: cfg.TLS}
	if s.timeout == 0 {
		s.timeout = 2 * time.Second
	}
	facility, err := number(cfg.Facility)
	if err != nil {
		return nil, err
	}
	s.priority = fmt.Sprintf("<%d>1 ", facility*8+severity)
	host := cfg.Hostname
	if host == "" {
		if host, err = os.Hostname(); err != nil {
			host = "-"
		}
	}
	s.origin = " " + printable(host) + " kastellan " + strconv.Itoa(os.Getpid()) + " audit - "
	if t.secure {
		s.tls = secure(cfg.TLS, t.address)
	}
	return s, nil
}

func number(facility string) (int, error) {
	if facility == "" {
		facility = "authpriv"
	}
	for i, name := range Facilities {
		if name == facility {
			return i, nil
		}
	}
	return 0, fmt.Errorf("syslog: there is no facility %q", facility)
}

// printable makes a HOSTNAME of a text: printable ASCII, at most 255 characters.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '_'
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s[:min(len(s), 255)]
}

func secure(given *tls.Config, address string) *tls.Config {
	cfg := &tls.Config{}
	if given != nil {
		cfg = given.Clone()
	}
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(address)
	}
	return cfg
}

// Write implements audit.Sink. Where a connection fails that was made before,
// it tries once more on a new one.
func (s *Sink) Write(b *audit.Batch) error {
	deadline := time.Now().Add(s.timeout)
	if s.conn != nil && s.conn.lost() {
		s.drop()
	}
	old := s.conn != nil
	err := s.send(b, deadline)
	if err != nil && old && time.Now().Before(deadline) {
		err = s.send(b, deadline)
	}
	if err != nil {
		return fmt.Errorf("sending audit records to syslog: %w", err)
	}
	return nil
}

// send sends all records on one connection; if that fails, the connection is given up.
func (s *Sink) send(b *audit.Batch, deadline time.Time) error {
	if s.conn == nil {
		conn, err := s.dial(deadline)
		if err != nil {
			return err
		}
		s.conn = conn
	}
	err := s.conn.SetWriteDeadline(deadline)
	if err == nil {
		err = s.sendTo(s.conn, b)
	}
	if err != nil {
		s.drop()
	}
	return err
}

func (s *Sink) sendTo(conn *connection, b *audit.Batch) error {
	now := time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")
	if conn.framing == datagrams {
		for line := range b.Lines() {
			if _, err := conn.Write(s.message(s.buf[:0], now, line[:len(line)-1])); err != nil {
				return err
			}
		}
		return nil
	}
	s.buf = s.buf[:0]
	for line := range b.Lines() {
		record := line[:len(line)-1]
		if conn.framing == counted {
			size := len(s.priority) + len(now) + len(s.origin) + len(record)
			s.buf = append(strconv.AppendInt(s.buf, int64(size), 10), ' ')
		}
		s.buf = s.message(s.buf, now, record)
		if conn.framing == lineEnds {
			s.buf = append(s.buf, '\n')
		}
	}
	_, err := conn.Write(s.buf)
	return err
}

func (s *Sink) message(dst []byte, now string, record []byte) []byte {
	dst = append(dst, s.priority...)
	dst = append(dst, now...)
	dst = append(dst, s.origin...)
	return append(dst, record...)
}

func (s *Sink) drop() {
	if s.conn != nil {
		s.conn.close()
		s.conn = nil
	}
}

// Close implements audit.Sink.
func (s *Sink) Close() error {
	s.drop()
	return nil
}
