package keywrap

import (
	"crypto/aes"

	"kastellan.dev/internal/kmsapi"
)

// The steps of AES key wrap, for tests with published vectors and broken ones.
var (
	WrapKWP   = wrapKWP
	UnwrapKWP = unwrapKWP
)

// Encipher is what WrapKWP does to bytes that have been put together, right or wrong.
func Encipher(kek, b []byte) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		panic(err)
	}
	if len(b) == aes.BlockSize {
		block.Encrypt(b, b)
	} else {
		encipher(block, b)
	}
}

// Ready is how many spare keys a pool keeps of a kind.
const Ready = ready

// NewPoolOf makes a pool of what generate gives.
func NewPoolOf(generate func(kmsapi.WrappingKeySpec) (*PrivateKey, error)) *Pool {
	return newPool(generate)
}
