package xksproxy_test

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"kastellan.dev/internal/xksproxy"
	"kastellan.dev/internal/xksproxy/xksproxytest"
)

func TestNobodyResumesATLSSessionOfBeforeTheClientsWereChanged(t *testing.T) {
	t.Parallel()
	pki, next := xksproxytest.NewPKI(t), xksproxytest.NewPKI(t)
	dir := t.TempDir()
	for name, p := range map[string]*xksproxytest.PKI{"ca": pki, "next": next} {
		if err := os.WriteFile(filepath.Join(dir, name), p.PEM(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert := pki.Server(t, xksproxytest.Host)
	config := func(ca, name string) xksproxy.ServerConfig {
		return xksproxy.ServerConfig{
			Proxy: xksproxytest.Config(xksproxytest.FileRing(t)),
			TLS:   &xksproxy.TLSConfig{Certificate: &cert, ClientCAFile: filepath.Join(dir, ca), ClientNames: []string{name}},
		}
	}
	for name, changed := range map[string]xksproxy.ServerConfig{
		"another authority": config("next", "kms"),
		"another subject":   config("ca", "other"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := xksproxytest.StartServer(t, config("ca", "kms"), pki)
			c := client(t, p, pki.Client(t, "kms"))
			cfg := c.Transport.(*http.Transport).TLSClientConfig
			cfg.ClientSessionCache = tls.NewLRUClientSessionCache(0)
			resumed := false
			cfg.VerifyConnection = func(cs tls.ConnectionState) error {
				resumed = cs.DidResume
				return nil
			}
			ask := func() bool {
				defer c.CloseIdleConnections() // so that the next has a handshake
				status, _, err := call(t.Context(), c, testSigner, "/keys/key-1/encrypt", encryptOf("x", ""))
				return err == nil && status == http.StatusOK
			}
			if !ask() || !ask() || !resumed {
				t.Fatal("the right client is refused, or does not resume its session")
			}
			if err := p.Reload(changed); err != nil {
				t.Fatal(err)
			}
			if ask() {
				t.Error("a client that is no longer allowed resumed its session")
			}
		})
	}
}
