package xks_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kastellan.dev/internal/endpointservice"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/keystore/xks"
	"kastellan.dev/internal/keystore/xks/xkstest"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/rootkey"
)

func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "8") // most tests wait rather than work; the command line still decides
	goleak.VerifyTestMain(m)
}

const (
	account     = "111122223333"
	region      = "us-east-1"
	externalKey = "external-key"
	serviceName = "com.amazonaws.vpce.us-east-1.vpce-svc-0123456789abcdef0"
)

// patience is the timeout of calls in tests that are not about it: the machine may be busy.
const patience = 10 * time.Second

// rig is a kind of key stores, a proxy, and a store on it.
type rig struct {
	kind  *xks.Kind
	proxy *xkstest.Proxy
	store keystore.Config
	log   *logBuffer
	cfg   xks.Config // of kind
}

// newRig makes a rig with a public endpoint; change edits what it is made of.
func newRig(t testing.TB, o xkstest.Options, change ...func(*rig, *xks.Config)) *rig {
	t.Helper()
	r := &rig{proxy: xkstest.New(t, o), log: new(logBuffer)}
	r.proxy.AddKey(externalKey)
	r.store = keystore.Config{ID: "cks-0123456789abcdef0", Account: account, Region: region, Name: "xks", XKS: &keystore.XKSConfig{
		Connectivity: kmsapi.PublicEndpoint, URIEndpoint: r.proxy.URIEndpoint(), URIPath: r.proxy.Path,
		AccessKeyID: r.proxy.AccessKeyID, SecretAccessKey: r.proxy.Secret,
	}}
	cfg := xks.Config{
		Hosts:  map[string]xks.HostConfig{r.proxy.Host: {Address: r.proxy.Address, CABundle: r.proxy.CA.PEM}},
		Sealer: rootkey.Random().Direct(), Timeout: patience, HealthInterval: time.Hour,
		Logger: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, fn := range change {
		fn(r, &cfg)
	}
	r.cfg = cfg
	var err error
	if r.kind, err = xks.New(cfg); err != nil {
		t.Fatal(err)
	}
	return r
}

// timeout makes calls to the proxy wait that long.
func timeout(d time.Duration) func(*rig, *xks.Config) {
	return func(_ *rig, cfg *xks.Config) { cfg.Timeout = d }
}

// throughService puts an endpoint service with two targets in front of the
// proxy; spoil edits it.
func throughService(t testing.TB, spoil func(*endpointservice.Service)) func(*rig, *xks.Config) {
	return func(r *rig, cfg *xks.Config) {
		service := endpointservice.Service{
			Name: serviceName, Owner: account, AllowedPrincipals: []string{endpointservice.Principal(region)},
			PrivateDNSName: r.proxy.Host, PrivateDNSVerified: true,
			Targets: []endpointservice.Target{
				{AvailabilityZone: "us-east-1a", Address: r.proxy.Address}, {AvailabilityZone: "us-east-1b", Address: r.proxy.Listen()},
			},
		}
		if spoil != nil {
			spoil(&service)
		}
		declared, err := endpointservice.Declare([]endpointservice.Service{service})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Services = declared
		r.store.XKS.Connectivity, r.store.XKS.ServiceName = kmsapi.VPCEndpointService, serviceName
	}
}

func call(operation string) keystore.Call {
	return keystore.Call{Operation: operation, PrincipalARN: "arn:aws:iam::111122223333:user/alice", RequestID: "4f9a1f4e-8f4e-4c3a-9d30-0c1b6f2f0a11"}
}

// connect connects the store until the end of the test.
func (r *rig) connect(t testing.TB) keystore.Connection {
	t.Helper()
	c, _, err := r.tryConnect(t)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (r *rig) tryConnect(t testing.TB) (keystore.Connection, keystore.Evidence, error) {
	t.Helper()
	trace := keystore.NewTrace("request", time.Now)
	c, err := r.kind.Connect(t.Context(), call("ConnectCustomKeyStore"), r.store, nil, trace)
	evidence := trace.End(err)
	if err == nil {
		t.Cleanup(func() { c.Close(context.Background()) })
	}
	return c, evidence, err
}

// resume is what a restarted server does.
func (r *rig) resume(t testing.TB) keystore.Connection {
	t.Helper()
	c, err := r.kind.Resume(r.store, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

// hasty is what resume gives, but calls may take only that long. What comes
// before a timeout that is wanted should not be in danger of one.
func (r *rig) hasty(t testing.TB, limit time.Duration, change ...func(*rig, *xks.Config)) keystore.Connection {
	t.Helper()
	other := *r
	cfg := r.cfg
	cfg.Timeout, cfg.Metrics = limit, nil
	for _, fn := range change {
		fn(&other, &cfg)
	}
	var err error
	if other.kind, err = xks.New(cfg); err != nil {
		t.Fatal(err)
	}
	return other.resume(t)
}

var keyNumber atomic.Int64

// newKey describes the next key on an external key.
func newKey(xksKeyID string) keystore.NewKey {
	id := fmt.Sprintf("00000000-0000-4000-8000-%012d", keyNumber.Add(1))
	return keystore.NewKey{ID: id, ARN: "arn:aws:kms:" + region + ":" + account + ":key/" + id, XksKeyID: xksKeyID}
}

// createKey makes a key on an external key.
func createKey(t testing.TB, c keystore.Store) keystore.Key {
	t.Helper()
	n := newKey(externalKey)
	m, err := c.CreateKey(t.Context(), call("CreateKey"), n)
	if err != nil {
		t.Fatal(err)
	}
	return keystore.Key{ID: n.ID, ARN: n.ARN, XksKeyID: n.XksKeyID, Data: m.Data}
}

func encrypt(t testing.TB, c keystore.Store, k keystore.Key, plaintext, aad string) []byte {
	t.Helper()
	sealed, err := c.Encrypt(t.Context(), call("Encrypt"), k, nil, []byte(plaintext), []byte(aad))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func decrypt(ctx context.Context, c keystore.Store, k keystore.Key, sealed []byte, aad string) (string, error) {
	plaintext, err := c.Decrypt(ctx, call("Decrypt"), k, sealed, []byte(aad))
	return string(plaintext), err
}

// wantCode tells when err is not the exception.
func wantCode(t *testing.T, what string, err error, want kmsapi.Code) {
	t.Helper()
	var ke *kmsapi.Error
	if !errors.As(err, &ke) || ke.Code != want {
		t.Errorf("%s: got %v, want %s", what, err, want)
	}
}

// logBuffer keeps what is logged.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
