package config

import (
	"errors"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/policy"
)

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
	base := identity.Account{ID: a.ID, Alias: a.Name, Partition: a.Partition}
	if o := identity.Organization(a.Organization); o != (identity.Organization{}) {
		base.Organization = &o
	}
	check := func(w where, add func(a *identity.Account)) {
		if len(p.errs) == before { // what is wrong is told once, with the closest line
			probe := base
			add(&probe)
			_, err := identity.New([]identity.Account{probe})
			p.check(w, err)
		}
	}
	check(w, func(*identity.Account) {})
	for i, m := range a.Policies {
		w := w.at("policies", i)
		base.Policies = append(base.Policies, c.managedPolicy(p, w, m))
		check(w, func(*identity.Account) {})
	}
	for i, g := range a.Groups {
		w := w.at("groups", i)
		p.need(w.at("name"), g.Name)
		base.Groups = append(base.Groups, identity.Group{Name: g.Name, Attached: c.attached(p, w, g.Policies)})
		check(w, func(*identity.Account) {})
	}
	out := base
	out.Root.AccessKeys = c.accessKeys(p, w.at("root", "access-keys"), a.Root.AccessKeys)
	for i, u := range a.Users {
		w := w.at("users", i)
		user := c.user(p, w, u)
		check(w, func(a *identity.Account) { a.Users = []identity.User{user} })
		out.Users = append(out.Users, user)
	}
	for i, r := range a.Roles {
		w := w.at("roles", i)
		role := c.role(p, w, r)
		check(w, func(a *identity.Account) { a.Roles = []identity.Role{role} })
		out.Roles = append(out.Roles, role)
	}
	for i, o := range a.Providers {
		w := w.at("oidc-providers", i)
		provider := c.provider(p, w, o)
		check(w, func(a *identity.Account) { a.Providers = []identity.Provider{provider} })
		out.Providers = append(out.Providers, provider)
	}
	check(w, func(a *identity.Account) { *a = out })
	return out
}

func (c *Config) user(p *problems, w where, u User) identity.User {
	p.need(w.at("name"), u.Name)
	return identity.User{
		ID: u.ID, Name: u.Name, Path: u.Path,
		AccessKeys: c.accessKeys(p, w.at("access-keys"), u.AccessKeys),
		Attached:   c.attached(p, w, u.Policies),
		Groups:     u.Groups, Boundary: u.Boundary, Tags: u.Tags,
	}
}

func (c *Config) role(p *problems, w where, r Role) identity.Role {
	p.need(w.at("name"), r.Name)
	trust, err := c.document(r.Trust)
	if err == nil {
		_, err = policy.ParseTrust([]byte(trust))
	}
	p.check(w.at("trust-policy"), err)
	return identity.Role{
		ID: r.ID, Name: r.Name, Path: r.Path, Description: r.Description, Trust: trust,
		Attached: c.attached(p, w, r.Policies),
		Boundary: r.Boundary, MaxSession: r.MaxSession, Tags: r.Tags,
	}
}

func (c *Config) provider(p *problems, w where, o OIDCProvider) identity.Provider {
	p.need(w.at("url"), o.URL)
	out := identity.Provider{URL: o.URL, ClientIDs: o.ClientIDs, Skew: o.ClockSkew}
	if o.CA != "" {
		var err error
		out.Roots, err = readPool(c.path(o.CA))
		p.check(w.at("ca"), err)
	}
	return out
}

func (c *Config) managedPolicy(p *problems, w where, m ManagedPolicy) identity.ManagedPolicy {
	p.need(w.at("name"), m.Name)
	document, err := c.identityPolicy(Document{File: m.File, Document: m.Document})
	p.check(w, err)
	return identity.ManagedPolicy{Name: m.Name, Path: m.Path, Document: document}
}

// attached reads the policies of a user, a group or a role.
func (c *Config) attached(p *problems, w where, policies []Policy) identity.Attached {
	var out identity.Attached
	for i, from := range policies {
		w := w.at("policies", i)
		if from.Managed != "" {
			if from.File != "" || from.Document != "" {
				p.add(w, "needs one of managed, file and document")
			}
			out.Managed = append(out.Managed, from.Managed)
			continue
		}
		document, err := c.identityPolicy(Document{File: from.File, Document: from.Document})
		p.check(w, err)
		out.Inline = append(out.Inline, document)
	}
	return out
}

// identityPolicy reads a policy, and refuses one that could not be evaluated.
func (c *Config) identityPolicy(from Document) (string, error) {
	document, err := c.document(from)
	if err == nil {
		_, err = policy.ParseIdentity([]byte(document))
	}
	return document, err
}

func (c *Config) document(from Document) (string, error) {
	switch {
	case (from.File == "") == (from.Document == ""):
		return "", errors.New("needs either file or document")
	case from.File != "":
		text, err := readLimited(c.path(from.File), maxFile)
		return string(text), plain(err)
	}
	return from.Document, nil
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
	out := identity.AccessKey{ID: k.ID, Secret: k.Secret, SessionToken: k.SessionToken, Expires: k.Expires, ViaService: k.ViaService}
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
