package xksproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/xksapi"
)

// CreateTokenKey makes an AES-256 key that can encrypt and decrypt and cannot leave
// the token, and tries it. It refuses a label that the token has already.
// In a ring of several tokens the key gets to the others by the vendor's own means.
func CreateTokenKey(ctx context.Context, m TokenMember, label string, log *slog.Logger) (err error) {
	token := m.Token
	if token == nil {
		if token, err = pkcs11.Open(ctx, m.PKCS11, log); err != nil {
			return fmt.Errorf("opening the token: %w", err)
		}
		defer func() { err = errors.Join(err, token.Close()) }()
	}
	err = token.Login(ctx, m.PIN)
	if err != nil && !errors.Is(err, &pkcs11.Error{RV: pkcs11.CKR_USER_ALREADY_LOGGED_IN}) {
		return fmt.Errorf("logging in: %w", err)
	}
	existing, err := token.FindKeys(ctx, label, nil)
	if err != nil {
		return fmt.Errorf("looking for the label: %w", err)
	}
	if len(existing) > 0 {
		return fmt.Errorf("the token has a key labelled %q already", label)
	}
	key, err := token.GenerateKey(ctx, pkcs11.Template{Label: label, Token: true, Encrypt: true})
	if err != nil {
		return fmt.Errorf("making the key: %w", err)
	}
	return tryTokenKey(ctx, token, key)
}

// tryTokenKey finds out at once what would otherwise fail later: some tools and tokens make
// keys of another type or length than was asked for.
func tryTokenKey(ctx context.Context, token pkcs11.Token, key pkcs11.Handle) error {
	a, err := token.Attributes(ctx, key)
	if err != nil {
		return fmt.Errorf("looking at the new key: %w", err)
	}
	if info := infoOf(a); info.Spec != xksapi.KeySpecAES256 || !info.Encrypt || !info.Decrypt || !a.Sensitive || a.Extractable {
		return fmt.Errorf("the new key is %s (encrypt %t, decrypt %t, sensitive %t, extractable %t)",
			info.Spec, info.Encrypt, info.Decrypt, a.Sensitive, a.Extractable)
	}
	sealed, err := token.EncryptGCM(ctx, key, []byte("test"), nil)
	if err != nil {
		return fmt.Errorf("encrypting with the new key: %w", err)
	}
	back, err := token.DecryptGCM(ctx, key, sealed, nil)
	if err == nil && string(back) != "test" {
		err = errors.New("another plaintext came back")
	}
	if err != nil {
		return fmt.Errorf("decrypting with the new key: %w", err)
	}
	return nil
}
