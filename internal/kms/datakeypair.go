package kms

import (
	"context"
	"fmt"

	"kastellan.dev/internal/keyspec"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// dataKeyPair is what the two operations that make data key pairs have in common.
type dataKeyPair struct {
	keyID   string
	context map[string]string
	spec    kmsapi.DataKeyPairSpec
	dryRun  bool
}

// pair is a data key pair, its private key also encrypted.
type pair struct {
	key        *keyEntry
	version    *keyVersion
	private    []byte // PKCS#8
	ciphertext []byte
	public     []byte // SubjectPublicKeyInfo
}

// make gives a fresh key pair. Making it is the dear part of the operation, so it is left to the end.
func (d dataKeyPair) make(ctx context.Context, c *call) (p pair, err error) {
	if p.key, err = c.use(d.keyID); err != nil {
		return p, err
	}
	e, err := cipherOf(p.key, "", d.context)
	if err != nil {
		return p, err
	}
	spec := keyspec.Of(kmsapi.KeySpec(d.spec))
	if spec == nil || !spec.DataKeyPair() || !spec.AllowedIn(c.caller.Region) {
		return p, kmsapi.Errorf(kmsapi.UnsupportedOperation, "Data key pairs of the spec %s are not available in the Region %s.", d.spec, c.caller.Region)
	}
	if err := spec.Permitted(); err != nil {
		return p, err
	}
	if err := c.s.rates.take(c.caller.Account, c.caller.Region, pairQuota(spec.Name)); err != nil {
		return p, err
	}
	if d.dryRun {
		return p, dryRun()
	}
	if p.private, err = spec.Generate(); err != nil {
		return p, fmt.Errorf("making a data key pair: %w", err)
	}
	opened, err := spec.Open(p.private)
	if err != nil {
		return p, fmt.Errorf("making a data key pair: %w", err)
	}
	p.public = opened.SPKI()
	p.ciphertext, p.version, err = c.seal(ctx, e, p.private)
	return p, err
}

func (c *call) generateDataKeyPair(ctx context.Context, in *kmsapi.GenerateDataKeyPairRequest) (*kmsapi.GenerateDataKeyPairResponse, error) {
	if err := (options{grantTokens: in.GrantTokens, contexts: []map[string]string{in.EncryptionContext}}).check(ctx, c); err != nil {
		return nil, err
	}
	to, err := c.recipient(in.Recipient)
	if err != nil {
		return nil, err
	}
	p, err := dataKeyPair{keyID: in.KeyID, context: in.EncryptionContext, spec: in.KeyPairSpec, dryRun: in.DryRun}.make(ctx, c)
	if err != nil {
		return nil, err
	}
	out := &kmsapi.GenerateDataKeyPairResponse{
		KeyID: p.key.ARN, KeyPairSpec: in.KeyPairSpec, PublicKey: p.public, PrivateKeyCiphertextBlob: p.ciphertext,
	}
	if to != nil {
		out.CiphertextForRecipient, err = to.seal(p.private)
		return out, err
	}
	out.PrivateKeyPlaintext, out.KeyMaterialID = secret.New(p.private), p.version.materialID
	return out, nil
}

func (c *call) generateDataKeyPairWithoutPlaintext(ctx context.Context, in *kmsapi.GenerateDataKeyPairWithoutPlaintextRequest) (*kmsapi.GenerateDataKeyPairWithoutPlaintextResponse, error) {
	if err := (options{grantTokens: in.GrantTokens, contexts: []map[string]string{in.EncryptionContext}}).check(ctx, c); err != nil {
		return nil, err
	}
	p, err := dataKeyPair{keyID: in.KeyID, context: in.EncryptionContext, spec: in.KeyPairSpec, dryRun: in.DryRun}.make(ctx, c)
	clear(p.private)
	if err != nil {
		return nil, err
	}
	return &kmsapi.GenerateDataKeyPairWithoutPlaintextResponse{
		KeyID: p.key.ARN, KeyPairSpec: in.KeyPairSpec, PublicKey: p.public, PrivateKeyCiphertextBlob: p.ciphertext, KeyMaterialID: p.version.materialID,
	}, nil
}
