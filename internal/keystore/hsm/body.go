package hsm

import "kastellan.dev/internal/pkcs11"

// Sizes of a sealed body, in bytes.
const (
	ivSize     = 12 // of version 1
	longIVSize = 16 // of version 2: so long are the IVs that some modules make themselves
	tagSize    = 16
)

// appendBody appends the sealed body to dst; ok is false when the token gave
// an IV or tag of another size.
func appendBody(dst []byte, sealed pkcs11.GCM) (body []byte, ok bool) {
	version := byte(1)
	switch {
	case len(sealed.Tag) != tagSize:
		return nil, false
	case len(sealed.IV) == longIVSize:
		version = 2
	case len(sealed.IV) != ivSize:
		return nil, false
	}
	dst = append(dst, version)
	dst = append(dst, sealed.IV...)
	dst = append(dst, sealed.Tag...)
	return append(dst, sealed.Ciphertext...), true
}

// parseBody takes a sealed body apart, without copying.
func parseBody(body []byte) (sealed pkcs11.GCM, ok bool) {
	if len(body) == 0 || body[0] != 1 && body[0] != 2 {
		return pkcs11.GCM{}, false
	}
	iv := 1 + ivSize
	if body[0] == 2 {
		iv = 1 + longIVSize
	}
	tag := iv + tagSize
	if len(body) < tag {
		return pkcs11.GCM{}, false
	}
	return pkcs11.GCM{IV: body[1:iv:iv], Tag: body[iv:tag:tag], Ciphertext: body[tag:len(body):len(body)]}, true
}
