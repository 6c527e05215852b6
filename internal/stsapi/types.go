package stsapi

import (
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// GetCallerIdentityRequest has no members.
type GetCallerIdentityRequest struct{}

// GetCallerIdentityResponse tells who the caller is.
type GetCallerIdentityResponse struct {
	UserId  string `aws:"UserId"`
	Account string `aws:"Account"`
	Arn     string `aws:"Arn"`
}

// AssumeRoleRequest asks for a session of a role.
type AssumeRoleRequest struct {
	RoleArn                 string                 `aws:"RoleArn,required" len:"20,2048" pattern:"[\\x{0009}\\x{000A}\\x{000D}\\x{0020}-\\x{007E}\\x{0085}\\x{00A0}-\\x{10FFFF}]+"`
	RoleSessionName         string                 `aws:"RoleSessionName,required" len:"2,64" pattern:"[\\w+=,.@-]*"`
	PolicyArns              []PolicyDescriptorType `aws:"PolicyArns" len:",10"`
	Policy                  *string                `aws:"Policy" len:"1,2048" pattern:"[\\x{0009}\\x{000A}\\x{000D}\\x{0020}-\\x{00FF}]+"`
	DurationSeconds         *int32                 `aws:"DurationSeconds" range:"900,43200"`
	Tags                    []Tag                  `aws:"Tags" len:",50"`
	TransitiveTagKeys       []string               `aws:"TransitiveTagKeys" len:",50" each:"1,128"`
	ExternalId              *string                `aws:"ExternalId" len:"2,1224" pattern:"[\\w+=,.@:\\/-]*"`
	SerialNumber            *string                `aws:"SerialNumber" len:"9,256" pattern:"[\\w+=\\/:,.@-]*"`
	TokenCode               *string                `aws:"TokenCode,sensitive" len:"6,6" pattern:"[\\d]*"`
	SourceIdentity          *string                `aws:"SourceIdentity" len:"2,64" pattern:"[\\w+=,.@-]*"`
	ProvidedContexts        []ProvidedContext      `aws:"ProvidedContexts" len:",5"`
	MinimumSessionTokenSize *int32                 `aws:"MinimumSessionTokenSize" range:"0,4096"` // characters
}

// AssumeRoleResponse has the session's credentials.
type AssumeRoleResponse struct {
	SourceIdentity          string           `aws:"SourceIdentity"`
	AssumedRoleUser         *AssumedRoleUser `aws:"AssumedRoleUser"`
	Credentials             *Credentials     `aws:"Credentials"`
	PackedPolicySize        *int32           `aws:"PackedPolicySize"`        // percent
	SessionTokenSize        *int32           `aws:"SessionTokenSize"`        // characters
	SessionTokenUtilization *int32           `aws:"SessionTokenUtilization"` // percent of the longest that there can be
}

// AssumeRoleWithWebIdentityRequest asks for a session of a role by an OpenID Connect token.
type AssumeRoleWithWebIdentityRequest struct {
	RoleArn                 string                 `aws:"RoleArn,required" len:"20,2048" pattern:"[\\x{0009}\\x{000A}\\x{000D}\\x{0020}-\\x{007E}\\x{0085}\\x{00A0}-\\x{10FFFF}]+"`
	RoleSessionName         string                 `aws:"RoleSessionName,required" len:"2,64" pattern:"[\\w+=,.@-]*"`
	WebIdentityToken        secret.Text            `aws:"WebIdentityToken,required,sensitive" len:"4,20000"`
	ProviderId              *string                `aws:"ProviderId" len:"4,2048"`
	PolicyArns              []PolicyDescriptorType `aws:"PolicyArns" len:",10"`
	Policy                  *string                `aws:"Policy" len:"1,2048" pattern:"[\\x{0009}\\x{000A}\\x{000D}\\x{0020}-\\x{00FF}]+"`
	DurationSeconds         *int32                 `aws:"DurationSeconds" range:"900,43200"`
	MinimumSessionTokenSize *int32                 `aws:"MinimumSessionTokenSize" range:"0,4096"` // characters
}

// AssumeRoleWithWebIdentityResponse has the session's credentials, and whom the token was about.
type AssumeRoleWithWebIdentityResponse struct {
	SubjectFromWebIdentityToken string           `aws:"SubjectFromWebIdentityToken"`
	Audience                    string           `aws:"Audience"`
	SourceIdentity              string           `aws:"SourceIdentity"`
	AssumedRoleUser             *AssumedRoleUser `aws:"AssumedRoleUser"`
	Credentials                 *Credentials     `aws:"Credentials"`
	Provider                    string           `aws:"Provider"`
	PackedPolicySize            *int32           `aws:"PackedPolicySize"`        // percent
	SessionTokenSize            *int32           `aws:"SessionTokenSize"`        // characters
	SessionTokenUtilization     *int32           `aws:"SessionTokenUtilization"` // percent of the longest that there can be
}

// GetSessionTokenRequest asks for temporary credentials of the caller itself.
type GetSessionTokenRequest struct {
	DurationSeconds         *int32  `aws:"DurationSeconds" range:"900,129600"`
	SerialNumber            *string `aws:"SerialNumber" len:"9,256" pattern:"[\\w+=\\/:,.@-]*"`
	TokenCode               *string `aws:"TokenCode,sensitive" len:"6,6" pattern:"[\\d]*"`
	MinimumSessionTokenSize *int32  `aws:"MinimumSessionTokenSize" range:"0,4096"` // characters
}

// GetSessionTokenResponse has the credentials.
type GetSessionTokenResponse struct {
	Credentials             *Credentials `aws:"Credentials"`
	SessionTokenSize        *int32       `aws:"SessionTokenSize"`        // characters
	SessionTokenUtilization *int32       `aws:"SessionTokenUtilization"` // percent of the longest that there can be
}

// GetFederationTokenRequest asks for a session of somebody whom the caller stands surety for.
type GetFederationTokenRequest struct {
	Name                    string                 `aws:"Name,required" len:"2,32" pattern:"[\\w+=,.@-]*"`
	Policy                  *string                `aws:"Policy" len:"1,2048" pattern:"[\\x{0009}\\x{000A}\\x{000D}\\x{0020}-\\x{00FF}]+"`
	PolicyArns              []PolicyDescriptorType `aws:"PolicyArns" len:",10"`
	DurationSeconds         *int32                 `aws:"DurationSeconds" range:"900,129600"`
	Tags                    []Tag                  `aws:"Tags" len:",50"`
	MinimumSessionTokenSize *int32                 `aws:"MinimumSessionTokenSize" range:"0,4096"` // characters
}

// GetFederationTokenResponse has the session's credentials.
type GetFederationTokenResponse struct {
	FederatedUser           *FederatedUser `aws:"FederatedUser"`
	Credentials             *Credentials   `aws:"Credentials"`
	PackedPolicySize        *int32         `aws:"PackedPolicySize"`        // percent
	SessionTokenSize        *int32         `aws:"SessionTokenSize"`        // characters
	SessionTokenUtilization *int32         `aws:"SessionTokenUtilization"` // percent of the longest that there can be
}

// Credentials are temporary credentials.
type Credentials struct {
	AccessKeyId     string       `aws:"AccessKeyId"`
	SecretAccessKey secret.Text  `aws:"SecretAccessKey,sensitive"`
	SessionToken    secret.Text  `aws:"SessionToken,sensitive"`
	Expiration      *kmsapi.Time `aws:"Expiration"`
}

// AssumedRoleUser names the session of a role.
type AssumedRoleUser struct {
	AssumedRoleId string `aws:"AssumedRoleId"` // "AROA…:session"
	Arn           string `aws:"Arn"`
}

// FederatedUser names the session of somebody for whom a user stands surety.
type FederatedUser struct {
	FederatedUserId string `aws:"FederatedUserId"` // "account:name"
	Arn             string `aws:"Arn"`
}

// PolicyDescriptorType names a managed policy.
type PolicyDescriptorType struct {
	Arn string `aws:"arn" len:"20,2048"`
}

// Tag is a session tag.
type Tag struct {
	Key   string `aws:"Key,required" len:"1,128" pattern:"[\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]+"`
	Value string `aws:"Value,required" len:"0,256" pattern:"[\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*"`
}

// ProvidedContext is an assertion of a trusted context provider.
type ProvidedContext struct {
	ProviderArn      string `aws:"ProviderArn" len:"20,2048"`
	ContextAssertion string `aws:"ContextAssertion,sensitive" len:"4,2048"`
}
