//go:build cgo && unix

package pkcs11

import (
	"context"
	"errors"
	"log/slog"
)

// Available reports whether this binary can load modules at all.
func Available() bool { return true }

// Open finds the token and returns a handle for it. It starts the child (or
// loads the module) and fails with ErrNoCgo, ErrModule or ErrNoToken when the token
// cannot be found now; nothing stays behind then. No login happens.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (Token, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.InProcess {
		l, err := openLocal(ctx, cfg)
		if err != nil {
			return nil, err
		}
		return &token{backend: l}, nil
	}
	b := newChildren(cfg, log.With("token", cfg.URI.String()))
	if _, err := b.child(ctx, 0); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return &token{backend: b}, nil
}
