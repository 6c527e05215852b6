package config

import (
	"time"

	"kastellan.dev/internal/secret"
)

// Account is an account and who may act in it.
type Account struct {
	ID        string `yaml:"id"`        // 12 digits, quoted
	Name      string `yaml:"name"`      // for people; may be empty
	Partition string `yaml:"partition"` // of the account's ARNs; empty means aws
	// Organization is for conditions such as aws:PrincipalOrgID.
	Organization Organization    `yaml:"organization"`
	Root         Root            `yaml:"root"`
	Policies     []ManagedPolicy `yaml:"policies"` // to be shared by name
	Groups       []Group         `yaml:"groups"`
	Users        []User          `yaml:"users"`
	Roles        []Role          `yaml:"roles"`
	Providers    []OIDCProvider  `yaml:"oidc-providers"`
}

// Organization is where in an organization an account is; without an id it is in none.
type Organization struct {
	ID   string `yaml:"id"`   // "o-…"
	Path string `yaml:"path"` // "o-…/r-…/ou-…/"; may be empty
}

// Root is the root user of an account, who may do everything in it.
type Root struct {
	AccessKeys []AccessKey `yaml:"access-keys"`
}

// ManagedPolicy is a policy with a name.
type ManagedPolicy struct {
	Name     string `yaml:"name"`
	Path     string `yaml:"path"` // empty means "/"
	File     string `yaml:"file"`
	Document string `yaml:"document"`
}

// Group is what its users have in common.
type Group struct {
	Name     string   `yaml:"name"`
	Policies []Policy `yaml:"policies"`
}

// User is an IAM user.
type User struct {
	ID         string            `yaml:"id"` // "AIDA…"; empty: made of account and name
	Name       string            `yaml:"name"`
	Path       string            `yaml:"path"` // empty means "/"
	AccessKeys []AccessKey       `yaml:"access-keys"`
	Policies   []Policy          `yaml:"policies"`
	Groups     []string          `yaml:"groups"`               // names
	Boundary   string            `yaml:"permissions-boundary"` // the name of one of the account's policies
	Tags       map[string]string `yaml:"tags"`
}

// Role is an IAM role.
type Role struct {
	ID          string            `yaml:"id"` // "AROA…"; empty: made of account and name
	Name        string            `yaml:"name"`
	Path        string            `yaml:"path"` // empty means "/"
	Description string            `yaml:"description"`
	Trust       Document          `yaml:"trust-policy"`
	Policies    []Policy          `yaml:"policies"`
	Boundary    string            `yaml:"permissions-boundary"`
	MaxSession  time.Duration     `yaml:"max-session-duration"` // 1h to 12h; zero means 1h
	Tags        map[string]string `yaml:"tags"`
}

// OIDCProvider is an OpenID Connect provider that roles of the account can trust.
type OIDCProvider struct {
	URL       string        `yaml:"url"` // as the tokens' issuer
	ClientIDs []string      `yaml:"client-ids"`
	CA        string        `yaml:"ca"`         // PEM file; empty: the system's
	ClockSkew time.Duration `yaml:"clock-skew"` // at most 5m
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
	// ViaService is the service that alone has the key, as "s3.eu-central-1.amazonaws.com": its
	// requests have kms:ViaService. Empty: nobody's requests come by a service.
	ViaService string `yaml:"via-service"`

	// Secret and SessionToken are for configurations that are not read from a file.
	Secret       secret.Text `yaml:"-"`
	SessionToken secret.Text `yaml:"-"`
}

// Policy is an IAM policy: exactly one of the three is set.
type Policy struct {
	Managed  string `yaml:"managed"` // the name of one of the account's policies
	File     string `yaml:"file"`
	Document string `yaml:"document"` // JSON
}

// Document is a policy in JSON: exactly one of the two is set.
type Document struct {
	File     string `yaml:"file"`
	Document string `yaml:"document"`
}
