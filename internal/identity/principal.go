package identity

import (
	"time"

	"kastellan.dev/internal/policy"
)

// The types of principals.
const (
	TypeRoot          = "Root"
	TypeIAMUser       = "IAMUser"
	TypeAssumedRole   = "AssumedRole"
	TypeFederatedUser = "FederatedUser"
)

// Principal is who an access key belongs to. It is shared between requests and
// must not be changed.
type Principal struct {
	Account     string // 12 digits
	ARN         string // "arn:aws:iam::111122223333:user/ops/alice", or ":root", or that of a session
	Type        string // one of the types above
	UserName    string // of users only
	PrincipalID string // "AIDA…"; the account's id for root; "AROA…:session" for the session of a role
	AccessKeyID string // the key that this principal came with
	// ViaService is the service that is known to use this key on behalf of others, as
	// "s3.eu-central-1.amazonaws.com"; usually empty.
	ViaService string
	Tags       map[string]string // those of the user or role, and above them those of the session
	Session    *Session          // nil for long-term credentials

	organization *Organization // of the account

	subject  policy.Subject
	policies []*policy.Document
	boundary *policy.Document
	narrowed []*policy.Document // the session policies
}

// Session is what temporary credentials are about.
type Session struct {
	Name           string // as the one who began it named it; empty for those of users
	Issued         time.Time
	Expires        time.Time
	SourceIdentity string
	Issuer         Issuer
	Transitive     []string // keys of session tags that go along when another role is assumed
	// Provider and Claims are of sessions that began with an OIDC token: the issuer's host and
	// path, and the claims by the names that condition keys have ("host/path:sub", in lower case).
	Provider string
	Claims   map[string]string
}

// Issuer is the role or user that a session stands for.
type Issuer struct {
	Type        string // IssuerRole, IssuerUser or IssuerRoot
	PrincipalID string
	ARN         string
	Account     string
	UserName    string // the role's or the user's name
}

// Subject is the principal as policies see it.
func (p *Principal) Subject() *policy.Subject {
	if p.subject.ARN == "" { // not of a Directory
		s := p.asSubject()
		return &s
	}
	return &p.subject
}

func (p *Principal) asSubject() policy.Subject {
	s := policy.Subject{Account: p.Account, ARN: p.ARN, Root: p.Type == TypeRoot}
	if p.Session != nil && p.Session.Issuer.Type == "Role" {
		s.Role = p.Session.Issuer.ARN
	}
	return s
}

// Inputs are the policies that the principal brings along.
func (p *Principal) Inputs() policy.Inputs {
	return policy.Inputs{Identity: p.policies, Boundary: p.boundary, Session: p.narrowed}
}

// Caller is one request's principal and circumstances. It is passed by value.
type Caller struct {
	*Principal
	Region      string // of the credential scope
	RequestID   string
	SourceIP    string
	UserAgent   string
	Referer     string
	TLSVersion  string // "TLSv1.3"; empty without TLS
	CipherSuite string
	Host        string // as the client sent it
}

// Allows decides by the principal's own policies about what has no policy itself and
// depends on no condition.
func (p *Principal) Allows(action, resource string) policy.Decision {
	in := p.Inputs()
	in.Owner = p.Account
	return policy.IdentityAllows(&in, &policy.Request{Subject: p.Subject(), Action: action, Resource: resource})
}
