// Package xksproxytest starts real XKS proxies for tests: over TLS, on a free port of
// the loopback interface, with a certificate authority of their own. It is for
// tests only.
package xksproxytest

import (
	"context"
	"net"
	"testing"
	"time"

	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/xksproxy"
	"kastellan.dev/internal/xksproxy/check"
	"kastellan.dev/internal/xksproxy/keyfile"
)

// What Config sets up. The second credential is there for rotations.
const (
	Host         = "xks.kastellan.example"
	Prefix       = "/acme"
	Region       = "us-east-1"
	AccessKeyID  = "KASTELLANTESTAAAAAAAA"
	SecretKey    = "testsecretAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/+="
	AccessKeyID2 = "KASTELLANTESTBBBBBBBB"
	SecretKey2   = "testsecretBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB/="

	Key         = "key-1"
	Disabled    = "key-disabled"
	EncryptOnly = "key-encrypt-only"
	DecryptOnly = "key-decrypt-only"
	Impotent    = "key-impotent"
	Denied      = "key-denied"
)

// KeyIDs are the ids of all keys that Config's store shows.
var KeyIDs = []string{Key, Disabled, EncryptOnly, DecryptOnly, Impotent, Denied}

// Keys gives a key file in memory with a key for each id, all alike.
func Keys(t testing.TB) *keyfile.File {
	t.Helper()
	f, err := keyfile.New()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range KeyIDs {
		if _, err := f.Add(id, true, true); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// Config is one store on the ring, with all keys of KeyIDs, restricted as
// their names say, and a rule that denies the last.
func Config(ring xksproxy.RingConfig) xksproxy.Config {
	return xksproxy.Config{
		Rings: []xksproxy.RingConfig{ring},
		Stores: []xksproxy.StoreConfig{{
			Prefix: Prefix, Ring: ring.Name, Regions: []string{Region},
			Credentials: []xksproxy.Credential{
				{AccessKeyID: AccessKeyID, Secret: secret.NewText(SecretKey)},
				{AccessKeyID: AccessKeyID2, Secret: secret.NewText(SecretKey2)},
			},
			Keys: []xksproxy.KeyConfig{
				{ID: Key},
				{ID: Disabled, Disabled: true},
				{ID: EncryptOnly, Usage: []string{"ENCRYPT"}},
				{ID: DecryptOnly, Usage: []string{"DECRYPT"}},
				{ID: Impotent, Usage: []string{}},
				{ID: Denied},
			},
			Rules:   []xksproxy.Rule{{Name: "nobody uses this key", Effect: xksproxy.Deny, Keys: []string{Denied}}},
			Default: xksproxy.Allow,
		}},
	}
}

// FileRing is a ring of a key file in memory.
func FileRing(t testing.TB) xksproxy.RingConfig {
	t.Helper()
	return xksproxy.RingConfig{Name: "file", Keys: Keys(t), Timeout: 10 * time.Second}
}

// Running is a proxy that listens.
type Running struct {
	*xksproxy.Server
	PKI  *PKI
	stop func() error
}

// Start serves cfg over TLS until the test ends.
func Start(t testing.TB, cfg xksproxy.Config) *Running {
	t.Helper()
	pki := NewPKI(t)
	cert := pki.Server(t, Host)
	return StartServer(t, xksproxy.ServerConfig{Proxy: cfg, TLS: &xksproxy.TLSConfig{Certificate: &cert}}, pki)
}

// StartServer serves cfg on a free port; its listener is set here.
func StartServer(t testing.TB, cfg xksproxy.ServerConfig, pki *PKI) *Running {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listener = l
	s, err := xksproxy.NewServer(cfg)
	if err != nil {
		_ = l.Close()
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	stopped := false
	r := &Running{Server: s, PKI: pki}
	r.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("stopping the proxy: %v", err)
		}
	})
	return r
}

// Stop shuts the proxy down, as the end of the test does, and gives what Serve returned.
func (r *Running) Stop() error { return r.stop() }

// Options are those of a check of the proxy.
func (r *Running) Options() check.Options { return Options(r.Addr().String(), r.PKI) }

// Options are those of a check of whatever listens at address with the keys of Config.
func Options(address string, pki *PKI) check.Options {
	return check.Options{
		URL: "https://" + Host + Prefix, Address: address, CA: pki.Pool(),
		Region: Region, AccessKeyID: AccessKeyID, Secret: secret.NewText(SecretKey),
		KeyID: Key, DisabledKeyID: Disabled, EncryptOnlyKeyID: EncryptOnly, DecryptOnlyKeyID: DecryptOnly,
		ImpotentKeyID: Impotent, DeniedKeyID: Denied, SecondAccessKeyID: AccessKeyID2, SecondSecret: secret.NewText(SecretKey2),
		Calls: 50, Concurrency: 16, Timeout: 20 * time.Second,
	}
}
