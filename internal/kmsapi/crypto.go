package kmsapi

import "kastellan.dev/internal/secret"

// RecipientInfo asks for an answer that only a Nitro enclave or a NitroTPM instance can read.
type RecipientInfo struct {
	KeyEncryptionAlgorithm KeyEncryptionMechanism `aws:"KeyEncryptionAlgorithm"`
	AttestationDocument    []byte                 `aws:"AttestationDocument" len:"1,262144"`
}

// EncryptRequest is the input of Encrypt.
type EncryptRequest struct {
	KeyID               string                  `aws:"KeyId,required" len:"1,2048"`
	Plaintext           secret.Bytes            `aws:"Plaintext,required,sensitive" len:"1,4096"`
	EncryptionContext   map[string]string       `aws:"EncryptionContext"`
	GrantTokens         []string                `aws:"GrantTokens" len:"0,10" each:"1,8192"`
	EncryptionAlgorithm EncryptionAlgorithmSpec `aws:"EncryptionAlgorithm"`
	DryRun              bool                    `aws:"DryRun"`
}

// EncryptResponse is the output of Encrypt.
type EncryptResponse struct {
	CiphertextBlob      []byte                  `aws:"CiphertextBlob"`
	KeyID               string                  `aws:"KeyId"`
	EncryptionAlgorithm EncryptionAlgorithmSpec `aws:"EncryptionAlgorithm"`
}

// DecryptRequest is the input of Decrypt.
type DecryptRequest struct {
	CiphertextBlob      []byte                  `aws:"CiphertextBlob" len:"1,6144"`
	EncryptionContext   map[string]string       `aws:"EncryptionContext"`
	GrantTokens         []string                `aws:"GrantTokens" len:"0,10" each:"1,8192"`
	KeyID               string                  `aws:"KeyId" len:"1,2048"`
	EncryptionAlgorithm EncryptionAlgorithmSpec `aws:"EncryptionAlgorithm"`
	Recipient           *RecipientInfo          `aws:"Recipient"`
	DryRun              bool                    `aws:"DryRun"`
	DryRunModifiers     []DryRunModifierType    `aws:"DryRunModifiers"`
}

// DecryptResponse is the output of Decrypt.
type DecryptResponse struct {
	KeyID                  string                  `aws:"KeyId"`
	Plaintext              secret.Bytes            `aws:"Plaintext,sensitive"`
	EncryptionAlgorithm    EncryptionAlgorithmSpec `aws:"EncryptionAlgorithm"`
	CiphertextForRecipient []byte                  `aws:"CiphertextForRecipient"`
	KeyMaterialID          string                  `aws:"KeyMaterialId"`
}

// ReEncryptRequest is the input of ReEncrypt.
type ReEncryptRequest struct {
	CiphertextBlob                 []byte                  `aws:"CiphertextBlob" len:"1,6144"`
	SourceEncryptionContext        map[string]string       `aws:"SourceEncryptionContext"`
	SourceKeyID                    string                  `aws:"SourceKeyId" len:"1,2048"`
	DestinationKeyID               string                  `aws:"DestinationKeyId,required" len:"1,2048"`
	DestinationEncryptionContext   map[string]string       `aws:"DestinationEncryptionContext"`
	SourceEncryptionAlgorithm      EncryptionAlgorithmSpec `aws:"SourceEncryptionAlgorithm"`
	DestinationEncryptionAlgorithm EncryptionAlgorithmSpec `aws:"DestinationEncryptionAlgorithm"`
	GrantTokens                    []string                `aws:"GrantTokens" len:"0,10" each:"1,8192"`
	DryRun                         bool                    `aws:"DryRun"`
	DryRunModifiers                []DryRunModifierType    `aws:"DryRunModifiers"`
}

// ReEncryptResponse is the output of ReEncrypt.
type ReEncryptResponse struct {
	CiphertextBlob                 []byte                  `aws:"CiphertextBlob"`
	SourceKeyID                    string                  `aws:"SourceKeyId"`
	KeyID                          string                  `aws:"KeyId"`
	SourceEncryptionAlgorithm      EncryptionAlgorithmSpec `aws:"SourceEncryptionAlgorithm"`
	DestinationEncryptionAlgorithm EncryptionAlgorithmSpec `aws:"DestinationEncryptionAlgorithm"`
	SourceKeyMaterialID            string                  `aws:"SourceKeyMaterialId"`
	DestinationKeyMaterialID       string                  `aws:"DestinationKeyMaterialId"`
}

// GenerateDataKeyRequest is the input of GenerateDataKey.
type GenerateDataKeyRequest struct {
	KeyID             string            `aws:"KeyId,required" len:"1,2048"`
	EncryptionContext map[string]string `aws:"EncryptionContext"`
	NumberOfBytes     *int32            `aws:"NumberOfBytes" range:"1,1024"`
	KeySpec           DataKeySpec       `aws:"KeySpec"`
	GrantTokens       []string          `aws:"GrantTokens" len:"0,10" each:"1,8192"`
	Recipient         *RecipientInfo    `aws:"Recipient"`
	DryRun            bool              `aws:"DryRun"`
}

// GenerateDataKeyResponse is the output of GenerateDataKey.
type GenerateDataKeyResponse struct {
	CiphertextBlob         []byte       `aws:"CiphertextBlob"`
	Plaintext              secret.Bytes `aws:"Plaintext,sensitive"`
	KeyID                  string       `aws:"KeyId"`
	CiphertextForRecipient []byte       `aws:"CiphertextForRecipient"`
	KeyMaterialID          string       `aws:"KeyMaterialId"`
}

// GenerateDataKeyWithoutPlaintextRequest is the input of GenerateDataKeyWithoutPlaintext.
type GenerateDataKeyWithoutPlaintextRequest struct {
	KeyID             string            `aws:"KeyId,required" len:"1,2048"`
	EncryptionContext map[string]string `aws:"EncryptionContext"`
	KeySpec           DataKeySpec       `aws:"KeySpec"`
	NumberOfBytes     *int32            `aws:"NumberOfBytes" range:"1,1024"`
	GrantTokens       []string          `aws:"GrantTokens" len:"0,10" each:"1,8192"`
	DryRun            bool              `aws:"DryRun"`
}

// GenerateDataKeyWithoutPlaintextResponse is the output of GenerateDataKeyWithoutPlaintext.
type GenerateDataKeyWithoutPlaintextResponse struct {
	CiphertextBlob []byte `aws:"CiphertextBlob"`
	KeyID          string `aws:"KeyId"`
	KeyMaterialID  string `aws:"KeyMaterialId"`
}

// GenerateRandomRequest is the input of GenerateRandom.
type GenerateRandomRequest struct {
	NumberOfBytes    *int32         `aws:"NumberOfBytes" range:"1,1024"`
	CustomKeyStoreID string         `aws:"CustomKeyStoreId" len:"1,64"`
	Recipient        *RecipientInfo `aws:"Recipient"`
}

// GenerateRandomResponse is the output of GenerateRandom.
type GenerateRandomResponse struct {
	Plaintext              secret.Bytes `aws:"Plaintext,sensitive"`
	CiphertextForRecipient []byte       `aws:"CiphertextForRecipient"`
}
