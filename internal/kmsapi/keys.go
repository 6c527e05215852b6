package kmsapi

// Tag is a tag on a KMS key.
type Tag struct {
	TagKey   string `aws:"TagKey,required" len:"1,128"`
	TagValue string `aws:"TagValue,required" len:"0,256"`
}

// CreateKeyRequest is the input of CreateKey.
type CreateKeyRequest struct {
	Policy                         string                `aws:"Policy" len:"1,131072" pattern:"[\\u0009\\u000A\\u000D\\u0020-\\u00FF]+"`
	Description                    string                `aws:"Description" len:"0,8192"`
	KeyUsage                       KeyUsageType          `aws:"KeyUsage"`
	CustomerMasterKeySpec          CustomerMasterKeySpec `aws:"CustomerMasterKeySpec"`
	KeySpec                        KeySpec               `aws:"KeySpec"`
	Origin                         OriginType            `aws:"Origin"`
	CustomKeyStoreID               string                `aws:"CustomKeyStoreId" len:"1,64"`
	BypassPolicyLockoutSafetyCheck bool                  `aws:"BypassPolicyLockoutSafetyCheck"`
	Tags                           []Tag                 `aws:"Tags"`
	MultiRegion                    *bool                 `aws:"MultiRegion"`
	XksKeyID                       string                `aws:"XksKeyId" len:"1,128" pattern:"^[a-zA-Z0-9-_.]+$"`
}

// CreateKeyResponse is the output of CreateKey.
type CreateKeyResponse struct {
	KeyMetadata *KeyMetadata `aws:"KeyMetadata"`
}

// DescribeKeyRequest is the input of DescribeKey.
type DescribeKeyRequest struct {
	KeyID       string   `aws:"KeyId,required" len:"1,2048"`
	GrantTokens []string `aws:"GrantTokens" len:"0,10" each:"1,8192"`
}

// DescribeKeyResponse is the output of DescribeKey.
type DescribeKeyResponse struct {
	KeyMetadata *KeyMetadata `aws:"KeyMetadata"`
}

// KeyMetadata describes a KMS key.
type KeyMetadata struct {
	AWSAccountID                string                       `aws:"AWSAccountId"`
	KeyID                       string                       `aws:"KeyId"`
	Arn                         string                       `aws:"Arn"`
	CreationDate                *Time                        `aws:"CreationDate"`
	Enabled                     bool                         `aws:"Enabled,always"`
	Description                 string                       `aws:"Description,always"`
	KeyUsage                    KeyUsageType                 `aws:"KeyUsage"`
	KeyState                    KeyState                     `aws:"KeyState"`
	DeletionDate                *Time                        `aws:"DeletionDate"`
	ValidTo                     *Time                        `aws:"ValidTo"`
	Origin                      OriginType                   `aws:"Origin"`
	CustomKeyStoreID            string                       `aws:"CustomKeyStoreId"`
	CloudHsmClusterID           string                       `aws:"CloudHsmClusterId"`
	ExpirationModel             ExpirationModelType          `aws:"ExpirationModel"`
	KeyManager                  KeyManagerType               `aws:"KeyManager"`
	CustomerMasterKeySpec       CustomerMasterKeySpec        `aws:"CustomerMasterKeySpec"`
	KeySpec                     KeySpec                      `aws:"KeySpec"`
	EncryptionAlgorithms        []EncryptionAlgorithmSpec    `aws:"EncryptionAlgorithms"`
	SigningAlgorithms           []SigningAlgorithmSpec       `aws:"SigningAlgorithms"`
	KeyAgreementAlgorithms      []KeyAgreementAlgorithmSpec  `aws:"KeyAgreementAlgorithms"`
	EncapsulationAlgorithms     []EncapsulationAlgorithmSpec `aws:"EncapsulationAlgorithms"`
	MultiRegion                 *bool                        `aws:"MultiRegion"`
	MultiRegionConfiguration    *MultiRegionConfiguration    `aws:"MultiRegionConfiguration"`
	PendingDeletionWindowInDays *int32                       `aws:"PendingDeletionWindowInDays"`
	MacAlgorithms               []MacAlgorithmSpec           `aws:"MacAlgorithms"`
	XksKeyConfiguration         *XksKeyConfigurationType     `aws:"XksKeyConfiguration"`
	CurrentKeyMaterialID        string                       `aws:"CurrentKeyMaterialId"`
}

// XksKeyConfigurationType names the external key behind a KMS key.
type XksKeyConfigurationType struct {
	ID string `aws:"Id"`
}

// MultiRegionConfiguration lists the members of a multi-Region key.
type MultiRegionConfiguration struct {
	MultiRegionKeyType MultiRegionKeyType `aws:"MultiRegionKeyType"`
	PrimaryKey         *MultiRegionKey    `aws:"PrimaryKey"`
	ReplicaKeys        []MultiRegionKey   `aws:"ReplicaKeys"`
}

// MultiRegionKey is one member of a multi-Region key.
type MultiRegionKey struct {
	Arn    string `aws:"Arn"`
	Region string `aws:"Region"`
}

// ListKeysRequest is the input of ListKeys.
type ListKeysRequest struct {
	Limit  *int32 `aws:"Limit" range:"1,1000"`
	Marker string `aws:"Marker" len:"1,1024" pattern:"[\\u0020-\\u00FF]*"`
}

// ListKeysResponse is the output of ListKeys.
type ListKeysResponse struct {
	Keys       []KeyListEntry `aws:"Keys,always"`
	NextMarker string         `aws:"NextMarker"`
	Truncated  bool           `aws:"Truncated,always"`
}

// KeyListEntry names one key.
type KeyListEntry struct {
	KeyID  string `aws:"KeyId"`
	KeyArn string `aws:"KeyArn"`
}

// EnableKeyRequest is the input of EnableKey.
type EnableKeyRequest struct {
	KeyID string `aws:"KeyId,required" len:"1,2048"`
}

// DisableKeyRequest is the input of DisableKey.
type DisableKeyRequest struct {
	KeyID string `aws:"KeyId,required" len:"1,2048"`
}

// UpdateKeyDescriptionRequest is the input of UpdateKeyDescription.
type UpdateKeyDescriptionRequest struct {
	KeyID       string `aws:"KeyId,required" len:"1,2048"`
	Description string `aws:"Description,required" len:"0,8192"`
}

// ScheduleKeyDeletionRequest is the input of ScheduleKeyDeletion.
type ScheduleKeyDeletionRequest struct {
	KeyID               string `aws:"KeyId,required" len:"1,2048"`
	PendingWindowInDays *int32 `aws:"PendingWindowInDays" range:"1,365"`
}

// ScheduleKeyDeletionResponse is the output of ScheduleKeyDeletion.
type ScheduleKeyDeletionResponse struct {
	KeyID               string   `aws:"KeyId"`
	DeletionDate        *Time    `aws:"DeletionDate"`
	KeyState            KeyState `aws:"KeyState"`
	PendingWindowInDays *int32   `aws:"PendingWindowInDays"`
}

// CancelKeyDeletionRequest is the input of CancelKeyDeletion.
type CancelKeyDeletionRequest struct {
	KeyID string `aws:"KeyId,required" len:"1,2048"`
}

// CancelKeyDeletionResponse is the output of CancelKeyDeletion.
type CancelKeyDeletionResponse struct {
	KeyID string `aws:"KeyId"`
}

// GetKeyPolicyRequest is the input of GetKeyPolicy.
type GetKeyPolicyRequest struct {
	KeyID      string `aws:"KeyId,required" len:"1,2048"`
	PolicyName string `aws:"PolicyName" len:"1,128" pattern:"[\\w]+"`
}

// GetKeyPolicyResponse is the output of GetKeyPolicy.
type GetKeyPolicyResponse struct {
	Policy     string `aws:"Policy"`
	PolicyName string `aws:"PolicyName"`
}

// PutKeyPolicyRequest is the input of PutKeyPolicy.
type PutKeyPolicyRequest struct {
	KeyID                          string `aws:"KeyId,required" len:"1,2048"`
	PolicyName                     string `aws:"PolicyName" len:"1,128" pattern:"[\\w]+"`
	Policy                         string `aws:"Policy,required" len:"1,131072" pattern:"[\\u0009\\u000A\\u000D\\u0020-\\u00FF]+"`
	BypassPolicyLockoutSafetyCheck bool   `aws:"BypassPolicyLockoutSafetyCheck"`
}

// Empty is the output of operations that answer with an empty body.
type Empty struct{}
