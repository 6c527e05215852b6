package identity

import (
	"maps"
	"strings"

	"kastellan.dev/internal/policy"
)

// Types of those who issue sessions.
const (
	IssuerRole = "Role"
	IssuerUser = "IAMUser"
	IssuerRoot = "Root"
)

// SessionARN is the ARN of a session of the role. It leaves out the role's path.
func (r *RoleEntry) SessionARN(name string) string {
	return "arn:" + r.partition + ":sts::" + r.Account + ":assumed-role/" + r.Name + "/" + name
}

// Session makes the principal of a session of the role. The session's name must be
// set, its issuer is the role; tags go above those of the role, and narrowed
// are the session policies.
func (r *RoleEntry) Session(accessKeyID string, s Session, tags map[string]string, narrowed []*policy.Document) *Principal {
	s.Issuer = Issuer{Type: IssuerRole, PrincipalID: r.ID, ARN: r.ARN, Account: r.Account, UserName: r.Name}
	arn := r.SessionARN(s.Name)
	return &Principal{
		Account:      r.Account,
		organization: r.organization,
		ARN:          arn,
		Type:         TypeAssumedRole,
		PrincipalID:  r.ID + ":" + s.Name,
		AccessKeyID:  accessKeyID,
		Tags:         overlay(r.Tags, tags),
		Session:      &s,
		subject:      policy.Subject{Account: r.Account, ARN: arn, Role: r.ARN},
		policies:     r.policies,
		boundary:     r.boundary,
		narrowed:     narrowed,
	}
}

// OwnSession makes the principal of a session in which a user, or root, stays who it is.
func (p *Principal) OwnSession(accessKeyID string, s Session) *Principal {
	own := *p
	s.Issuer = p.issuer()
	own.AccessKeyID, own.Session = accessKeyID, &s
	return &own
}

// FederatedARN is the ARN of somebody for whom the user stands surety.
func (p *Principal) FederatedARN(name string) string {
	partition := strings.Split(p.ARN, ":")[1]
	return "arn:" + partition + ":sts::" + p.Account + ":federated-user/" + name
}

// Federated makes the principal of a session of somebody, by the session's name, whom the
// user stands surety for. Without session policies it may do only what policies of
// resources allow to it.
func (p *Principal) Federated(accessKeyID string, s Session, tags map[string]string, narrowed []*policy.Document) *Principal {
	s.Issuer = p.issuer()
	if len(narrowed) == 0 {
		narrowed = []*policy.Document{{}} // no statements: it allows nothing
	}
	arn := p.FederatedARN(s.Name)
	return &Principal{
		Account:      p.Account,
		organization: p.organization,
		ARN:          arn,
		Type:         TypeFederatedUser,
		PrincipalID:  p.Account + ":" + s.Name,
		AccessKeyID:  accessKeyID,
		Tags:         overlay(p.Tags, tags),
		Session:      &s,
		subject:      policy.Subject{Account: p.Account, ARN: arn},
		policies:     p.policies,
		boundary:     p.boundary,
		narrowed:     narrowed,
	}
}

func (p *Principal) issuer() Issuer {
	kind := IssuerUser
	if p.subject.Root {
		kind = IssuerRoot
	}
	return Issuer{Type: kind, PrincipalID: p.PrincipalID, ARN: p.ARN, Account: p.Account, UserName: p.UserName}
}

// overlay gives the tags with those of a session above them. Keys that differ by case only are the same.
func overlay(tags, above map[string]string) map[string]string {
	if len(above) == 0 {
		return tags
	}
	out := maps.Clone(above)
	for key, value := range tags {
		if _, covered := tag(above, key); !covered {
			out[key] = value
		}
	}
	return out
}
