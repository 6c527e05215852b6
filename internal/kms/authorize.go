package kms

import (
	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/policy"
	"kastellan.dev/internal/tracing"
)

// question is one thing that the caller of a call must be allowed to do. Its condition
// keys are in conditions.go.
type question struct {
	call       *call
	permission string    // the action: "kms:Encrypt"
	resource   string    // an ARN, or "*" where there is none
	key        *keyEntry // the key that resource is, or that is to be made; nil for other resources
	toBeMade   bool      // key does not exist yet, so it has neither policy nor grants
	byIAM      bool      // neither the key's policy nor its grants count
	region     string    // where it is to be done; empty: where the caller called
	half       half      // which half of a ReEncrypt it is about
	alias      string    // the alias by which the request names the key; empty: by none
}

// half is a prefix of the names of members that ReEncrypt has twice.
type half string

const (
	sourceHalf      half = "Source"
	destinationHalf half = "Destination"
)

// decide asks the policies and the grants.
func (c *call) decide(q question) policy.Outcome {
	_, span := tracing.Start(c.ctx, "authorize")
	span.Set("aws.iam.action", q.permission)
	c.decided = true
	c.put(q)
	in := c.caller.Inputs()
	in.Owner = c.caller.Account
	if q.key != nil && !q.toBeMade && !q.byIAM {
		in.Owner, in.Resource = q.key.Account, q.key.policy()
		if c.grantable() {
			in.Grant = c.asked.granted
		}
	}
	outcome := policy.Decide(&in, c.request())
	if outcome.Decision == policy.Allow {
		c.permitted = true
		span.End("")
	} else {
		span.End(string(kmsapi.AccessDenied))
	}
	return outcome
}

// put makes a question the one that is asked.
func (c *call) put(q question) {
	q.call = c
	c.asked, c.looked = q, c.looked[:0]
}

// request is how the question that was asked last is put to policies.
func (c *call) request() *policy.Request {
	q := &c.asked
	return &policy.Request{Subject: c.caller.Subject(), Action: q.permission, Resource: q.resource, Values: q}
}

// ask decides, and says why not.
func (c *call) ask(q question) error {
	return c.refusal(q, c.decide(q))
}

// refusal is the error of an outcome: nil if that allows.
func (c *call) refusal(q question, outcome policy.Outcome) error {
	if outcome.Decision == policy.Allow {
		return nil
	}
	if q.key != nil && q.key.Account != c.caller.Account {
		return c.hidden(q.permission)
	}
	return accessDenied(&c.caller, q.permission, q.resource, outcome)
}

// authorize decides about what is not a key: an alias, or "*" for operations without a resource.
func (c *call) authorize(permission, resource string) error {
	return c.ask(question{permission: permission, resource: resource})
}

// permit is authorize for the operation's own permission on no resource.
func (c *call) permit() error { return c.authorize(c.op.Permission, "*") }

// authorizeKey decides about a key that exists.
func (c *call) authorizeKey(k *keyEntry) error {
	return c.ask(question{permission: c.op.Permission, resource: k.ARN, key: k})
}

// accessDenied tells which kind of policy did not allow a request. An empty resource is not named.
func accessDenied(caller *identity.Caller, permission, resource string, o policy.Outcome) error {
	on := ""
	if resource != "" {
		on = " on resource: " + resource
	}
	kind := policyKinds[o.By]
	if o.Decision == policy.ExplicitDeny {
		return kmsapi.Errorf(kmsapi.AccessDenied, "User: %s is not authorized to perform: %s%s with an explicit deny in %s", caller.ARN, permission, on, kind.one)
	}
	return kmsapi.Errorf(kmsapi.AccessDenied, "User: %s is not authorized to perform: %s%s because no %s allows the %s action", caller.ARN, permission, on, kind.name, permission)
}

// policyKinds are the names of the kinds of policies in AWS's texts.
var policyKinds = map[policy.Source]struct{ name, one string }{
	policy.FromIdentity: {"identity-based policy", "an identity-based policy"},
	policy.FromResource: {"resource-based policy", "a resource-based policy"},
	policy.FromBoundary: {"permissions boundary", "a permissions boundary"},
	policy.FromSession:  {"session policy", "a session policy"},
}

// hidden is the refusal that does not tell whether the key exists.
func (c *call) hidden(permission string) error {
	c.decided = true
	return kmsapi.Errorf(kmsapi.AccessDenied,
		"User: %s is not authorized to perform: %s on this resource because the resource does not exist in this Region, "+
			"no resource-based policies allow access, or a resource-based policy explicitly denies access",
		c.caller.ARN, permission)
}
