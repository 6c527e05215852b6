package identity

import (
	"sync/atomic"
	"time"

	"kastellan.dev/internal/secret"
)

// Account is an AWS account as it is configured.
type Account struct {
	ID        string // 12 digits
	Alias     string // may be empty
	Partition string // of the account's ARNs; empty means "aws"
	Root      RootConfig
	Users     []User
}

// RootConfig is the root user of an account. Usually it has no keys.
type RootConfig struct {
	AccessKeys []AccessKey
}

// User is an IAM user.
type User struct {
	Name       string // 1–64 of A-Z a-z 0-9 _ + = , . @ -
	Path       string // begins and ends with "/"; empty means "/"
	AccessKeys []AccessKey
	Policies   []string // IAM policies, JSON
}

// AccessKey is one pair of access key id and secret access key.
type AccessKey struct {
	ID           string // 16–128 of A-Z a-z 0-9 _
	Secret       secret.Text
	SessionToken secret.Text // set for temporary credentials only
	Expires      time.Time   // end of temporary credentials; zero means never
}

// Entry is what an access key id stands for. It must not be changed.
type Entry struct {
	Key       AccessKey
	Principal *Principal
}

// Directory knows every access key. It is immutable.
type Directory struct {
	entries map[string]*Entry
}

// Lookup finds an access key.
func (d *Directory) Lookup(accessKeyID string) (*Entry, bool) {
	e, ok := d.entries[accessKeyID]
	return e, ok
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
