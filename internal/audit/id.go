package audit

import (
	"crypto/rand"
	"encoding/hex"
)

// NewUUID gives a random UUID, version 4: what events, and keys, are known by.
func NewUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	out := make([]byte, 0, 36)
	for i, end := range [...]int{4, 6, 8, 10, 16} {
		if i > 0 {
			out = append(out, '-')
		}
		out = hex.AppendEncode(out, b[(len(out)-i)/2:end])
	}
	return string(out)
}
