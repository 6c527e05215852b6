package policy

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// verdict is what a document says to a request, the stronger the greater.
type verdict int

const (
	silent    verdict = iota
	delegated         // allowed to the account, whose own policies decide on
	limited           // allowed to the subject's role: within boundary and session policies
	direct            // allowed to the subject itself, or to everybody
	denied
)

// principals is a compiled Principal or NotPrincipal.
type principals struct {
	not       bool
	everybody bool
	accounts  []string // 12 digits
	roles     []string // ARNs
	others    []string // ARNs of users, of sessions of roles and of federated users
	services  []string
	providers []string
}

// covers tells whether, and how closely, the principals are those of s, who may be bounded
// by a permissions boundary. To a Deny it does not matter how closely.
func (p *principals) covers(s *Subject, bounded bool, e Effect) verdict {
	if p.not {
		if !bounded && p.excepts(s) {
			return silent
		}
		return direct // IAM leaves nobody out who has a boundary
	}
	switch {
	case s.Account == "":
		if slices.Contains(p.services, s.Service) || slices.Contains(p.providers, s.Provider) || p.everybody && e == EffectDeny {
			return direct
		}
	case p.everybody || slices.Contains(p.others, s.ARN):
		return direct
	case s.Role != "" && slices.Contains(p.roles, s.Role):
		return limited
	case slices.Contains(p.accounts, s.Account):
		return delegated
	}
	return silent
}

// excepts tells whether a NotPrincipal leaves s out. For that it has to list all
// that s is: its account, its role and itself.
func (p *principals) excepts(s *Subject) bool {
	switch {
	case p.everybody:
		return true
	case s.Account == "":
		return slices.Contains(p.services, s.Service) || slices.Contains(p.providers, s.Provider)
	case !slices.Contains(p.accounts, s.Account):
		return false
	case s.Root:
		return true
	}
	return slices.Contains(p.others, s.ARN) && (s.Role == "" || slices.Contains(p.roles, s.Role))
}

// ErrPrincipal is what errors.Is finds in errors about something that is no principal.
var ErrPrincipal = errors.New("policy: a principal is not valid")

type principalError struct{ error }

// Is makes errors.Is find ErrPrincipal.
func (principalError) Is(target error) bool { return target == ErrPrincipal }

func compilePrincipals(source *sourcePrincipal) (*principals, error) {
	p := &principals{not: source.not}
	for _, n := range source.names {
		if err := p.add(n); err != nil {
			return nil, principalError{err}
		}
	}
	return p, nil
}

var (
	accountID    = regexp.MustCompile(`^[0-9]{12}$`)
	uniqueID     = regexp.MustCompile(`^A[A-Z]{3}[A-Z0-9]{12,124}$`)
	canonicalID  = regexp.MustCompile(`^[0-9a-f]{64}$`)
	hostName     = regexp.MustCompile(`^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$`)
	principalARN = regexp.MustCompile(`^arn:aws[a-z-]*:(iam|sts)::([0-9]{12}):([a-z-]+)(/[\x21-\x7e]+)?$`)
	sessionPath  = regexp.MustCompile(`^/[^/]+/[^/]+$`)
)

// add adds one name to those of its type. Unique ids, which are what is left
// of principals that were deleted, and canonical users are nobody here.
func (p *principals) add(n principalName) error {
	ok := true
	switch n.kind {
	case "AWS":
		return p.addAWS(n.name)
	case "Service":
		ok = hostName.MatchString(n.name)
		p.services = append(p.services, n.name)
	case "Federated":
		ok = hostName.MatchString(n.name) || isProvider(n.name)
		p.providers = append(p.providers, n.name)
	case "CanonicalUser":
		ok = canonicalID.MatchString(n.name)
	}
	if !ok {
		return fmt.Errorf("the principal %q is not valid as %s", n.name, n.kind)
	}
	return nil
}

func (p *principals) addAWS(name string) error {
	switch {
	case name == "*":
		p.everybody = true
		return nil
	case accountID.MatchString(name):
		p.accounts = append(p.accounts, name)
		return nil
	case uniqueID.MatchString(name):
		return nil
	case strings.ContainsAny(name, "*?"):
		return fmt.Errorf("the principal %q has a wildcard, which can only stand alone", name)
	}
	if err := p.addARN(name); err != nil {
		return fmt.Errorf("the principal %q: %w", name, err)
	}
	return nil
}

func (p *principals) addARN(name string) error {
	m := principalARN.FindStringSubmatch(name)
	if m == nil || strings.HasSuffix(name, "/") {
		return errors.New("it is neither an account's id nor the ARN of a principal")
	}
	service, account, kind, path := m[1], m[2], m[3], m[4]
	switch {
	case service == "iam" && kind == "root" && path == "":
		p.accounts = append(p.accounts, account)
	case service == "iam" && kind == "role" && path != "":
		p.roles = append(p.roles, name)
	case service == "iam" && kind == "user" && path != "",
		service == "sts" && kind == "assumed-role" && sessionPath.MatchString(path),
		service == "sts" && kind == "federated-user" && path != "":
		p.others = append(p.others, name)
	case service == "iam" && kind == "group":
		return errors.New("a group is not a principal")
	default:
		return errors.New("it is neither an account's root nor a user, role or session")
	}
	return nil
}

// isProvider tells whether name is the ARN of an identity provider.
func isProvider(name string) bool {
	m := principalARN.FindStringSubmatch(name)
	return m != nil && m[1] == "iam" && (m[3] == "oidc-provider" || m[3] == "saml-provider") && m[4] != "" && !strings.ContainsAny(name, "*?")
}
