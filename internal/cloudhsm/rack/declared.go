package rack

import (
	"context"
	"fmt"
	"log/slog"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/secret"
)

// wipedLabel is the label of a declared token that is free, unless its URI tells it.
const wipedLabel = "kastellan free"

// label gives the label that the token is initialised with. One that the URI names stays, or the
// URI would not describe the token any more.
func (t *DeclaredToken) label(wanted string) string {
	if t.Config.URI.Token != "" {
		return t.Config.URI.Token
	}
	return wanted
}

func (t *DeclaredToken) prepare(ctx context.Context, label string, pins PINs) (Prepared, error) {
	if err := t.empty(ctx, t.label(label), pins.User); err != nil {
		return Prepared{}, err
	}
	return t.reach(pins)
}

func (t *DeclaredToken) reach(pins PINs) (Prepared, error) {
	if t.SOPIN.IsEmpty() {
		return Prepared{Config: t.Config, PIN: t.PIN}, nil
	}
	return Prepared{Config: t.Config, PIN: pins.User}, nil
}

func (t *DeclaredToken) wipe(ctx context.Context) error {
	return t.empty(ctx, t.label(wipedLabel), secret.Text{})
}

func (t *DeclaredToken) identity(ctx context.Context) string {
	token, err := pkcs11.Open(ctx, t.Config, slog.New(slog.DiscardHandler))
	if err != nil {
		return ""
	}
	defer token.Close()
	info, err := token.Info(ctx)
	if err != nil || info.Serial == "" {
		return ""
	}
	return fmt.Sprintf("%q %q %q", info.Manufacturer, info.Model, info.Serial)
}

func (t *DeclaredToken) vanished(error) bool { return false }

// blank asks the token itself: one that an officer initialises has no user yet, and no other one has an object.
func (t *DeclaredToken) blank(ctx context.Context) error {
	if t.SOPIN.IsEmpty() {
		n, err := pkcs11.CountObjects(ctx, t.Config, t.PIN)
		if err == nil && n > 0 {
			err = fmt.Errorf("%w: %d objects are on it", ErrNotBlank, n)
		}
		return err
	}
	token, err := pkcs11.Open(ctx, t.Config, slog.New(slog.DiscardHandler))
	if err != nil {
		return fmt.Errorf("opening the token: %w", err)
	}
	defer token.Close()
	info, err := token.Info(ctx)
	if err == nil && info.UserPINInitialized {
		err = fmt.Errorf("%w: it has a user", ErrNotBlank)
	}
	return err
}

// empty leaves no object in the token. If the security officer does it, the user has the PIN then, or none.
func (t *DeclaredToken) empty(ctx context.Context, label string, userPIN secret.Text) error {
	if t.SOPIN.IsEmpty() {
		_, err := pkcs11.DestroyObjects(ctx, t.Config, t.PIN)
		return err
	}
	_, err := pkcs11.ReinitToken(ctx, t.Config, label, t.SOPIN, userPIN)
	return err
}

// prove opens a token that has just been prepared: its user is let in, and nothing is there.
func prove(ctx context.Context, p Prepared) (info pkcs11.TokenInfo, err error) {
	token, err := pkcs11.Open(ctx, p.Config, slog.New(slog.DiscardHandler))
	if err != nil {
		return info, fmt.Errorf("opening the token: %w", err)
	}
	defer token.Close()
	if err := token.Login(ctx, p.PIN); err != nil {
		return info, fmt.Errorf("logging in: %w", err)
	}
	keys, err := token.ListKeys(ctx)
	if err != nil {
		return info, fmt.Errorf("listing keys: %w", err)
	}
	if len(keys) > 0 {
		return info, fmt.Errorf("rack: the token has %d keys although it was emptied", len(keys))
	}
	return token.Info(ctx)
}
