package xksproxy

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"kastellan.dev/internal/xksapi"
)

// Error is an answer of the XKS Proxy API other than 200. Rings fail with it
// where the caller of the proxy should learn more than "internal error".
type Error struct {
	Name    xksapi.ErrorName
	Message string // shown to KMS: printable, and without any secret
	cause   error  // for the log
}

// Errorf makes an Error; the text is shown as it is.
func Errorf(name xksapi.ErrorName, format string, args ...any) *Error {
	return &Error{Name: name, Message: fmt.Sprintf(format, args...)}
}

// Because gives a copy of e that carries the cause for the log.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

// Error implements error. It includes the cause, hence is for logs.
func (e *Error) Error() string {
	text := string(e.Name) + ": " + e.Message
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.cause }

// asError makes an Error of anything: what no ring has named is an
// InternalException without details, or a timeout.
func asError(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.DeadlineExceeded):
		return Errorf(xksapi.DependencyTimeoutException, "the key manager did not answer in time").Because(err)
	case errors.Is(err, context.Canceled):
		return Errorf(xksapi.DependencyTimeoutException, "the caller left before the key manager answered").Because(err)
	default:
		return Errorf(xksapi.InternalException, "the proxy cannot use its key manager").Because(err)
	}
}

// printable makes text fit for an errorMessage: printable ASCII, at most limit characters.
func printable(text string, limit int) string {
	clean := true
	for i := 0; i < len(text); i++ {
		if text[i] < 0x20 || text[i] > 0x7E {
			clean = false
			break
		}
	}
	if !clean {
		text = strings.Map(func(r rune) rune {
			if r < 0x20 || r > 0x7E {
				return '?'
			}
			return r
		}, text)
	}
	return text[:min(len(text), limit)]
}
