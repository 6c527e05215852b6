package xks

import (
	"errors"
	"slices"

	"kastellan.dev/internal/xaes"
	"kastellan.dev/internal/xksapi"
)

const (
	bodyVersion    = 1
	bodyPrefixSize = 3
	maxInner       = xksapi.MaxPlaintext      // what a proxy must accept
	maxPlaintext   = maxInner - xaes.Overhead // what that leaves for the caller
	shortIV        = 12
	longIV         = 16
)

// errBody says that something is not the result of Encrypt.
var errBody = errors.New("xks: malformed sealed bytes")

// parts are what a proxy made of an inner ciphertext, and needs to undo it.
type parts struct{ iv, metadata, tag, ciphertext []byte }

// valid tells whether the parts have the sizes of the specification.
func (p parts) valid() bool {
	return (len(p.iv) == shortIV || len(p.iv) == longIV) && len(p.metadata) <= xksapi.MaxCiphertextMetadata &&
		len(p.tag) == xksapi.TagSize && len(p.ciphertext) >= xaes.Overhead && len(p.ciphertext) <= maxInner
}

// appendTo appends the sealed bytes, as drawn in the package comment. The parts must be valid.
func (p parts) appendTo(dst []byte) []byte {
	dst = slices.Grow(dst, bodyPrefixSize+len(p.iv)+len(p.metadata)+len(p.tag)+len(p.ciphertext))
	dst = append(dst, bodyVersion, byte(len(p.iv)), byte(len(p.metadata)))
	dst = append(dst, p.iv...)
	dst = append(dst, p.metadata...)
	dst = append(dst, p.tag...)
	return append(dst, p.ciphertext...)
}

// parseBody takes sealed bytes apart without copying. Whatever it accepts,
// appendTo makes again from what it gives.
func parseBody(sealed []byte) (parts, error) {
	if len(sealed) < bodyPrefixSize || sealed[0] != bodyVersion {
		return parts{}, errBody
	}
	iv, metadata := int(sealed[1]), int(sealed[2])
	rest := sealed[bodyPrefixSize:]
	if len(rest) < iv+metadata+xksapi.TagSize {
		return parts{}, errBody
	}
	p := parts{iv: rest[:iv], metadata: rest[iv : iv+metadata]}
	rest = rest[iv+metadata:]
	p.tag, p.ciphertext = rest[:xksapi.TagSize], rest[xksapi.TagSize:]
	if !p.valid() {
		return parts{}, errBody
	}
	return p, nil
}

// innerAAD is what the inner layer authenticates.
func innerAAD(aad []byte) []byte {
	return append(append(make([]byte, 0, 1+len(aad)), bodyVersion), aad...)
}
