package kmsapi

// KeyLastUsageTrackingOperation is an operation that counts as using a key.
type KeyLastUsageTrackingOperation string

// Values lists the enumeration.
func (KeyLastUsageTrackingOperation) Values() []string {
	return []string{
		"Decrypt", "DeriveSharedSecret", "Encrypt", "GenerateDataKey", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext",
		"GenerateDataKeyWithoutPlaintext", "GenerateMac", "ReEncrypt", "Sign", "Verify", "VerifyMac", "Encapsulate", "Decapsulate",
	}
}

// GetKeyLastUsageRequest is the input of GetKeyLastUsage.
type GetKeyLastUsageRequest struct {
	KeyID string `aws:"KeyId,required" len:"1,2048"`
}

// GetKeyLastUsageResponse is the output of GetKeyLastUsage.
type GetKeyLastUsageResponse struct {
	KeyCreationDate   *Time             `aws:"KeyCreationDate"`
	KeyID             string            `aws:"KeyId"`
	KeyLastUsage      *KeyLastUsageData `aws:"KeyLastUsage"`
	TrackingStartDate *Time             `aws:"TrackingStartDate"`
}

// KeyLastUsageData is the last successful cryptographic operation with a key.
type KeyLastUsageData struct {
	CloudTrailEventID string                        `aws:"CloudTrailEventId"`
	KmsRequestID      string                        `aws:"KmsRequestId"`
	Operation         KeyLastUsageTrackingOperation `aws:"Operation"`
	Timestamp         *Time                         `aws:"Timestamp"`
}
