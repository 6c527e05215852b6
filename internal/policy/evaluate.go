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
// actions that have no resource. A Deny anywhere wins over every Allow.
func Evaluate(docs []*Document, action, resource string) Decision { return ImplicitDeny }
