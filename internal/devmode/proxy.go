package devmode

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/xksproxy"
	"kastellan.dev/internal/xksproxy/keyfile"
)

// What the proxy is called and holds.
const (
	proxyHost   = "xks.kastellan.internal" // in URLs and the certificate; it resolves to nothing
	proxyKey    = "dev-key"
	proxyKeys   = "xks.keys"     // the sealed key file
	proxyRoot   = "xks-root.key" // what it is sealed under
	proxyCAFile = "xks-ca.pem"
)

// proxy is an XKS proxy on a loopback port.
type proxy struct {
	server  *xksproxy.Server
	address string
	caFile  string
}

// newProxy makes the proxy, with a key file in dir and a certificate that is new at each start.
func newProxy(dir string, login xksLogin, log *slog.Logger) (*proxy, error) {
	keys, err := proxyKeyFile(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the proxy's key file: %w", err)
	}
	certificate, caFile, err := proxyCertificate(dir)
	if err != nil {
		return nil, fmt.Errorf("making the proxy's certificate: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server, err := xksproxy.NewServer(xksproxy.ServerConfig{
		Listener: listener,
		TLS:      &xksproxy.TLSConfig{Certificate: certificate},
		Proxy: xksproxy.Config{
			Logger: log,
			Rings:  []xksproxy.RingConfig{{Name: "file", Keys: keys}},
			Stores: []xksproxy.StoreConfig{{
				Ring: "file", AllKeys: true,
				Credentials: []xksproxy.Credential{{AccessKeyID: login.AccessKeyID, Secret: secret.NewText(login.Secret)}},
			}},
		},
	})
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return &proxy{server: server, address: listener.Addr().String(), caFile: caFile}, nil
}

// serve answers until ctx is done.
func (p *proxy) serve(ctx context.Context) error {
	if err := p.server.Serve(ctx); err != nil {
		return fmt.Errorf("serving the XKS proxy: %w", err)
	}
	return nil
}

// proxyKeyFile opens the key file, and makes what is missing of it.
func proxyKeyFile(dir string) (*keyfile.File, error) {
	root, err := rootKey(filepath.Join(dir, proxyRoot))
	if err != nil {
		return nil, err
	}
	path, sealer := filepath.Join(dir, proxyKeys), root.Direct()
	if err := keyfile.Create(path, sealer); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	err = keyfile.Update(path, sealer, func(f *keyfile.File) error {
		_, err := f.Add(proxyKey, true, true)
		return err
	})
	if err != nil && !errors.Is(err, keyfile.ErrExists) {
		return nil, err
	}
	return keyfile.Load(path, sealer)
}

// rootKey reads a root key, or makes one.
func rootKey(path string) (rootkey.Key, error) {
	if err := rootkey.Generate(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return rootkey.Key{}, err
	}
	return rootkey.Load(rootkey.Source{File: path})
}

// proxyCertificate makes a CA, leaves its certificate in a file, and a certificate for the proxy.
func proxyCertificate(dir string) (*tls.Certificate, string, error) {
	ca, err := newAuthority("Kastellan development XKS CA")
	if err != nil {
		return nil, "", err
	}
	certificate, key, err := ca.issue(proxyHost)
	if err != nil {
		return nil, "", err
	}
	caFile := filepath.Join(dir, proxyCAFile)
	if err := os.WriteFile(caFile, ca.pem, 0o600); err != nil {
		return nil, "", err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	return &pair, caFile, err
}
