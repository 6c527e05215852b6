package blob

import (
	"encoding/binary"
	"slices"
)

// MaxAADSize is how much additional authenticated data external key managers
// take, in bytes. Every kind of key store is held to it, so that what one
// encrypts can be re-encrypted under another.
const MaxAADSize = 8192

// MaxContextSize is the limit of [ContextSize] that keeps the additional
// authenticated data within [MaxAADSize] whatever the header is.
const MaxContextSize = MaxAADSize - lengthSize - MaxHeaderSize

const lengthSize = 4

// ContextSize is how many bytes an encryption context takes in the additional
// authenticated data.
func ContextSize(encryptionContext map[string]string) int {
	size := 0
	for key, value := range encryptionContext {
		size += 2*lengthSize + len(key) + len(value)
	}
	return size
}

// AppendAAD appends to dst what is authenticated beside the plaintext:
//
//	uint32(len(header)) ‖ header
//	uint32(len(key)) ‖ key ‖ uint32(len(value)) ‖ value      for each pair
//
// Integers are big-endian; pairs are sorted by the bytes of their keys. No two
// different inputs give the same bytes. A nil context is an empty one.
func AppendAAD(dst, header []byte, encryptionContext map[string]string) []byte {
	dst = slices.Grow(dst, lengthSize+len(header)+ContextSize(encryptionContext))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(header)))
	dst = append(dst, header...)
	var few [8]string // most contexts fit: their keys are sorted on the stack
	keys := few[:0]
	for key := range encryptionContext {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		dst = appendString(dst, key)
		dst = appendString(dst, encryptionContext[key])
	}
	return dst
}

func appendString(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(s))), s...)
}
