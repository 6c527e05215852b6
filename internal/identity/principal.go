package identity

import "kastellan.dev/internal/policy"

// The types of principals.
const (
	TypeRoot    = "Root"
	TypeIAMUser = "IAMUser"
)

// Principal is who an access key belongs to. It is shared between requests and
// must not be changed.
type Principal struct {
	Account     string // 12 digits
	ARN         string // "arn:aws:iam::111122223333:user/ops/alice", or ":root"
	Type        string // TypeRoot or TypeIAMUser
	UserName    string // empty for root
	PrincipalID string // "AIDA…"; the account's id for root
	AccessKeyID string // the key that this principal came with

	policies []*policy.Document
}

// Allows decides by the principal's own policies, for a request that has no
// condition keys. Root of an account is allowed everything; what the account owns
// limits it elsewhere.
func (p *Principal) Allows(action, resource string) policy.Decision {
	return policy.IdentityAllows(&policy.Inputs{Identity: p.policies}, &policy.Request{
		Subject:  &policy.Subject{Account: p.Account, ARN: p.ARN, Root: p.Type == TypeRoot},
		Action:   action,
		Resource: resource,
	})
}

// Caller is one request's principal and circumstances. It is passed by value.
type Caller struct {
	*Principal
	Region      string // of the credential scope
	RequestID   string
	SourceIP    string
	UserAgent   string
	TLSVersion  string // "TLSv1.3"; empty without TLS
	CipherSuite string
	Host        string // as the client sent it
}
