package kmsapi

// GrantOperation is an operation that a grant can allow.
type GrantOperation string

// The operations that a grant can allow.
const (
	GrantDecrypt                             GrantOperation = "Decrypt"
	GrantEncrypt                             GrantOperation = "Encrypt"
	GrantGenerateDataKey                     GrantOperation = "GenerateDataKey"
	GrantGenerateDataKeyWithoutPlaintext     GrantOperation = "GenerateDataKeyWithoutPlaintext"
	GrantReEncryptFrom                       GrantOperation = "ReEncryptFrom"
	GrantReEncryptTo                         GrantOperation = "ReEncryptTo"
	GrantSign                                GrantOperation = "Sign"
	GrantVerify                              GrantOperation = "Verify"
	GrantGetPublicKey                        GrantOperation = "GetPublicKey"
	GrantCreateGrant                         GrantOperation = "CreateGrant"
	GrantRetireGrant                         GrantOperation = "RetireGrant"
	GrantDescribeKey                         GrantOperation = "DescribeKey"
	GrantGenerateDataKeyPair                 GrantOperation = "GenerateDataKeyPair"
	GrantGenerateDataKeyPairWithoutPlaintext GrantOperation = "GenerateDataKeyPairWithoutPlaintext"
	GrantGenerateMac                         GrantOperation = "GenerateMac"
	GrantVerifyMac                           GrantOperation = "VerifyMac"
	GrantDeriveSharedSecret                  GrantOperation = "DeriveSharedSecret"
	GrantEncapsulate                         GrantOperation = "Encapsulate"
	GrantDecapsulate                         GrantOperation = "Decapsulate"
)

// Values lists the enumeration.
func (GrantOperation) Values() []string {
	return []string{"Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo", "Sign", "Verify", "GetPublicKey", "CreateGrant", "RetireGrant", "DescribeKey", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext", "GenerateMac", "VerifyMac", "DeriveSharedSecret", "Encapsulate", "Decapsulate"}
}

// CreateGrantRequest is the input of CreateGrant.
type CreateGrantRequest struct {
	KeyID                    string            `aws:"KeyId,required" len:"1,2048"`
	Operations               []GrantOperation  `aws:"Operations,required"`
	Constraints              *GrantConstraints `aws:"Constraints"`
	DryRun                   bool              `aws:"DryRun"`
	GrantTokens              []string          `aws:"GrantTokens" len:"0,10" each:"1,8192"`
	GranteePrincipal         string            `aws:"GranteePrincipal" len:"1,256" pattern:"^[\\w+=,.@:/-]+$"`
	GranteeServicePrincipal  string            `aws:"GranteeServicePrincipal"`
	Name                     string            `aws:"Name" len:"1,256" pattern:"^[a-zA-Z0-9:/_-]+$"`
	RetiringPrincipal        string            `aws:"RetiringPrincipal" len:"1,256" pattern:"^[\\w+=,.@:/-]+$"`
	RetiringServicePrincipal string            `aws:"RetiringServicePrincipal"`
}

// CreateGrantResponse is the output of CreateGrant.
type CreateGrantResponse struct {
	GrantID    string `aws:"GrantId"`
	GrantToken string `aws:"GrantToken"`
}

// ListGrantsRequest is the input of ListGrants.
type ListGrantsRequest struct {
	KeyID                   string `aws:"KeyId,required" len:"1,2048"`
	GrantID                 string `aws:"GrantId" len:"1,128"`
	GranteePrincipal        string `aws:"GranteePrincipal" len:"1,256" pattern:"^[\\w+=,.@:/-]+$"`
	GranteeServicePrincipal string `aws:"GranteeServicePrincipal"`
	Limit                   *int32 `aws:"Limit" range:"1,1000"`
	Marker                  string `aws:"Marker" len:"1,1024" pattern:"[\\u0020-\\u00FF]*"`
}

// ListGrantsResponse is the output of ListGrants.
type ListGrantsResponse struct {
	Grants     []GrantListEntry `aws:"Grants,always"`
	NextMarker string           `aws:"NextMarker"`
	Truncated  bool             `aws:"Truncated,always"`
}

// ListRetirableGrantsRequest is the input of ListRetirableGrants.
type ListRetirableGrantsRequest struct {
	Limit                    *int32 `aws:"Limit" range:"1,1000"`
	Marker                   string `aws:"Marker" len:"1,1024" pattern:"[\\u0020-\\u00FF]*"`
	RetiringPrincipal        string `aws:"RetiringPrincipal" len:"1,256" pattern:"^[\\w+=,.@:/-]+$"`
	RetiringServicePrincipal string `aws:"RetiringServicePrincipal"`
}

// ListRetirableGrantsResponse is the output of ListRetirableGrants.
type ListRetirableGrantsResponse struct {
	Grants     []GrantListEntry `aws:"Grants,always"`
	NextMarker string           `aws:"NextMarker"`
	Truncated  bool             `aws:"Truncated,always"`
}

// RetireGrantRequest is the input of RetireGrant.
type RetireGrantRequest struct {
	DryRun     bool   `aws:"DryRun"`
	GrantID    string `aws:"GrantId" len:"1,128"`
	GrantToken string `aws:"GrantToken" len:"1,8192"`
	KeyID      string `aws:"KeyId" len:"1,2048"`
}

// RevokeGrantRequest is the input of RevokeGrant.
type RevokeGrantRequest struct {
	GrantID string `aws:"GrantId,required" len:"1,128"`
	KeyID   string `aws:"KeyId,required" len:"1,2048"`
	DryRun  bool   `aws:"DryRun"`
}

// GrantConstraints narrow a grant to an encryption context or a source.
type GrantConstraints struct {
	EncryptionContextEquals map[string]string `aws:"EncryptionContextEquals"`
	EncryptionContextSubset map[string]string `aws:"EncryptionContextSubset"`
	SourceArn               string            `aws:"SourceArn"`
}

// GrantListEntry is one grant.
type GrantListEntry struct {
	Constraints              *GrantConstraints `aws:"Constraints"`
	CreationDate             *Time             `aws:"CreationDate"`
	GrantID                  string            `aws:"GrantId"`
	GranteePrincipal         string            `aws:"GranteePrincipal"`
	GranteeServicePrincipal  string            `aws:"GranteeServicePrincipal"`
	IssuingAccount           string            `aws:"IssuingAccount"`
	KeyID                    string            `aws:"KeyId"`
	Name                     string            `aws:"Name,always"`
	Operations               []GrantOperation  `aws:"Operations"`
	RetiringPrincipal        string            `aws:"RetiringPrincipal"`
	RetiringServicePrincipal string            `aws:"RetiringServicePrincipal"`
}
