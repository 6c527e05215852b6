package keyfile

import (
	"encoding/binary"
	"errors"
	"slices"

	"kastellan.dev/internal/xksapi"
)

// MetadataSize is the size of the ciphertext metadata that Seal gives, in bytes.
const MetadataSize = headSize + saltSize

const (
	formDerived = 0x01
	headSize    = 1 + 4 // form and version
	saltSize    = 12
	ivSize      = 12
)

// ErrCiphertext: the ciphertext is not an untouched result of Seal with the
// same key and additional authenticated data.
var ErrCiphertext = errors.New("keyfile: the ciphertext does not authenticate")

// Seal encrypts under the version. metadata is what [VersionOf] and Open need.
func (v *Version) Seal(plaintext, aad []byte) (iv, ciphertext, tag, metadata []byte, err error) {
	metadata = make([]byte, headSize, MetadataSize)
	metadata[0] = formDerived
	binary.BigEndian.PutUint32(metadata[1:], v.Number)
	framed, err := xksapi.GCMAAD(aad, metadata)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	out := v.aead.Seal(nil, plaintext, framed)
	end := len(out) - xksapi.TagSize
	metadata = append(metadata, out[:saltSize]...)
	return out[saltSize : saltSize+ivSize], out[saltSize+ivSize : end], out[end:], metadata, nil
}

// Open undoes Seal; it fails with ErrCiphertext.
func (v *Version) Open(iv, ciphertext, tag, metadata, aad []byte) ([]byte, error) {
	if number, ok := VersionOf(metadata); !ok || number != v.Number || len(iv) != ivSize || len(tag) != xksapi.TagSize {
		return nil, ErrCiphertext
	}
	framed, err := xksapi.GCMAAD(aad, metadata[:headSize])
	if err != nil {
		return nil, ErrCiphertext
	}
	plaintext, err := v.aead.Open(make([]byte, 0, len(ciphertext)), slices.Concat(metadata[headSize:], iv, ciphertext, tag), framed)
	if err != nil {
		return nil, ErrCiphertext
	}
	return plaintext, nil
}

// VersionOf reads the version out of ciphertext metadata; ok is false for
// metadata that Seal never gives.
func VersionOf(metadata []byte) (number uint32, ok bool) {
	if len(metadata) != MetadataSize || metadata[0] != formDerived {
		return 0, false
	}
	return binary.BigEndian.Uint32(metadata[1:]), true
}
