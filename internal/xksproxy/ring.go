package xksproxy

import (
	"context"
	"time"
)

// Ring is a set of AES-256 keys in one place, with the cryptography done
// there. All methods may be called from many goroutines at once and return when
// ctx is done at the latest. Errors other than *[Error] are InternalException
// to the caller of the proxy, or DependencyTimeoutException when they wrap
// context.DeadlineExceeded.
type Ring interface {
	// Lookup finds a key. labels are its names in the ring, one for each
	// version, oldest first; there is at least one. KeyNotFoundException tells that it is not there.
	Lookup(ctx context.Context, labels []string) (Key, error)
	// Health does real cryptography with a key made for it, in each member.
	// It always gives at least one member.
	Health(ctx context.Context) []Member
	// Vendor names the maker of the key manager.
	Vendor() string
	// Close gives back what the ring holds. No other call is running then.
	Close() error
}

// Key is a key of a ring.
type Key interface {
	// Info tells what the key is and may do.
	Info() KeyInfo
	// Encrypt encrypts plaintext and authenticates aad (the caller's, as it
	// came) together with the metadata that it returns.
	Encrypt(ctx context.Context, plaintext, aad []byte) (Sealed, error)
	// Decrypt undoes Encrypt; InvalidCiphertextException tells that
	// in or aad is not what Encrypt gave and got.
	Decrypt(ctx context.Context, in Sealed, aad []byte) ([]byte, error)
}

// KeyInfo is what GetKeyMetadata tells and what the checks before the cryptography look at.
type KeyInfo struct {
	Spec    string // xksapi.KeySpecAES256, or another for a key that cannot be used
	Enabled bool
	Encrypt bool
	Decrypt bool
}

// Sealed is the result of an encryption.
type Sealed struct {
	IV         []byte // 12 or 16 bytes
	Ciphertext []byte // as long as the plaintext
	Tag        []byte // 16 bytes
	Metadata   []byte // at most 20 bytes; may be empty
}

// Member is one key manager of a ring, as a health check found it.
type Member struct {
	ID     string
	Model  string
	Status string        // xksapi.Active, Degraded or Unavailable
	Took   time.Duration // of the test encryption and decryption
	Detail string        // for the log: why it is not active
}
