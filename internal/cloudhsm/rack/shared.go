package rack

import (
	"context"
	"crypto"
	"fmt"
	"sync/atomic"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/secret"
)

// Shared is a handle of an HSM's token, whose user is logged in for all who have one. It is a
// pkcs11.SigningToken with these differences: nobody logs in or out or changes the PIN, Close
// gives back the handle only, and Ready repairs what was lost. Objects are made, destroyed
// and looked for by one at a time, over all handles: SoftHSM2 fails to make an object that it is
// asked to look for at the same moment. Using keys goes on meanwhile.
type Shared struct {
	*bay
	giveBack func() error
	closed   atomic.Bool
}

var _ pkcs11.SigningToken = (*Shared)(nil)

// Ready makes sure that the token can be used: it is opened anew if it has failed as a whole, and its
// user logged in again if the login was lost. Handles of objects from before fail with ErrLost then.
func (s *Shared) Ready(ctx context.Context) error {
	_, err := s.ready(ctx)
	return err
}

// use gives the token to do. What it gave from a token that was replaced meanwhile is not believed.
func use[T any](s *Shared, do func(t *shifted) (T, error)) (result T, err error) {
	t := s.current.Load()
	switch {
	case s.closed.Load():
		return result, ErrClosed
	case s.removed.Load():
		return result, ErrRemoved
	case t == nil:
		return result, pkcs11.ErrLost
	}
	got, err := do(t)
	if s.current.Load() != t {
		return result, pkcs11.ErrLost
	}
	s.note(err)
	return got, err
}

// alone is use for what only one at a time may do.
func alone[T any](ctx context.Context, s *Shared, do func(t *shifted) (T, error)) (result T, err error) {
	if err := s.objects.hold(ctx); err != nil {
		return result, fmt.Errorf("waiting for others who use the token: %w", err)
	}
	defer s.objects.release()
	return use(s, do)
}

// nothing is the result of what has none.
type nothing struct{}

// Close gives the handle back. Only the last one closes the token.
func (s *Shared) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	return s.giveBack()
}

// Restarts counts the processes of the token's module, for pkcs11.Restarts.
func (s *Shared) Restarts() uint64 {
	n := s.restarts.Load()
	if t := s.current.Load(); t != nil {
		n += pkcs11.Restarts(t.Token)
	}
	return n
}

// Login is refused with CKR_USER_ALREADY_LOGGED_IN.
func (s *Shared) Login(context.Context, secret.Text) error {
	return &pkcs11.Error{Function: "C_Login", RV: pkcs11.CKR_USER_ALREADY_LOGGED_IN}
}

// Logout does nothing: others use the login.
func (s *Shared) Logout(context.Context) error { return nil }

// SetPIN is refused with CKR_ACTION_PROHIBITED: the PIN is the appliance's.
func (s *Shared) SetPIN(context.Context, secret.Text, secret.Text) error {
	return &pkcs11.Error{Function: "C_SetPIN", RV: pkcs11.CKR_ACTION_PROHIBITED}
}

// Info implements pkcs11.Token.
func (s *Shared) Info(ctx context.Context) (pkcs11.TokenInfo, error) {
	return use(s, func(t *shifted) (pkcs11.TokenInfo, error) { return t.Info(ctx) })
}

// Random implements pkcs11.Token.
func (s *Shared) Random(ctx context.Context, n int) ([]byte, error) {
	return use(s, func(t *shifted) ([]byte, error) { return t.Random(ctx, n) })
}

// GenerateKey implements pkcs11.Token.
func (s *Shared) GenerateKey(ctx context.Context, template pkcs11.Template) (pkcs11.Handle, error) {
	return alone(ctx, s, func(t *shifted) (pkcs11.Handle, error) { return t.GenerateKey(ctx, template) })
}

// FindKeys implements pkcs11.Token.
func (s *Shared) FindKeys(ctx context.Context, label string, id []byte) ([]pkcs11.Handle, error) {
	return alone(ctx, s, func(t *shifted) ([]pkcs11.Handle, error) { return t.FindKeys(ctx, label, id) })
}

// ListKeys implements pkcs11.Token.
func (s *Shared) ListKeys(ctx context.Context) ([]pkcs11.Object, error) {
	return alone(ctx, s, func(t *shifted) ([]pkcs11.Object, error) { return t.ListKeys(ctx) })
}

// Attributes implements pkcs11.Token.
func (s *Shared) Attributes(ctx context.Context, key pkcs11.Handle) (pkcs11.Attributes, error) {
	return use(s, func(t *shifted) (pkcs11.Attributes, error) { return t.Attributes(ctx, key) })
}

// Destroy implements pkcs11.Token.
func (s *Shared) Destroy(ctx context.Context, key pkcs11.Handle) error {
	_, err := alone(ctx, s, func(t *shifted) (nothing, error) { return nothing{}, t.Destroy(ctx, key) })
	return err
}

// EncryptGCM implements pkcs11.Token.
func (s *Shared) EncryptGCM(ctx context.Context, key pkcs11.Handle, plaintext, aad []byte) (pkcs11.GCM, error) {
	return use(s, func(t *shifted) (pkcs11.GCM, error) { return t.EncryptGCM(ctx, key, plaintext, aad) })
}

// DecryptGCM implements pkcs11.Token.
func (s *Shared) DecryptGCM(ctx context.Context, key pkcs11.Handle, in pkcs11.GCM, aad []byte) ([]byte, error) {
	return use(s, func(t *shifted) ([]byte, error) { return t.DecryptGCM(ctx, key, in, aad) })
}

// WrapKey implements pkcs11.Token.
func (s *Shared) WrapKey(ctx context.Context, wrapping, key pkcs11.Handle) ([]byte, error) {
	return use(s, func(t *shifted) ([]byte, error) { return t.WrapKey(ctx, wrapping, key) })
}

// UnwrapKey implements pkcs11.Token.
func (s *Shared) UnwrapKey(ctx context.Context, wrapping pkcs11.Handle, wrapped []byte, template pkcs11.Template) (pkcs11.Handle, error) {
	return alone(ctx, s, func(t *shifted) (pkcs11.Handle, error) { return t.UnwrapKey(ctx, wrapping, wrapped, template) })
}

// MakeTransportKey implements pkcs11.Token.
func (s *Shared) MakeTransportKey(ctx context.Context) (pkcs11.TransportKey, error) {
	return alone(ctx, s, func(t *shifted) (pkcs11.TransportKey, error) { return t.MakeTransportKey(ctx) })
}

// WrapForTransport implements pkcs11.Token. The other token's public key is an object for that long.
func (s *Shared) WrapForTransport(ctx context.Context, to pkcs11.TransportPublic, key pkcs11.Handle) ([]byte, error) {
	return alone(ctx, s, func(t *shifted) ([]byte, error) { return t.WrapForTransport(ctx, to, key) })
}

// UnwrapFromTransport implements pkcs11.Token.
func (s *Shared) UnwrapFromTransport(ctx context.Context, pair pkcs11.TransportKey, wrapped []byte, template pkcs11.Template) (pkcs11.Handle, error) {
	return alone(ctx, s, func(t *shifted) (pkcs11.Handle, error) { return t.UnwrapFromTransport(ctx, pair, wrapped, template) })
}

// MakeSigningKey implements pkcs11.SigningToken.
func (s *Shared) MakeSigningKey(ctx context.Context, label string) (pkcs11.SigningKey, error) {
	return alone(ctx, s, func(t *shifted) (pkcs11.SigningKey, error) { return t.MakeSigningKey(ctx, label) })
}

// FindSigningKeys implements pkcs11.SigningToken.
func (s *Shared) FindSigningKeys(ctx context.Context, label string) ([]pkcs11.SigningKey, error) {
	return alone(ctx, s, func(t *shifted) ([]pkcs11.SigningKey, error) { return t.FindSigningKeys(ctx, label) })
}

// Sign implements pkcs11.SigningToken.
func (s *Shared) Sign(ctx context.Context, key pkcs11.SigningKey, digest []byte) ([]byte, error) {
	return use(s, func(t *shifted) ([]byte, error) { return t.Sign(ctx, key, digest) })
}

// Identity gives the key pair with the label, and makes it if there is none: a cluster's, with which it signs
// its certificate request. It signs digests of SHA-256 with RSASSA-PKCS1-v1_5 as long as ctx lasts.
func (s *Shared) Identity(ctx context.Context, label string) (crypto.Signer, error) {
	key, err := alone(ctx, s, func(t *shifted) (pkcs11.SigningKey, error) {
		found, err := t.FindSigningKeys(ctx, label)
		switch {
		case err != nil:
			return pkcs11.SigningKey{}, fmt.Errorf("finding the key: %w", err)
		case len(found) > 1:
			return pkcs11.SigningKey{}, fmt.Errorf("rack: %d signing keys have the label %q", len(found), label)
		case len(found) == 1:
			return found[0], nil
		}
		return t.MakeSigningKey(ctx, label)
	})
	if err != nil {
		return nil, err
	}
	return pkcs11.NewSigner(ctx, s, key), nil
}
