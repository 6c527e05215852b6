package server

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Certificate is a server's certificate and its private key in PEM files that
// may be replaced while they are in use.
//
// The files are looked at when a client connects, but at most once a second.
// What they hold then is served, if it is a pair; if not, the last pair that
// was one stays, and the log says so once.
type Certificate struct {
	CertFile string // the server's certificate first, then intermediate ones
	KeyFile  string
	Logger   *slog.Logger     // nil means slog.Default()
	Now      func() time.Time // nil means time.Now

	current atomic.Pointer[tls.Certificate]

	mu      sync.Mutex // held by the one who looks; others do not wait
	looked  time.Time
	content [sha256.Size]byte // of the files when they were last read
	problem string            // the last one that was logged
}

// checkInterval is how long a change of the files may go unseen.
const checkInterval = time.Second

// TLSConfig loads the files, which must be good, and gives what serves them:
// TLS 1.2 and 1.3.
func (c *Certificate) TLSConfig() (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked = c.now()
	if err := c.load(); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}, nil
}

func (c *Certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c.mu.TryLock() {
		c.refresh()
		c.mu.Unlock()
	}
	return c.current.Load(), nil
}

func (c *Certificate) refresh() {
	now := c.now()
	if now.Sub(c.looked) < checkInterval {
		return
	}
	c.looked = now
	before := c.current.Load()
	if err := c.load(); err != nil {
		if c.problem != err.Error() {
			c.problem = err.Error()
			c.logger().Warn("the certificate files cannot be used: the certificate read before stays", "error", err)
		}
		return
	}
	c.problem = ""
	if c.current.Load() != before {
		c.logger().Info("the certificate has been replaced", "certificate", c.CertFile)
	}
}

// load reads the files, and parses them if their content is new.
func (c *Certificate) load() error {
	cert, err := os.ReadFile(c.CertFile)
	if err != nil {
		return fmt.Errorf("reading the certificate: %w", err)
	}
	key, err := os.ReadFile(c.KeyFile)
	if err != nil {
		return fmt.Errorf("reading the certificate's key: %w", err)
	}
	defer clear(key)
	content := digest(cert, key)
	if content == c.content {
		return nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("reading %s and %s: %w", c.CertFile, c.KeyFile, err)
	}
	c.content = content
	c.current.Store(&pair)
	return nil
}

// digest tells contents apart; the two are hashed on their own, so that where
// one ends matters.
func digest(cert, key []byte) [sha256.Size]byte {
	a, b := sha256.Sum256(cert), sha256.Sum256(key)
	return sha256.Sum256(append(a[:], b[:]...))
}

func (c *Certificate) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

func (c *Certificate) logger() *slog.Logger {
	if c.Logger != nil {
		return c.Logger
	}
	return slog.Default()
}
