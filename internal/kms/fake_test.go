package kms_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// fakeKind is a keystore.Kind whose answers a test sets. It checks how it is
// used: the order of the checks, passwords where they belong, connections
// that are closed once and not used afterwards.
type fakeKind struct {
	t         *testing.T
	storeType kmsapi.CustomKeyStoreType

	mu       sync.Mutex
	answers  map[string]error // by method
	located  map[string]bool  // by what Locate was called for
	connects int
	resumes  int
	deletes  int
	open     int                                             // connections that are not closed
	during   func(context.Context, keystore.Passwords) error // runs inside Connect
	resuming func()                                          // runs inside Resume
	keys     map[string][]byte                               // the material, by key id: outlives connections
}

func newFakeKind(t *testing.T, storeType kmsapi.CustomKeyStoreType) *fakeKind {
	return &fakeKind{t: t, storeType: storeType, answers: map[string]error{}, located: map[string]bool{}, keys: map[string][]byte{}}
}

// answer makes a method fail with err, until it is called with nil.
func (f *fakeKind) answer(method string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[method] = err
}

func (f *fakeKind) said(method string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.answers[method]
}

// inConnect makes every Connect run fn.
func (f *fakeKind) inConnect(fn func(context.Context, keystore.Passwords) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.during = fn
}

// inResume makes every Resume run fn.
func (f *fakeKind) inResume(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resuming = fn
}

func (f *fakeKind) counts() (connects, resumes, open int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.connects, f.resumes, f.open
}

// deletions counts the calls of DeleteKey.
func (f *fakeKind) deletions() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.deletes
}

func (f *fakeKind) Type() kmsapi.CustomKeyStoreType { return f.storeType }

func target(cfg keystore.Config) string {
	if cfg.HSM != nil {
		return cfg.HSM.ClusterID
	}
	return cfg.XKS.URIEndpoint + cfg.XKS.URIPath
}

func (f *fakeKind) Locate(_ context.Context, cfg keystore.Config) error {
	f.mu.Lock()
	f.located[target(cfg)] = true
	f.mu.Unlock()
	return f.said("Locate")
}

func (f *fakeKind) Conflict(cfg, other keystore.Config) error {
	if cfg.ID == other.ID {
		f.t.Error("Conflict was asked about a store and itself")
	}
	same := cfg.HSM != nil && other.HSM != nil || cfg.XKS != nil && other.XKS != nil
	if same && target(cfg) == target(other) {
		if cfg.HSM != nil {
			return kmsapi.Errorf(kmsapi.CloudHsmClusterInUse, "in use")
		}
		return kmsapi.Errorf(kmsapi.XksProxyUriInUse, "in use")
	}
	return nil
}

func (f *fakeKind) Related(_ context.Context, old, cfg keystore.Config) error {
	if old.ID != cfg.ID {
		f.t.Error("Related was asked about two stores")
	}
	return f.said("Related")
}

func (f *fakeKind) Verify(_ context.Context, call keystore.Call, cfg keystore.Config) error {
	f.mu.Lock()
	located := f.located[target(cfg)]
	f.mu.Unlock()
	if !located {
		f.t.Error("Verify was called before Locate")
	}
	if call.Operation != "CreateCustomKeyStore" && call.Operation != "UpdateCustomKeyStore" {
		f.t.Errorf("Verify was called for %q", call.Operation)
	}
	if cfg.XKS != nil && cfg.XKS.SecretAccessKey.IsEmpty() {
		f.t.Error("Verify was not given the credential")
	}
	return f.said("Verify")
}

func (f *fakeKind) Connectable(context.Context, keystore.Config) error { return f.said("Connectable") }

func (f *fakeKind) Connect(ctx context.Context, call keystore.Call, cfg keystore.Config, pw keystore.Passwords, trace *keystore.Trace) (keystore.Connection, error) {
	f.mu.Lock()
	f.connects++
	during := f.during
	f.mu.Unlock()
	if (pw != nil) != (cfg.HSM != nil) {
		f.t.Error("Connect was given passwords of the wrong type")
	}
	if call.RequestID == "" || call.PrincipalARN == "" {
		f.t.Error("Connect was not told for whom")
	}
	end := trace.Step("fake step", target(cfg))
	if during != nil {
		if err := during(ctx, pw); err != nil {
			end("", err)
			return nil, err
		}
	}
	err := f.said("Connect")
	end("tried", err)
	if err != nil {
		return nil, err
	}
	return f.connection(), nil
}

func (f *fakeKind) Resume(cfg keystore.Config, pw keystore.Passwords) (keystore.Connection, error) {
	if (pw != nil) != (cfg.HSM != nil) {
		f.t.Error("Resume was given passwords of the wrong type")
	}
	f.mu.Lock()
	f.resumes++
	resuming := f.resuming
	f.mu.Unlock()
	if resuming != nil {
		resuming()
	}
	if err := f.said("Resume"); err != nil {
		return nil, err
	}
	return f.connection(), nil
}

func (f *fakeKind) connection() *fakeConnection {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open++
	return &fakeConnection{kind: f}
}

// fakeConnection keeps real AES keys in its kind.
type fakeConnection struct {
	kind   *fakeKind
	mu     sync.Mutex
	closed bool
}

var _ keystore.Connection = (*fakeConnection)(nil)

func (c *fakeConnection) alive() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return kmsapi.Errorf(kmsapi.KMSInvalidState, "the connection is closed")
	}
	return nil
}

func (c *fakeConnection) Close(context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		c.kind.t.Error("a connection was closed twice")
	}
	c.closed = true
	c.kind.mu.Lock()
	c.kind.open--
	c.kind.mu.Unlock()
}

func (c *fakeConnection) CreateKey(_ context.Context, _ keystore.Call, key keystore.NewKey) (keystore.Material, error) {
	if err := errors.Join(c.alive(), c.kind.said("CreateKey")); err != nil {
		return keystore.Material{}, err
	}
	c.kind.mu.Lock()
	defer c.kind.mu.Unlock()
	if c.kind.keys[key.ID] != nil {
		c.kind.t.Error("a key was made twice")
	}
	material := make([]byte, 32)
	_, _ = rand.Read(material)
	c.kind.keys[key.ID] = material
	return keystore.Material{Data: []byte("handle of " + key.ID)}, nil
}

func (c *fakeConnection) aead(key keystore.Key) (cipher.AEAD, error) {
	c.kind.mu.Lock()
	defer c.kind.mu.Unlock()
	material := c.kind.keys[key.ID]
	if material == nil {
		return nil, kmsapi.Errorf(kmsapi.KMSInvalidState, "the key is gone")
	}
	if string(key.Data) != "handle of "+key.ID {
		c.kind.t.Errorf("the key came with the data %q", key.Data)
	}
	block, err := aes.NewCipher(material)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (c *fakeConnection) Encrypt(_ context.Context, call keystore.Call, key keystore.Key, dst, plaintext, aad []byte) ([]byte, error) {
	if call.Operation == "" || call.RequestID == "" || call.PrincipalARN == "" {
		c.kind.t.Errorf("a store was not told on whose behalf: %+v", call)
	}
	if err := errors.Join(c.alive(), c.kind.said("Encrypt")); err != nil {
		return nil, err
	}
	aead, err := c.aead(key)
	if err != nil {
		return nil, err
	}
	return aead.Seal(dst, nil, plaintext, aad), nil
}

func (c *fakeConnection) Decrypt(_ context.Context, _ keystore.Call, key keystore.Key, sealed, aad []byte) ([]byte, error) {
	if err := errors.Join(c.alive(), c.kind.said("Decrypt")); err != nil {
		return nil, err
	}
	aead, err := c.aead(key)
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(nil, nil, sealed, aad)
	if err != nil {
		return nil, kmsapi.Errorf(kmsapi.InvalidCiphertext, "").Because(err)
	}
	return plaintext, nil
}

func (c *fakeConnection) DeleteKey(_ context.Context, _ keystore.Call, key keystore.Key) error {
	c.kind.mu.Lock()
	c.kind.deletes++
	c.kind.mu.Unlock()
	if err := errors.Join(c.alive(), c.kind.said("DeleteKey")); err != nil {
		return err
	}
	c.kind.mu.Lock()
	defer c.kind.mu.Unlock()
	delete(c.kind.keys, key.ID)
	return nil
}

func (c *fakeConnection) Random(_ context.Context, _ keystore.Call, n int) ([]byte, error) {
	if err := c.alive(); err != nil {
		return nil, err
	}
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b, nil
}

func (f *fakeKind) keyCount() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.keys)
}

// plainSealer is a rootkey.Sealer for tests that only binds purpose and context.
type plainSealer struct{}

func (plainSealer) Seal(purpose, context string, plaintext []byte) ([]byte, error) {
	return fmt.Appendf(nil, "%s|%s|%x", purpose, context, plaintext), nil
}

func (plainSealer) Open(purpose, context string, sealed []byte) ([]byte, error) {
	rest, ok := strings.CutPrefix(string(sealed), purpose+"|"+context+"|")
	out, err := hex.DecodeString(rest)
	if err != nil || !ok {
		return nil, errors.New("sealed for something else")
	}
	return out, nil
}

var (
	password   = secret.NewText("kmsuserPw1")
	credential = &kmsapi.XksProxyAuthenticationCredential{
		AccessKeyID: "ABCDEFGHIJKLMNOPQRST", RawSecretAccessKey: secret.NewText("0123456789012345678901234567890123456789012"),
	}
)
