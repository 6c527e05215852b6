// Package xaes is XAES-256-GCM (C2SP): AES-256-GCM with a random 192-bit
// nonce, so that one key may seal as many messages as anybody can make.
//
// The first half of the nonce derives a key for the message from the long-term
// key, by two blocks of AES-CMAC; the second half is the nonce of
// AES-256-GCM under the derived key.
//
//	sealed = nonce[0:12] ‖ nonce[12:24] ‖ ciphertext ‖ tag[16]
//
// Nonces are always made here: there is no way to choose one. Everything comes from
// Go's FIPS 140-3 module, in ways that GODEBUG=fips140=only allows.
package xaes

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
)

// Sizes in bytes.
const (
	KeySize  = 32
	Overhead = prefixSize + gcmNonceSize + gcmTagSize // sealed is that much longer than the plaintext

	prefixSize   = 12 // the half of the nonce that derives the key
	gcmNonceSize = 12
	gcmTagSize   = 16
)

// ErrOpen says that sealed bytes are not an untouched result of Seal with the
// same key and additional authenticated data.
var ErrOpen = errors.New("xaes: message authentication failed")

// AEAD seals and opens under one key. It may be used from many goroutines at once.
type AEAD struct {
	block cipher.Block
	k1    [aes.BlockSize]byte // the first subkey of CMAC
}

// New gives the AEAD of a key of [KeySize] bytes. It does not keep key.
func New(key []byte) (*AEAD, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("xaes: the key has %d bytes, want %d", len(key), KeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("xaes: %w", err)
	}
	a := &AEAD{block: block}
	block.Encrypt(a.k1[:], a.k1[:])
	a.k1 = double(a.k1)
	return a, nil
}

// double multiplies by x in GF(2¹²⁸), in constant time.
func double(b [aes.BlockSize]byte) [aes.BlockSize]byte {
	var carry byte
	for i := len(b) - 1; i >= 0; i-- {
		b[i], carry = b[i]<<1|carry, b[i]>>7
	}
	b[len(b)-1] ^= carry * 0x87
	return b
}

// derive gives AES-256-GCM under the key of the messages whose nonces begin
// with prefix. It makes the second half of the nonce at random and puts it in
// front of what it seals.
func (a *AEAD) derive(prefix []byte) cipher.AEAD {
	var key [KeySize]byte
	for i := range 2 {
		half := key[i*aes.BlockSize : (i+1)*aes.BlockSize]
		copy(half, []byte{0, byte(i + 1), 'X', 0})
		copy(half[4:], prefix)
		subtle.XORBytes(half, half, a.k1[:])
		a.block.Encrypt(half, half)
	}
	block, err := aes.NewCipher(key[:])
	clear(key[:])
	if err != nil {
		panic("xaes: " + err.Error()) // the key has the right size
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("xaes: " + err.Error()) // the block is AES
	}
	return gcm
}

// Seal encrypts and authenticates plaintext, authenticates aad too, and
// appends the result to dst. plaintext and dst must not overlap.
func (a *AEAD) Seal(dst, plaintext, aad []byte) []byte {
	dst = slices.Grow(dst, Overhead+len(plaintext))
	prefix := dst[len(dst) : len(dst)+prefixSize]
	rand.Read(prefix)
	return a.derive(prefix).Seal(dst[:len(dst)+prefixSize], nil, plaintext, aad)
}

// Open undoes Seal and appends the plaintext to dst, or gives [ErrOpen].
// sealed and dst must not overlap.
func (a *AEAD) Open(dst, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < Overhead {
		return nil, ErrOpen
	}
	plaintext, err := a.derive(sealed[:prefixSize]).Open(dst, nil, sealed[prefixSize:], aad)
	if err != nil {
		return nil, ErrOpen
	}
	return plaintext, nil
}

// Format implements fmt.Formatter: the subkey is as secret as the key.
func (*AEAD) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("XAES-256-GCM")) }
