package identity

import (
	"crypto/x509"
	"time"

	"kastellan.dev/internal/secret"
)

// Account is an AWS account as it is configured.
type Account struct {
	ID        string // 12 digits
	Alias     string // may be empty
	Partition string // of the account's ARNs; empty means "aws"
	// Organization is what conditions such as aws:PrincipalOrgID are about; nil: the account is in none.
	Organization *Organization
	Root         RootConfig
	Policies     []ManagedPolicy
	Groups       []Group
	Users        []User
	Roles        []Role
	Providers    []Provider
}

// Organization is where in an organization an account is. It restricts nothing by itself.
type Organization struct {
	ID   string // "o-" and 10 to 32 lower-case letters and digits
	Path string // "o-…/r-…/ou-…/", as aws:PrincipalOrgPaths has it; may be empty
}

// RootConfig is the root user of an account. Usually it has no keys.
type RootConfig struct {
	AccessKeys []AccessKey
}

// ManagedPolicy is a policy that users, groups, roles and sessions of the account can share.
type ManagedPolicy struct {
	Name     string // 1–128 of A-Z a-z 0-9 _ + = , . @ -
	Path     string // as that of a user
	Document string // an IAM policy, JSON
}

// Attached are the policies of a user, a group or a role.
type Attached struct {
	Inline  []string // IAM policies, JSON
	Managed []string // names of managed policies of the account
}

// Group is what its users have in common.
type Group struct {
	Name string // 1–128 of the characters of a user's name
	Attached
}

// User is an IAM user.
type User struct {
	ID         string // "AIDA…", 16–128 letters and digits; empty: one is made of account and name
	Name       string // 1–64 of A-Z a-z 0-9 _ + = , . @ -
	Path       string // begins and ends with "/"; empty means "/"
	AccessKeys []AccessKey
	Attached
	Groups   []string          // names
	Boundary string            // the name of a managed policy; empty: none
	Tags     map[string]string // at most 50
}

// Role is an IAM role, which those whom its trust policy names can assume.
type Role struct {
	ID          string // "AROA…"; as that of a user
	Name        string // as that of a user
	Path        string // as that of a user
	Description string // at most 1000 characters
	Trust       string // the trust policy, JSON
	Attached
	Boundary   string            // the name of a managed policy; empty: none
	MaxSession time.Duration     // 1 to 12 hours; zero means 1
	Tags       map[string]string // at most 50
}

// Provider is an OpenID Connect provider whose tokens the account's roles can trust.
type Provider struct {
	URL       string         // of the issuer: https, no query, as its tokens have it
	ClientIDs []string       // the audiences that are accepted, at least one
	Roots     *x509.CertPool // whom its certificate must come from; nil: the system's
	Skew      time.Duration  // how far its clock may be off; at most 5 minutes
}

// AccessKey is one pair of access key id and secret access key.
type AccessKey struct {
	ID           string // 16–128 of A-Z a-z 0-9 _
	Secret       secret.Text
	SessionToken secret.Text // set for temporary credentials only
	Expires      time.Time   // end of temporary credentials; zero means never
	// ViaService is the service that alone has this key and uses it for others, as
	// "s3.eu-central-1.amazonaws.com"; usually empty.
	ViaService string
}
