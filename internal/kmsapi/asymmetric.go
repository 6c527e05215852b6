package kmsapi

import "kastellan.dev/internal/secret"

// MessageType tells what the message of a signature is.
type MessageType string

// The values of MessageType.
const (
	MessageRaw        MessageType = "RAW"
	MessageDigest     MessageType = "DIGEST"
	MessageExternalMu MessageType = "EXTERNAL_MU"
)

// Values lists the enumeration.
func (MessageType) Values() []string {
	return []string{"RAW", "DIGEST", "EXTERNAL_MU"}
}

// GetPublicKeyRequest is the input of GetPublicKey.
type GetPublicKeyRequest struct {
	KeyID       string   `aws:"KeyId,required" len:"1,2048"`
	GrantTokens []string `aws:"GrantTokens" len:"0,10" each:"1,8192"`
}

// GetPublicKeyResponse is the output of GetPublicKey.
type GetPublicKeyResponse struct {
	CustomerMasterKeySpec   CustomerMasterKeySpec        `aws:"CustomerMasterKeySpec"`
	EncapsulationAlgorithms []EncapsulationAlgorithmSpec `aws:"EncapsulationAlgorithms"`
	EncryptionAlgorithms    []EncryptionAlgorithmSpec    `aws:"EncryptionAlgorithms"`
	KeyAgreementAlgorithms  []KeyAgreementAlgorithmSpec  `aws:"KeyAgreementAlgorithms"`
	KeyID                   string                       `aws:"KeyId"`
	KeySpec                 KeySpec                      `aws:"KeySpec"`
	KeyUsage                KeyUsageType                 `aws:"KeyUsage"`
	PublicKey               []byte                       `aws:"PublicKey"`
	SigningAlgorithms       []SigningAlgorithmSpec       `aws:"SigningAlgorithms"`
}

// SignRequest is the input of Sign.
type SignRequest struct {
	KeyID            string               `aws:"KeyId,required" len:"1,2048"`
	Message          secret.Bytes         `aws:"Message,required,sensitive" len:"1,4096"`
	SigningAlgorithm SigningAlgorithmSpec `aws:"SigningAlgorithm,required"`
	DryRun           bool                 `aws:"DryRun"`
	GrantTokens      []string             `aws:"GrantTokens" len:"0,10" each:"1,8192"`
	MessageType      MessageType          `aws:"MessageType"`
}

// SignResponse is the output of Sign.
type SignResponse struct {
	KeyID            string               `aws:"KeyId"`
	Signature        []byte               `aws:"Signature"`
	SigningAlgorithm SigningAlgorithmSpec `aws:"SigningAlgorithm"`
}

// VerifyRequest is the input of Verify.
type VerifyRequest struct {
	KeyID            string               `aws:"KeyId,required" len:"1,2048"`
	Message          secret.Bytes         `aws:"Message,required,sensitive" len:"1,4096"`
	Signature        []byte               `aws:"Signature,required" len:"1,6144"`
	SigningAlgorithm SigningAlgorithmSpec `aws:"SigningAlgorithm,required"`
	DryRun           bool                 `aws:"DryRun"`
	GrantTokens      []string             `aws:"GrantTokens" len:"0,10" each:"1,8192"`
	MessageType      MessageType          `aws:"MessageType"`
}

// VerifyResponse is the output of Verify.
type VerifyResponse struct {
	KeyID            string               `aws:"KeyId"`
	SignatureValid   bool                 `aws:"SignatureValid,always"`
	SigningAlgorithm SigningAlgorithmSpec `aws:"SigningAlgorithm"`
}

// DeriveSharedSecretRequest is the input of DeriveSharedSecret.
type DeriveSharedSecretRequest struct {
	KeyAgreementAlgorithm KeyAgreementAlgorithmSpec `aws:"KeyAgreementAlgorithm,required"`
	KeyID                 string                    `aws:"KeyId,required" len:"1,2048"`
	PublicKey             []byte                    `aws:"PublicKey,required" len:"1,8192"`
	DryRun                bool                      `aws:"DryRun"`
	GrantTokens           []string                  `aws:"GrantTokens" len:"0,10" each:"1,8192"`
	Recipient             *RecipientInfo            `aws:"Recipient"`
}

// DeriveSharedSecretResponse is the output of DeriveSharedSecret.
type DeriveSharedSecretResponse struct {
	CiphertextForRecipient []byte                    `aws:"CiphertextForRecipient"`
	KeyAgreementAlgorithm  KeyAgreementAlgorithmSpec `aws:"KeyAgreementAlgorithm"`
	KeyID                  string                    `aws:"KeyId"`
	KeyOrigin              OriginType                `aws:"KeyOrigin"`
	SharedSecret           secret.Bytes              `aws:"SharedSecret,sensitive"`
}

// EncapsulateRequest is the input of Encapsulate.
type EncapsulateRequest struct {
	EncapsulationAlgorithm EncapsulationAlgorithmSpec `aws:"EncapsulationAlgorithm,required"`
	KeyID                  string                     `aws:"KeyId,required" len:"1,2048"`
	DryRun                 bool                       `aws:"DryRun"`
	GrantTokens            []string                   `aws:"GrantTokens" len:"0,10" each:"1,8192"`
}

// EncapsulateResponse is the output of Encapsulate.
type EncapsulateResponse struct {
	EncapsulationAlgorithm     EncapsulationAlgorithmSpec `aws:"EncapsulationAlgorithm"`
	KeyID                      string                     `aws:"KeyId"`
	SharedSecret               secret.Bytes               `aws:"SharedSecret,sensitive"`
	SharedSecretCiphertextBlob []byte                     `aws:"SharedSecretCiphertextBlob"`
}

// DecapsulateRequest is the input of Decapsulate.
type DecapsulateRequest struct {
	EncapsulationAlgorithm     EncapsulationAlgorithmSpec `aws:"EncapsulationAlgorithm,required"`
	KeyID                      string                     `aws:"KeyId,required" len:"1,2048"`
	SharedSecretCiphertextBlob []byte                     `aws:"SharedSecretCiphertextBlob,required"`
	DryRun                     bool                       `aws:"DryRun"`
	GrantTokens                []string                   `aws:"GrantTokens" len:"0,10" each:"1,8192"`
}

// DecapsulateResponse is the output of Decapsulate.
type DecapsulateResponse struct {
	EncapsulationAlgorithm EncapsulationAlgorithmSpec `aws:"EncapsulationAlgorithm"`
	KeyID                  string                     `aws:"KeyId"`
	SharedSecret           secret.Bytes               `aws:"SharedSecret,sensitive"`
}
