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
	accountID   = regexp.MustCompile(`^[0-9]{12}$`)
	alias       = regexp.MustCompile(`^[a-z0-9](-?[a-z0-9]){2,}$`)
	partition   = regexp.MustCompile(`^aws(-[a-z0-9]+)*$`)
	userName    = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{1,64}$`)
	userPath    = regexp.MustCompile(`^/([!-.0-~]+/)*$`)
	accessKeyID = regexp.MustCompile(`^[A-Za-z0-9_]{16,128}$`)
)

// New checks the accounts and builds a Directory. Its error joins all that is
// wrong, and names accounts, users and access key ids, never a secret.
func New(accounts []Account) (*Directory, error) {
	b := builder{
		directory: &Directory{entries: make(map[string]*Entry)},
		accounts:  make(map[string]bool),
		aliases:   make(map[string]bool),
	}
	for i := range accounts {
		b.account(&accounts[i])
	}
	if err := errors.Join(b.errs...); err != nil {
		return nil, err
	}
	return b.directory, nil
}

type builder struct {
	directory         *Directory
	accounts, aliases map[string]bool
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

	b.keys(a.Root.AccessKeys, Principal{
		Account:     a.ID,
		ARN:         a.arn("root"),
		Type:        TypeRoot,
		PrincipalID: a.ID,
	})
	names := make(map[string]bool)
	for i := range a.Users {
		u := &a.Users[i]
		folded := strings.ToLower(u.Name) // IAM's names differ by more than case
		if names[folded] {
			b.refuse("account %s: the user %q exists twice", a.ID, u.Name)
		}
		names[folded] = true
		b.user(a, u)
	}
}

func (b *builder) user(a *Account, u *User) {
	path := cmp.Or(u.Path, "/")
	if !userName.MatchString(u.Name) {
		b.refuse("account %s: the user name %q is not 1 to 64 of A-Z a-z 0-9 _ + = , . @ -", a.ID, u.Name)
	}
	if !userPath.MatchString(path) || len(path) > 512 {
		b.refuse("account %s: user %q: the path %q does not begin and end with a slash", a.ID, u.Name, path)
	}
	p := Principal{
		Account:     a.ID,
		ARN:         a.arn("user" + path + u.Name),
		Type:        TypeIAMUser,
		UserName:    u.Name,
		PrincipalID: userID(a.ID, u.Name),
	}
	for i, doc := range u.Policies {
		parsed, err := policy.ParseIdentity([]byte(doc))
		if err != nil {
			b.refuse("%s: policy %d: %w", p.ARN, i+1, err)
		}
		p.policies = append(p.policies, parsed)
	}
	b.keys(u.AccessKeys, p)
}

// keys adds the access keys of one principal, each with its own copy.
func (b *builder) keys(keys []AccessKey, p Principal) {
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
		owner := p
		owner.AccessKeyID, owner.subject = k.ID, p.asSubject()
		b.directory.entries[k.ID] = &Entry{Key: k, Principal: &owner}
	}
	if longTerm > maxLongTermKeys {
		b.refuse("%s: %d access keys; the limit is %d", p.ARN, longTerm, maxLongTermKeys)
	}
}

func (a *Account) arn(resource string) string {
	return "arn:" + cmp.Or(a.Partition, "aws") + ":iam::" + a.ID + ":" + resource
}

// userID makes the unique id of a user, which is the same in every process.
func userID(account, name string) string {
	sum := sha256.Sum256([]byte(account + ":user/" + strings.ToLower(name)))
	return "AIDA" + base32.StdEncoding.EncodeToString(sum[:])[:17]
}
