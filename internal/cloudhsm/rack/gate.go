package rack

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/secret"
)

// Doorkeeper knows the users of HSMs and who of them is in.
type Doorkeeper interface {
	// Enter checks a login, and lets in who asks on behalf of the holder: "kms", or the session of a person. The
	// pin is "user:password". Errors are *pkcs11.Error with the Function "C_Login" and what a CloudHSM gives:
	// CKR_PIN_INCORRECT, CKR_PIN_LOCKED, CKR_USER_PIN_NOT_INITIALIZED (there is no such user),
	// CKR_USER_ANOTHER_ALREADY_LOGGED_IN (the user is in elsewhere, and may be in once). leave is called
	// once, when the stay ends.
	Enter(ctx context.Context, hsm, holder string, pin secret.Text) (leave func(), err error)
	// SetPIN changes the password of the user whom both PINs name. Errors are those of Enter, with the Function "C_SetPIN".
	SetPIN(ctx context.Context, hsm string, old, new secret.Text) error
}

// Gate is an HSM's token as one holder sees it, who has to log in as a user of the HSM first. Until
// then what needs a login fails with CKR_USER_NOT_LOGGED_IN. Each gate has a login of
// its own: logging out of one does nothing to the others.
//
// As with a token of one's own, the login is lost with the process of the module, however soon others
// have it repaired: logging in again is the holder's, as is finding objects again.
type Gate struct {
	shared *Shared
	holder string
	door   Doorkeeper

	entry lock                 // held by who logs in or out
	stays uint32               // so far, under entry
	stay  atomic.Pointer[stay] // nil while nobody is in
}

var _ pkcs11.Token = (*Gate)(nil)

// stay is one login at a gate.
type stay struct {
	*shifted        // handles of the stay before are no good in this one
	logins   uint64 // of the token's user, when it began
	leave    func()
}

// Gate gives a gate of the HSM for the holder, at which nobody is in. Errors are those of Open.
func (r *Rack) Gate(ctx context.Context, hsm HSM, holder string, door Doorkeeper, log *slog.Logger) (*Gate, error) {
	shared, err := r.Open(ctx, hsm, log)
	if err != nil {
		return nil, err
	}
	return &Gate{shared: shared, holder: holder, door: door, entry: make(lock, 1)}, nil
}

// Login lets a user of the HSM in, by "user:password". Whether the HSM can be reached comes first,
// so that no attempt counts against the user when it cannot.
func (g *Gate) Login(ctx context.Context, pin secret.Text) error {
	if err := g.entry.hold(ctx); err != nil {
		return err
	}
	defer g.entry.release()
	if g.shared.closed.Load() {
		return ErrClosed
	}
	logins, err := g.shared.ready(ctx)
	if err != nil {
		return err
	}
	if s := g.stay.Load(); s != nil && s.logins == logins {
		return &pkcs11.Error{Function: "C_Login", RV: pkcs11.CKR_USER_ALREADY_LOGGED_IN}
	}
	g.end()
	leave, err := g.door.Enter(ctx, g.shared.hsm.ID, g.holder, pin)
	if err != nil {
		return err
	}
	g.stay.Store(&stay{shifted: &shifted{Token: g.shared, by: g.stays}, logins: logins, leave: leave})
	g.stays++
	return nil
}

// Logout ends the stay. The token's user stays logged in for others.
func (g *Gate) Logout(ctx context.Context) error {
	if err := g.entry.hold(ctx); err != nil {
		return err
	}
	defer g.entry.release()
	g.end()
	return nil
}

// Close ends the stay and gives the token back.
func (g *Gate) Close() error {
	g.entry <- struct{}{}
	defer g.entry.release()
	g.end()
	return g.shared.Close()
}

// end ends the stay, if there is one. It is called with entry held.
func (g *Gate) end() {
	if s := g.stay.Swap(nil); s != nil {
		s.leave()
	}
}

// pass does what needs a login, and believes what it gave if the stay lasted that long. function is the one that
// would refuse it.
func pass[T any](g *Gate, function string, do func(s *stay) (T, error)) (result T, err error) {
	s := g.stay.Load()
	if s == nil || s.logins != g.shared.logins.Load() {
		return result, &pkcs11.Error{Function: function, RV: pkcs11.CKR_USER_NOT_LOGGED_IN}
	}
	got, err := do(s)
	if g.stay.Load() != s {
		return result, pkcs11.ErrLost
	}
	return got, err
}

// SetPIN changes the password of the user who is in: both PINs are "user:password".
func (g *Gate) SetPIN(ctx context.Context, old, new secret.Text) error {
	_, err := pass(g, "C_SetPIN", func(*stay) (nothing, error) {
		return nothing{}, g.door.SetPIN(ctx, g.shared.hsm.ID, old, new)
	})
	return err
}

// Restarts counts the processes of the token's module, for pkcs11.Restarts.
func (g *Gate) Restarts() uint64 { return g.shared.Restarts() }

// Info implements pkcs11.Token. What the token tells of its own PIN is not what a user meets.
func (g *Gate) Info(ctx context.Context) (pkcs11.TokenInfo, error) {
	info, err := g.shared.Info(ctx)
	if errors.Is(err, pkcs11.ErrLost) && !g.shared.closed.Load() {
		// A token that was closed because it failed is opened by whoever asks for it first.
		if err = g.shared.Ready(ctx); err == nil {
			info, err = g.shared.Info(ctx)
		}
	}
	const ofPIN = pkcs11.CKF_USER_PIN_COUNT_LOW | pkcs11.CKF_USER_PIN_FINAL_TRY | pkcs11.CKF_USER_PIN_LOCKED
	info.Flags &^= ofPIN
	info.UserPINLocked = false
	return info, err
}

// Random implements pkcs11.Token. It needs no login.
func (g *Gate) Random(ctx context.Context, n int) ([]byte, error) { return g.shared.Random(ctx, n) }

// GenerateKey implements pkcs11.Token.
func (g *Gate) GenerateKey(ctx context.Context, template pkcs11.Template) (pkcs11.Handle, error) {
	return pass(g, "C_GenerateKey", func(s *stay) (pkcs11.Handle, error) { return s.GenerateKey(ctx, template) })
}

// FindKeys implements pkcs11.Token.
func (g *Gate) FindKeys(ctx context.Context, label string, id []byte) ([]pkcs11.Handle, error) {
	return pass(g, "C_FindObjectsInit", func(s *stay) ([]pkcs11.Handle, error) { return s.FindKeys(ctx, label, id) })
}

// ListKeys implements pkcs11.Token.
func (g *Gate) ListKeys(ctx context.Context) ([]pkcs11.Object, error) {
	return pass(g, "C_FindObjectsInit", func(s *stay) ([]pkcs11.Object, error) { return s.ListKeys(ctx) })
}

// Attributes implements pkcs11.Token.
func (g *Gate) Attributes(ctx context.Context, key pkcs11.Handle) (pkcs11.Attributes, error) {
	return pass(g, "C_GetAttributeValue", func(s *stay) (pkcs11.Attributes, error) { return s.Attributes(ctx, key) })
}

// Destroy implements pkcs11.Token.
func (g *Gate) Destroy(ctx context.Context, key pkcs11.Handle) error {
	_, err := pass(g, "C_DestroyObject", func(s *stay) (nothing, error) { return nothing{}, s.Destroy(ctx, key) })
	return err
}

// EncryptGCM implements pkcs11.Token.
func (g *Gate) EncryptGCM(ctx context.Context, key pkcs11.Handle, plaintext, aad []byte) (pkcs11.GCM, error) {
	return pass(g, "C_EncryptInit", func(s *stay) (pkcs11.GCM, error) { return s.EncryptGCM(ctx, key, plaintext, aad) })
}

// DecryptGCM implements pkcs11.Token.
func (g *Gate) DecryptGCM(ctx context.Context, key pkcs11.Handle, in pkcs11.GCM, aad []byte) ([]byte, error) {
	return pass(g, "C_DecryptInit", func(s *stay) ([]byte, error) { return s.DecryptGCM(ctx, key, in, aad) })
}

// WrapKey implements pkcs11.Token.
func (g *Gate) WrapKey(ctx context.Context, wrapping, key pkcs11.Handle) ([]byte, error) {
	return pass(g, "C_WrapKey", func(s *stay) ([]byte, error) { return s.WrapKey(ctx, wrapping, key) })
}

// UnwrapKey implements pkcs11.Token.
func (g *Gate) UnwrapKey(ctx context.Context, wrapping pkcs11.Handle, wrapped []byte, template pkcs11.Template) (pkcs11.Handle, error) {
	return pass(g, "C_UnwrapKey", func(s *stay) (pkcs11.Handle, error) { return s.UnwrapKey(ctx, wrapping, wrapped, template) })
}

// MakeTransportKey implements pkcs11.Token.
func (g *Gate) MakeTransportKey(ctx context.Context) (pkcs11.TransportKey, error) {
	return pass(g, "C_GenerateKeyPair", func(s *stay) (pkcs11.TransportKey, error) { return s.MakeTransportKey(ctx) })
}

// WrapForTransport implements pkcs11.Token.
func (g *Gate) WrapForTransport(ctx context.Context, to pkcs11.TransportPublic, key pkcs11.Handle) ([]byte, error) {
	return pass(g, "C_WrapKey", func(s *stay) ([]byte, error) { return s.WrapForTransport(ctx, to, key) })
}

// UnwrapFromTransport implements pkcs11.Token.
func (g *Gate) UnwrapFromTransport(ctx context.Context, pair pkcs11.TransportKey, wrapped []byte, template pkcs11.Template) (pkcs11.Handle, error) {
	return pass(g, "C_UnwrapKey", func(s *stay) (pkcs11.Handle, error) { return s.UnwrapFromTransport(ctx, pair, wrapped, template) })
}
