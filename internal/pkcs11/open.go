package pkcs11

import (
	"context"
	"log/slog"
)

// WorkerEnv is the environment variable that makes this program a module's
// child process.
const WorkerEnv = "KASTELLAN_PKCS11_WORKER"

// Available reports whether this binary can load modules at all.
func Available() bool { return false }

// Open finds the token and returns a handle for it. It starts the child (or
// loads the module) and fails with ErrNoCgo, ErrModule or ErrNoToken when the token
// cannot be found now; nothing stays behind then. No login happens.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (Token, error) {
	return nil, ErrNoCgo
}

// WorkerMain makes this process serve a module if it was started for that
// (see WorkerEnv), and does not return then; otherwise it returns at once. Call it first thing
// in main, and in TestMain of every test package that opens tokens.
func WorkerMain() {}
