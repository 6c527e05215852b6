package audit

import "kastellan.dev/internal/identity"

// IdentityOf is how records show a principal.
func IdentityOf(p *identity.Principal) UserIdentity {
	u := UserIdentity{
		Type:        p.Type,
		PrincipalID: p.PrincipalID,
		ARN:         p.ARN,
		AccountID:   p.Account,
		AccessKeyID: p.AccessKeyID,
		UserName:    p.UserName,
		InvokedBy:   p.ViaService,
	}
	if p.Session != nil {
		u.SessionContext = contextOf(p.Session, p.Type)
	}
	return u
}

// contextOf leaves the issuer out where it is the principal itself.
func contextOf(s *identity.Session, kind string) *SessionContext {
	c := &SessionContext{
		Attributes:     &SessionAttributes{CreationDate: s.Issued.UTC()},
		SourceIdentity: s.SourceIdentity,
	}
	if kind == identity.TypeAssumedRole || kind == identity.TypeFederatedUser {
		i := s.Issuer
		c.SessionIssuer = &SessionIssuer{Type: i.Type, PrincipalID: i.PrincipalID, ARN: i.ARN, AccountID: i.Account, UserName: i.UserName}
	}
	if s.Provider != "" {
		c.WebIDFederationData = &WebIDFederationData{FederatedProvider: s.Provider, Attributes: s.Claims}
	}
	return c
}
