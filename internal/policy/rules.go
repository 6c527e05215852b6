package policy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// rules are what a kind of policy must have, and must not have, beyond the grammar.
type rules struct {
	named       string // with its article, for errors
	principals  bool   // each statement has some; without, none has
	resources   bool   // statements name resources; without, they are about the resource that has the policy
	complete    bool   // each statement has an action, and a resource if it can; without, one that lacks them does nothing
	sids        bool   // ids of statements are alphanumeric, and used once
	onlyService string // whose actions these are; empty: everyone's
}

var (
	identityRules  = &rules{named: "an identity policy", resources: true, complete: true, sids: true}
	keyPolicyRules = &rules{named: "a key policy", principals: true, resources: true}
	resourceRules  = &rules{named: "a resource policy", principals: true, resources: true, complete: true}
	trustRules     = &rules{named: "a trust policy", principals: true, complete: true, sids: true, onlyService: "sts"}
)

var alphanumeric = regexp.MustCompile(`^[0-9A-Za-z]*$`)

// check checks a statement; sids are those of the statements before it.
func (r *rules) check(s *sourceStatement, sids map[string]bool) error {
	if r.sids {
		if !alphanumeric.MatchString(s.sid) {
			return fmt.Errorf("Sid %q has other characters than letters and digits", s.sid)
		}
		if s.sid != "" && sids[s.sid] {
			return fmt.Errorf("Sid %q is used twice", s.sid)
		}
		sids[s.sid] = true
	}
	if err := r.checkPrincipal(s); err != nil {
		return err
	}
	if err := r.checkActions(s.action); err != nil {
		return err
	}
	return r.checkResources(s.resource)
}

func (r *rules) checkPrincipal(s *sourceStatement) error {
	switch {
	case s.principal == nil && r.principals:
		return errors.New("Principal is missing")
	case s.principal != nil && !r.principals:
		return fmt.Errorf("%s must not have a Principal or NotPrincipal", r.named)
	case s.principal != nil && s.principal.not && s.effect == EffectAllow:
		return errors.New("NotPrincipal is for Deny only: with Allow it would let in everybody else")
	}
	return nil
}

func (r *rules) checkActions(actions *sourceList) error {
	if actions == nil {
		if r.complete {
			return errors.New("Action or NotAction is missing")
		}
		return nil
	}
	for _, a := range actions.patterns {
		service, name, ok := strings.Cut(a, ":")
		switch {
		case r.onlyService != "" && !strings.EqualFold(service, r.onlyService):
			return fmt.Errorf("action %q is not one of %s", a, r.onlyService)
		case a == "*":
		case !ok || service == "" || name == "" || strings.ContainsAny(service, "*?"):
			return fmt.Errorf("action %q is not \"*\" or of the form service:action", a)
		}
	}
	return nil
}

func (r *rules) checkResources(resources *sourceList) error {
	switch {
	case resources == nil && r.resources && r.complete:
		return errors.New("Resource or NotResource is missing")
	case resources == nil || !r.complete:
		return nil
	case !r.resources:
		return fmt.Errorf("%s must not have a Resource or NotResource", r.named)
	}
	for _, text := range resources.patterns {
		if text != "*" && !strings.HasPrefix(text, "arn:") {
			return fmt.Errorf("resource %q is not \"*\" or an ARN", text)
		}
	}
	return nil
}
