package kms

import (
	"fmt"
	"runtime"
	"strings"

	"kastellan.dev/internal/kmsapi"
)

// Errors that several operations share.

func invalid(format string, args ...any) error {
	return kmsapi.Errorf(kmsapi.Validation, format, args...)
}

func keyNotFound(arn string) *kmsapi.Error {
	return kmsapi.Errorf(kmsapi.NotFound, "Key '%s' does not exist", arn)
}

func aliasNotFound(arn string) *kmsapi.Error {
	return kmsapi.Errorf(kmsapi.NotFound, "Alias %s is not found.", arn)
}

func keyStoreNotFound() error {
	return kmsapi.Errorf(kmsapi.CustomKeyStoreNotFound, "The custom key store does not exist in this account and Region.")
}

func keyStoreState(rec *keyStoreRecord, want string) error {
	return kmsapi.Errorf(kmsapi.CustomKeyStoreInvalidState,
		"The custom key store %s is %s. This operation requires it to be %s.", rec.ID, rec.State, want)
}

// notReached is for a store that is CONNECTED, but not with this process.
func notReached(code kmsapi.Code, id string) error {
	return kmsapi.Errorf(code, "The custom key store %s is not connected.", id)
}

// panicked tells in which functions a panic happened, innermost first. The value
// may quote what was worked on, and a stack trace shows arguments: neither is kept.
// It is called by the deferred function that recovers.
func panicked(value any) error {
	var callers [32]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers[:])])
	var where []string
	for more := true; more; {
		var frame runtime.Frame
		frame, more = frames.Next()
		where = append(where, fmt.Sprintf("%s:%d", frame.Function, frame.Line))
	}
	return fmt.Errorf("panicked with a %T in %s", value, strings.Join(where, "; "))
}
