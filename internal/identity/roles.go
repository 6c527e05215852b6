package identity

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"kastellan.dev/internal/policy"
)

// The shortest and the longest that the longest session of a role may be.
const (
	minMaxSession = time.Hour
	maxMaxSession = 12 * time.Hour
)

// maxSkew is as much as clocks may differ, here as in signatures.
const maxSkew = 5 * time.Minute

func (b *builder) role(a *Account, s *shared, r *Role) {
	arn := a.arn("role" + cmp.Or(r.Path, "/") + r.Name)
	if !userName.MatchString(r.Name) {
		b.refuse("account %s: the role name %q is not 1 to 64 of A-Z a-z 0-9 _ + = , . @ -", a.ID, r.Name)
	}
	b.checkPath(arn, r.Path)
	b.checkTags(arn, r.Tags)
	if utf8.RuneCountInString(r.Description) > 1000 {
		b.refuse("%s: the description is longer than 1000 characters", arn)
	}
	longest := cmp.Or(r.MaxSession, minMaxSession)
	if longest < minMaxSession || longest > maxMaxSession || longest%time.Second != 0 {
		b.refuse("%s: the longest session is not between 1 and 12 hours, in whole seconds", arn)
	}
	trust, err := policy.ParseTrust([]byte(r.Trust))
	if err != nil {
		b.refuse("%s: the trust policy: %w", arn, err)
	}
	b.directory.sessions[a.ID+"/"+r.Name] = true
	b.directory.roles[arn] = &RoleEntry{
		Account:      a.ID,
		ARN:          arn,
		ID:           b.uniqueID(arn, "AROA", r.ID, a.ID+":role/"+strings.ToLower(r.Name)),
		Name:         r.Name,
		Path:         cmp.Or(r.Path, "/"),
		Description:  r.Description,
		MaxSession:   longest,
		Tags:         r.Tags,
		Trust:        trust,
		organization: a.Organization,
		partition:    a.partition(),
		policies:     b.attached(arn, s, &r.Attached),
		boundary:     b.boundary(arn, s, r.Boundary),
	}
}

// Name is what condition keys about the provider's tokens begin with: host and path of its URL.
func (p *Provider) Name() string {
	return strings.TrimSuffix(strings.TrimPrefix(p.URL, "https://"), "/")
}

func (b *builder) provider(a *Account, p *Provider) {
	name := p.Name()
	arn := a.arn("oidc-provider/" + name)
	u, err := url.Parse(p.URL)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || len(p.URL) > 255:
		b.refuse("account %s: the OIDC provider %q is not an https URL without a query, of up to 255 characters", a.ID, p.URL)
	case b.directory.providers[arn] != nil:
		b.refuse("account %s: the OIDC provider %s exists twice", a.ID, name)
	case len(p.ClientIDs) == 0 || len(p.ClientIDs) > 100 || slices.ContainsFunc(p.ClientIDs, func(id string) bool { return id == "" || len(id) > 255 }):
		b.refuse("%s: it does not have 1 to 100 client ids of 1 to 255 characters", arn)
	case p.Skew < 0 || p.Skew > maxSkew:
		b.refuse("%s: the clock skew is not between 0 and %v", arn, maxSkew)
	}
	b.directory.providers[arn] = p
	b.directory.byAccount[a.ID] = append(b.directory.byAccount[a.ID], arn)
}
