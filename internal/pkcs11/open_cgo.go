//go:build cgo && unix

package pkcs11

import (
	"context"
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
		l, err := openLocal(cfg)
		if err != nil {
			return nil, err
		}
		return &token{backend: l}, nil
	}
	b := &children{cfg: cfg, log: log.With("token", cfg.URI.String())}
	if _, _, err := b.child(ctx, 0); err != nil {
		b.abandon()
		return nil, err
	}
	return &token{backend: b}, nil
}
