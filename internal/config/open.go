package config

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
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/cloudhsm"
	"kastellan.dev/internal/cloudhsm/control"
	"kastellan.dev/internal/endpointservice"
	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/keystore/soft"
	"kastellan.dev/internal/keystore/xks"
	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/server"
	"kastellan.dev/internal/store"
	"kastellan.dev/internal/store/bolt"
	"kastellan.dev/internal/sts"
	"kastellan.dev/internal/tracing"
)

// storeFile is the metadata store in the data directory.
const storeFile = "kastellan.db"

// Options change what Open makes of a configuration. The zero value changes nothing.
type Options struct {
	Version string            // of the product, for metrics and traces
	Logger  *slog.Logger      // nil: as the configuration says
	Audit   audit.Writer      // nil: as the configuration says
	KMS     func(*kms.Config) // sees the domain's configuration before it is used
	HSM     func(*hsm.Config) // the same for the other parts
	XKS     func(*xks.Config)
	STS     func(*sts.Config)
	Control func(*control.Config)
	Server  func(*server.Config)
	// OpenToken opens the tokens of HSMs that are made through the CloudHSM API; nil: pkcs11.Open.
	OpenToken func(ctx context.Context, cfg pkcs11.Config, log *slog.Logger) (pkcs11.Token, error)
}

// Node is a server that is put together. Serve makes it answer.
type Node struct {
	Service *kms.Service
	Metrics *prometheus.Registry

	cfg        *Config
	log        *slog.Logger
	identities *identity.Source
	sts        *sts.Service
	clusters   *cloudhsm.Declared
	hsms       *control.Service
	services   *endpointservice.Declared
	tracer     *tracing.Tracer // nil: no traces
	server     *server.Server
	listener   net.Listener
	tls        *tls.Config // nil: plain HTTP
	closers    []func()    // run in reverse order
}

// Open puts a server together: it opens the store (and makes it in a data directory
// without one), reads the root key, and starts the service. Nothing
// listens yet. Key stores that were connected come back in the background.
func (c *Config) Open(ctx context.Context, o Options) (node *Node, err error) {
	n := &Node{cfg: c, log: o.Logger, Metrics: prometheus.NewRegistry()}
	if n.log == nil {
		n.log = c.Log.Logger()
	}
	n.Metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo(o.Version))
	defer func() {
		if err != nil {
			n.Close()
		}
	}()
	directory, err := c.directory()
	if err != nil {
		return nil, fmt.Errorf("reading the accounts: %w", err)
	}
	n.identities = identity.NewSource(directory)
	if n.tracer, err = n.openTracing(o.Version); err != nil {
		return nil, fmt.Errorf("opening the traces: %w", err)
	}
	if err := n.openService(ctx, o); err != nil {
		return nil, err
	}
	if err := n.openServer(o); err != nil {
		return nil, err
	}
	return n, nil
}

func (n *Node) later(close func()) { n.closers = append(n.closers, close) }

// Close ends everything that Open has started. Serve has returned by then.
func (n *Node) Close() {
	for _, close := range slices.Backward(n.closers) {
		close()
	}
	n.closers = nil
}

// openService opens what is stored and the domain above it.
func (n *Node) openService(ctx context.Context, o Options) error {
	db, err := n.openOrMakeStore()
	if err != nil {
		return err
	}
	if db, err = observeStore(db, n.Metrics); err != nil {
		return err
	}
	root, err := n.cfg.rootKey()
	if err != nil {
		return fmt.Errorf("reading the root key: %w", err)
	}
	ring, err := rootkey.OpenKeyring(ctx, root, db)
	if err != nil {
		return fmt.Errorf("opening the key ring: %w", err)
	}
	writer, err := n.openAudit(o)
	if err != nil {
		return err
	}
	if writer, err = observeAudit(writer, n.Metrics); err != nil {
		return err
	}
	kinds, err := n.openKinds(control.Config{Store: db, Sealer: ring, Audit: writer}, o)
	if err != nil {
		return err
	}
	verifier, err := n.cfg.verifier()
	if err != nil {
		return fmt.Errorf("reading the roots of attestation documents: %w", err)
	}
	cfg := kms.Config{
		Store: db, Soft: soft.New(ring), Kinds: kinds, Sealer: ring, Audit: writer, Logger: n.log,
		Quotas: n.cfg.Quotas.kms(), Regions: n.cfg.Regions, Nitro: verifier, ConnectTimeout: n.cfg.Limits.ConnectTimeout,
		Metrics: n.Metrics, MetricKeys: n.cfg.Metrics.Keys,
	}
	cfg.Organization = func(account string) *identity.Organization { return n.identities.Load().Organization(account) }
	if !n.cfg.UnknownPrincipals {
		cfg.Exists = func(name string) bool { return n.identities.Load().Exists(name) }
	}
	if o.KMS != nil {
		o.KMS(&cfg)
	}
	if n.Service, err = kms.Open(ctx, cfg); err != nil {
		return err
	}
	n.later(n.Service.Close)
	return n.openSTS(ring, writer, o)
}

// openSTS opens what gives out temporary credentials and recognizes them.
func (n *Node) openSTS(sealer rootkey.Sealer, writer audit.Writer, o Options) (err error) {
	cfg := sts.Config{Identities: n.identities, Sealer: sealer, Audit: writer, Logger: n.log}
	if o.STS != nil {
		o.STS(&cfg)
	}
	n.sts, err = sts.New(cfg)
	return err
}

// openOrMakeStore opens the metadata store, or makes it in a directory that has none.
func (n *Node) openOrMakeStore() (store.Store, error) {
	db, err := n.openStore(bolt.Open)
	if !errors.Is(err, fs.ErrNotExist) {
		return db, err
	}
	dir := n.cfg.path(n.cfg.DataDirectory)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", plain(err))
	}
	n.log.Info("the data directory has no metadata store: a new one is made", "path", dir)
	return n.openStore(bolt.Create)
}

// openStore opens the metadata store by open, which says in its errors what was being done.
func (n *Node) openStore(open func(path string) (*bolt.Store, error)) (store.Store, error) {
	db, err := open(filepath.Join(n.cfg.path(n.cfg.DataDirectory), storeFile))
	if err != nil {
		return nil, err
	}
	n.later(func() {
		if err := db.Close(); err != nil {
			n.log.Error("closing the metadata store failed", "error", err)
		}
	})
	return db, nil
}

// openKinds makes the kinds of custom key stores, and the control plane behind one of them. This is the only place
// that names them.
func (n *Node) openKinds(plane control.Config, o Options) ([]keystore.Kind, error) {
	p := &problems{}
	declaration, hosts := n.cfg.declaration(p), n.cfg.hosts(p)
	if err := p.err(); err != nil {
		return nil, err
	}
	var err error
	if n.clusters, err = cloudhsm.Declare(declaration); err != nil {
		return nil, err
	}
	if n.services, err = endpointservice.Declare(n.cfg.endpointServices()); err != nil {
		return nil, err
	}
	if err := n.openControl(plane, o); err != nil {
		return nil, err
	}
	hsmConfig := hsm.Config{Clusters: n.hsms, Network: n.hsms, Open: n.hsms.Open, Log: n.log, Metrics: n.Metrics}
	if o.HSM != nil {
		o.HSM(&hsmConfig)
	}
	xksConfig := xks.Config{
		Hosts: hosts, Services: n.services, Sealer: plane.Sealer, Timeout: n.cfg.ExternalKeyStores.RequestTimeout,
		Logger: n.log, Metrics: n.Metrics,
	}
	if o.XKS != nil {
		o.XKS(&xksConfig)
	}
	hsmKind, err := hsm.New(hsmConfig)
	if err != nil {
		return nil, err
	}
	xksKind, err := xks.New(xksConfig)
	if err != nil {
		return nil, err
	}
	n.hsms.Watch(hsmKind.Refresh)
	return []keystore.Kind{hsmKind, xksKind}, nil
}
