// Package secret holds bytes and texts that must not be shown by accident.
//
// Both types hold their value in a closure. That makes == on them a compile
// error, and keeps fmt from their bytes where it does not call the Format
// method: in unexported fields it prints what it finds, and of a function only the address.
//
// A secret prints, logs and marshals as [Redacted], whatever the verb or the
// encoder; it cannot be compared with ==, and leaves its wrapping through one
// method, Reveal, which is easy to search for. The package does not protect
// against somebody who reads the memory of the process.
package secret

import (
	"crypto/subtle"
	"fmt"
	"log/slog"
)

// Redacted is what every secret looks like to fmt, log/slog and encoders.
const Redacted = "[redacted]"

// Bytes is binary secret data: key material, plaintext. The zero value is empty.
type Bytes struct {
	reveal func() []byte
}

// New wraps b without copying it; the caller gives b away.
func New(b []byte) Bytes { return Bytes{reveal: func() []byte { return b }} }

// Reveal gives the bytes themselves, not a copy.
func (s Bytes) Reveal() []byte {
	if s.reveal == nil {
		return nil
	}
	return s.reveal()
}

// Len is the number of bytes.
func (s Bytes) Len() int { return len(s.Reveal()) }

// Equal compares in time that depends on the lengths only.
func (s Bytes) Equal(o Bytes) bool { return subtle.ConstantTimeCompare(s.Reveal(), o.Reveal()) == 1 }

// Destroy overwrites the bytes with zeros. Copies that were made are not reached.
func (s Bytes) Destroy() { clear(s.Reveal()) }

// Format implements fmt.Formatter: every verb prints [Redacted].
func (Bytes) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(Redacted)) }

// LogValue implements slog.LogValuer.
func (Bytes) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText implements encoding.TextMarshaler: encoders see [Redacted].
func (Bytes) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// Text is a secret that is text: a password, a PIN, a signing secret. The
// zero value is empty.
type Text struct {
	reveal func() string
}

// NewText wraps s.
func NewText(s string) Text { return Text{reveal: func() string { return s }} }

// Reveal gives the text itself.
func (t Text) Reveal() string {
	if t.reveal == nil {
		return ""
	}
	return t.reveal()
}

// IsEmpty reports whether there is no text.
func (t Text) IsEmpty() bool { return t.Len() == 0 }

// Len is the length in bytes.
func (t Text) Len() int { return len(t.Reveal()) }

// Equal compares in time that depends on the lengths only.
func (t Text) Equal(o Text) bool {
	return subtle.ConstantTimeCompare([]byte(t.Reveal()), []byte(o.Reveal())) == 1
}

// Format implements fmt.Formatter: every verb prints [Redacted].
func (Text) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(Redacted)) }

// LogValue implements slog.LogValuer.
func (Text) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText implements encoding.TextMarshaler: encoders see [Redacted].
func (Text) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
