package policy

import (
	"errors"
	"fmt"
	"strings"
)

// The versions of the policy language.
const (
	Version2012 = "2012-10-17"
	Version2008 = "2008-10-17"
)

// Document is a parsed policy. It must not be changed.
type Document struct {
	Version    string // Version2012 or Version2008, which is also the default
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

	// Condition is operator → key → values, kept for later; nil if the
	// statement has none.
	Condition map[string]map[string][]string

	action, resource selector
}

// Parse reads a policy document of any kind. A statement without Action or
// Resource is accepted, as AWS KMS does in key policies, and matches nothing.
func Parse(doc []byte) (*Document, error) {
	d, err := decode(doc)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return d, nil
}

// ParseIdentity reads an IAM policy, which is attached to a user. It refuses
// what such policies must not have, and what is not evaluated yet.
func ParseIdentity(doc []byte) (*Document, error) {
	d, err := Parse(doc)
	if err != nil {
		return nil, err
	}
	sids := map[string]bool{}
	for i := range d.Statements {
		s := &d.Statements[i]
		if err := s.checkIdentity(d.Version); err != nil {
			return nil, fmt.Errorf("policy: statement %d: %w", i+1, err)
		}
		if s.Sid != "" && sids[s.Sid] {
			return nil, fmt.Errorf("policy: statement %d: Sid %q is used twice", i+1, s.Sid)
		}
		sids[s.Sid] = true
	}
	return d, nil
}

// CheckKeyPolicy tells whether doc is well formed as a key policy, which needs
// a principal in every statement. It does not ask whether principals exist or
// whether the policy locks its author out.
func CheckKeyPolicy(doc string) error {
	d, err := Parse([]byte(doc))
	if err != nil {
		return err
	}
	for i := range d.Statements {
		if s := &d.Statements[i]; s.Principal == nil && s.NotPrincipal == nil {
			return fmt.Errorf("policy: statement %d: Principal is missing", i+1)
		}
	}
	return nil
}

func (s *Statement) checkIdentity(version string) error {
	switch {
	case s.Principal != nil || s.NotPrincipal != nil:
		return errors.New("an identity policy must not have a Principal or NotPrincipal")
	case s.Condition != nil:
		return errors.New("conditions are not evaluated yet")
	case s.action.patterns == nil:
		return errors.New("Action or NotAction is missing")
	case s.resource.patterns == nil:
		return errors.New("Resource or NotResource is missing")
	}
	for _, a := range s.action.patterns {
		if !wellFormedAction(a) {
			return fmt.Errorf("action %q is not \"*\" or of the form service:action", a)
		}
	}
	for _, r := range s.resource.patterns {
		if r != "*" && !strings.HasPrefix(r, "arn:") {
			return fmt.Errorf("resource %q is not \"*\" or an ARN", r)
		}
		// Taken literally, a variable would make a Deny miss what it is meant for.
		if version != Version2008 && strings.Contains(r, "${") {
			return fmt.Errorf("resource %q: policy variables are not evaluated yet", r)
		}
	}
	return nil
}

// wellFormedAction catches "Encrypt" for "kms:Encrypt", which would match nothing.
func wellFormedAction(a string) bool {
	service, name, ok := strings.Cut(a, ":")
	return a == "*" || ok && service != "" && name != "" && !strings.ContainsAny(service, "*?")
}
