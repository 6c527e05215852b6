package identity

import (
	"cmp"
	"regexp"
	"strings"
	"unicode/utf8"

	"kastellan.dev/internal/policy"
)

const maxTags = 50

var (
	policyName = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{1,128}$`)
	tagText    = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)
)

// shared is what the users and roles of one account refer to by name. Names are in
// lower case: IAM's differ by more than case.
type shared struct {
	policies map[string]*policy.Document
	groups   map[string][]*policy.Document
}

// shared reads the managed policies and the groups of an account.
func (b *builder) shared(a *Account) shared {
	s := shared{make(map[string]*policy.Document), make(map[string][]*policy.Document)}
	for _, m := range a.Policies {
		arn := a.arn("policy" + cmp.Or(m.Path, "/") + m.Name)
		if !policyName.MatchString(m.Name) {
			b.refuse("account %s: the policy name %q is not 1 to 128 of A-Z a-z 0-9 _ + = , . @ -", a.ID, m.Name)
		}
		b.checkPath(arn, m.Path)
		folded := strings.ToLower(m.Name)
		if s.policies[folded] != nil {
			b.refuse("account %s: the policy %q exists twice", a.ID, m.Name)
		}
		parsed, err := policy.ParseIdentity([]byte(m.Document))
		if err != nil {
			b.refuse("%s: %w", arn, err)
			parsed = &policy.Document{} // it exists
		}
		s.policies[folded], b.directory.policies[arn] = parsed, parsed
	}
	for _, g := range a.Groups {
		arn := a.arn("group/" + g.Name)
		if !policyName.MatchString(g.Name) {
			b.refuse("account %s: the group name %q is not 1 to 128 of A-Z a-z 0-9 _ + = , . @ -", a.ID, g.Name)
		}
		folded := strings.ToLower(g.Name)
		if _, ok := s.groups[folded]; ok {
			b.refuse("account %s: the group %q exists twice", a.ID, g.Name)
		}
		s.groups[folded] = b.attached(arn, &s, &g.Attached)
	}
	return s
}

// attached reads the policies of the user, group or role that owner names.
func (b *builder) attached(owner string, s *shared, from *Attached) []*policy.Document {
	var out []*policy.Document
	for i, doc := range from.Inline {
		parsed, err := policy.ParseIdentity([]byte(doc))
		if err != nil {
			b.refuse("%s: policy %d: %w", owner, i+1, err)
		}
		out = append(out, parsed)
	}
	for _, name := range from.Managed {
		out = append(out, b.managed(owner, s, name))
	}
	return out
}

// managed finds a managed policy of the account.
func (b *builder) managed(owner string, s *shared, name string) *policy.Document {
	p := s.policies[strings.ToLower(name)]
	if p == nil {
		b.refuse("%s: the account has no policy %q", owner, name)
	}
	return p
}

// boundary finds a permissions boundary; nil if there is none.
func (b *builder) boundary(owner string, s *shared, name string) *policy.Document {
	if name == "" {
		return nil
	}
	return b.managed(owner, s, name)
}

func (b *builder) checkPath(owner, path string) {
	if path := cmp.Or(path, "/"); !userPath.MatchString(path) || len(path) > 512 {
		b.refuse("%s: the path %q does not begin and end with a slash", owner, path)
	}
}

func (b *builder) checkTags(owner string, tags map[string]string) {
	if len(tags) > maxTags {
		b.refuse("%s: %d tags; the limit is %d", owner, len(tags), maxTags)
	}
	seen := make(map[string]bool)
	for key, value := range tags {
		folded := strings.ToLower(key)
		switch {
		case key == "" || utf8.RuneCountInString(key) > 128 || !tagText.MatchString(key) || strings.HasPrefix(folded, "aws:"):
			b.refuse("%s: the tag key %q is not 1 to 128 letters, digits, spaces or _ . : / = + - @, or begins with aws:", owner, key)
		case utf8.RuneCountInString(value) > 256 || !tagText.MatchString(value):
			b.refuse("%s: the value of the tag %q is not up to 256 letters, digits, spaces or _ . : / = + - @", owner, key)
		case seen[folded]:
			b.refuse("%s: the tag key %q is there twice, in capitals or not", owner, key)
		}
		seen[folded] = true
	}
}
