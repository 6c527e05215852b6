package trail

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"

	"kastellan.dev/internal/durable"
	"kastellan.dev/internal/secret"
)

// keyName is the name under which checkpoints are signed.
const keyName = "kastellan.dev/audit"

// What the signing key is sealed for.
const (
	keyPurpose = "audit checkpoint key"
	keyContext = "trail 1"
)

// Sealer seals the signing key where it lies, under the root key.
type Sealer interface {
	Seal(purpose, context string, plaintext []byte) ([]byte, error)
	Open(purpose, context string, sealed []byte) ([]byte, error)
}

// Key signs checkpoints. It cannot be turned back into bytes or text.
type Key struct {
	private  ed25519.PrivateKey
	public   string
	verifier note.Verifier
}

var _ note.Signer = (*Key)(nil)

// newKey makes the key of a seed, which it clears.
func newKey(seed []byte) (*Key, error) {
	defer clear(seed)
	if len(seed) != ed25519.SeedSize {
		return nil, errors.New("the signing key of the audit trail has the wrong size")
	}
	k := &Key{private: ed25519.NewKeyFromSeed(seed)}
	var err error
	if k.public, err = note.NewEd25519VerifierKey(keyName, k.private.Public().(ed25519.PublicKey)); err != nil {
		return nil, err
	}
	k.verifier, err = note.NewVerifier(k.public)
	return k, err
}

// LoadKey opens the signing key in a directory. Without one the error is fs.ErrNotExist.
func LoadKey(dir string, s Sealer) (*Key, error) {
	sealed, err := os.ReadFile(filepath.Join(dir, signingKeyFile))
	if err != nil {
		return nil, fmt.Errorf("reading the signing key of the audit trail: %w", err)
	}
	seed, err := s.Open(keyPurpose, keyContext, sealed)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be opened: it was changed, or sealed under another root key", filepath.Join(dir, signingKeyFile))
	}
	return newKey(seed)
}

// LoadOrMakeKey is LoadKey for a directory that may be new: it gets a key. In
// any case the public half is published beside it.
func LoadOrMakeKey(dir string, s Sealer) (*Key, error) {
	k, err := LoadKey(dir, s)
	if errors.Is(err, fs.ErrNotExist) {
		k, err = makeKey(dir, s)
	}
	if err != nil {
		return nil, err
	}
	if known, err := os.ReadFile(filepath.Join(dir, publicKeyFile)); err == nil && string(known) == k.public+"\n" {
		return k, nil
	}
	return k, replaceFile(dir, publicKeyFile, []byte(k.public+"\n"))
}

func makeKey(dir string, s Sealer) (*Key, error) {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	sealed, err := s.Seal(keyPurpose, keyContext, seed)
	if err != nil {
		return nil, fmt.Errorf("sealing the signing key of the audit trail: %w", err)
	}
	if err := replaceFile(dir, signingKeyFile, sealed); err != nil {
		return nil, err
	}
	return newKey(seed)
}

// ResealKey seals the signing key in a directory under another root key. It may
// be repeated. A directory without one is left alone.
func ResealKey(dir string, old, next Sealer) error {
	sealed, err := os.ReadFile(filepath.Join(dir, signingKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if seed, err := next.Open(keyPurpose, keyContext, sealed); err == nil {
		clear(seed)
		return nil
	}
	seed, err := old.Open(keyPurpose, keyContext, sealed)
	if err != nil {
		return fmt.Errorf("%s is sealed under neither root key", filepath.Join(dir, signingKeyFile))
	}
	defer clear(seed)
	if sealed, err = next.Seal(keyPurpose, keyContext, seed); err != nil {
		return err
	}
	return replaceFile(dir, signingKeyFile, sealed)
}

// Public is the verifier key of signed notes: name, id and public key in one line of text.
func (k *Key) Public() string { return k.public }

// Name implements note.Signer.
func (k *Key) Name() string { return keyName }

// KeyHash implements note.Signer.
func (k *Key) KeyHash() uint32 { return k.verifier.KeyHash() }

// Sign implements note.Signer.
func (k *Key) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(k.private, msg), nil }

// Format implements fmt.Formatter.
func (*Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(secret.Redacted)) }

// LogValue implements slog.LogValuer.
func (*Key) LogValue() slog.Value { return slog.StringValue(secret.Redacted) }

// replaceFile puts a file in the place of the one of the name, as a whole.
func replaceFile(dir, name string, content []byte) error {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return durable.SyncDirectory(dir)
}
