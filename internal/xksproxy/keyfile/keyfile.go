package keyfile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/xaes"
)

// Errors that callers branch on.
var (
	// ErrNoKey: the file has no key of that id.
	ErrNoKey = errors.New("keyfile: no such key")
	// ErrExists: there is a key of that id already.
	ErrExists = errors.New("keyfile: the key exists")
)

// idPattern is what the XKS Proxy API allows as an external key id.
var idPattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`)

// File is the content of a key file. It may be read from many goroutines, but
// not while it is changed.
type File struct {
	keys   map[string]*Key
	health *Version
}

// Key is one external key with all its versions.
type Key struct {
	ID       string
	Enabled  bool
	Encrypt  bool // usage
	Decrypt  bool // usage
	versions []*Version
}

// Version is one generation of a key's material.
type Version struct {
	Number   uint32 // from 1
	Created  time.Time
	material secret.Bytes
	aead     *xaes.AEAD
}

// New gives a file without keys, apart from the one that health checks use.
func New() (*File, error) {
	health, err := newVersion(1, time.Now())
	if err != nil {
		return nil, err
	}
	return &File{keys: map[string]*Key{}, health: health}, nil
}

// Add makes a key, enabled, with one version of fresh random material.
func (f *File) Add(id string, encrypt, decrypt bool) (*Key, error) {
	if !idPattern.MatchString(id) {
		return nil, fmt.Errorf("keyfile: a key id has 1 to 128 characters out of A-Z a-z 0-9 - _ . and %q has not", id)
	}
	if _, ok := f.keys[id]; ok {
		return nil, fmt.Errorf("%w: %s", ErrExists, id)
	}
	if !encrypt && !decrypt {
		return nil, errors.New("keyfile: a key must be able to encrypt or to decrypt")
	}
	v, err := newVersion(1, time.Now())
	if err != nil {
		return nil, err
	}
	k := &Key{ID: id, Enabled: true, Encrypt: encrypt, Decrypt: decrypt, versions: []*Version{v}}
	f.keys[id] = k
	return k, nil
}

// Rotate adds a version to the key; from then on it is what encrypts.
func (f *File) Rotate(id string) (*Version, error) {
	k, err := f.Key(id)
	if err != nil {
		return nil, err
	}
	v, err := newVersion(k.Newest().Number+1, time.Now())
	if err != nil {
		return nil, err
	}
	k.versions = append(k.versions, v)
	return v, nil
}

// SetEnabled enables or disables the key.
func (f *File) SetEnabled(id string, enabled bool) error {
	k, err := f.Key(id)
	if err != nil {
		return err
	}
	k.Enabled = enabled
	return nil
}

// Key finds a key, or fails with ErrNoKey.
func (f *File) Key(id string) (*Key, error) {
	k, ok := f.keys[id]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrNoKey, id)
	}
	return k, nil
}

// Keys gives all keys, sorted by id.
func (f *File) Keys() []*Key {
	out := make([]*Key, 0, len(f.keys))
	for _, k := range f.keys {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b *Key) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Health is the key that health checks encrypt with. No id leads to it.
func (f *File) Health() *Version { return f.health }

// Newest is the version that encrypts.
func (k *Key) Newest() *Version { return k.versions[len(k.versions)-1] }

// Versions gives all versions, oldest first.
func (k *Key) Versions() []*Version { return slices.Clone(k.versions) }

// Version finds a version by its number.
func (k *Key) Version(number uint32) (*Version, bool) {
	if number == 0 || uint64(number) > uint64(len(k.versions)) {
		return nil, false
	}
	return k.versions[number-1], true
}

func newVersion(number uint32, created time.Time) (*Version, error) {
	material := make([]byte, xaes.KeySize)
	rand.Read(material)
	return versionOf(number, created, material)
}

func versionOf(number uint32, created time.Time, material []byte) (*Version, error) {
	aead, err := xaes.New(material)
	if err != nil {
		return nil, err
	}
	return &Version{Number: number, Created: created.UTC().Truncate(time.Second), material: secret.New(material), aead: aead}, nil
}
