package policy

// Inputs are all policies that bear on a request.
type Inputs struct {
	// Resource is the policy of the resource, such as a key's or a role's trust policy. Nil
	// means that the resource has none and that the policies of identities decide alone.
	Resource *Document
	Owner    string // the account that the resource belongs to

	Identity []*Document // those of the user and its groups, or of the role
	Boundary *Document   // the permissions boundary; nil: none
	Session  []*Document // the session policies; none: the session is as good as its role

	// Grant, if there is one, is asked last: whether something else than a policy
	// allows the request.
	Grant func() bool
}

// Source is a kind of policy.
type Source int

// The kinds of policies.
const (
	FromNone Source = iota
	FromIdentity
	FromResource
	FromBoundary
	FromSession
	FromGrant
)

// Outcome is a decision, and which kind of policy made it: of an
// ImplicitDeny, the kind that would have had to allow.
type Outcome struct {
	Decision Decision
	By       Source
}

// Decide combines the policies.
func Decide(in *Inputs, r *Request) Outcome {
	if d := IdentityAllows(in, r); d != Allow {
		return Outcome{d, FromIdentity}
	}
	return Outcome{Allow, FromIdentity}
}

// IdentityAllows decides by the policies of the subject alone: its own, within its
// boundary and those of its session. Root of an account may do everything there.
func IdentityAllows(in *Inputs, r *Request) Decision {
	if r.Subject.Root {
		return Allow
	}
	return Evaluate(in.Identity, r.Action, r.Resource)
}
