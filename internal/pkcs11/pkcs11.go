// Package pkcs11 uses tokens of a PKCS#11 v2.40 module: sessions, login, AES
// keys. It is the only package that imports the cgo binding; a binary built
// without cgo has it too, and says at Open what it lacks.
//
// A vendor's module runs in a child process of its own by default, one for
// each token: a crash or a hang in it ends the child, which is replaced, and
// not the service; the environment that a module reads can differ from token
// to token. The child is this same program, started again (see WorkerMain).
// Calls that wait for the module end when their context is done.
//
// A token handle outlives its child, its sessions and its login; what was lost
// comes back as an error ([ErrLost]) to the calls that were running, and
// the next call meets a fresh child that is not logged in.
package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"time"

	"kastellan.dev/internal/secret"
)

// Config says how to reach one token.
type Config struct {
	// URI names module and token, RFC 7512. module-path is required; the
	// token is found by token, serial, manufacturer, model or slot-id.
	URI URI
	// Env is added to the module's environment, "NAME=value". Not secret.
	Env []string
	// InProcess loads the module into this process: faster, but its crash
	// is ours, and its environment too.
	InProcess bool
	// Sessions is the largest number of sessions; zero means 16.
	Sessions int
	// Queue is how many calls may wait for a session before further ones
	// fail with ErrBusy; zero means 1024.
	Queue int
	// CallTimeout bounds every call on the module; zero means 5 s. A call
	// that runs longer makes the child be replaced. Starting the child may take
	// four times as long, listing keys and making an RSA key pair twelve times.
	CallTimeout time.Duration
	// IV says who makes the IV of AES-GCM; the zero value is IVByCaller.
	IV IVSource
}

// IVSource says who makes the 12-byte IV of an AES-GCM encryption.
type IVSource string

// The sources. SoftHSM2 accepts an absent IV and then repeats itself, hence
// IVByCaller is the default and an empty IV is never passed on.
const (
	IVByCaller     IVSource = ""              // random bytes of the operating system, passed in
	IVByModule     IVSource = "module"        // zeroed buffer, filled by the module (AWS CloudHSM)
	IVInOutput     IVSource = "module-append" // appended to the output after the tag (Luna)
	IVFromTokenRNG IVSource = "token-random"  // C_GenerateRandom of the same token, passed in
)

// Token is one token. All methods may be called from many goroutines at once.
type Token interface {
	// Info describes the token; it fails if the token cannot be reached.
	Info(ctx context.Context) (TokenInfo, error)
	// Login logs the user in, once for all sessions. It is an error
	// (CKR_USER_ALREADY_LOGGED_IN) when the user is logged in already.
	Login(ctx context.Context, pin secret.Text) error
	// Logout logs out and closes all sessions. Not being logged in is no error.
	Logout(ctx context.Context) error
	// SetPIN changes the logged-in user's PIN.
	SetPIN(ctx context.Context, old, new secret.Text) error
	// Random gives n bytes of the token's generator.
	Random(ctx context.Context, n int) ([]byte, error)

	// GenerateKey makes an AES-256 key in the token.
	GenerateKey(ctx context.Context, t Template) (Handle, error)
	// FindKeys gives the secret keys with the label (and the id, unless it is
	// nil). Keys are private: without a login it fails with CKR_USER_NOT_LOGGED_IN.
	FindKeys(ctx context.Context, label string, id []byte) ([]Handle, error)
	// ListKeys gives the labels of all secret keys with their handles. It needs a login as well.
	ListKeys(ctx context.Context) ([]Object, error)
	// Attributes tells what the key is and may do.
	Attributes(ctx context.Context, key Handle) (Attributes, error)
	// Destroy destroys the object.
	Destroy(ctx context.Context, key Handle) error

	// EncryptGCM encrypts with AES-GCM under a fresh 12-byte IV.
	EncryptGCM(ctx context.Context, key Handle, plaintext, aad []byte) (GCM, error)
	// DecryptGCM undoes EncryptGCM. IVs of other lengths than 12 or 16 are refused
	// before the module sees them. IsAuthentication tells a wrong tag.
	DecryptGCM(ctx context.Context, key Handle, in GCM, aad []byte) ([]byte, error)

	// WrapKey wraps key under wrapping, AES key wrap with padding where the module has it.
	// The result's first byte names the mechanism.
	WrapKey(ctx context.Context, wrapping, key Handle) ([]byte, error)
	// UnwrapKey makes a key of what WrapKey gave.
	UnwrapKey(ctx context.Context, wrapping Handle, wrapped []byte, t Template) (Handle, error)
	// MakeTransportKey makes a session RSA-3072 key pair in the token, for
	// one transfer: its private half cannot leave and can only unwrap.
	MakeTransportKey(ctx context.Context) (TransportKey, error)
	// WrapForTransport wraps key under another token's transport key (RSA-OAEP).
	WrapForTransport(ctx context.Context, to TransportPublic, key Handle) ([]byte, error)
	// UnwrapFromTransport makes a key of what WrapForTransport gave, in the token that made the pair.
	UnwrapFromTransport(ctx context.Context, pair TransportKey, wrapped []byte, t Template) (Handle, error)

	// Close ends the child process, or finalizes the module when its last
	// token is closed.
	Close() error
}

// Handle names an object of a token. It holds as long as the child that
// gave it, and until Logout; after that every call with it fails with ErrLost, and the object
// must be found again. The zero Handle names nothing.
type Handle struct {
	Epoch  uint32 // counts the children and logouts of a Token, from 1
	Object uint64 // CK_OBJECT_HANDLE
}

// Object is a handle with its label and id.
type Object struct {
	Handle Handle
	Label  string
	ID     []byte
}

// TokenInfo is what the token says of itself.
type TokenInfo struct {
	Label, Manufacturer, Model, Serial string
	SlotID                             uint
	FirmwareVersion                    string
	Flags                              uint // CKF_ bits of CK_TOKEN_INFO
	UserPINInitialized                 bool
	UserPINLocked                      bool
}

// Template says what a new AES key is and may do. Every key is a private,
// sensitive AES-256 secret key.
type Template struct {
	Label           string
	ID              []byte
	Token           bool // survives the session
	Encrypt         bool // may encrypt and decrypt
	Wrap            bool // may wrap and unwrap other keys
	Extractable     bool // may leave wrapped
	WrapWithTrusted bool // may leave only under a key marked CKA_TRUSTED
}

// Attributes is what an existing key is and may do.
type Attributes struct {
	Label                                                    string
	ID                                                       []byte
	KeyType                                                  uint // CKK_
	ValueLen                                                 int  // bytes
	Sensitive, Extractable, NeverExtractable, Local          bool
	Encrypt, Decrypt, Wrap, Unwrap, Trusted, WrapWithTrusted bool
}

// GCM is the result of an AES-GCM encryption.
type GCM struct {
	IV         []byte // 12 bytes, or 16 from other systems
	Ciphertext []byte // as long as the plaintext
	Tag        []byte // 16 bytes
}

// TransportPublic is the public half of a transport key.
type TransportPublic struct {
	Modulus, Exponent []byte // big-endian
	SHA1Only          bool   // the module that made it knows RSA-OAEP with SHA-1 alone
}

// TransportKey is a key pair that one token made for one transfer.
type TransportKey struct {
	Public       TransportPublic
	Private      Handle
	PublicHandle Handle
}

// Errors that callers branch on.
var (
	// ErrLost: the child died or was replaced, or the handle is of an earlier
	// one. Whether the call took effect is unknown.
	ErrLost = errors.New("pkcs11: the module's process was lost")
	// ErrBusy: no session came free in time, or the queue is full.
	ErrBusy = errors.New("pkcs11: no session is free")
	// ErrTimeout: the module did not answer within Config.CallTimeout.
	ErrTimeout = errors.New("pkcs11: the module does not answer")
	// ErrNoToken: the module has no token that the URI describes, or not just one.
	ErrNoToken = errors.New("pkcs11: no such token")
	// ErrNoCgo: this binary was built without cgo and cannot load modules.
	ErrNoCgo = errors.New("pkcs11: built without cgo: PKCS#11 modules cannot be loaded")
	// ErrModule: the module cannot be loaded or initialised.
	ErrModule = errors.New("pkcs11: the module cannot be loaded")
)

// Error is a return value other than CKR_OK.
type Error struct {
	Function string // "C_Login"
	RV       uint   // CK_RV
}

// Error implements error: "C_Login: CKR_PIN_LOCKED".
func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Function, RVName(e.RV)) }

// Is makes errors.Is(err, &Error{RV: rv}) compare return values alone.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Function == "" && t.RV == e.RV
}
