package identity

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"kastellan.dev/internal/policy"
)

// Limits that IAM has, and one of ours: an HMAC key of less than 16 characters
// would be guessed.
const (
	maxLongTermKeys = 2
	minSecretLength = 16
)

var (
	accountID        = regexp.MustCompile(`^[0-9]{12}$`)
	alias            = regexp.MustCompile(`^[a-z0-9](-?[a-z0-9]){2,}$`)
	partition        = regexp.MustCompile(`^aws(-[a-z0-9]+)*$`)
	userName         = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{1,64}$`)
	userPath         = regexp.MustCompile(`^/([!-.0-~]+/)*$`)
	uniqueID         = regexp.MustCompile(`^[A-Z0-9]{16,128}$`)
	serviceName      = regexp.MustCompile(`^[a-z0-9-]{1,64}\.[a-z0-9-]{1,32}\.amazonaws\.com(\.cn)?$`)
	organizationID   = regexp.MustCompile(`^o-[a-z0-9]{10,32}$`)
	organizationPath = regexp.MustCompile(`^o-[a-z0-9]{10,32}/r-[a-z0-9]{4,32}/(ou-[a-z0-9]{4,32}-[a-z0-9]{8,32}/)*$`)
	accessKeyID      = regexp.MustCompile(`^[A-Za-z0-9_]{16,128}$`)
)

// New checks the accounts and builds a Directory. Its error joins all that is
// wrong, and names accounts, users, roles and access key ids, never a secret.
func New(accounts []Account) (*Directory, error) {
	b := builder{
		directory: &Directory{
			entries:       make(map[string]*Entry),
			users:         make(map[string]*Principal),
			roles:         make(map[string]*RoleEntry),
			policies:      make(map[string]*policy.Document),
			providers:     make(map[string]*Provider),
			sessions:      make(map[string]bool),
			organizations: make(map[string]*Organization),
			byAccount:     make(map[string][]string),
		},
		accounts:  make(map[string]bool),
		aliases:   make(map[string]bool),
		uniqueIDs: make(map[string]bool),
	}
	for i := range accounts {
		b.account(&accounts[i])
	}
	b.directory.accounts = b.accounts
	if err := errors.Join(b.errs...); err != nil {
		return nil, err
	}
	return b.directory, nil
}

type builder struct {
	directory         *Directory
	accounts, aliases map[string]bool
	uniqueIDs         map[string]bool
	errs              []error
}

func (b *builder) refuse(format string, args ...any) {
	b.errs = append(b.errs, fmt.Errorf("identity: "+format, args...))
}

func (b *builder) account(a *Account) {
	switch {
	case !accountID.MatchString(a.ID):
		b.refuse("account %q: the id is not 12 digits", a.ID)
	case b.accounts[a.ID]:
		b.refuse("account %s exists twice", a.ID)
	}
	b.accounts[a.ID] = true
	if a.Alias != "" {
		switch {
		case !alias.MatchString(a.Alias) || len(a.Alias) > 63 || accountID.MatchString(a.Alias):
			b.refuse("account %s: the alias %q is not 3 to 63 lower-case letters, digits and single hyphens", a.ID, a.Alias)
		case b.aliases[a.Alias]:
			b.refuse("account %s: the alias %q is another account's", a.ID, a.Alias)
		}
		b.aliases[a.Alias] = true
	}
	if a.Partition != "" && !partition.MatchString(a.Partition) {
		b.refuse("account %s: %q is not a partition", a.ID, a.Partition)
	}

	b.organization(a)
	b.keys(a.Root.AccessKeys, Principal{
		Account:      a.ID,
		organization: a.Organization,
		ARN:          a.arn("root"),
		Type:         TypeRoot,
		PrincipalID:  a.ID,
	})
	s := b.shared(a)
	names := make(map[string]bool) // in lower case: IAM's differ by more than case
	once := func(kind, name string) {
		folded := kind + "/" + strings.ToLower(name)
		if names[folded] {
			b.refuse("account %s: the %s %q exists twice", a.ID, kind, name)
		}
		names[folded] = true
	}
	for i := range a.Users {
		once("user", a.Users[i].Name)
		b.user(a, &s, &a.Users[i])
	}
	for i := range a.Roles {
		once("role", a.Roles[i].Name)
		b.role(a, &s, &a.Roles[i])
	}
	for i := range a.Providers {
		b.provider(a, &a.Providers[i])
	}
}

func (b *builder) organization(a *Account) {
	o := a.Organization
	if o == nil {
		return
	}
	if !organizationID.MatchString(o.ID) {
		b.refuse("account %s: %q is not the id of an organization", a.ID, o.ID)
	}
	if o.Path != "" && (!organizationPath.MatchString(o.Path) || !strings.HasPrefix(o.Path, o.ID+"/")) {
		b.refuse("account %s: %q is not a path in the organization %s", a.ID, o.Path, o.ID)
	}
	b.directory.organizations[a.ID] = o
}

func (b *builder) user(a *Account, s *shared, u *User) {
	path := cmp.Or(u.Path, "/")
	if !userName.MatchString(u.Name) {
		b.refuse("account %s: the user name %q is not 1 to 64 of A-Z a-z 0-9 _ + = , . @ -", a.ID, u.Name)
	}
	p := Principal{
		Account:      a.ID,
		organization: a.Organization,
		ARN:          a.arn("user" + path + u.Name),
		Type:         TypeIAMUser,
		UserName:     u.Name,
		Tags:         u.Tags,
	}
	b.checkPath(p.ARN, path)
	b.checkTags(p.ARN, u.Tags)
	p.PrincipalID = b.uniqueID(p.ARN, "AIDA", u.ID, a.ID+":user/"+strings.ToLower(u.Name))
	p.policies = b.attached(p.ARN, s, &u.Attached)
	for _, name := range u.Groups {
		policies, ok := s.groups[strings.ToLower(name)]
		if !ok {
			b.refuse("%s: the account has no group %q", p.ARN, name)
		}
		p.policies = append(p.policies, policies...)
	}
	p.boundary = b.boundary(p.ARN, s, u.Boundary)
	b.keys(u.AccessKeys, p)
}

// keys adds one principal and its access keys, each with its own copy.
func (b *builder) keys(keys []AccessKey, p Principal) {
	p.subject = p.asSubject()
	b.directory.users[p.ARN] = &p
	longTerm := 0
	for _, k := range keys {
		switch {
		case !accessKeyID.MatchString(k.ID):
			b.refuse("%s: the access key id %q is not 16 to 128 letters, digits and underscores", p.ARN, k.ID)
		case b.directory.entries[k.ID] != nil:
			b.refuse("%s: the access key id %s exists twice", p.ARN, k.ID)
		}
		if k.Secret.Len() < minSecretLength {
			b.refuse("%s: the secret of access key %s has less than %d characters", p.ARN, k.ID, minSecretLength)
		}
		if k.SessionToken.IsEmpty() {
			longTerm++
			if !k.Expires.IsZero() {
				b.refuse("%s: access key %s expires but has no session token", p.ARN, k.ID)
			}
		}
		if k.ViaService != "" && !serviceName.MatchString(k.ViaService) {
			b.refuse("%s: access key %s: %q is not the name of a service in a Region, as s3.eu-central-1.amazonaws.com", p.ARN, k.ID, k.ViaService)
		}
		owner := p
		owner.AccessKeyID, owner.ViaService = k.ID, k.ViaService
		b.directory.entries[k.ID] = &Entry{Key: k, Principal: &owner}
	}
	if longTerm > maxLongTermKeys {
		b.refuse("%s: %d access keys; the limit is %d", p.ARN, longTerm, maxLongTermKeys)
	}
}

func (a *Account) partition() string { return cmp.Or(a.Partition, "aws") }

func (a *Account) arn(resource string) string {
	return "arn:" + a.partition() + ":iam::" + a.ID + ":" + resource
}

// uniqueID is the id that was given, or one that is made of what somebody is
// and therefore is the same in every process. It begins with prefix.
func (b *builder) uniqueID(owner, prefix, given, of string) string {
	if given == "" {
		sum := sha256.Sum256([]byte(of))
		given = prefix + base32.StdEncoding.EncodeToString(sum[:])[:17]
	}
	switch {
	case !uniqueID.MatchString(given) || !strings.HasPrefix(given, prefix):
		b.refuse("%s: the id %q is not %s and 12 to 124 capital letters and digits", owner, given, prefix)
	case b.uniqueIDs[given]:
		b.refuse("%s: the id %s is somebody else's", owner, given)
	}
	b.uniqueIDs[given] = true
	return given
}
