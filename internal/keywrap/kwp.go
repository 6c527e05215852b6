package keywrap

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
)

// AES key wrap with padding, RFC 5649, which NIST SP 800-38F calls KWP.
//
// The first eight bytes of what is enciphered are the alternative initial value:
// kwpMagic and the length of the plaintext. The plaintext follows, with zeros up to
// a multiple of eight.
const (
	kwpMagic     = 0xa65959a6
	kwpHalfBlock = 8 // the unit of the cipher
	kwpRounds    = 6
)

// errKWP is all that is told of bytes that do not unwrap.
var errKWP = errors.New("keywrap: the AES key wrap does not hold")

// wrapKWP enciphers plaintext, which must not be empty, under an AES key.
func wrapKWP(kek, plaintext []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	padded := (len(plaintext) + kwpHalfBlock - 1) / kwpHalfBlock * kwpHalfBlock
	out := make([]byte, kwpHalfBlock+padded)
	binary.BigEndian.PutUint32(out, kwpMagic)
	binary.BigEndian.PutUint32(out[4:], uint32(len(plaintext)))
	copy(out[kwpHalfBlock:], plaintext)
	if len(out) == aes.BlockSize {
		block.Encrypt(out, out)
	} else {
		encipher(block, out)
	}
	return out, nil
}

// unwrapKWP undoes wrapKWP. Whether the bytes hold is found out in time that depends
// on their number only.
func unwrapKWP(kek, wrapped []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil || len(wrapped) < aes.BlockSize || len(wrapped)%kwpHalfBlock != 0 {
		return nil, errKWP
	}
	b := append([]byte(nil), wrapped...)
	if len(b) == aes.BlockSize {
		block.Decrypt(b, b)
	} else {
		decipher(block, b)
	}
	size, ok := checkKWP(b)
	if !ok {
		clear(b)
		return nil, errKWP
	}
	return b[kwpHalfBlock:][:size:size], nil
}

// checkKWP looks at the deciphered bytes: the magic, a length that needs as many
// units as there are, and zeros behind it. All three are looked at whatever the first
// ones say.
func checkKWP(b []byte) (size uint32, ok bool) {
	size = binary.BigEndian.Uint32(b[4:])
	padding := uint32(len(b)-kwpHalfBlock) - size // huge if size is too large
	good := subtle.ConstantTimeEq(int32(binary.BigEndian.Uint32(b)^kwpMagic), 0)
	good &= subtle.ConstantTimeEq(int32(padding/kwpHalfBlock), 0)
	var set byte
	for i, last := range b[len(b)-kwpHalfBlock:] {
		isPadding := subtle.ConstantTimeLessOrEq(kwpHalfBlock, i+int(padding%kwpHalfBlock))
		set |= last & byte(-isPadding)
	}
	good &= subtle.ConstantTimeByteEq(set, 0)
	return size, good == 1
}

// encipher is the function W of SP 800-38F, in place: the first half block of b mixes
// with each of the others in turn, six times over.
func encipher(block cipher.Block, b []byte) {
	var x [aes.BlockSize]byte
	defer clear(x[:])
	copy(x[:kwpHalfBlock], b)
	step := uint64(0)
	for range kwpRounds {
		for at := kwpHalfBlock; at < len(b); at += kwpHalfBlock {
			copy(x[kwpHalfBlock:], b[at:])
			block.Encrypt(x[:], x[:])
			step++
			count(&x, step)
			copy(b[at:], x[kwpHalfBlock:])
		}
	}
	copy(b, x[:kwpHalfBlock])
}

// decipher is the inverse of encipher.
func decipher(block cipher.Block, b []byte) {
	var x [aes.BlockSize]byte
	defer clear(x[:])
	copy(x[:kwpHalfBlock], b)
	step := uint64(kwpRounds * (len(b)/kwpHalfBlock - 1))
	for range kwpRounds {
		for at := len(b) - kwpHalfBlock; at > 0; at -= kwpHalfBlock {
			copy(x[kwpHalfBlock:], b[at:])
			count(&x, step)
			step--
			block.Decrypt(x[:], x[:])
			copy(b[at:], x[kwpHalfBlock:])
		}
	}
	copy(b, x[:kwpHalfBlock])
}

// count mixes the number of the step into the first half block.
func count(x *[aes.BlockSize]byte, step uint64) {
	binary.BigEndian.PutUint64(x[:], binary.BigEndian.Uint64(x[:])^step)
}
