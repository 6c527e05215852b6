package rootkey

import (
	"errors"
	"slices"

	"kastellan.dev/internal/xaes"
)

const (
	directVersion    = 1
	directHeaderSize = 1 + keyIDSize
)

// errDirect is all that is told of bytes that Direct does not open.
var errDirect = errors.New("rootkey: the sealed bytes were changed, or sealed under another key, purpose or context")

// direct seals under a root key without a key-encryption key between.
type direct struct{ key Key }

// Direct seals under the key itself, in the second form that the package
// comment draws: for what lies in a file of its own, with no metadata store that
// could hold key-encryption keys. Rotating such a key means sealing the file anew.
func (k Key) Direct() Sealer { return direct{k} }

// Seal implements [Sealer].
func (d direct) Seal(purpose, context string, plaintext []byte) ([]byte, error) {
	if err := d.key.check(); err != nil {
		return nil, err
	}
	sealed := make([]byte, 0, directHeaderSize+len(plaintext)+xaes.Overhead)
	sealed = append(sealed, directVersion)
	sealed = append(sealed, d.key.id[:]...)
	return d.key.aead.Seal(sealed, plaintext, directAAD(sealed, purpose, context)), nil
}

// Open implements [Sealer].
func (d direct) Open(purpose, context string, sealed []byte) ([]byte, error) {
	if err := d.key.check(); err != nil {
		return nil, err
	}
	if len(sealed) < directHeaderSize || sealed[0] != directVersion || [keyIDSize]byte(sealed[1:directHeaderSize]) != d.key.id {
		return nil, errDirect
	}
	header, rest := sealed[:directHeaderSize], sealed[directHeaderSize:]
	plaintext, err := d.key.aead.Open(nil, rest, directAAD(header, purpose, context))
	if err != nil {
		return nil, errDirect
	}
	return plaintext, nil
}

func directAAD(header []byte, purpose, context string) []byte {
	return appendUse(slices.Concat([]byte("kastellan sealed directly"), header), purpose, context)
}
