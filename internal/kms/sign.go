package kms

import (
	"context"

	"kastellan.dev/internal/kmsapi"
)

func (c *call) sign(ctx context.Context, in *kmsapi.SignRequest) (*kmsapi.SignResponse, error) {
	if err := (options{grantTokens: in.GrantTokens}).check(ctx, c); err != nil {
		return nil, err
	}
	k, private, err := c.usePrivate(ctx, in.KeyID)
	if err != nil {
		return nil, err
	}
	signature, err := private.Sign(in.SigningAlgorithm, in.MessageType, in.Message.Reveal())
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, dryRun()
	}
	return &kmsapi.SignResponse{KeyID: k.ARN, Signature: signature, SigningAlgorithm: in.SigningAlgorithm}, nil
}

func (c *call) verify(ctx context.Context, in *kmsapi.VerifyRequest) (*kmsapi.VerifyResponse, error) {
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
	if err := public.Verify(in.SigningAlgorithm, in.MessageType, in.Message.Reveal(), in.Signature); err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, dryRun()
	}
	return &kmsapi.VerifyResponse{KeyID: k.ARN, SignatureValid: true, SigningAlgorithm: in.SigningAlgorithm}, nil
}

func (c *call) getPublicKey(ctx context.Context, in *kmsapi.GetPublicKeyRequest) (*kmsapi.GetPublicKeyResponse, error) {
	if err := (options{grantTokens: in.GrantTokens}).check(ctx, c); err != nil {
		return nil, err
	}
	k, err := c.use(in.KeyID)
	if err != nil {
		return nil, err
	}
	if len(k.PublicKey) == 0 { // its material has never been imported
		return nil, kmsapi.Errorf(kmsapi.KMSInvalidState, "%s %s", k.ARN, stateTexts[kmsapi.StatePendingImport])
	}
	return &kmsapi.GetPublicKeyResponse{
		KeyID: k.ARN, PublicKey: k.PublicKey, KeySpec: k.Spec, CustomerMasterKeySpec: kmsapi.CustomerMasterKeySpec(k.Spec), KeyUsage: k.Usage,
		EncryptionAlgorithms: k.spec.EncryptionAlgorithms(k.Usage), SigningAlgorithms: k.spec.SigningAlgorithms(k.Usage),
		KeyAgreementAlgorithms: k.spec.KeyAgreementAlgorithms(k.Usage), EncapsulationAlgorithms: k.spec.EncapsulationAlgorithms(k.Usage),
	}, nil
}
