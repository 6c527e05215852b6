package rootkey

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/xaes"
)

// KeySize is the size of a root key in bytes.
const KeySize = xaes.KeySize

const keyIDSize = 16

// Key is a root key. It cannot be turned back into bytes or text; the zero
// value is no key.
type Key struct {
	aead *xaes.AEAD
	id   [keyIDSize]byte
}

// Random makes a root key that nobody keeps: what is sealed under it is lost
// with the process.
func Random() Key {
	var b [KeySize]byte
	rand.Read(b[:])
	return newKey(b[:])
}

// newKey takes b over and clears it.
func newKey(b []byte) Key {
	defer clear(b)
	aead, err := xaes.New(b)
	if err != nil {
		panic("rootkey: " + err.Error()) // every caller has checked the size
	}
	id, err := hkdf.Key(sha256.New, b, nil, "kastellan root key id", keyIDSize)
	if err != nil {
		panic("rootkey: " + err.Error()) // the length is within HKDF's limit
	}
	return Key{aead: aead, id: [keyIDSize]byte(id)}
}

// check refuses the zero value.
func (k Key) check() error {
	if k.aead == nil {
		return errors.New("there is no root key")
	}
	return nil
}

// ID names the key without telling anything else of it: 32 hexadecimal digits.
func (k Key) ID() string { return hex.EncodeToString(k.id[:]) }

// Format implements fmt.Formatter.
func (Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(secret.Redacted)) }

// LogValue implements slog.LogValuer.
func (Key) LogValue() slog.Value { return slog.StringValue(secret.Redacted) }

var errEncoding = errors.New("not 32 bytes in base64 or hexadecimal")

// decode reads a key as people write one: base64 (standard or URL alphabet,
// padded or not) or hexadecimal, with white space around it. It clears text.
func decode(text []byte) (Key, error) {
	defer clear(text)
	s := strings.TrimSpace(string(text))
	if len(s) == hex.EncodedLen(KeySize) {
		if b, err := hex.DecodeString(s); err == nil {
			return newKey(b), nil
		}
		return Key{}, errEncoding
	}
	s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimSuffix(s, "="))
	b, err := base64.RawStdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != KeySize {
		return Key{}, errEncoding
	}
	return newKey(b), nil
}
