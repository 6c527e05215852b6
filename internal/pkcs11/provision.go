package pkcs11

import (
	"context"

	"kastellan.dev/internal/secret"
)

// ProvisionConfig describes a token to be initialised. It is meant for
// software tokens: development, tests, a first look.
type ProvisionConfig struct {
	ModulePath string
	Env        []string // as in Config
	SlotID     *uint    // nil: the first slot whose token is not initialised
	Label      string   // at most 32 bytes
	SOPIN      secret.Text
	UserPIN    secret.Text // empty: the user's PIN stays uninitialised
}

// InitToken initialises a token and its user PIN in a child process of its own, and
// describes the result; its Serial makes a URI that names just this token.
func InitToken(ctx context.Context, cfg ProvisionConfig) (TokenInfo, error) {
	return TokenInfo{}, ErrNoCgo
}

// MarkTrusted sets CKA_TRUSTED on the secret keys with the label, as the
// security officer, in a child process of its own.
func MarkTrusted(ctx context.Context, cfg Config, soPIN secret.Text, label string) error {
	return ErrNoCgo
}
