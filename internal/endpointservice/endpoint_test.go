package endpointservice_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kastellan.dev/internal/endpointservice"
	"kastellan.dev/internal/polltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// target listens and says its zone to whoever connects.
type target struct {
	zone string
	net.Listener

	mu    sync.Mutex
	conns []net.Conn
}

func listen(t *testing.T, zone, address string) *target {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	tg := &target{zone: zone, Listener: l}
	go tg.serve()
	t.Cleanup(tg.die)
	return tg
}

func (tg *target) serve() {
	for {
		c, err := tg.Accept()
		if err != nil {
			return
		}
		tg.mu.Lock()
		tg.conns = append(tg.conns, c)
		tg.mu.Unlock()
		_, _ = io.WriteString(c, tg.zone)
	}
}

func (tg *target) die() {
	_ = tg.Close()
	tg.mu.Lock()
	defer tg.mu.Unlock()
	for _, c := range tg.conns {
		_ = c.Close()
	}
}

// open makes an endpoint of targets in several zones.
func open(t *testing.T, targets ...*target) *endpointservice.Endpoint {
	t.Helper()
	s := good()
	s.Targets = nil
	for _, tg := range targets {
		s.Targets = append(s.Targets, endpointservice.Target{AvailabilityZone: tg.zone, Address: tg.Addr().String()})
	}
	e := endpointservice.Open(s)
	t.Cleanup(e.Close)
	return e
}

// dial connects and gives the zone of the target that answered.
func dial(t *testing.T, e *endpointservice.Endpoint) (net.Conn, string) {
	t.Helper()
	c, err := e.DialContext(t.Context(), "tcp", "xks.example.com:443")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	zone := make([]byte, 1)
	if _, err := io.ReadFull(c, zone); err != nil {
		t.Fatal(err)
	}
	return c, string(zone)
}

func TestZonesTakeTurns(t *testing.T) {
	t.Parallel()
	const local = "127.0.0.1:0"
	e := open(t, listen(t, "a", local), listen(t, "a", local), listen(t, "a", local), listen(t, "b", local))
	seen := ""
	for range 8 {
		_, zone := dial(t, e)
		seen += zone
	}
	if seen != "abaaabaa" {
		t.Errorf("the zones were %s", seen)
	}
}

func TestOneNameExists(t *testing.T) {
	t.Parallel()
	e := open(t, listen(t, "a", "127.0.0.1:0"))
	for _, address := range []string{"other.example.com:443", "127.0.0.1:443", "localhost:443"} {
		_, err := e.DialContext(t.Context(), "tcp", address)
		var dns *net.DNSError
		if !errors.As(err, &dns) || !dns.IsNotFound {
			t.Errorf("%s: %v", address, err)
		}
	}
	if c, err := e.DialContext(t.Context(), "tcp", "XKS.EXAMPLE.COM.:8443"); err != nil {
		t.Error(err)
	} else {
		_ = c.Close()
	}
	if _, err := e.DialContext(t.Context(), "tcp", "no port"); err == nil {
		t.Error("an address without a port is dialled")
	}
}

func TestDeadTargetIsPassedOverAndFoundBack(t *testing.T) {
	t.Parallel()
	a, b := listen(t, "a", "127.0.0.1:0"), listen(t, "b", "127.0.0.1:0")
	e := open(t, a, b)
	address := a.Addr().String()
	a.die()
	for range 4 {
		if _, zone := dial(t, e); zone != "b" {
			t.Errorf("zone %s answered", zone)
		}
	}
	if e.State()[address] {
		t.Error("the dead target counts as living")
	}
	listen(t, "a", address)
	polltest.Until(t, "the probe", func() bool { return e.State()[address] })
	zones := map[string]bool{}
	for range 2 {
		_, zone := dial(t, e)
		zones[zone] = true
	}
	if !zones["a"] {
		t.Error("the target that came back gets no connection")
	}
}

func TestWithoutAnyTargetDialsSayWhy(t *testing.T) {
	t.Parallel()
	a, b := listen(t, "a", "127.0.0.1:0"), listen(t, "b", "127.0.0.1:0")
	e := open(t, a, b)
	a.die()
	b.die()
	for range 3 { // the dead ones are tried when there are no others
		_, err := e.DialContext(t.Context(), "tcp", "xks.example.com:443")
		if err == nil || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("the error is %v", err)
		}
	}
}

// An address that swallows packets looks connected until somebody waits for an answer.
func TestSilentTargetLosesItsConnections(t *testing.T) {
	t.Parallel()
	a, b := listen(t, "a", "127.0.0.1:0"), listen(t, "b", "127.0.0.1:0")
	e := open(t, a, b)
	conns := map[string]net.Conn{}
	for range 2 {
		c, zone := dial(t, e)
		conns[zone] = c
	}
	e.Silent(a.Addr().String(), time.Now())
	if _, err := conns["a"].Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("writing to the silent target: %v", err)
	}
	if _, err := conns["a"].Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("reading from the silent target: %v", err)
	}
	if _, err := conns["b"].Write([]byte("x")); err != nil {
		t.Errorf("the connection to the other target: %v", err)
	}
	if e.State()[a.Addr().String()] {
		t.Error("the silent target counts as living")
	}
}

// An IPv4 address may be declared as one of IPv6; connections do not show that.
func TestSilentTargetIsKnownByItsMappedAddress(t *testing.T) {
	t.Parallel()
	a, b := listen(t, "a", "127.0.0.1:0"), listen(t, "b", "127.0.0.1:0")
	s := good()
	s.Targets = []endpointservice.Target{
		{AvailabilityZone: "a", Address: "[::ffff:127.0.0.1]:" + strconv.Itoa(a.Addr().(*net.TCPAddr).Port)}, {AvailabilityZone: "b", Address: b.Addr().String()},
	}
	e := endpointservice.Open(s)
	t.Cleanup(e.Close)
	c, zone := dial(t, e)
	if zone != "a" {
		t.Fatalf("zone %s answered", zone)
	}
	e.Silent(c.RemoteAddr().String(), time.Now())
	if alive, known := e.State()[a.Addr().String()]; alive || !known {
		t.Errorf("the silent target counts as living: %v", e.State())
	}
}

// Who connected only then has not waited long enough to tell.
func TestSilenceBeforeAConnectionIsNotItsOwn(t *testing.T) {
	t.Parallel()
	a := listen(t, "", "127.0.0.1:0") // says nothing
	e := open(t, a)
	old, err := e.DialContext(t.Context(), "tcp", "xks.example.com:443")
	if err != nil {
		t.Fatal(err)
	}
	since := time.Now()
	young, err := e.DialContext(t.Context(), "tcp", "xks.example.com:443")
	if err != nil {
		t.Fatal(err)
	}
	e.Silent(a.Addr().String(), since)
	if _, err := old.Write([]byte("x")); err == nil {
		t.Error("the connection that was silent all the time is open")
	}
	if _, err := young.Write([]byte("x")); err != nil {
		t.Errorf("the connection made since: %v", err)
	}
}

// A target that answers others is merely slow to one.
func TestSlowTargetKeepsItsConnections(t *testing.T) {
	t.Parallel()
	a := listen(t, "a", "127.0.0.1:0")
	e := open(t, a)
	since := time.Now().Add(-time.Hour)
	c, _ := dial(t, e) // hears the zone after since
	e.Silent(a.Addr().String(), since)
	if _, err := c.Write([]byte("x")); err != nil || !e.State()[a.Addr().String()] {
		t.Errorf("the target was given up: %v", err)
	}
}

func TestClosedEndpointLeadsNowhere(t *testing.T) {
	t.Parallel()
	a := listen(t, "a", "127.0.0.1:0")
	e := open(t, a)
	c, _ := dial(t, e)
	e.Close()
	e.Close()
	if _, err := c.Write([]byte("x")); err == nil {
		t.Error("a connection outlives the endpoint")
	}
	if _, err := e.DialContext(context.Background(), "tcp", "xks.example.com:443"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dialling gives %v", err)
	}
	if e.State()[a.Addr().String()] != true {
		t.Error("closing made a target dead")
	}
}

func TestCallerThatGivesUpSaysNothingOfTheTarget(t *testing.T) {
	t.Parallel()
	a := listen(t, "a", "127.0.0.1:0")
	e := open(t, a)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.DialContext(ctx, "tcp", "xks.example.com:443"); err == nil {
		t.Error("a call that was given up got a connection")
	}
	if !e.State()[a.Addr().String()] {
		t.Error("the target counts as dead")
	}
}
