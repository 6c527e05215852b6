package kmsapi

// ReplicateKeyRequest is the input of ReplicateKey.
type ReplicateKeyRequest struct {
	KeyID                          string `aws:"KeyId,required" len:"1,2048"`
	ReplicaRegion                  string `aws:"ReplicaRegion,required" len:"1,32" pattern:"^([a-z]+-){2,3}\\d+$"`
	BypassPolicyLockoutSafetyCheck bool   `aws:"BypassPolicyLockoutSafetyCheck"`
	Description                    string `aws:"Description" len:"0,8192"`
	Policy                         string `aws:"Policy" len:"1,131072" pattern:"[\\u0009\\u000A\\u000D\\u0020-\\u00FF]+"`
	Tags                           []Tag  `aws:"Tags"`
}

// ReplicateKeyResponse is the output of ReplicateKey.
type ReplicateKeyResponse struct {
	ReplicaKeyMetadata *KeyMetadata `aws:"ReplicaKeyMetadata"`
	ReplicaPolicy      string       `aws:"ReplicaPolicy"`
	ReplicaTags        []Tag        `aws:"ReplicaTags"`
}

// UpdatePrimaryRegionRequest is the input of UpdatePrimaryRegion.
type UpdatePrimaryRegionRequest struct {
	KeyID         string `aws:"KeyId,required" len:"1,2048"`
	PrimaryRegion string `aws:"PrimaryRegion,required" len:"1,32" pattern:"^([a-z]+-){2,3}\\d+$"`
}
