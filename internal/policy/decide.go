package policy

// Decision is the outcome of an evaluation.
type Decision int

// The decisions. The zero value denies.
const (
	ImplicitDeny Decision = iota
	Allow
	ExplicitDeny
)

// String names the decision.
func (d Decision) String() string {
	switch d {
	case Allow:
		return "Allow"
	case ExplicitDeny:
		return "ExplicitDeny"
	default:
		return "ImplicitDeny"
	}
}

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

// verdicts are what the policies say, each kind by itself.
type verdicts struct{ resource, identity, boundary, session verdict }

// actionLength is how long an action may be before it needs the heap.
const actionLength = 64

// Decide combines the policies. An explicit Deny in any of them denies. Else
// the policy of the resource, if it has one, has to allow: itself, to a
// subject of the owner's account, or together with the subject's own policies.
// Else a grant may, which the boundary and the session policies still limit.
func Decide(in *Inputs, r *Request) Outcome {
	var array [actionLength]byte
	action := appendLower(array[:0], r.Action)
	v := askSubject(in, r, action)
	v.resource = in.Resource.ask(r, action, in.Boundary != nil)
	if by := v.denier(); by != FromNone {
		return Outcome{ExplicitDeny, by}
	}
	outcome := v.combine(in, r.Subject)
	if outcome.Decision == Allow || in.Grant == nil || !in.Grant() {
		return outcome
	}
	if by := v.limiter(); by != FromNone {
		return Outcome{ImplicitDeny, by}
	}
	return Outcome{Allow, FromGrant}
}

// IdentityAllows decides by the policies of the subject alone: its own, within its
// boundary and those of its session. Root of an account may do everything there.
func IdentityAllows(in *Inputs, r *Request) Decision {
	var array [actionLength]byte
	v := askSubject(in, r, appendLower(array[:0], r.Action))
	if v.denier() != FromNone {
		return ExplicitDeny
	}
	return v.bySubject().Decision
}

// askSubject asks the subject's policies. Those that are not there to limit it
// say yes. Root has no policies.
func askSubject(in *Inputs, r *Request, action []byte) verdicts {
	v := verdicts{identity: direct, boundary: direct, session: direct}
	if r.Subject.Root {
		return v
	}
	v.identity = askAll(in.Identity, r, action)
	if in.Boundary != nil {
		v.boundary = in.Boundary.ask(r, action, false)
	}
	if len(in.Session) > 0 {
		v.session = askAll(in.Session, r, action)
	}
	return v
}

// denier is the kind of policy that denies explicitly.
func (v *verdicts) denier() Source {
	switch denied {
	case v.resource:
		return FromResource
	case v.identity:
		return FromIdentity
	case v.boundary:
		return FromBoundary
	case v.session:
		return FromSession
	}
	return FromNone
}

// limiter is the kind of policy beyond which the subject cannot go.
func (v *verdicts) limiter() Source {
	switch silent {
	case v.boundary:
		return FromBoundary
	case v.session:
		return FromSession
	}
	return FromNone
}

// bySubject decides by the subject's policies, none of which denies.
func (v *verdicts) bySubject() Outcome {
	if v.identity == silent {
		return Outcome{ImplicitDeny, FromIdentity}
	}
	if by := v.limiter(); by != FromNone {
		return Outcome{ImplicitDeny, by}
	}
	return Outcome{Allow, FromIdentity}
}

// combine decides by all policies, none of which denies.
func (v *verdicts) combine(in *Inputs, s *Subject) Outcome {
	member := s.Account != "" // services and providers have no policies of their own
	home := member && s.Account == in.Owner
	switch {
	case in.Resource == nil && home:
		return v.bySubject()
	case v.resource == silent:
		return Outcome{ImplicitDeny, FromResource}
	case member && (!home || v.resource == delegated):
		return v.bySubject()
	case v.resource == limited && v.limiter() != FromNone:
		return Outcome{ImplicitDeny, v.limiter()}
	}
	return Outcome{Allow, FromResource}
}
