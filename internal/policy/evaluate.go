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

// Evaluate decides about action, "kms:Encrypt", on resource, an ARN or "*" for
// actions that have no resource. A Deny anywhere wins over every Allow. The
// caller is taken to be the one whom the documents are about.
func Evaluate(docs []*Document, action, resource string) Decision {
	decision := ImplicitDeny
	for _, d := range docs {
		for i := range d.Statements {
			s := &d.Statements[i]
			if !s.matches(action, resource) {
				continue
			}
			if s.Effect == EffectDeny {
				return ExplicitDeny
			}
			if !s.restricted() {
				decision = Allow
			}
		}
	}
	return decision
}

func (s *Statement) matches(action, resource string) bool {
	return s.action.matches(action) && s.resource.matches(resource)
}

// restricted tells that the statement holds only for some principals or under
// some conditions, which nobody has looked at.
func (s *Statement) restricted() bool {
	return s.Principal != nil || s.NotPrincipal != nil || s.Condition != nil
}
