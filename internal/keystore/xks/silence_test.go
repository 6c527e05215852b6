package xks_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kastellan.dev/internal/endpointservice"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/keystore/xks"
	"kastellan.dev/internal/keystore/xks/xkstest"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/polltest"
)

// stopped is a proxy whose process stands still: the kernel takes connections
// for it, and nobody reads them. It counts those that KMS keeps open.
type stopped struct{ open atomic.Int64 }

func (s *stopped) connection(c net.Conn) net.Conn {
	s.open.Add(1)
	return &unread{Conn: c, left: sync.OnceFunc(func() { s.open.Add(-1) })}
}

type unread struct {
	net.Conn
	left func()
}

// Read implements net.Conn: it drops what comes until the other side is gone.
func (u *unread) Read([]byte) (int, error) {
	_, err := io.Copy(io.Discard, u.Conn)
	u.left()
	if err == nil {
		err = io.EOF
	}
	return 0, err
}

// SetReadDeadline implements net.Conn: who stands still has no deadlines.
func (u *unread) SetReadDeadline(time.Time) error { return nil }

// The transport goes on connecting after a request has given up. What it
// holds must end by itself, or a proxy that stands still takes all file descriptors.
func TestStoppedProxyDoesNotHoardConnections(t *testing.T) {
	t.Parallel()
	r := newRig(t, xkstest.Options{}, timeout(100*time.Millisecond))
	var s stopped
	r.proxy.OnConnection(s.connection)
	c := r.resume(t)
	for range 2 {
		_, err := c.CreateKey(t.Context(), call("CreateKey"), newKey(externalKey))
		wantCode(t, "CreateKey", err, kmsapi.CustomKeyStoreInvalidState)
	}
	if r.proxy.Connections() < 2 {
		t.Fatalf("%d connections were made", r.proxy.Connections())
	}
	polltest.Until(t, "all connections to be given up", func() bool { return s.open.Load() == 0 })
}

func TestDialEndsWhenItsTimeIsUp(t *testing.T) {
	t.Parallel()
	short := timeout(100 * time.Millisecond)
	for name, change := range map[string]func(*rig, *xks.Config){
		"public endpoint":  both(short, at(xkstest.BlackHole)(t)),
		"endpoint service": both(short, throughService(t, blackHoles(t))),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, xkstest.Options{}, change)
			started := time.Now()
			if err := r.kind.Dial(context.Background(), r.store); err == nil {
				t.Error("it connects")
			}
			if took := time.Since(started); took > 3*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// Requests that come one after the other, all to a proxy that stands still, have
// their whole time each, twice: the first one to give up takes nobody with it.
func TestTimeoutOfOneCallDoesNotCutShortAnother(t *testing.T) {
	t.Parallel()
	const limit = 150 * time.Millisecond
	r := newRig(t, xkstest.Options{})
	k := createKey(t, r.connect(t))
	c := r.hasty(t, limit)
	r.proxy.Fail(xkstest.Encrypt, r.proxy.Hang())
	r.proxy.OnConnection(new(stopped).connection)
	var wg sync.WaitGroup
	begin := time.NewTicker(limit / 10)
	defer begin.Stop()
	for range 8 {
		<-begin.C
		wg.Go(func() {
			started := time.Now()
			_, err := c.Encrypt(context.Background(), call("Encrypt"), k, nil, []byte("x"), nil)
			if took := time.Since(started); took < 2*limit {
				t.Errorf("a call failed after %v: %v", took, err)
			}
			wantCode(t, "Encrypt", err, kmsapi.KMSInvalidState)
		})
	}
	wg.Wait()
}

// blackHoles makes all targets of a service swallow packets.
func blackHoles(t *testing.T) func(*endpointservice.Service) {
	return func(s *endpointservice.Service) {
		for i := range s.Targets {
			s.Targets[i].Address = xkstest.BlackHole(t)
		}
	}
}

// One of two targets stands still: whoever meets it first is tried once more,
// and that must lead to the other one.
func TestTargetThatStandsStillFailsNoCall(t *testing.T) {
	t.Parallel()
	r := newRig(t, xkstest.Options{}, throughService(t, nil), timeout(2*time.Second))
	still := r.proxy.Address
	r.proxy.OnConnection(func(c net.Conn) net.Conn {
		if c.LocalAddr().String() == still {
			return new(stopped).connection(c)
		}
		return c
	})
	c := r.resume(t)
	all := func(ctx context.Context) (errs []error) {
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				_, err := c.CreateKey(ctx, call("CreateKey"), newKey(externalKey))
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			})
		}
		wg.Wait()
		return errs
	}
	if err := errors.Join(all(t.Context())...); err != nil {
		t.Errorf("a call failed: %v", err)
	}

	// When no call ends, each one needs a connection of its own, and some get no further than the handshake.
	r.proxy.Fail(xkstest.Metadata, r.proxy.Hang())
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan []error)
	go func() { done <- all(ctx) }()
	targets := func() map[string]bool { return c.(keystore.Reporter).Health().(xks.Health).Targets }
	polltest.Until(t, "the target to be given up", func() bool { return !targets()[still] })
	stop()
	<-done
}
