package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"kastellan.dev/internal/awsjson"
	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/sigv4"
	"kastellan.dev/internal/tracing"
)

// Operation is one operation of an API.
type Operation struct {
	// Name is what follows the dot in X-Amz-Target.
	Name string
	// New makes an empty request: a pointer to a structure with the tags that
	// package kmsapi documents.
	New func() any
	// Call runs the operation for a caller who is authenticated, on a request
	// that satisfies its constraints. The answer is a structure with the same
	// kind of tags or a pointer to one. An error that is not a *kmsapi.Error
	// is logged, and answered as a KMSInternalException. The context ends after
	// Config.Timeout and when the client goes away.
	Call func(ctx context.Context, caller identity.Caller, in any) (out any, err error)
	// Refused is told of a request of a caller who is authenticated, but that is
	// not a request that Call could take, and gives the error that is answered:
	// the cause, or another one. Nil means that nobody needs to know.
	Refused func(ctx context.Context, caller identity.Caller, cause error) error
	// Anonymous says that requests are not signed. Their caller has an empty principal.
	Anonymous bool
}

// API is a table of operations that share a target and a service.
type API struct {
	Target     string // what stands before the dot in X-Amz-Target: "TrentService"
	Service    string // of the credential scope: "kms"
	Operations []Operation
	// Query says how the API is called by the query protocol, with the names of
	// operations as Action. Nil: it is called by AWS JSON.
	Query *Query
	// Errors says how errors stand in answers by AWS JSON. Nil: as those of KMS do.
	Errors *Errors
}

// Errors is how an API that is called by AWS JSON writes errors.
type Errors struct {
	// OnWire gives the name and the HTTP status that a code has in answers.
	OnWire func(kmsapi.Code) (name string, status int)
	// Message is the member that the text is in.
	Message string
}

// Query is what the query protocol needs to know of an API.
type Query struct {
	Version   string // "2011-06-15"
	Namespace string // of the answers' XML
	// OnWire gives the name and the HTTP status that a code has in answers.
	OnWire func(kmsapi.Code) (name string, status int)
}

// Config says what a Server serves, and how. Zero values are usable where a
// default is given.
type Config struct {
	APIs       []API
	Identities *identity.Source // required
	// Sessions finds what temporary credentials that Identities does not know stand for,
	// by the session token that came with them. Nil: nothing.
	Sessions func(accessKeyID, token string) (*identity.Entry, bool)

	// Regions are the ones that requests may be signed for. None means any
	// name that is well formed.
	Regions []string
	// MaxBody is the largest body of a request, in bytes. Default 1 MiB.
	MaxBody int64
	// MaxConcurrent is how many requests are worked on at once; those beyond it
	// get a ThrottlingException. Default 1024.
	MaxConcurrent int
	// MaxBuffered is how much of the bodies of all requests is held in memory at
	// once, in bytes; the first 16 KiB of each do not count. A request that
	// would go over it gets a ThrottlingException. Default 256 MiB.
	MaxBuffered int64
	// MaxConnections is how many connections Serve has open at once; more wait
	// until one is closed. Nor are more requests open at once than that, or than
	// MaxConcurrent if that is more: a connection with HTTP/2 can have many, and what
	// goes beyond gets a ThrottlingException. Default 10,000.
	MaxConnections int
	// Timeout is how long an operation may take. Default 30 s.
	Timeout time.Duration
	// Grace is how long running requests may take to end when Serve is told
	// to stop. Default 30 s.
	Grace time.Duration
	// AllowPlainHTTP lets Serve do without TLS on an address that others can reach.
	AllowPlainHTTP bool

	// Ready tells whether the node can serve, for /healthz. Nil means it can.
	Ready func() bool
	// Now is the clock of signatures. Default time.Now.
	Now func() time.Time
	// Logger gets internal errors, and each request at level debug. Default slog.Default().
	Logger *slog.Logger
	// Metrics is where the server's metrics are registered, and what /metrics
	// shows. Default a registry of its own.
	Metrics *prometheus.Registry
	// MetricsFrom are the addresses from which /metrics may be read, beside
	// those of this machine.
	MetricsFrom []netip.Prefix
	// Tracer begins the traces of requests. Nil means there are none.
	Tracer *tracing.Tracer
	// Console answers below /console. Nil means there is none.
	Console http.Handler
}

// Server is an http.Handler, with a life.
type Server struct {
	cfg        Config
	operations map[string]*operation // by X-Amz-Target
	queries    map[string]*operation // by Version and Action
	slots      chan struct{}         // one for each request that is worked on
	open       atomic.Int64          // requests that are read or worked on
	held       atomic.Int64          // bytes of bodies that are held; see body
	meters     *meters
	metrics    http.Handler
	stopping   atomic.Bool
}

// operation is an Operation with what is needed on its way.
type operation struct {
	Operation
	target   string
	verifier *sigv4.Verifier
	meter    meter
	query    *Query
	errors   *Errors
}

// New checks the tables and makes a Server of them. It starts nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Identities == nil {
		return nil, errors.New("server: no source of identities")
	}
	cfg.setDefaults()
	s := &Server{
		cfg:        cfg,
		operations: make(map[string]*operation),
		queries:    make(map[string]*operation),
		slots:      make(chan struct{}, cfg.MaxConcurrent),
		metrics:    promhttp.HandlerFor(cfg.Metrics, promhttp.HandlerOpts{}),
	}
	var err error
	if s.meters, err = newMeters(cfg.Metrics); err != nil {
		return nil, fmt.Errorf("server: registering metrics: %w", err)
	}
	verifiers := make(map[string]*sigv4.Verifier)
	for _, api := range cfg.APIs {
		if verifiers[api.Service] == nil {
			verifiers[api.Service] = newVerifier(&cfg, api.Service)
		}
		for _, op := range api.Operations {
			if err := s.add(&api, op, verifiers[api.Service]); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

func (c *Config) setDefaults() {
	if c.MaxBody <= 0 {
		c.MaxBody = 1 << 20
	}
	if c.MaxConcurrent <= 0 {
		c.MaxConcurrent = 1024
	}
	if c.MaxBuffered <= 0 {
		c.MaxBuffered = 256 << 20
	}
	if c.MaxConnections <= 0 {
		c.MaxConnections = 10_000
	}
	if c.Timeout <= 0 {
		c.Timeout = 30 * time.Second
	}
	if c.Grace <= 0 {
		c.Grace = 30 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
}

func newVerifier(cfg *Config, service string) *sigv4.Verifier {
	v := &sigv4.Verifier{Service: service, Now: cfg.Now}
	if len(cfg.Regions) > 0 {
		v.Region = func(name string) bool { return slices.Contains(cfg.Regions, name) }
	}
	v.Lookup = func(_ context.Context, accessKeyID, token string) (sigv4.Secret, bool) {
		e, ok := cfg.Identities.Lookup(accessKeyID)
		if !ok && cfg.Sessions != nil {
			e, ok = cfg.Sessions(accessKeyID, token)
		}
		if !ok {
			return sigv4.Secret{}, false
		}
		return sigv4.Secret{Key: e.Key.Secret, SessionToken: e.Key.SessionToken, Expires: e.Key.Expires, Owner: e.Principal}, true
	}
	return v
}

func (s *Server) add(api *API, op Operation, verifier *sigv4.Verifier) error {
	name, table, key := api.Target+"."+op.Name, s.operations, api.Target+"."+op.Name
	if api.Query != nil {
		table, key = s.queries, api.Query.Version+" "+op.Name
	}
	switch {
	case op.New == nil || op.Call == nil:
		return fmt.Errorf("server: %s has no New or no Call", name)
	case table[key] != nil:
		return fmt.Errorf("server: %s exists twice", name)
	}
	if err := awsjson.Prepare(op.New()); err != nil {
		return fmt.Errorf("server: %s: %w", name, err)
	}
	table[key] = &operation{Operation: op, target: name, verifier: verifier, meter: s.meters.of(api.Target, op.Name), query: api.Query, errors: api.Errors}
	return nil
}
