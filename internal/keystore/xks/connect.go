package xks

import (
	"context"
	"errors"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/xksapi"
)

// Connect implements keystore.Kind: it opens the way to the proxy and asks
// whether at least one key manager can serve.
func (k *Kind) Connect(ctx context.Context, call keystore.Call, cfg keystore.Config, _ keystore.Passwords, trace *keystore.Trace) (keystore.Connection, error) {
	l, err := k.open(cfg, trace)
	if err != nil {
		return nil, connectError(err)
	}
	health, err := l.health(ctx, call, trace)
	if err != nil {
		l.close()
		return nil, connectError(err)
	}
	return k.start(l, health), nil
}

// connectError adds the code that the table gives; what is not in the table is our own failure.
func connectError(err error) error {
	var pe *proxyError
	if !errors.As(err, &pe) {
		return err
	}
	return &keystore.ConnectError{Code: meanings[pe.outcome].connect, Err: err}
}

// Resume implements keystore.Kind.
func (k *Kind) Resume(cfg keystore.Config, _ keystore.Passwords) (keystore.Connection, error) {
	l, err := k.open(cfg, nil)
	if err != nil {
		return nil, err
	}
	return k.start(l, nil), nil
}

// start makes a link a connection; health is nil if nobody has asked yet.
func (k *Kind) start(l *link, health *xksapi.HealthResponse) *connection {
	c := newConnection(k, l)
	if health != nil {
		c.state.saw(k.cfg.Now(), health, nil)
	}
	k.metrics.connected(l.storeID)
	c.polls.Go(c.poll)
	return c
}
