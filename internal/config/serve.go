package config

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"

	"kastellan.dev/internal/cloudhsm/control"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/server"
	"kastellan.dev/internal/sts"
	"kastellan.dev/internal/stsapi"
)

// openServer puts HTTP in front of the service, and listens. Nothing is answered until Serve.
func (n *Node) openServer(o Options) error {
	cfg := server.Config{
		APIs: []server.API{
			{Target: "TrentService", Service: "kms", Operations: n.operations(kms.Operations())},
			{Target: "Kastellan", Service: "kms", Operations: n.operations(kms.Extensions())},
			{
				Target: "AWSSecurityTokenServiceV20110615", Service: "sts", Operations: n.tokenOperations(),
				Query: &server.Query{Version: stsapi.Version, Namespace: stsapi.Namespace, OnWire: stsapi.OnWire},
			},
			{Target: cloudhsmapi.Target, Service: cloudhsmapi.Service, Operations: n.clusterOperations(control.Operations()), Errors: clusterErrors},
			{Target: cloudhsmapi.Extensions, Service: cloudhsmapi.Service, Operations: n.clusterOperations(control.Extensions()), Errors: clusterErrors},
		},
		Identities: n.identities, Sessions: n.sts.Lookup, Regions: n.cfg.Regions, AllowPlainHTTP: n.cfg.Listen.PlainHTTP,
		MaxConcurrent: n.cfg.Limits.Requests, Timeout: n.cfg.Limits.RequestTimeout, Grace: n.cfg.Limits.Shutdown,
		MaxConnections: n.cfg.Limits.Connections, MaxBuffered: n.cfg.Limits.BufferedBytes,
		Logger: n.log, Metrics: n.Metrics, MetricsFrom: n.cfg.Metrics.From, Tracer: n.tracer,
	}
	if o.Server != nil {
		o.Server(&cfg)
	}
	var err error
	if n.server, err = server.New(cfg); err != nil {
		return err
	}
	if n.tls, err = n.cfg.Listen.TLS.config(n); err != nil {
		return err
	}
	if n.listener, err = net.Listen("tcp", n.cfg.Listen.Address); err != nil {
		return fmt.Errorf("listen.address: %w", err)
	}
	n.later(func() { _ = n.listener.Close() }) // Serve has, unless it was never called
	return nil
}

// operations turns the domain's table into the server's.
func (n *Node) operations(table []*kms.Operation) []server.Operation {
	out := make([]server.Operation, 0, len(table))
	for _, op := range table {
		out = append(out, server.Operation{
			Name: op.Name, New: op.New,
			Call: func(ctx context.Context, caller identity.Caller, in any) (any, error) {
				return n.Service.Do(ctx, op, caller, in)
			},
			Refused: func(ctx context.Context, caller identity.Caller, cause error) error {
				return n.Service.Refuse(ctx, op, caller, cause)
			},
		})
	}
	return out
}

// tokenOperations is the same for the table of the security token service.
func (n *Node) tokenOperations() []server.Operation {
	var out []server.Operation
	for _, op := range sts.Operations() {
		out = append(out, server.Operation{
			Name: op.Name, New: op.New, Anonymous: op.Anonymous,
			Call: func(ctx context.Context, caller identity.Caller, in any) (any, error) {
				return n.sts.Do(ctx, op, caller, in)
			},
			Refused: func(ctx context.Context, caller identity.Caller, cause error) error {
				return n.sts.Refuse(ctx, op, caller, cause)
			},
		})
	}
	return out
}

// clusterErrors is how errors of the CloudHSM API are written.
var clusterErrors = &server.Errors{OnWire: cloudhsmapi.OnWire, Message: cloudhsmapi.MessageMember}

// clusterOperations is the same for a table of the control plane of HSM clusters.
func (n *Node) clusterOperations(table []*control.Operation) []server.Operation {
	var out []server.Operation
	for _, op := range table {
		out = append(out, server.Operation{
			Name: op.Name, New: op.New,
			Call: func(ctx context.Context, caller identity.Caller, in any) (any, error) {
				return n.hsms.Do(ctx, op, caller, in)
			},
			Refused: func(ctx context.Context, caller identity.Caller, cause error) error {
				return n.hsms.Refuse(ctx, op, caller, cause)
			},
		})
	}
	return out
}

// config is nil without a certificate.
func (t TLS) config(n *Node) (*tls.Config, error) {
	if t.Certificate == "" {
		return nil, nil
	}
	certificate := &server.Certificate{CertFile: n.cfg.path(t.Certificate), KeyFile: n.cfg.path(t.Key), Logger: n.log}
	return certificate.TLSConfig()
}

// Addr is where the node listens, "host:port".
func (n *Node) Addr() string { return n.listener.Addr().String() }

// Serve answers until ctx is done, and lets running requests end. Close comes after it.
func (n *Node) Serve(ctx context.Context) error {
	n.log.Info("serving the KMS API", "address", n.Addr(), "tls", n.tls != nil)
	if err := n.server.Serve(ctx, n.listener, n.tls); err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	n.log.Info("the KMS API has ended")
	return nil
}
