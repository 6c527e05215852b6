package policy

import "errors"

// Document is a parsed policy. It must not be changed.
type Document struct {
	Version    string // "2012-10-17" or "2008-10-17", which is also the default
	ID         string
	Statements []Statement
}

// Effect is what a statement does when it matches.
type Effect string

// The two effects.
const (
	EffectAllow Effect = "Allow"
	EffectDeny  Effect = "Deny"
)

// Statement is one statement of a Document.
type Statement struct {
	Sid    string
	Effect Effect

	// Principal and NotPrincipal are kept for later; at most one is set. The
	// keys are types such as "AWS" and "Service". "*" alone is kept as {"AWS": ["*"]}.
	Principal, NotPrincipal map[string][]string

	// Condition is operator → key → values, kept for later.
	Condition map[string]map[string][]string
}

// Parse reads a policy document of any kind.
func Parse(doc []byte) (*Document, error) { return nil, errors.New("policy: not implemented") }

// ParseIdentity reads an IAM policy, which is attached to a user.
func ParseIdentity(doc []byte) (*Document, error) { return Parse(doc) }

// CheckKeyPolicy tells whether doc is well formed as a key policy.
func CheckKeyPolicy(doc string) error { _, err := Parse([]byte(doc)); return err }
