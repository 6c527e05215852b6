package kmsapi

import "kastellan.dev/internal/secret"

// DataKeyPairSpec is the key spec of a data key pair.
type DataKeyPairSpec string

// Values lists the enumeration.
func (DataKeyPairSpec) Values() []string {
	return []string{"RSA_2048", "RSA_3072", "RSA_4096", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_SECG_P256K1", "SM2", "ECC_NIST_EDWARDS25519", "ML_KEM_512", "ML_KEM_768", "ML_KEM_1024"}
}

// GenerateDataKeyPairRequest is the input of GenerateDataKeyPair.
type GenerateDataKeyPairRequest struct {
	KeyID             string            `aws:"KeyId,required" len:"1,2048"`
	KeyPairSpec       DataKeyPairSpec   `aws:"KeyPairSpec,required"`
	DryRun            bool              `aws:"DryRun"`
	EncryptionContext map[string]string `aws:"EncryptionContext"`
	GrantTokens       []string          `aws:"GrantTokens" len:"0,10" each:"1,8192"`
	Recipient         *RecipientInfo    `aws:"Recipient"`
}

// GenerateDataKeyPairResponse is the output of GenerateDataKeyPair.
type GenerateDataKeyPairResponse struct {
	CiphertextForRecipient   []byte          `aws:"CiphertextForRecipient"`
	KeyID                    string          `aws:"KeyId"`
	KeyMaterialID            string          `aws:"KeyMaterialId"`
	KeyPairSpec              DataKeyPairSpec `aws:"KeyPairSpec"`
	PrivateKeyCiphertextBlob []byte          `aws:"PrivateKeyCiphertextBlob"`
	PrivateKeyPlaintext      secret.Bytes    `aws:"PrivateKeyPlaintext,sensitive"`
	PublicKey                []byte          `aws:"PublicKey"`
}

// GenerateDataKeyPairWithoutPlaintextRequest is the input of GenerateDataKeyPairWithoutPlaintext.
type GenerateDataKeyPairWithoutPlaintextRequest struct {
	KeyID             string            `aws:"KeyId,required" len:"1,2048"`
	KeyPairSpec       DataKeyPairSpec   `aws:"KeyPairSpec,required"`
	DryRun            bool              `aws:"DryRun"`
	EncryptionContext map[string]string `aws:"EncryptionContext"`
	GrantTokens       []string          `aws:"GrantTokens" len:"0,10" each:"1,8192"`
}

// GenerateDataKeyPairWithoutPlaintextResponse is the output of GenerateDataKeyPairWithoutPlaintext.
type GenerateDataKeyPairWithoutPlaintextResponse struct {
	KeyID                    string          `aws:"KeyId"`
	KeyMaterialID            string          `aws:"KeyMaterialId"`
	KeyPairSpec              DataKeyPairSpec `aws:"KeyPairSpec"`
	PrivateKeyCiphertextBlob []byte          `aws:"PrivateKeyCiphertextBlob"`
	PublicKey                []byte          `aws:"PublicKey"`
}
