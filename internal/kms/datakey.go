package kms

import (
	"context"
	"crypto/rand"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// dataKey is what the two operations that make data keys have in common.
type dataKey struct {
	keyID   string
	context map[string]string
	spec    kmsapi.DataKeySpec
	size    *int32
	dryRun  bool
}

// bytes is how long the data key is to be.
func (d dataKey) bytes() (int, error) {
	switch {
	case (d.spec == "") == (d.size == nil):
		return 0, invalid("Please specify either number of bytes or key spec.")
	case d.spec == kmsapi.DataKeyAES128:
		return 16, nil
	case d.spec == kmsapi.DataKeyAES256:
		return 32, nil
	default:
		return int(*d.size), nil
	}
}

// made is a data key in clear and encrypted.
type made struct {
	key        *keyEntry
	version    *keyVersion
	plaintext  []byte
	ciphertext []byte
}

// make gives a fresh data key and its ciphertext.
func (d dataKey) make(ctx context.Context, c *call) (m made, err error) {
	if m.key, err = c.use(d.keyID); err != nil {
		return m, err
	}
	e, err := cipherOf(m.key, "", d.context)
	if err != nil {
		return m, err
	}
	size, err := d.bytes()
	if err != nil {
		return m, err
	}
	if d.dryRun {
		return m, dryRun()
	}
	m.plaintext = make([]byte, size)
	_, _ = rand.Read(m.plaintext) // never fails
	m.ciphertext, m.version, err = c.seal(ctx, e, m.plaintext)
	return m, err
}

func (c *call) generateDataKey(ctx context.Context, in *kmsapi.GenerateDataKeyRequest) (*kmsapi.GenerateDataKeyResponse, error) {
	if err := (options{grantTokens: in.GrantTokens, contexts: []map[string]string{in.EncryptionContext}}).check(ctx, c); err != nil {
		return nil, err
	}
	to, err := c.recipient(in.Recipient)
	if err != nil {
		return nil, err
	}
	d := dataKey{keyID: in.KeyID, context: in.EncryptionContext, spec: in.KeySpec, size: in.NumberOfBytes, dryRun: in.DryRun}
	m, err := d.make(ctx, c)
	if err != nil {
		return nil, err
	}
	out := &kmsapi.GenerateDataKeyResponse{CiphertextBlob: m.ciphertext, KeyID: m.key.ARN}
	if to != nil {
		out.CiphertextForRecipient, err = to.seal(m.plaintext)
		return out, err
	}
	out.Plaintext, out.KeyMaterialID = secret.New(m.plaintext), m.version.materialID
	return out, nil
}

func (c *call) generateDataKeyWithoutPlaintext(ctx context.Context, in *kmsapi.GenerateDataKeyWithoutPlaintextRequest) (*kmsapi.GenerateDataKeyWithoutPlaintextResponse, error) {
	if err := (options{grantTokens: in.GrantTokens, contexts: []map[string]string{in.EncryptionContext}}).check(ctx, c); err != nil {
		return nil, err
	}
	d := dataKey{keyID: in.KeyID, context: in.EncryptionContext, spec: in.KeySpec, size: in.NumberOfBytes, dryRun: in.DryRun}
	m, err := d.make(ctx, c)
	clear(m.plaintext)
	if err != nil {
		return nil, err
	}
	return &kmsapi.GenerateDataKeyWithoutPlaintextResponse{CiphertextBlob: m.ciphertext, KeyID: m.key.ARN, KeyMaterialID: m.version.materialID}, nil
}

func (c *call) generateRandom(ctx context.Context, in *kmsapi.GenerateRandomRequest) (*kmsapi.GenerateRandomResponse, error) {
	if err := c.permit(); err != nil {
		return nil, err
	}
	to, err := c.recipient(in.Recipient)
	if err != nil {
		return nil, err
	}
	if in.NumberOfBytes == nil {
		return nil, invalid("NumberOfBytes is required.")
	}
	b, err := c.random(ctx, in.CustomKeyStoreID, int(*in.NumberOfBytes))
	if err != nil {
		return nil, err
	}
	out := &kmsapi.GenerateRandomResponse{}
	if to != nil {
		out.CiphertextForRecipient, err = to.seal(b)
		return out, err
	}
	out.Plaintext = secret.New(b)
	return out, nil
}

// random gives n random bytes, from a custom key store if one is named.
func (c *call) random(ctx context.Context, storeID string, n int) ([]byte, error) {
	if storeID != "" {
		return c.randomFrom(ctx, storeID, n)
	}
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b, nil
}

// randomFrom asks a custom key store for random bytes.
func (c *call) randomFrom(ctx context.Context, id string, n int) ([]byte, error) {
	if err := c.mayReach(); err != nil {
		return nil, err
	}
	rec, err := c.keyStore(id)
	if err != nil {
		return nil, err
	}
	if rec.Type == kmsapi.ExternalKeyStore {
		return nil, kmsapi.Errorf(kmsapi.UnsupportedOperation, "GenerateRandom is not supported in a custom key store of the type %s.", rec.Type)
	}
	if rec.State != kmsapi.Connected {
		return nil, keyStoreState(rec, "CONNECTED")
	}
	conn, err := c.s.conns.use(id, kmsapi.CustomKeyStoreInvalidState)
	if err != nil {
		c.s.meters.storeFailed(rec.Type, id, c.op.Name, "", err)
		return nil, err
	}
	source, ok := conn.(keystore.Randomizer)
	if !ok {
		return nil, kmsapi.Errorf(kmsapi.UnsupportedOperation, "The custom key store does not give random bytes.")
	}
	c.note("customKeyStoreId", id)
	out, err := source.Random(ctx, c.onBehalf(), n)
	if err != nil {
		c.s.meters.storeFailed(rec.Type, id, c.op.Name, "", err)
	}
	return out, err
}
