package sts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/secret"
)

// Config is what a Service is made of. The first three fields are required.
type Config struct {
	Identities *identity.Source
	Sealer     rootkey.Sealer
	Audit      audit.Writer
	Logger     *slog.Logger     // nil: slog.Default()
	Now        func() time.Time // the clock; nil: time.Now
	// Transport is how identity providers that have no CA of their own are reached. Nil: HTTPS
	// as net/http does it, through the proxy that the environment names.
	Transport *http.Transport
}

// Service gives out and recognizes sessions. It may be used from many goroutines at once.
type Service struct {
	identities *identity.Source
	sealer     rootkey.Sealer
	audit      audit.Writer
	log        *slog.Logger
	now        func() time.Time
	issuers    issuers
	opened     cache
}

// New makes a Service.
func New(cfg Config) (*Service, error) {
	if cfg.Identities == nil || cfg.Sealer == nil || cfg.Audit == nil {
		return nil, errors.New("sts: a source of identities, a sealer and an audit log are needed")
	}
	s := &Service{identities: cfg.Identities, sealer: cfg.Sealer, audit: cfg.Audit, log: cfg.Logger, now: cfg.Now}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.issuers = issuers{now: s.now, transport: cfg.Transport}
	s.opened.now = s.now
	return s, nil
}

// Operation is one operation of the API.
type Operation struct {
	Name      string
	New       func() any // makes an empty request
	Anonymous bool       // the request is not signed: something in it tells who asks
	ReadOnly  bool       // for the audit record
	do        func(ctx context.Context, c *call, in any) (any, error)
}

func operation[In, Out any](name string, do func(*call, context.Context, *In) (*Out, error)) *Operation {
	return &Operation{
		Name: name,
		New:  func() any { return new(In) },
		do: func(ctx context.Context, c *call, in any) (any, error) {
			out, err := do(c, ctx, in.(*In))
			if err != nil {
				return nil, err
			}
			return out, nil
		},
	}
}

// Operations is the table of all operations.
func Operations() []*Operation {
	identify := operation("GetCallerIdentity", (*call).getCallerIdentity)
	identify.ReadOnly = true
	web := operation("AssumeRoleWithWebIdentity", (*call).assumeRoleWithWebIdentity)
	web.Anonymous = true
	return []*Operation{
		operation("AssumeRole", (*call).assumeRole),
		web,
		identify,
		operation("GetFederationToken", (*call).getFederationToken),
		operation("GetSessionToken", (*call).getSessionToken),
	}
}

// call is one call of an operation.
type call struct {
	s         *Service
	op        *Operation
	directory *identity.Directory // the one in force when the call began
	caller    identity.Caller
	at        time.Time

	web       *webIdentity // of AssumeRoleWithWebIdentity, once its token has been verified
	resources []audit.Resource
	notes     map[string]any // what the record has beside the request's members
	recipient string         // the account that the call is about, if it has no caller
}

// Do runs an operation for a caller who has been authenticated, or who is nobody
// yet if the operation is anonymous, on a request that satisfies the constraints of
// its type. The call is refused if its record cannot be written.
func (s *Service) Do(ctx context.Context, op *Operation, caller identity.Caller, in any) (any, error) {
	c := &call{s: s, op: op, directory: s.identities.Load(), caller: caller, at: s.now().UTC().Truncate(time.Second)}
	out, err := c.run(ctx, in)
	if werr := s.audit.Write(ctx, c.record(in, out, err)); werr != nil {
		return nil, fmt.Errorf("recording %s: %w", op.Name, werr)
	}
	return out, err
}

// run is the operation; it outlives a panic, which is recorded as any other error.
func (c *call) run(ctx context.Context, in any) (out any, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s %w", c.op.Name, secret.Panicked(r))
		}
	}()
	return c.op.do(ctx, c, in)
}

// Refuse records that a caller who has been authenticated has asked for an
// operation in a way that it cannot be asked for. It gives the cause, unless it cannot be recorded.
func (s *Service) Refuse(ctx context.Context, op *Operation, caller identity.Caller, cause error) error {
	c := &call{s: s, op: op, caller: caller, at: s.now().UTC()}
	if err := s.audit.Write(ctx, c.record(nil, nil, cause)); err != nil {
		return fmt.Errorf("recording %s: %w", op.Name, err)
	}
	return cause
}
