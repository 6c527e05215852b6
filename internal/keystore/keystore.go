// Package keystore is the contract of a place where key material lives.
//
// A [Store] holds the material of KMS keys and does the cryptography with it.
// The soft store is always there; custom key stores are made and connected by
// a [Kind], one for each CustomKeyStoreType. The domain (package kms) knows
// this package and none of its implementations; package keystoretest holds
// the suite that all of them pass.
//
// Errors: whatever the caller of KMS should be told is a *kmsapi.Error with
// the exception that fits the operation named in [Call] or the method called
// (the stores know their own failures best); anything else is an internal
// error whose text stays in the log. Connect fails with a [ConnectError].
//
// No implementation logs, or puts in an error, a plaintext, key material, a
// password or a credential.
package keystore

import (
	"context"
	"errors"

	"kastellan.dev/internal/keyspec"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// Call says on whose behalf a store is used. External key managers are told;
// every store may log it.
type Call struct {
	PrincipalARN string // of the KMS caller
	Operation    string // the KMS operation: "Encrypt", "CreateKey", …
	RequestID    string // the KMS request's id
	SourceVPC    string // may be empty
	SourceVPCE   string // may be empty
	ViaService   string // may be empty
}

// NewKey describes a key to be made.
type NewKey struct {
	ID       string // the KMS key's bare id
	ARN      string // the KMS key's ARN; HSM stores use it as the object's label
	XksKeyID string // the external key's id; external key stores only
	// Spec is the kind of material. Custom key stores make SYMMETRIC_DEFAULT
	// keys alone, and are asked for nothing else.
	Spec kmsapi.KeySpec
}

// Material is what a store gives back for a key it made.
type Material struct {
	// Data is kept in the key's metadata record and handed back in every Key. It is
	// opaque to the domain and holds nothing secret in clear.
	Data []byte
	// ID is the key material id: 64 lower-case hexadecimal digits, a
	// one-way function of key id and material; empty where the store has none to show.
	ID string
	// PublicKey is the public half, a DER SubjectPublicKeyInfo; nil for
	// symmetric and HMAC keys.
	PublicKey []byte
}

// Key names a key that a store holds.
type Key struct {
	ID       string // the KMS key's bare id
	ARN      string // the KMS key's ARN
	XksKeyID string // as in NewKey
	// Data is Material.Data; nil for a key whose creation was interrupted
	// before its Material was known (only DeleteKey gets such a key).
	Data []byte
}

// Store holds key material and uses it. All methods may be called from many
// goroutines at once, and return when ctx is done at the latest, whatever the
// other side does.
type Store interface {
	// CreateKey makes fresh material. A custom key store is asked for a 256-bit AES
	// key, once per key id; if it fails or the process dies, DeleteKey is called.
	CreateKey(ctx context.Context, call Call, key NewKey) (Material, error)

	// Encrypt encrypts and authenticates plaintext under a SYMMETRIC_DEFAULT key, authenticates aad too,
	// and appends the result to dst. The result carries all that Decrypt needs
	// (nonce, tag, vendor data). It is safe to repeat.
	Encrypt(ctx context.Context, call Call, key Key, dst, plaintext, aad []byte) ([]byte, error)

	// Decrypt undoes Encrypt. Whatever is not an untouched result of Encrypt
	// with the same key and aad is an InvalidCiphertextException, except in external
	// key stores, where every failure is a KMSInvalidStateException. It is safe to repeat.
	Decrypt(ctx context.Context, call Call, key Key, sealed, aad []byte) ([]byte, error)

	// DeleteKey destroys the material as far as it is the store's to destroy:
	// external keys are left alone. Deleting what is not there succeeds.
	DeleteKey(ctx context.Context, call Call, key Key) error
}

// Keyring is a Store that keeps nothing itself: what it makes of material
// lies, sealed, in [Material.Data] alone. That gives it the powers that custom key
// stores lack: keys of every key spec, material that somebody else made, and
// the same material under several names.
type Keyring interface {
	Store

	// Open gives a key of the key spec, ready to use, without giving its material away.
	Open(ctx context.Context, call Call, key Key, spec kmsapi.KeySpec) (keyspec.Key, error)

	// Import takes over material that is in the form of the key spec; other
	// material is an IncorrectKeyMaterialException. The same material gives the same
	// Material.ID for the same key id.
	Import(ctx context.Context, call Call, key NewKey, material []byte) (Material, error)

	// Copy makes the material of a key that of another one, which shares its
	// bare id: a replica in another Region. It keeps Material.ID.
	Copy(ctx context.Context, call Call, key Key, to NewKey) (Material, error)
}

// Randomizer is the power to give random bytes from the store's own
// generator. A store without it makes GenerateRandom an UnsupportedOperationException.
type Randomizer interface {
	// Random gives n random bytes, 1 to 1024.
	Random(ctx context.Context, call Call, n int) ([]byte, error)
}

// Connection is a custom key store that is connected.
type Connection interface {
	Store

	// Close ends the connection: it refuses new work, waits for running
	// calls at most until ctx is done, logs out and gives back what the connection
	// holds. Failures are logged by the implementation; the connection is gone in any case.
	Close(ctx context.Context)
}

// Config is the configuration of one custom key store. Exactly one of HSM and
// XKS is set, as its type says.
type Config struct {
	ID      string // "cks-…"
	Account string
	Region  string
	Name    string
	HSM     *HSMConfig
	XKS     *XKSConfig
}

// HSMConfig is what an AWS_CLOUDHSM key store adds. The password of the
// kmsuser is not here but in [Passwords], because connecting changes it.
type HSMConfig struct {
	ClusterID   string
	TrustAnchor string // PEM
}

// XKSConfig is what an EXTERNAL_KEY_STORE adds.
type XKSConfig struct {
	Connectivity    kmsapi.XksProxyConnectivity
	URIEndpoint     string // "https://" and a host name, no port
	URIPath         string // "[/prefix]/kms/xks/v1"
	ServiceName     string // VPC_ENDPOINT_SERVICE only
	ServiceOwner    string // account; VPC_ENDPOINT_SERVICE only
	AccessKeyID     string
	SecretAccessKey secret.Text
}

// ErrKeepPassword tells that one more password would make the ledger forget
// the one that a member which is away still has, and so lose the member.
var ErrKeepPassword = errors.New("a member that is away knows only an older password")

// Passwords is the ledger of the kmsuser's password. Each method is durable
// when it returns, so that a crash at any point leaves a ledger from which the
// password that an HSM really has can be found by trying Candidates.
type Passwords interface {
	// Candidates lists the passwords an HSM may have, most likely first: the one
	// written ahead by an attempt that did not finish, the current one, and older
	// ones that a member which was away may still have. At most four: five
	// wrong ones lock the user on real HSMs.
	Candidates() []secret.Text
	// Prepare writes a fresh password ahead and returns it: 32 alphanumeric
	// characters. If one is already written ahead, that one is returned. Unless
	// allMembers are there to be given it, it fails with ErrKeepPassword when
	// members that are away may have too many older passwords already.
	Prepare(ctx context.Context, allMembers bool) (secret.Text, error)
	// Commit makes the prepared password the current one. With allMembers
	// the older passwords are forgotten, since every member now has the new one.
	Commit(ctx context.Context, allMembers bool) error
}

// ErrBusy is wrapped by an error that says that the other side of a key store has no
// room for one more call, which counts as throttling.
var ErrBusy = errors.New("the key store is busy")

// Kind makes key stores of one CustomKeyStoreType.
//
// The four checks answer with the exceptions that AWS documents for
// CreateCustomKeyStore, UpdateCustomKeyStore and ConnectCustomKeyStore.
// They are called in the order in which they stand here.
type Kind interface {
	// Type is the CustomKeyStoreType.
	Type() kmsapi.CustomKeyStoreType

	// Locate finds what the configuration names and tells whether it may
	// back a store at all: the cluster exists and is active, the endpoint service exists.
	Locate(ctx context.Context, cfg Config) error

	// Conflict tells whether two stores can exist side by side: other is a
	// store of any type, in any account, in the same Region; nil means they can. It
	// returns the InUse exception of cfg's operation. It is not called for cfg itself.
	Conflict(cfg, other Config) error

	// Related tells whether an existing store may be moved from old to cfg
	// (CloudHsmClusterNotRelatedException).
	Related(ctx context.Context, old, cfg Config) error

	// Verify tests the configuration for call.Operation (CreateCustomKeyStore
	// or UpdateCustomKeyStore): cluster configuration and trust anchor, or the
	// endpoint service's configuration and the proxy's health.
	Verify(ctx context.Context, call Call, cfg Config) error

	// Connectable is the part of ConnectCustomKeyStore that fails at once
	// and leaves the state as it is.
	Connectable(ctx context.Context, cfg Config) error

	// Connect does the rest, in the background: it may take minutes, stops when
	// ctx is done, and notes each step in trace. HSM stores rotate the
	// password through pw; it is nil for other types.
	Connect(ctx context.Context, call Call, cfg Config, pw Passwords, trace *Trace) (Connection, error)

	// Resume gives the connection of a store that is CONNECTED already, after a
	// restart, on another node, or with changed configuration. It does not touch
	// the network; the connection repairs itself as soon as its other side answers.
	// Passwords are not rotated.
	Resume(cfg Config, pw Passwords) (Connection, error)
}

// ConnectError is why Connect failed.
type ConnectError struct {
	Code kmsapi.ConnectionErrorCode
	Err  error // for the log and the evidence: never a secret
}

// Error implements error.
func (e *ConnectError) Error() string { return string(e.Code) + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// Reporter is the power of a Connection to tell how it is: members, health,
// last failures. What it gives is shown to operators as JSON and holds nothing secret.
type Reporter interface {
	Health() any
}

// HealthChange is that a part of a connected key store is otherwise than before.
type HealthChange struct {
	Part  string // an HSM's id, a key manager's id, or "proxy"
	State string // in the store's own words: "HEALTHY", "UNHEALTHY"; "ACTIVE", "DEGRADED", "UNAVAILABLE"
	Cause string // why it is not well, as far as that is known; never a secret
}

// HealthTeller is the power of a Connection to tell when its health changes.
// That a part is well which was not heard of before is no change.
type HealthTeller interface {
	// TellHealth has tell called with every change from now on, from any goroutine.
	// tell returns at once. It is called once in the life of a connection.
	TellHealth(tell func(HealthChange))
}
