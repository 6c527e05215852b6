package sts

import (
	"encoding/json"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/stsapi"
)

func (c *call) about(kind, arn string) {
	c.resources = append(c.resources, audit.Resource{AccountID: accountOf(arn), Type: kind, ARN: arn})
}

func (c *call) note(name string, value any) {
	if c.notes == nil {
		c.notes = make(map[string]any)
	}
	c.notes[name] = value
}

// record is what the audit log says of the call. Secrets and tokens are not in
// it: their members are marked as sensitive.
func (c *call) record(in, out any, err error) *audit.Record {
	r := audit.OfCall(&c.caller, c.s.now(), "sts.amazonaws.com", c.op.Name, c.op.ReadOnly)
	r.UserIdentity, r.RequestParameters, r.Resources = c.identity(), c.parameters(in), c.resources
	if r.RecipientAccountID == "" {
		r.RecipientAccountID = c.recipient
	}
	if err != nil {
		r.SetError(err, stsapi.OnWire)
		return r
	}
	if !c.op.ReadOnly {
		r.ResponseElements = audit.Parameters(out)
	}
	return r
}

// identity is who called, or whom an identity provider vouches for.
func (c *call) identity() audit.UserIdentity {
	switch {
	case !c.op.Anonymous:
		return audit.IdentityOf(c.caller.Principal)
	case c.web == nil:
		return audit.UserIdentity{Type: "Unknown"}
	}
	return audit.UserIdentity{
		Type:             "WebIdentityUser",
		PrincipalID:      c.web.provider + ":" + c.web.audience + ":" + c.web.subject,
		UserName:         c.web.subject,
		IdentityProvider: c.web.providerARN,
	}
}

// parameters are the request's members and what the call came with beside them.
func (c *call) parameters(in any) json.RawMessage {
	members := audit.Parameters(in)
	if len(c.notes) == 0 || members == nil {
		return members
	}
	extra, err := json.Marshal(c.notes)
	if err != nil {
		return members // of texts alone: it cannot fail
	}
	return append(append(members[:len(members)-1:len(members)-1], ','), extra[1:]...)
}
