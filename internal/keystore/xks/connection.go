package xks

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/xaes"
	"kastellan.dev/internal/xksapi"
)

// connection is an external key store that is connected.
type connection struct {
	link    *link
	sealer  rootkey.Sealer
	log     *slog.Logger
	metrics *metrics
	now     func() time.Time

	slots  chan struct{} // holds an element for each call under way
	closed atomic.Bool
	inner  innerKeys

	interval time.Duration
	ctx      context.Context // of the polls; ends with Close
	stop     context.CancelFunc
	polls    sync.WaitGroup
	state    state
	tell     atomic.Pointer[func(keystore.HealthChange)] // nil: nobody wants to know
}

var (
	_ keystore.Connection   = (*connection)(nil)
	_ keystore.Reporter     = (*connection)(nil)
	_ keystore.HealthTeller = (*connection)(nil)
)

func newConnection(k *Kind, l *link) *connection {
	c := &connection{
		link: l, sealer: k.cfg.Sealer, log: k.log.With("keyStore", l.storeID), metrics: k.metrics, now: k.cfg.Now,
		slots: make(chan struct{}, k.cfg.MaxInFlight), interval: k.cfg.HealthInterval,
	}
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c
}

// enter admits a call, which ends with leave. How many requests a store gets in
// a second is the domain's to limit; here it is how many are under way.
func (c *connection) enter(ctx context.Context, closed kmsapi.Code) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("asking the external key store proxy: %w", err)
	}
	if c.closed.Load() {
		return errDisconnected(closed)
	}
	select {
	case c.slots <- struct{}{}:
	default:
		return throttled()
	}
	if c.closed.Load() {
		c.leave()
		return errDisconnected(closed)
	}
	return nil
}

func (c *connection) leave() { <-c.slots }

func throttled() error {
	return kmsapi.Errorf(kmsapi.Throttling, "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.")
}

func errDisconnected(code kmsapi.Code) error {
	return kmsapi.Errorf(code, "The external key store is not connected.")
}

// CreateKey implements keystore.Store: it checks that the external key is
// usable, and makes the inner key.
func (c *connection) CreateKey(ctx context.Context, call keystore.Call, key keystore.NewKey) (keystore.Material, error) {
	if key.XksKeyID == "." || key.XksKeyID == ".." {
		return keystore.Material{}, kmsapi.Errorf(kmsapi.XksKeyNotFound, "No external key can have this identifier.")
	}
	if err := c.enter(ctx, kmsapi.CustomKeyStoreInvalidState); err != nil {
		return keystore.Material{}, err
	}
	defer c.leave()
	var out xksapi.MetadataResponse
	err := c.link.do(ctx, request{
		op: opMetadata, call: call, externalKey: key.XksKeyID,
		in: &xksapi.MetadataRequest{RequestMetadata: metadataOf(call)}, out: &out,
		check: func() error { return checkMetadata(&out) },
	})
	if err != nil {
		return keystore.Material{}, explained(err, forCreateKey)
	}
	var material [xaes.KeySize]byte
	rand.Read(material[:])
	defer clear(material[:])
	data, err := c.sealer.Seal(innerKeyPurpose, innerKeyContext(key.ARN, key.XksKeyID), material[:])
	if err != nil {
		return keystore.Material{}, fmt.Errorf("sealing the inner key of %s: %w", key.ARN, err)
	}
	return keystore.Material{Data: data}, nil
}

// Encrypt implements keystore.Store.
func (c *connection) Encrypt(ctx context.Context, call keystore.Call, key keystore.Key, dst, plaintext, aad []byte) ([]byte, error) {
	if len(plaintext) > maxPlaintext || len(aad) > xksapi.MaxAAD {
		return nil, fmt.Errorf("a plaintext of %d bytes with %d bytes of authenticated data is too long for an external key store", len(plaintext), len(aad))
	}
	if err := c.enter(ctx, kmsapi.KMSInvalidState); err != nil {
		return nil, err
	}
	defer c.leave()
	aead, err := c.inner.open(c.sealer, key)
	if err != nil {
		return nil, err
	}
	inner := aead.Seal(nil, plaintext, innerAAD(aad))
	var out xksapi.EncryptResponse
	var p parts
	err = c.link.do(ctx, request{
		op: opEncrypt, call: call, externalKey: key.XksKeyID, out: &out,
		in: &xksapi.EncryptRequest{
			RequestMetadata: metadataFor(call, key), Plaintext: inner, AdditionalAuthenticatedData: aad,
			EncryptionAlgorithm: xksapi.AlgorithmAESGCM, CiphertextDataIntegrityValueAlgorithm: xksapi.AlgorithmSHA256,
		},
		check: func() (err error) {
			p, err = checkEncrypted(&out, inner, aad)
			return err
		},
	})
	if err != nil {
		return nil, explained(err, forCryptography)
	}
	return p.appendTo(dst), nil
}

// Decrypt implements keystore.Store. Bytes that cannot be the result of Encrypt
// are an InvalidCiphertextException, and the proxy does not see them; every
// other failure is a KMSInvalidStateException.
func (c *connection) Decrypt(ctx context.Context, call keystore.Call, key keystore.Key, sealed, aad []byte) ([]byte, error) {
	p, err := parseBody(sealed)
	if err != nil {
		return nil, kmsapi.Errorf(kmsapi.InvalidCiphertext, "").Because(err)
	}
	if len(aad) > xksapi.MaxAAD {
		return nil, fmt.Errorf("%d bytes of authenticated data are too long for an external key store", len(aad))
	}
	if err := c.enter(ctx, kmsapi.KMSInvalidState); err != nil {
		return nil, err
	}
	defer c.leave()
	aead, err := c.inner.open(c.sealer, key)
	if err != nil {
		return nil, err
	}
	var out xksapi.DecryptResponse
	err = c.link.do(ctx, request{
		op: opDecrypt, call: call, externalKey: key.XksKeyID, out: &out,
		in: &xksapi.DecryptRequest{
			RequestMetadata: metadataFor(call, key), EncryptionAlgorithm: xksapi.AlgorithmAESGCM, AdditionalAuthenticatedData: aad,
			Ciphertext: p.ciphertext, InitializationVector: p.iv, AuthenticationTag: p.tag, CiphertextMetadata: p.metadata,
		},
		check: func() error { return checkDecrypted(&out, p) },
	})
	if err != nil {
		return nil, explained(err, forCryptography)
	}
	plaintext, err := aead.Open(nil, out.Plaintext, innerAAD(aad))
	if err != nil {
		return nil, explained(failed(innerLayerFailed, "%w", err), forCryptography)
	}
	return plaintext, nil
}

// DeleteKey implements keystore.Store: it forgets the inner key. The external key is its owner's.
func (c *connection) DeleteKey(_ context.Context, _ keystore.Call, key keystore.Key) error {
	c.inner.forget(key)
	return nil
}

// Close implements keystore.Connection.
func (c *connection) Close(ctx context.Context) {
	if c.closed.Swap(true) {
		return
	}
	c.stop()
	c.polls.Wait()           // short: polls end with c.ctx
	for range cap(c.slots) { // a call under way holds a slot
		select {
		case c.slots <- struct{}{}:
			continue
		case <-ctx.Done():
		}
		break
	}
	c.link.close()
	c.metrics.disconnected(c.link.storeID)
}
