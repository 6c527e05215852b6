package config

import (
	"errors"
	"time"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/policy"
	"kastellan.dev/internal/secret"
)

// Account is an account and who may act in it.
type Account struct {
	ID        string `yaml:"id"`        // 12 digits, quoted
	Name      string `yaml:"name"`      // for people; may be empty
	Partition string `yaml:"partition"` // of the account's ARNs; empty means aws
	Root      Root   `yaml:"root"`
	Users     []User `yaml:"users"`
}

// Root is the root user of an account, who may do everything in it.
type Root struct {
	AccessKeys []AccessKey `yaml:"access-keys"`
}

// User is an IAM user.
type User struct {
	Name       string      `yaml:"name"`
	Path       string      `yaml:"path"` // empty means "/"
	AccessKeys []AccessKey `yaml:"access-keys"`
	Policies   []Policy    `yaml:"policies"`
}

// AccessKey is a pair of access key id and secret; the secret is named, not
// given: exactly one of its two fields is set. Those of the session token go with
// temporary credentials.
type AccessKey struct {
	ID               string    `yaml:"id"`
	SecretFile       string    `yaml:"secret-file"`
	SecretEnv        string    `yaml:"secret-env"`
	SessionTokenFile string    `yaml:"session-token-file"`
	SessionTokenEnv  string    `yaml:"session-token-env"`
	Expires          time.Time `yaml:"expires"`

	// Secret and SessionToken are for configurations that are not read from a file.
	Secret       secret.Text `yaml:"-"`
	SessionToken secret.Text `yaml:"-"`
}

// Policy is an IAM policy in JSON: exactly one of the two is set.
type Policy struct {
	File     string `yaml:"file"`
	Document string `yaml:"document"`
}

func (c *Config) checkAccounts(p *problems) {
	before := len(p.errs)
	var all []identity.Account
	if len(c.Accounts) == 0 {
		p.add(where{"accounts"}, "is empty: nobody could call")
	}
	for i, a := range c.Accounts {
		all = append(all, c.account(p, where{"accounts", i}, a))
	}
	if len(p.errs) == before { // names that exist twice, policies that cannot be evaluated
		_, err := identity.New(all)
		p.check(where{"accounts"}, err)
	}
}

// Directory reads who may call, secrets and policies included.
func (c *Config) directory() (*identity.Directory, error) {
	p := &problems{}
	var all []identity.Account
	for i, a := range c.Accounts {
		all = append(all, c.account(p, where{"accounts", i}, a))
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	return identity.New(all)
}

// account turns one account into what package identity knows, and notes what is
// wrong with it.
func (c *Config) account(p *problems, w where, a Account) identity.Account {
	before := len(p.errs)
	if !accountID.MatchString(a.ID) {
		p.add(w.at("id"), "is not an account id: 12 digits, in quotes")
	}
	out := identity.Account{ID: a.ID, Alias: a.Name, Partition: a.Partition}
	check := func(w where, a identity.Account) {
		if len(p.errs) == before { // what is wrong is told once, with the closest line
			_, err := identity.New([]identity.Account{a})
			p.check(w, err)
		}
	}
	check(w, out)
	out.Root.AccessKeys = c.accessKeys(p, w.at("root", "access-keys"), a.Root.AccessKeys)
	for i, u := range a.Users {
		user := c.user(p, w.at("users", i), u)
		check(w.at("users", i), identity.Account{ID: a.ID, Partition: a.Partition, Users: []identity.User{user}})
		out.Users = append(out.Users, user)
	}
	check(w, out)
	return out
}

func (c *Config) user(p *problems, w where, u User) identity.User {
	p.need(w.at("name"), u.Name)
	user := identity.User{Name: u.Name, Path: u.Path, AccessKeys: c.accessKeys(p, w.at("access-keys"), u.AccessKeys)}
	for i, from := range u.Policies {
		document, err := c.policy(from)
		p.check(w.at("policies", i), err)
		user.Policies = append(user.Policies, document)
	}
	return user
}

// policy reads a policy, and refuses one that could not be evaluated.
func (c *Config) policy(from Policy) (string, error) {
	document := from.Document
	switch {
	case (from.File == "") == (document == ""):
		return "", errors.New("needs either file or document")
	case from.File != "":
		text, err := readLimited(c.path(from.File), maxFile)
		if err != nil {
			return "", plain(err)
		}
		document = string(text)
	}
	_, err := policy.ParseIdentity([]byte(document))
	return document, err
}

func (c *Config) accessKeys(p *problems, w where, keys []AccessKey) []identity.AccessKey {
	var out []identity.AccessKey
	for i, k := range keys {
		w := w.at(i)
		p.need(w.at("id"), k.ID)
		key, err := c.accessKey(k)
		p.check(w, err)
		out = append(out, key)
	}
	return out
}

func (c *Config) accessKey(k AccessKey) (identity.AccessKey, error) {
	out := identity.AccessKey{ID: k.ID, Secret: k.Secret, SessionToken: k.SessionToken, Expires: k.Expires}
	var err error
	if out.Secret.IsEmpty() {
		if out.Secret, err = c.oneSecret(k.SecretFile, k.SecretEnv); err != nil {
			return out, err
		}
	}
	if k.SessionTokenFile != "" || k.SessionTokenEnv != "" {
		if out.SessionToken, err = c.oneSecret(k.SessionTokenFile, k.SessionTokenEnv); err != nil {
			return out, err
		}
	}
	if out.SessionToken.IsEmpty() && !out.Expires.IsZero() {
		return out, errors.New("has expires without a session token: only temporary credentials expire")
	}
	return out, nil
}
