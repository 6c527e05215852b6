package kms

import (
	"context"

	"kastellan.dev/internal/kmsapi"
)

func (c *call) generateMac(ctx context.Context, in *kmsapi.GenerateMacRequest) (*kmsapi.GenerateMacResponse, error) {
	if err := (options{grantTokens: in.GrantTokens}).check(ctx, c); err != nil {
		return nil, err
	}
	k, private, err := c.usePrivate(ctx, in.KeyID)
	if err != nil {
		return nil, err
	}
	mac, err := private.MAC(in.MacAlgorithm, in.Message.Reveal())
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, dryRun()
	}
	return &kmsapi.GenerateMacResponse{KeyID: k.ARN, Mac: mac, MacAlgorithm: in.MacAlgorithm}, nil
}

func (c *call) verifyMac(ctx context.Context, in *kmsapi.VerifyMacRequest) (*kmsapi.VerifyMacResponse, error) {
	if err := (options{grantTokens: in.GrantTokens}).check(ctx, c); err != nil {
		return nil, err
	}
	k, private, err := c.usePrivate(ctx, in.KeyID)
	if err != nil {
		return nil, err
	}
	if err := private.VerifyMAC(in.MacAlgorithm, in.Message.Reveal(), in.Mac); err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, dryRun()
	}
	return &kmsapi.VerifyMacResponse{KeyID: k.ARN, MacValid: true, MacAlgorithm: in.MacAlgorithm}, nil
}
