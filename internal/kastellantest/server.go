package kastellantest

import (
	"context"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/cloudhsm/control"
	"kastellan.dev/internal/config"
	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/keystore/xks"
	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/server"
	"kastellan.dev/internal/sts"
)

// What every server has without being asked.
const (
	Account = "111122223333"
	Region  = "us-east-1"
	Admin   = "admin" // a user of Account who may do everything
)

// RequestTimeout is what a proxy has for an answer where Options do not say:
// more than AWS grants, so that a busy machine is not taken for a slow proxy.
const RequestTimeout = 2 * time.Second

// Everything is an IAM policy that allows every operation.
const Everything = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["kms:*","cloudhsm:*"],"Resource":"*"}]}`

// Options say how a server differs from one with defaults.
type Options struct {
	Directory string // of the data; empty means a new temporary one
	Users     []User // beside Admin
	Clusters  []*Cluster
	External  config.ExternalKeyStores
	Quotas    config.Quotas
	Logger    *slog.Logger         // nil: nothing is logged
	Audit     audit.Writer         // nil: to a file in Directory
	Config    func(*config.Config) // has the last word on the configuration

	// They see what parts are made of; see config.Options.
	KMS func(*kms.Config)
	HSM func(*hsm.Config)
	XKS func(*xks.Config)
	STS func(*sts.Config)

	Control func(*control.Config)
	// OpenToken opens the tokens of WithPools; see config.Options.
	OpenToken func(ctx context.Context, cfg pkcs11.Config, log *slog.Logger) (pkcs11.Token, error)
	Server    func(*server.Config)

	// CrashAt makes the server crash when it reaches a fault point for which this is
	// true: nothing is stored from then on, and what was running there ends.
	// Crashed tells when it happened; Restart brings the server back.
	CrashAt func(point string) bool
}

// User is an IAM user with an access key.
type User struct {
	Name    string
	Account string // empty means Account
	Policy  string // IAM policy; empty means Everything
}

// Server is a running server.
type Server struct {
	Endpoint  string // "http://127.0.0.1:…"
	Directory string
	Config    *config.Config
	Node      *config.Node

	t       testing.TB
	options Options
	cancel  context.CancelFunc
	served  chan error
	crash   *crash
	client  *http.Client
}

// Start starts a server; it is stopped after the test.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{t: t, options: o, Directory: o.Directory}
	if s.Directory == "" {
		s.Directory = t.TempDir()
	}
	s.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}
	s.Config = s.config()
	s.start()
	t.Cleanup(func() {
		s.Stop()
		s.client.CloseIdleConnections()
	})
	return s
}

// config is the configuration that a file would give.
func (s *Server) config() *config.Config {
	s.t.Helper()
	root := filepath.Join(s.t.TempDir(), "root.key")
	if err := rootkey.Generate(root); err != nil {
		s.t.Fatal(err)
	}
	cfg := &config.Config{
		Listen:            config.Listen{Address: "127.0.0.1:0"},
		DataDirectory:     s.Directory,
		RootKey:           config.RootKey{File: root},
		UnknownPrincipals: true, // tests name principals that nobody is
		Accounts:          accounts(s.options.Users),
		ExternalKeyStores: s.options.External,
		Audit:             config.Audit{File: filepath.Join(s.Directory, "audit.jsonl")},
		Quotas:            s.options.Quotas,
	}
	if cfg.ExternalKeyStores.RequestTimeout == 0 {
		cfg.ExternalKeyStores.RequestTimeout = RequestTimeout
	}
	if cfg.Quotas.RequestRates == "" {
		cfg.Quotas.RequestRates = config.RatesOff
	}
	for _, c := range s.options.Clusters {
		cfg.HSM.Clusters = append(cfg.HSM.Clusters, c.Cluster)
	}
	if s.options.Config != nil {
		s.options.Config(cfg)
	}
	return cfg
}

// accounts puts the users into their accounts.
func accounts(users []User) []config.Account {
	var out []config.Account
	index := make(map[string]int)
	for _, u := range append([]User{{Name: Admin}}, users...) {
		if u.Account == "" {
			u.Account = Account
		}
		if u.Policy == "" {
			u.Policy = Everything
		}
		i, known := index[u.Account]
		if !known {
			i = len(out)
			index[u.Account] = i
			out = append(out, config.Account{ID: u.Account})
		}
		id, text := Credentials(u.Name)
		out[i].Users = append(out[i].Users, config.User{
			Name:       u.Name,
			AccessKeys: []config.AccessKey{{ID: id, Secret: secret.NewText(text)}},
			Policies:   []config.Policy{{Document: u.Policy}},
		})
	}
	return out
}

// start opens and serves.
func (s *Server) start() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.crash = newCrash(s.options.CrashAt)
	logger := s.options.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	node, err := s.Config.Open(ctx, config.Options{
		Logger: logger, Audit: s.options.Audit,
		KMS: s.tuneKMS, HSM: s.options.HSM, XKS: s.options.XKS, STS: s.options.STS, Control: s.tuneControl, OpenToken: s.options.OpenToken, Server: s.options.Server,
	})
	if err != nil {
		cancel()
		s.t.Fatalf("opening the server: %v", err)
	}
	s.Node, s.Endpoint = node, "http://"+node.Addr()
	s.served = make(chan error, 1)
	go func() { s.served <- node.Serve(ctx) }()
}

func (s *Server) tuneKMS(cfg *kms.Config) {
	cfg.Sweep = 20 * time.Millisecond
	if s.options.KMS != nil {
		s.options.KMS(cfg)
	}
	s.crash.install(&cfg.Store, &cfg.FaultPoint)
}

func (s *Server) tuneControl(cfg *control.Config) {
	if s.options.Control != nil {
		s.options.Control(cfg)
	}
	s.crash.install(&cfg.Store, &cfg.FaultPoint)
}

// Stop ends the server gracefully. It may be called twice.
func (s *Server) Stop() {
	s.t.Helper()
	if s.Node == nil {
		return
	}
	s.cancel()
	if err := <-s.served; err != nil {
		s.t.Errorf("serving: %v", err)
	}
	s.Node.Close()
	s.Node = nil
}

// Restart stops the server and starts it with what it has stored, on another port.
// Clients made before are of no use any more. It does not crash again.
func (s *Server) Restart() {
	s.t.Helper()
	s.RestartTo(nil)
}

// RestartTo is Restart with another Options.CrashAt.
func (s *Server) RestartTo(crashAt func(point string) bool) {
	s.t.Helper()
	s.Stop()
	s.options.CrashAt = crashAt
	s.start()
}

// Crashed is closed when the server has crashed; see Options.CrashAt.
func (s *Server) Crashed() <-chan struct{} { return s.crash.happened }

// Client gives the SDK's client for a user of Options.Users, or Admin. It does not retry.
func (s *Server) Client(user string) *awskms.Client {
	return s.ClientIn(user, Region)
}

// ClientIn is Client in another Region.
func (s *Server) ClientIn(user, region string) *awskms.Client {
	id, text := Credentials(user)
	cfg := s.SDK(credentials.NewStaticCredentialsProvider(id, text, ""))
	cfg.Region = region
	return awskms.NewFromConfig(cfg)
}

// SDK is the configuration of the SDK's clients, with those credentials; nil for
// requests that are not signed. They do not retry.
func (s *Server) SDK(who aws.CredentialsProvider) aws.Config {
	return aws.Config{
		Region:       Region,
		BaseEndpoint: aws.String(s.Endpoint),
		Credentials:  who,
		HTTPClient:   s.client,
		Retryer:      func() aws.Retryer { return aws.NopRetryer{} },
	}
}
