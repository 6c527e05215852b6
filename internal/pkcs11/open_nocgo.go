//go:build !cgo || !unix

package pkcs11

import (
	"context"
	"log/slog"

	"kastellan.dev/internal/secret"
)

// Available reports whether this binary can load modules at all.
func Available() bool { return false }

// Open fails with ErrNoCgo.
func Open(context.Context, Config, *slog.Logger) (Token, error) { return nil, ErrNoCgo }

// WorkerMain does nothing: no child is ever started.
func WorkerMain() {}

// InitToken fails with ErrNoCgo.
func InitToken(context.Context, ProvisionConfig) (TokenInfo, error) { return TokenInfo{}, ErrNoCgo }

// ReinitToken fails with ErrNoCgo.
func ReinitToken(context.Context, Config, string, secret.Text, secret.Text) (TokenInfo, error) {
	return TokenInfo{}, ErrNoCgo
}

// DestroyObjects fails with ErrNoCgo.
func DestroyObjects(context.Context, Config, secret.Text) (int, error) { return 0, ErrNoCgo }

// CountObjects fails with ErrNoCgo.
func CountObjects(context.Context, Config, secret.Text) (int, error) { return 0, ErrNoCgo }

// MarkTrusted fails with ErrNoCgo.
func MarkTrusted(context.Context, Config, secret.Text, string) error { return ErrNoCgo }
