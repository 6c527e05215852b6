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

// MarkTrusted fails with ErrNoCgo.
func MarkTrusted(context.Context, Config, secret.Text, string) error { return ErrNoCgo }
