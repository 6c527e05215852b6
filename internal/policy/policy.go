package policy

import "fmt"

// The versions of the policy language.
const (
	Version2012 = "2012-10-17"
	Version2008 = "2008-10-17"
)

// Document is a policy, compiled. The zero value has no statements and allows
// nothing. A document can be used by many at the same time.
type Document struct {
	Version    string // Version2012 or Version2008, which is also the default
	ID         string
	Statements int // how many there are

	// The statements by the actions that they name in full, and those that
	// name actions in another way. Actions are in lower case.
	exact  map[string][]*statement
	others []*statement
}

// Effect is what a statement does when it matches.
type Effect string

// The two effects.
const (
	EffectAllow Effect = "Allow"
	EffectDeny  Effect = "Deny"
)

// ParseIdentity reads an IAM policy, which is attached to a user, group or
// role, or is a permissions boundary.
func ParseIdentity(doc []byte) (*Document, error) { return parse(doc, identityRules) }

// ParseSession reads a session policy, which has the rules of an IAM policy.
func ParseSession(doc []byte) (*Document, error) { return parse(doc, identityRules) }

// ParseKeyPolicy reads the policy of a key. Whether its principals exist, whether
// it locks its author out and how long it is are questions for the caller.
func ParseKeyPolicy(doc []byte) (*Document, error) { return parse(doc, keyPolicyRules) }

// ParseResource reads the policy of a resource that is no key, such as a backup. All statements name what they are about.
func ParseResource(doc []byte) (*Document, error) { return parse(doc, resourceRules) }

// ParseTrust reads the trust policy of a role, which tells who may assume it.
func ParseTrust(doc []byte) (*Document, error) { return parse(doc, trustRules) }

func parse(doc []byte, rules *rules) (*Document, error) {
	source, err := decode(doc)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	d := &Document{
		Version:    source.version,
		ID:         source.id,
		Statements: len(source.statements),
		exact:      map[string][]*statement{},
	}
	sids := map[string]bool{}
	for i := range source.statements {
		s := &source.statements[i]
		err := rules.check(s, sids)
		if err == nil {
			err = d.add(s, rules)
		}
		if err != nil {
			return nil, fmt.Errorf("policy: statement %d: %w", i+1, err)
		}
	}
	return d, nil
}
