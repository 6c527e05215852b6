package kms

import (
	"context"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/store"
)

// connectCustomKeyStore answers as soon as the store is CONNECTING.
func (c *call) connectCustomKeyStore(ctx context.Context, in *kmsapi.ConnectCustomKeyStoreRequest) (*kmsapi.ConnectCustomKeyStoreResponse, error) {
	if err := c.permit(); err != nil {
		return nil, err
	}
	rec, err := c.keyStore(in.CustomKeyStoreID)
	if err != nil {
		return nil, err
	}
	c.noteStore(rec)
	if wanted, err := connectable(rec); !wanted {
		return &kmsapi.ConnectCustomKeyStoreResponse{}, err
	}
	kind, cfg, err := c.s.kindAndConfig(rec)
	if err != nil {
		return nil, err
	}
	if err := kind.Connectable(ctx, cfg); err != nil {
		return nil, err
	}
	return &kmsapi.ConnectCustomKeyStoreResponse{}, c.begin(ctx, rec, kmsapi.Connecting, connectable)
}

// connectable tells whether connecting is to begin: it is not when the store
// is on its way or there already.
func connectable(rec *keyStoreRecord) (bool, error) {
	switch rec.State {
	case kmsapi.Disconnected:
		return true, nil
	case kmsapi.Connecting, kmsapi.Connected:
		return false, nil
	default:
		return false, keyStoreState(rec, "DISCONNECTED")
	}
}

// disconnectCustomKeyStore answers as soon as the store is DISCONNECTING,
// from when its keys cannot be used.
func (c *call) disconnectCustomKeyStore(ctx context.Context, in *kmsapi.DisconnectCustomKeyStoreRequest) (*kmsapi.DisconnectCustomKeyStoreResponse, error) {
	if err := c.permit(); err != nil {
		return nil, err
	}
	rec, err := c.keyStore(in.CustomKeyStoreID)
	if err != nil {
		return nil, err
	}
	c.noteStore(rec)
	return &kmsapi.DisconnectCustomKeyStoreResponse{}, c.begin(ctx, rec, kmsapi.Disconnecting, disconnectable)
}

func disconnectable(rec *keyStoreRecord) (bool, error) {
	switch rec.State {
	case kmsapi.Connected, kmsapi.Connecting, kmsapi.Failed:
		return true, nil
	default:
		return false, keyStoreState(rec, "CONNECTED, CONNECTING or FAILED")
	}
}

// begin moves a store to CONNECTING or DISCONNECTING, with this process as the owner of the work.
func (c *call) begin(ctx context.Context, seen *keyStoreRecord, to kmsapi.ConnectionState, wanted func(*keyStoreRecord) (bool, error)) error {
	return c.s.update(ctx, func(tx store.Tx) error {
		rec, err := load[keyStoreRecord](tx, seen.path())
		if err != nil {
			return err
		}
		if rec == nil {
			return keyStoreNotFound()
		}
		if ok, err := wanted(rec); !ok {
			return err
		}
		rec.State, rec.ErrorCode = to, ""
		rec.Generation++
		rec.RequestID, rec.Principal = c.caller.RequestID, c.caller.ARN
		c.s.conns.own(rec)
		return save(tx, rec.path(), rec)
	})
}
