package xksapi

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

// ErrTooLong is a length that the layout of the authenticated data cannot express.
var ErrTooLong = errors.New("xksapi: additional authenticated data above 65,535 or ciphertext metadata above 255 bytes")

// GCMAAD is what a proxy gives to AES-GCM as additional authenticated data:
//
//	uint16be(len(aad)) ‖ aad ‖ uint8(len(metadata)) ‖ metadata
//
// The lengths keep anybody from moving bytes between the two. Absent is the
// same as empty.
func GCMAAD(aad, metadata []byte) ([]byte, error) {
	if len(aad) > 0xFFFF || len(metadata) > 0xFF {
		return nil, ErrTooLong
	}
	out := make([]byte, 0, 3+len(aad)+len(metadata))
	out = binary.BigEndian.AppendUint16(out, uint16(len(aad)))
	out = append(out, aad...)
	out = append(out, byte(len(metadata)))
	return append(out, metadata...), nil
}

// IntegrityValue is the ciphertextDataIntegrityValue before base64:
//
//	SHA-256(aad ‖ metadata ‖ iv ‖ ciphertext ‖ tag)
//
// without lengths between the parts.
func IntegrityValue(aad, metadata, iv, ciphertext, tag []byte) []byte {
	h := sha256.New()
	for _, part := range [][]byte{aad, metadata, iv, ciphertext, tag} {
		h.Write(part)
	}
	return h.Sum(nil)
}
