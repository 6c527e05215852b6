package kmsapi

import "kastellan.dev/internal/secret"

// GenerateMacRequest is the input of GenerateMac.
type GenerateMacRequest struct {
	KeyID        string           `aws:"KeyId,required" len:"1,2048"`
	MacAlgorithm MacAlgorithmSpec `aws:"MacAlgorithm,required"`
	Message      secret.Bytes     `aws:"Message,required,sensitive" len:"1,4096"`
	DryRun       bool             `aws:"DryRun"`
	GrantTokens  []string         `aws:"GrantTokens" len:"0,10" each:"1,8192"`
}

// GenerateMacResponse is the output of GenerateMac.
type GenerateMacResponse struct {
	KeyID        string           `aws:"KeyId"`
	Mac          []byte           `aws:"Mac"`
	MacAlgorithm MacAlgorithmSpec `aws:"MacAlgorithm"`
}

// VerifyMacRequest is the input of VerifyMac.
type VerifyMacRequest struct {
	KeyID        string           `aws:"KeyId,required" len:"1,2048"`
	Mac          []byte           `aws:"Mac,required" len:"1,6144"`
	MacAlgorithm MacAlgorithmSpec `aws:"MacAlgorithm,required"`
	Message      secret.Bytes     `aws:"Message,required,sensitive" len:"1,4096"`
	DryRun       bool             `aws:"DryRun"`
	GrantTokens  []string         `aws:"GrantTokens" len:"0,10" each:"1,8192"`
}

// VerifyMacResponse is the output of VerifyMac.
type VerifyMacResponse struct {
	KeyID        string           `aws:"KeyId"`
	MacAlgorithm MacAlgorithmSpec `aws:"MacAlgorithm"`
	MacValid     bool             `aws:"MacValid,always"`
}
