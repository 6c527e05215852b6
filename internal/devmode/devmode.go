package devmode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"kastellan.dev/internal/config"
	"kastellan.dev/internal/secret"
)

// What every development server has. The credentials are public by design.
const (
	Account         = "000000000000"
	AccessKeyID     = "AKIAKASTELLANDEV0001"
	Role            = "arn:aws:iam::" + Account + ":role/dev-encrypt" // the user may assume it
	SecretAccessKey = "kastellan/dev/not/a/secret/0123456789abc"

	DefaultListen = "127.0.0.1:4599"
	DefaultRegion = "us-east-1"

	clusterID = "cluster-devdevdevde"
)

// Config says how to start. The zero value is an ephemeral server with all defaults.
type Config struct {
	Directory string // keeps everything; empty: a temporary one, which Close removes
	Listen    string // a loopback address; empty means DefaultListen
	Region    string // empty means DefaultRegion
	Logger    *slog.Logger
}

// Server is a development server that answers.
type Server struct {
	Endpoint  string // "http://127.0.0.1:4599"
	Region    string
	Directory string
	Ephemeral bool
	Took      time.Duration // from the start until everything was there

	Stores []Store
	Keys   []Key
	// Subnets are those in which HSM clusters can be made; none where there are no HSMs.
	Subnets []string
	// LeftOut says what could not be made, why, and what to do about it, a line for each.
	LeftOut []string

	state     *state
	node      *config.Node
	served    chan struct{} // closed when node has served; nil before
	proxy     *proxy
	done      <-chan struct{}
	cancel    context.CancelFunc
	stopProxy context.CancelFunc
	group     *errgroup.Group
}

// Start makes and starts everything, and returns when it is ready. What it starts
// ends with ctx or Close.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	started := time.Now()
	s := &Server{Region: cfg.Region, Directory: cfg.Directory}
	if s.Region == "" {
		s.Region = DefaultRegion
	}
	if cfg.Listen == "" {
		cfg.Listen = DefaultListen
	}
	if !config.Loopback(cfg.Listen) {
		return nil, fmt.Errorf("%s is not a loopback address: the credentials of a development server are known to everybody", cfg.Listen)
	}
	if err := checkFree(cfg.Listen); err != nil {
		return nil, err
	}
	if err := s.makeDirectory(); err != nil {
		return nil, err
	}
	ctx, s.cancel = context.WithCancel(ctx)
	s.group, ctx = errgroup.WithContext(ctx)
	s.done = ctx.Done()
	s.stopProxy = func() {}
	if err := s.start(ctx, cfg); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.Took = time.Since(started)
	return s, nil
}

// checkFree looks whether the address can be had, before anything is made.
func checkFree(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return listener.Close()
}

func (s *Server) makeDirectory() (err error) {
	if s.Directory == "" {
		s.Ephemeral = true
		s.Directory, err = os.MkdirTemp("", "kastellan-dev-")
		return err
	}
	if s.Directory, err = filepath.Abs(s.Directory); err != nil { // modules are told where their tokens are
		return err
	}
	return os.MkdirAll(s.Directory, 0o700)
}

// Done is closed when the server has been told to end, or a part of it failed;
// Close tells which.
func (s *Server) Done() <-chan struct{} { return s.done }

// Close ends the server, lets running requests finish, and removes the
// directory if it was a temporary one. The proxy ends last: requests may still
// need it, and it would wait for the connections that the server keeps warm.
func (s *Server) Close() error {
	s.cancel()
	if s.served != nil {
		<-s.served
	}
	if s.node != nil {
		s.node.Close()
	}
	s.stopProxy()
	err := s.group.Wait()
	if s.Ephemeral {
		err = errors.Join(err, os.RemoveAll(s.Directory))
	}
	return err
}

func (s *Server) start(ctx context.Context, cfg Config) (err error) {
	if s.state, err = loadState(s.Directory); err != nil {
		return err
	}
	if err := s.state.save(s.Directory); err != nil {
		return err
	}
	if s.proxy, err = newProxy(s.Directory, s.state.Credential, cfg.Logger); err != nil {
		return err
	}
	proxyCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stopProxy = stop
	s.group.Go(func() error { return s.proxy.serve(proxyCtx) })
	hsm, err := s.startCluster(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		s.leaveOut("the HSM key store "+hsmStore, err.Error())
		s.leaveOut("what HSM clusters are made of", "it takes the same")
		hsm, s.Subnets = config.HSM{}, nil
	}
	serverConfig, err := s.config(cfg, hsm)
	if err != nil {
		return err
	}
	if s.node, err = serverConfig.Open(ctx, config.Options{Logger: cfg.Logger}); err != nil {
		return err
	}
	s.Endpoint = "http://" + s.node.Addr()
	s.served = make(chan struct{})
	s.group.Go(func() error {
		defer close(s.served)
		return s.node.Serve(ctx)
	})
	return s.populate(ctx, len(hsm.Clusters) > 0)
}

func (s *Server) leaveOut(what, why string) {
	s.LeftOut = append(s.LeftOut, what+" is left out: "+why)
}

// startCluster makes the tokens that are not there yet and declares them, and what other clusters can be made
// of. Its error says why there can be none.
func (s *Server) startCluster(ctx context.Context) (config.HSM, error) {
	module, missing := softHSM()
	if missing != "" {
		return config.HSM{}, errors.New(missing)
	}
	if err := s.state.makeTokens(ctx, s.Directory, module, s.Region); err != nil {
		return config.HSM{}, err
	}
	if err := os.WriteFile(s.path(customerCAFile), []byte(s.state.CustomerCA), 0o600); err != nil {
		return config.HSM{}, err
	}
	hsm := s.cluster()
	s.addPools(&hsm, module)
	if s.state.ClusterKey {
		return hsm, nil
	}
	password, soPIN := secret.NewText(s.state.Password), secret.NewText(s.state.SOPIN)
	// SoftHSM2's officers see no keys and so cannot trust one: no news to a developer.
	quiet := slog.New(slog.DiscardHandler)
	if err := (&config.Config{HSM: hsm}).Provision(ctx, password, soPIN, quiet); err != nil {
		return hsm, err
	}
	s.state.ClusterKey = true
	return hsm, s.state.save(s.Directory)
}

const customerCAFile = "customerCA.pem"

func (s *Server) path(name string) string { return filepath.Join(s.Directory, name) }

// cluster declares the tokens as the members of a cluster.
func (s *Server) cluster() config.HSM {
	cluster := config.Cluster{ID: clusterID, Account: Account, Region: s.Region, TrustAnchor: s.path(customerCAFile)}
	for _, t := range s.state.Tokens {
		cluster.Members = append(cluster.Members, config.Member{
			ID: t.Member, AvailabilityZone: t.Zone, URI: t.URI, Env: t.env(),
		})
	}
	return config.HSM{Clusters: []config.Cluster{cluster}}
}

// config is the configuration of the server, as a file would give it.
func (s *Server) config(cfg Config, hsm config.HSM) (*config.Config, error) {
	root := s.path("root.key")
	if _, err := rootKey(root); err != nil {
		return nil, err
	}
	return &config.Config{
		Listen:            config.Listen{Address: cfg.Listen},
		DataDirectory:     s.Directory,
		RootKey:           config.RootKey{File: root},
		UnknownPrincipals: true, // code that is developed names principals of elsewhere
		Accounts: []config.Account{{
			ID: Account, Name: "dev",
			Users: []config.User{{
				Name:       "dev",
				AccessKeys: []config.AccessKey{{ID: AccessKeyID, Secret: secret.NewText(SecretAccessKey)}},
				Policies:   []config.Policy{{Document: everything}},
			}},
			Roles: []config.Role{{
				Name:        "dev-encrypt",
				Description: "may use keys, and nothing else",
				Trust:       config.Document{Document: trustAccount},
				Policies:    []config.Policy{{Document: useKeys}},
				MaxSession:  12 * time.Hour,
			}},
		}},
		HSM: hsm,
		ExternalKeyStores: config.ExternalKeyStores{
			Hosts: []config.Host{{Name: proxyHost, Address: s.proxy.address, CA: s.proxy.caFile}},
			// More than AWS grants: a laptop under load should not look like a broken proxy.
			RequestTimeout: 2 * time.Second,
		},
		Audit:  config.Audit{Directory: s.path("audit")},
		Quotas: config.Quotas{RequestRates: config.RatesOff}, // who tries things out is not to wait
	}, nil
}

const (
	everything = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["kms:*","sts:*","cloudhsm:*"],"Resource":"*"}]}`
	useKeys    = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["kms:Encrypt","kms:Decrypt","kms:ReEncrypt*","kms:GenerateDataKey*","kms:DescribeKey"],"Resource":"*"}]}`

	trustAccount = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + Account +
		`:root"},"Action":["sts:AssumeRole","sts:TagSession","sts:SetSourceIdentity"]}]}`
)
