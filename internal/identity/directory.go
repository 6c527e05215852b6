package identity

import (
	"iter"
	"strings"
	"sync/atomic"
	"time"

	"kastellan.dev/internal/policy"
)

// Entry is what an access key id stands for. It must not be changed.
type Entry struct {
	Key       AccessKey
	Principal *Principal
}

// RoleEntry is a role that can be assumed. It must not be changed.
type RoleEntry struct {
	Account     string
	ARN         string // with its path
	ID          string // "AROA…"
	Name        string
	Path        string
	Description string
	MaxSession  time.Duration
	Tags        map[string]string
	Trust       *policy.Document

	organization *Organization
	partition    string
	policies     []*policy.Document
	boundary     *policy.Document
}

// Directory knows every access key, user, role, managed policy and provider. It is immutable.
type Directory struct {
	entries       map[string]*Entry           // by access key id
	users         map[string]*Principal       // users and roots by ARN, without an access key
	roles         map[string]*RoleEntry       // by ARN
	policies      map[string]*policy.Document // managed ones, by ARN
	providers     map[string]*Provider        // by ARN
	accounts      map[string]bool             // by id
	organizations map[string]*Organization    // by account
	sessions      map[string]bool             // account and name of each role, which is all that ARNs of sessions have
	byAccount     map[string][]string         // ARNs of providers
}

// Lookup finds an access key.
func (d *Directory) Lookup(accessKeyID string) (*Entry, bool) {
	e, ok := d.entries[accessKeyID]
	return e, ok
}

// User finds a user or an account's root by its ARN. It comes without an access key.
func (d *Directory) User(arn string) (*Principal, bool) {
	p, ok := d.users[arn]
	return p, ok
}

// Role finds a role by its ARN.
func (d *Directory) Role(arn string) (*RoleEntry, bool) {
	r, ok := d.roles[arn]
	return r, ok
}

// Exists tells whether there is a principal that a policy or a grant names: an account by its
// id or root, a user, a role or its sessions, or a federated user of an account that is there.
func (d *Directory) Exists(name string) bool {
	if d.accounts[name] {
		return true
	}
	parts := strings.SplitN(name, ":", 6)
	if len(parts) != 6 || !d.accounts[parts[4]] {
		return false
	}
	kind, rest, _ := strings.Cut(parts[5], "/")
	switch kind {
	case "root", "federated-user":
		return true
	case "assumed-role":
		role, _, _ := strings.Cut(rest, "/")
		return d.sessions[parts[4]+"/"+role]
	}
	return d.users[name] != nil || d.roles[name] != nil
}

// Organization tells where in an organization an account is; nil: in none that is known.
func (d *Directory) Organization(account string) *Organization { return d.organizations[account] }

// ManagedPolicy finds a managed policy by its ARN.
func (d *Directory) ManagedPolicy(arn string) (*policy.Document, bool) {
	p, ok := d.policies[arn]
	return p, ok
}

// Providers are the OpenID Connect providers of an account by their ARNs.
func (d *Directory) Providers(account string) iter.Seq2[string, *Provider] {
	return func(yield func(string, *Provider) bool) {
		for _, arn := range d.byAccount[account] {
			if !yield(arn, d.providers[arn]) {
				return
			}
		}
	}
}

// Source holds the Directory that is in force.
type Source struct {
	current atomic.Pointer[Directory]
}

// NewSource starts with d.
func NewSource(d *Directory) *Source {
	s := &Source{}
	s.current.Store(d)
	return s
}

// Load gives the Directory that is in force.
func (s *Source) Load() *Directory { return s.current.Load() }

// Replace puts d in force. Requests that began before keep what they found.
func (s *Source) Replace(d *Directory) { s.current.Store(d) }

// Lookup finds an access key in the Directory that is in force.
func (s *Source) Lookup(accessKeyID string) (*Entry, bool) { return s.Load().Lookup(accessKeyID) }
