package xksproxy_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"sync"
	"testing"
	"time"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/xksproxy"
	"kastellan.dev/internal/xksproxy/xksproxytest"
)

// fakeToken is a token of keys in memory that fails as told. Methods that the
// proxy has no business with panic.
type fakeToken struct {
	pkcs11.Token
	keys map[string]cipher.AEAD

	mu       sync.Mutex
	labels   []string // handles are positions, from 1
	logins   int
	loggedIn bool
	finds    int
	attrs    pkcs11.Attributes
	// fault is asked before each call that a request makes.
	fault func(ctx context.Context, call string) error
}

func newFakeToken(t testing.TB, labels ...string) *fakeToken {
	t.Helper()
	f := &fakeToken{keys: map[string]cipher.AEAD{}, attrs: pkcs11.Attributes{KeyType: 0x1F, ValueLen: 32, Encrypt: true, Decrypt: true}}
	for _, label := range append(labels, xksproxytest.HealthKey) {
		key := make([]byte, 32)
		copy(key, label) // the same in every token
		block, err := aes.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		if f.keys[label], err = cipher.NewGCM(block); err != nil {
			t.Fatal(err)
		}
		f.labels = append(f.labels, label)
	}
	return f
}

func (f *fakeToken) break_(fault func(ctx context.Context, call string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

func (f *fakeToken) ask(ctx context.Context, call string) error {
	f.mu.Lock()
	fault, loggedIn := f.fault, f.loggedIn
	f.mu.Unlock()
	if fault != nil {
		if err := fault(ctx, call); err != nil {
			return err
		}
	}
	if call != "Login" && !loggedIn {
		return &pkcs11.Error{Function: "C_" + call, RV: pkcs11.CKR_USER_NOT_LOGGED_IN}
	}
	return nil
}

func (f *fakeToken) Login(ctx context.Context, _ secret.Text) error {
	f.mu.Lock()
	f.logins++
	f.mu.Unlock()
	if err := f.ask(ctx, "Login"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.loggedIn {
		return &pkcs11.Error{Function: "C_Login", RV: pkcs11.CKR_USER_ALREADY_LOGGED_IN}
	}
	f.loggedIn = true
	return nil
}

func (f *fakeToken) logOut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loggedIn = false
}

func (f *fakeToken) count() (logins, finds int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.logins, f.finds
}

func (f *fakeToken) Info(context.Context) (pkcs11.TokenInfo, error) {
	return pkcs11.TokenInfo{Manufacturer: "Fakes Ltd", Model: "Model F"}, nil
}

func (f *fakeToken) FindKeys(ctx context.Context, label string, _ []byte) ([]pkcs11.Handle, error) {
	if err := f.ask(ctx, "FindObjects"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.finds++
	var out []pkcs11.Handle
	for i, l := range f.labels {
		if l == label {
			out = append(out, pkcs11.Handle{Object: uint64(i + 1)})
		}
	}
	return out, nil
}

func (f *fakeToken) Attributes(ctx context.Context, _ pkcs11.Handle) (pkcs11.Attributes, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.attrs, nil
}

func (f *fakeToken) aead(h pkcs11.Handle) cipher.AEAD {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.keys[f.labels[h.Object-1]]
}

func (f *fakeToken) EncryptGCM(ctx context.Context, key pkcs11.Handle, plaintext, aad []byte) (pkcs11.GCM, error) {
	if err := f.ask(ctx, "Encrypt"); err != nil {
		return pkcs11.GCM{}, err
	}
	iv := make([]byte, 12)
	rand.Read(iv)
	out := f.aead(key).Seal(nil, iv, plaintext, aad)
	return pkcs11.GCM{IV: iv, Ciphertext: out[:len(plaintext)], Tag: out[len(plaintext):]}, nil
}

func (f *fakeToken) DecryptGCM(ctx context.Context, key pkcs11.Handle, in pkcs11.GCM, aad []byte) ([]byte, error) {
	if err := f.ask(ctx, "Decrypt"); err != nil {
		return nil, err
	}
	out, err := f.aead(key).Open(nil, in.IV, append(append([]byte(nil), in.Ciphertext...), in.Tag...), aad)
	if err != nil {
		return nil, &pkcs11.Error{Function: "C_Decrypt", RV: pkcs11.CKR_GENERAL_ERROR} // as SoftHSM2 does
	}
	return out, nil
}

// tokenConfig is a proxy's configuration with these tokens as members of a ring.
func tokenConfig(tokens ...*fakeToken) xksproxy.Config {
	ring := xksproxy.RingConfig{Name: "hsm", Timeout: 4 * time.Second, Tokens: &xksproxy.TokenRing{HealthKey: xksproxytest.HealthKey}}
	for i, token := range tokens {
		ring.Tokens.Members = append(ring.Tokens.Members, xksproxy.TokenMember{
			Name: string(rune('a' + i)), PIN: secret.NewText("1234"), Token: token,
		})
	}
	return xksproxytest.Config(ring)
}
