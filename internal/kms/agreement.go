package kms

import (
	"context"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

func (c *call) deriveSharedSecret(ctx context.Context, in *kmsapi.DeriveSharedSecretRequest) (*kmsapi.DeriveSharedSecretResponse, error) {
	if err := (options{grantTokens: in.GrantTokens}).check(ctx, c); err != nil {
		return nil, err
	}
	to, err := c.recipient(in.Recipient)
	if err != nil {
		return nil, err
	}
	k, private, err := c.usePrivate(ctx, in.KeyID)
	if err != nil {
		return nil, err
	}
	shared, err := private.SharedSecret(in.PublicKey)
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		clear(shared)
		return nil, dryRun()
	}
	out := &kmsapi.DeriveSharedSecretResponse{KeyID: k.ARN, KeyAgreementAlgorithm: in.KeyAgreementAlgorithm, KeyOrigin: k.Origin}
	if to != nil {
		out.CiphertextForRecipient, err = to.seal(shared)
		return out, err
	}
	out.SharedSecret = secret.New(shared)
	return out, nil
}

func (c *call) encapsulate(ctx context.Context, in *kmsapi.EncapsulateRequest) (*kmsapi.EncapsulateResponse, error) {
	if err := (options{grantTokens: in.GrantTokens}).check(ctx, c); err != nil {
		return nil, err
	}
	k, err := c.use(in.KeyID)
	if err != nil {
		return nil, err
	}
	public, err := k.public()
	if err != nil {
		return nil, err
	}
	shared, ciphertext, err := public.Encapsulate()
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		clear(shared)
		return nil, dryRun()
	}
	return &kmsapi.EncapsulateResponse{
		KeyID: k.ARN, EncapsulationAlgorithm: in.EncapsulationAlgorithm,
		SharedSecret: secret.New(shared), SharedSecretCiphertextBlob: ciphertext,
	}, nil
}

func (c *call) decapsulate(ctx context.Context, in *kmsapi.DecapsulateRequest) (*kmsapi.DecapsulateResponse, error) {
	if err := (options{grantTokens: in.GrantTokens}).check(ctx, c); err != nil {
		return nil, err
	}
	k, private, err := c.usePrivate(ctx, in.KeyID)
	if err != nil {
		return nil, err
	}
	shared, err := private.Decapsulate(in.SharedSecretCiphertextBlob)
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		clear(shared)
		return nil, dryRun()
	}
	return &kmsapi.DecapsulateResponse{KeyID: k.ARN, EncapsulationAlgorithm: in.EncapsulationAlgorithm, SharedSecret: secret.New(shared)}, nil
}
