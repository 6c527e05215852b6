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

// make gives a fresh data key and its ciphertext.
func (d dataKey) make(ctx context.Context, c *call) (k *keyEntry, plaintext, ciphertext []byte, err error) {
	k, err = c.use(d.keyID)
	if err != nil {
		return nil, nil, nil, err
	}
	size, err := d.bytes()
	if err != nil {
		return nil, nil, nil, err
	}
	if d.dryRun {
		return nil, nil, nil, dryRun()
	}
	plaintext = make([]byte, size)
	_, _ = rand.Read(plaintext) // never fails
	ciphertext, err = c.seal(ctx, k, plaintext, d.context)
	return k, plaintext, ciphertext, err
}

func (c *call) generateDataKey(ctx context.Context, in *kmsapi.GenerateDataKeyRequest) (*kmsapi.GenerateDataKeyResponse, error) {
	if err := (options{grantTokens: in.GrantTokens, recipient: in.Recipient, contexts: []map[string]string{in.EncryptionContext}}).check(); err != nil {
		return nil, err
	}
	d := dataKey{keyID: in.KeyID, context: in.EncryptionContext, spec: in.KeySpec, size: in.NumberOfBytes, dryRun: in.DryRun}
	k, plaintext, ciphertext, err := d.make(ctx, c)
	if err != nil {
		return nil, err
	}
	return &kmsapi.GenerateDataKeyResponse{
		CiphertextBlob: ciphertext, Plaintext: secret.New(plaintext), KeyID: k.ARN, KeyMaterialID: k.MaterialID,
	}, nil
}

func (c *call) generateDataKeyWithoutPlaintext(ctx context.Context, in *kmsapi.GenerateDataKeyWithoutPlaintextRequest) (*kmsapi.GenerateDataKeyWithoutPlaintextResponse, error) {
	if err := (options{grantTokens: in.GrantTokens, contexts: []map[string]string{in.EncryptionContext}}).check(); err != nil {
		return nil, err
	}
	d := dataKey{keyID: in.KeyID, context: in.EncryptionContext, spec: in.KeySpec, size: in.NumberOfBytes, dryRun: in.DryRun}
	k, plaintext, ciphertext, err := d.make(ctx, c)
	clear(plaintext)
	if err != nil {
		return nil, err
	}
	return &kmsapi.GenerateDataKeyWithoutPlaintextResponse{CiphertextBlob: ciphertext, KeyID: k.ARN, KeyMaterialID: k.MaterialID}, nil
}

func (c *call) generateRandom(ctx context.Context, in *kmsapi.GenerateRandomRequest) (*kmsapi.GenerateRandomResponse, error) {
	if err := c.permit(); err != nil {
		return nil, err
	}
	if err := (options{recipient: in.Recipient}).check(); err != nil {
		return nil, err
	}
	if in.NumberOfBytes == nil {
		return nil, invalid("NumberOfBytes is required.")
	}
	n := int(*in.NumberOfBytes)
	if in.CustomKeyStoreID == "" {
		b := make([]byte, n)
		_, _ = rand.Read(b) // never fails
		return &kmsapi.GenerateRandomResponse{Plaintext: secret.New(b)}, nil
	}
	b, err := c.randomFrom(ctx, in.CustomKeyStoreID, n)
	if err != nil {
		return nil, err
	}
	return &kmsapi.GenerateRandomResponse{Plaintext: secret.New(b)}, nil
}

// randomFrom asks a custom key store for random bytes.
func (c *call) randomFrom(ctx context.Context, id string, n int) ([]byte, error) {
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
		return nil, err
	}
	source, ok := conn.(keystore.Randomizer)
	if !ok {
		return nil, kmsapi.Errorf(kmsapi.UnsupportedOperation, "The custom key store does not give random bytes.")
	}
	c.note("customKeyStoreId", id)
	return source.Random(ctx, c.onBehalf(), n)
}
