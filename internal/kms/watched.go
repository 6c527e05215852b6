package kms

import (
	"context"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/tracing"
)

// watched is the key store of a key as a call uses it: what it does stands in the
// trace, and what it throttles is counted. It is part of the call, so that it costs
// no memory of its own, and serves until the call asks for another one.
type watched struct {
	keystore.Store
	meters    *meters
	key       *keyEntry
	operation string
}

// watch gives the key store of a key, watched.
func (c *call) watch(k *keyEntry) (keystore.Store, error) {
	ks, err := c.s.keyStoreOf(k)
	c.watched = watched{Store: ks, meters: c.s.meters, key: k, operation: c.op.Name}
	if err != nil {
		c.watched.failed(err)
		return nil, err
	}
	return &c.watched, nil
}

// Encrypt implements keystore.Store.
func (w *watched) Encrypt(ctx context.Context, call keystore.Call, key keystore.Key, dst, plaintext, aad []byte) ([]byte, error) {
	ctx, span := tracing.Start(ctx, "key store Encrypt")
	out, err := w.Store.Encrypt(ctx, call, key, dst, plaintext, aad)
	w.end(span, err)
	return out, err
}

// Decrypt implements keystore.Store.
func (w *watched) Decrypt(ctx context.Context, call keystore.Call, key keystore.Key, sealed, aad []byte) ([]byte, error) {
	ctx, span := tracing.Start(ctx, "key store Decrypt")
	out, err := w.Store.Decrypt(ctx, call, key, sealed, aad)
	w.end(span, err)
	return out, err
}

func (w *watched) end(span tracing.Span, err error) {
	span.Set(tracing.KeyARN, w.key.ARN)
	span.Set(tracing.StoreID, w.key.StoreID)
	span.Set(tracing.XksKeyID, w.key.XksKeyID)
	span.End(string(kmsapi.CodeOf(err)))
	if err != nil {
		w.failed(err)
	}
}

func (w *watched) failed(err error) {
	if w.key.StoreID != "" {
		w.meters.storeFailed(storeTypes[w.key.Origin], w.key.StoreID, w.operation, w.key.Spec, err)
	}
}

// storeTypes are the custom key stores that keys are in, by their origin.
var storeTypes = map[kmsapi.OriginType]kmsapi.CustomKeyStoreType{
	kmsapi.OriginAWSCloudHSM:      kmsapi.AWSCloudHSM,
	kmsapi.OriginExternalKeyStore: kmsapi.ExternalKeyStore,
}
