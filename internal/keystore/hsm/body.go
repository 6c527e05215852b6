package hsm

import "kastellan.dev/internal/pkcs11"

// Sizes of a sealed body, in bytes.
const (
	bodyVersion = 1
	ivSize      = 12
	tagSize     = 16
	bodyHeader  = 1 + ivSize + tagSize
)

// appendBody appends the sealed body to dst; ok is false when the token gave
// an IV or tag of another size.
func appendBody(dst []byte, sealed pkcs11.GCM) (body []byte, ok bool) {
	if len(sealed.IV) != ivSize || len(sealed.Tag) != tagSize {
		return nil, false
	}
	dst = append(dst, bodyVersion)
	dst = append(dst, sealed.IV...)
	dst = append(dst, sealed.Tag...)
	return append(dst, sealed.Ciphertext...), true
}

// parseBody takes a sealed body apart, without copying.
func parseBody(body []byte) (sealed pkcs11.GCM, ok bool) {
	if len(body) < bodyHeader || body[0] != bodyVersion {
		return pkcs11.GCM{}, false
	}
	return pkcs11.GCM{
		IV:         body[1 : 1+ivSize : 1+ivSize],
		Tag:        body[1+ivSize : bodyHeader : bodyHeader],
		Ciphertext: body[bodyHeader:len(body):len(body)],
	}, true
}
